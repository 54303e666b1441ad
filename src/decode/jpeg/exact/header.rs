//! What segments say: tables, the restart interval, whose colors they are, and what is in a scan.
//!
//! Layout: ITU-T T.81, annex B. Where the standard says that something must not be, this refuses what
//! libjpeg refuses and passes over what libjpeg passes over.

use super::{
    bits::{self, Bits},
    entropy::{Scan, ScanComponent},
    frame::{Frame, Quantizers},
    huffman::{Definition, STANDARD_AC, STANDARD_DC},
};

/// From zigzag order to place in the block; more than 64, as runs may end beyond (libjpeg puts what
/// they lead to last).
pub(super) const ZIGZAG: [u8; 80] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63,
];

/// Walks over segments, and steps aside for the data of scans.
pub(super) struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A marker that ended a scan's data.
    pending: Option<u8>,
}

impl<'a> Segments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        if !bytes.starts_with(b"\xff\xd8") {
            return Err("it does not begin as JPEG does".to_owned());
        }
        Ok(Self {
            bytes,
            at: 2,
            pending: None,
        })
    }

    /// The data of the scan whose header was just read.
    pub(super) fn data(&self) -> Bits<'a> {
        Bits::new(self.bytes, self.at)
    }

    /// Goes on behind it.
    pub(super) fn resume(&mut self, bits: Bits<'a>) {
        (self.at, self.pending) = bits.position();
    }

    fn marker(&mut self) -> Result<u8, String> {
        if let Some(marker) = self.pending.take() {
            return Ok(marker);
        }
        let (marker, at) = bits::next_marker(self.bytes, self.at)?;
        self.at = at;
        Ok(marker)
    }

    fn body(&mut self) -> Result<&'a [u8], String> {
        let truncated = || "it is truncated".to_owned();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (length, _) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
        // A length below its own two bytes counts as an empty segment.
        let length = usize::from(u16::from_be_bytes(*length)).max(2);
        let body = rest.get(2..length).ok_or_else(truncated)?;
        self.at += length;
        Ok(body)
    }
}

/// What has been said so far.
#[derive(Default)]
pub(super) struct Headers {
    frame: Option<Frame>,
    pub(super) quantizers: [Option<Quantizers>; 4],
    dc: [Option<Definition>; 4],
    ac: [Option<Definition>; 4],
    /// MCUs between restarts; 0 for none.
    pub(super) restart_interval: u32,
    pub(super) jfif: bool,
    /// The color transform that Adobe's segment names.
    pub(super) adobe: Option<u8>,
}

/// Where [`Headers::advance`] stopped.
pub(super) enum Event {
    /// A scan's data follows.
    Scan(Scan),
    /// The end of the picture.
    End,
}

impl Headers {
    /// Reads segments up to the next scan or the end.
    pub(super) fn advance(&mut self, segments: &mut Segments<'_>) -> Result<Event, String> {
        loop {
            match segments.marker()? {
                // TEM and stray restarts have no body.
                0x01 | 0xd0..=0xd7 => {}
                0xd9 => return Ok(Event::End),
                0xda => return Ok(Event::Scan(self.scan(segments.body()?)?)),
                marker => self.segment(marker, segments.body()?)?,
            }
        }
    }

    fn segment(&mut self, marker: u8, body: &[u8]) -> Result<(), String> {
        match marker {
            0xc0..=0xc2 if self.frame.is_some() => Err("it has more than one frame".to_owned()),
            0xc0..=0xc2 => {
                self.frame = Some(Frame::read(marker == 0xc2, body)?);
                Ok(())
            }
            0xc4 => self.huffman_tables(body),
            0xdb => self.quantizers(body),
            0xdd => {
                let interval = body.try_into().map_err(|_| damaged("restart interval"))?;
                self.restart_interval = u32::from(u16::from_be_bytes(interval));
                Ok(())
            }
            0xe0 => {
                self.jfif |= body.len() >= 14 && body.starts_with(b"JFIF\0");
                Ok(())
            }
            0xee => {
                if body.len() >= 12 && body.starts_with(b"Adobe") {
                    self.adobe = Some(body[11]);
                }
                Ok(())
            }
            // The number of lines is known from the frame. The rest does not draw.
            0xdc | 0xe1..=0xef | 0xfe => Ok(()),
            _ => Err(format!("it has an unexpected marker 0x{marker:02x}")),
        }
    }

    fn quantizers(&mut self, mut body: &[u8]) -> Result<(), String> {
        let damaged = || damaged("quantization table");
        while let Some((&kind, rest)) = body.split_first() {
            let slot = self.quantizers.get_mut(usize::from(kind & 0xf));
            let size = if kind >> 4 == 0 { 1 } else { 2 };
            let (values, rest) = rest.split_at_checked(64 * size).ok_or_else(damaged)?;
            let mut table = [0; 64];
            for (value, &place) in values.chunks_exact(size).zip(&ZIGZAG) {
                table[usize::from(place)] = value
                    .iter()
                    .fold(0, |value, &byte| value << 8 | u16::from(byte));
            }
            *slot.ok_or_else(damaged)? = Some(table);
            body = rest;
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), String> {
        let damaged = || damaged("Huffman table");
        while let Some((&kind, rest)) = body.split_first() {
            let tables = match kind >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err(damaged()),
            };
            let slot = tables.get_mut(usize::from(kind & 0xf));
            let (&counts, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(count).ok_or_else(damaged)?;
            let mut values = [0; 256];
            let known = values.get_mut(..count).ok_or_else(damaged)?;
            known.copy_from_slice(symbols);
            *slot.ok_or_else(damaged)? = Some(Definition { counts, values });
            body = rest;
        }
        Ok(())
    }

    fn scan(&self, body: &[u8]) -> Result<Scan, String> {
        let damaged = || damaged("scan header");
        let ids = &self
            .frame_ids()
            .ok_or("its pixels begin before its header")?;
        let (&count, rest) = body.split_first().ok_or_else(damaged)?;
        let count = usize::from(count);
        if !(1..=4).contains(&count) || rest.len() != 2 * count + 3 {
            return Err(damaged());
        }
        let (named, spectrum) = rest.split_at(2 * count);
        // libjpeg's way to find a component: its place in the frame must not have been passed by
        // the scan yet. So components come in the order of the frame, and ids may repeat.
        let mut components: Vec<ScanComponent> = Vec::with_capacity(count);
        for pair in named.chunks_exact(2) {
            let index = ids
                .iter()
                .enumerate()
                .position(|(place, &id)| id == pair[0] && place >= components.len())
                .ok_or_else(damaged)?;
            if components.iter().any(|other| other.index == index) {
                return Err(damaged());
            }
            components.push(ScanComponent {
                index,
                dc: usize::from(pair[1] >> 4),
                ac: usize::from(pair[1] & 0xf),
            });
        }
        Ok(Scan {
            components,
            first: usize::from(spectrum[0]),
            last: usize::from(spectrum[1]),
            high: spectrum[2] >> 4,
            low: spectrum[2] & 0xf,
        })
    }

    fn frame_ids(&self) -> Option<Vec<u8>> {
        let frame = self.frame.as_ref()?;
        Some(frame.components.iter().map(|part| part.id).collect())
    }

    /// Motion JPEG leaves out the tables of T.81's annex K.
    pub(super) fn fill_missing_tables(&mut self) {
        let sequential = self.frame.as_ref().is_some_and(|frame| !frame.progressive);
        if sequential {
            for index in 0..2 {
                self.dc[index].get_or_insert(STANDARD_DC[index]);
                self.ac[index].get_or_insert(STANDARD_AC[index]);
            }
        }
    }

    /// A copy of the frame, to be drawn.
    pub(super) fn drawn_frame(&self) -> Result<Frame, String> {
        let frame = self.frame.clone();
        frame.ok_or_else(|| "its pixels begin before its header".to_owned())
    }

    pub(super) fn dc(&self, index: usize) -> Result<&Definition, String> {
        let table = self.dc.get(index).and_then(Option::as_ref);
        table.ok_or_else(|| "it uses a Huffman table that it does not define".to_owned())
    }

    pub(super) fn ac(&self, index: usize) -> Result<&Definition, String> {
        let table = self.ac.get(index).and_then(Option::as_ref);
        table.ok_or_else(|| "it uses a Huffman table that it does not define".to_owned())
    }
}

pub(super) fn damaged(what: &str) -> String {
    format!("its {what} is damaged")
}
