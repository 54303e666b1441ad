//! Which files the fast decoders are trusted with, and how they are handed over.
//!
//! `zune-jpeg` and `jpeg-decoder` draw what cameras, phones and programs usually write as
//! libjpeg-turbo does. Beyond that each has structures that it draws wrongly without an error: several
//! sequential scans, chroma finer than luma, another rule for whose colors they are, scans that are
//! missing, data that ends early. So what is usual is listed here, and everything else goes to
//! [`super::exact`]. `tests/goldens/jpeg` holds the list against libjpeg-turbo.
//!
//! Data that ends early reads as zeros, silently, and zeros are valid codes. So the decoders get a
//! copy in which ones follow the data of every scan and restart interval: 16 of them are no code of any
//! table that is usual, so that whoever reads on fails.

use std::mem;

use memchr::memchr;

use super::{
    APP0, APP1, APP14, APP15, COM, DHT, DQT, DRI, EOI, SOF_BASELINE, SOF_EXTENDED, SOF_PROGRESSIVE,
    SOS, Segments,
};

/// Smaller pictures are cheap, and chroma of one or two samples is upsampled by rules of its own.
const MIN_SIDE: u16 = 17;

/// 48 ones, stuffed: what is left of a code, a value of 15 bits, and 16 that are no code. No more, as
/// `jpeg-decoder` looks for restart markers in the next eight bytes.
const GUARD: &[u8] = b"\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0";

/// A guarded copy of a complete JPEG of the usual kind, without what follows its end; `None` for others.
/// Usual is one frame, grey or YCbCr, with chroma at full or half size; every table defined before its
/// scan; one scan of everything, or a progression that ends with all bits of all coefficients; all
/// restarts in their places.
pub(super) fn guarded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut seen = Seen::default();
    let mut copy = Vec::with_capacity(bytes.len() + 4 * GUARD.len());
    let mut segments = Segments {
        rest: bytes.get(2..)?,
    };
    let mut copied = bytes;
    loop {
        let (marker, body) = segments.next()?;
        let from = copied;
        copied = segments.rest;
        copy.extend_from_slice(&from[..from.len() - copied.len()]);
        match marker {
            EOI => return seen.complete().then_some(copy),
            SOS => {
                let intervals = seen.scan(body)?;
                copied = intervals.copy(copied, &mut copy)?;
                segments.rest = copied;
            }
            _ => seen.segment(marker, body)?,
        }
    }
}

/// Data between restarts that a scan has to have.
struct Intervals {
    count: u64,
    /// How many bytes each has, the last maybe fewer, where each block has one bit.
    exact_bytes: Option<(u64, u64)>,
}

impl Intervals {
    /// Copies a scan's data with guards; what is left begins with the marker behind it.
    fn copy<'a>(&self, data: &'a [u8], copy: &mut Vec<u8>) -> Option<&'a [u8]> {
        let mut rest = data;
        let mut number = 0;
        loop {
            let length = data_length(rest)?;
            let (interval, behind) = rest.split_at(length);
            if let Some((each, last)) = self.exact_bytes {
                let stuffed = interval.iter().filter(|&&byte| byte == 0xff).count();
                let expected = if number + 1 == self.count { last } else { each };
                if (interval.len() - stuffed) as u64 != expected {
                    return None;
                }
            }
            copy.extend_from_slice(interval);
            copy.extend_from_slice(GUARD);
            number += 1;
            if number == self.count {
                return Some(behind);
            }
            let expected = [0xff, 0xd0 + ((number - 1) & 7) as u8];
            rest = behind.strip_prefix(&expected)?;
            copy.extend_from_slice(&expected);
        }
    }
}

/// Up to the next marker.
fn data_length(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr(0xff, &data[at..])?;
        if *data.get(at + 1)? != 0 {
            return Some(at);
        }
        at += 2;
    }
}

/// What the segments so far have said.
#[derive(Default)]
struct Seen {
    frame: Option<Frame>,
    quantizers: [bool; 4],
    /// Huffman tables for differences and for coefficients.
    huffman: [[bool; 4]; 2],
    adobe: bool,
    scans: usize,
    /// MCUs between restarts; 0 for none.
    restart_interval: u64,
}

struct Frame {
    width: u64,
    height: u64,
    progressive: bool,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    /// Sampling factors.
    h: u64,
    v: u64,
    quantizer: u8,
    /// Bits that are still to come of each coefficient; `None` before its first scan.
    missing_bits: [Option<u8>; 64],
}

impl Seen {
    /// Anything but a scan. `None` where the file is not usual.
    fn segment(&mut self, marker: u8, body: &[u8]) -> Option<()> {
        let before_scans = self.scans == 0;
        let allowed = match marker {
            // Progressive files define a table for each scan.
            DHT => return self.huffman_tables(body),
            SOF_BASELINE | SOF_EXTENDED | SOF_PROGRESSIVE if self.frame.is_none() => {
                self.frame = Some(Frame::read(marker == SOF_PROGRESSIVE, body)?);
                true
            }
            DQT => before_scans && self.quantizer_tables(body),
            DRI => {
                self.restart_interval = u64::from(u16::from_be_bytes(body.try_into().ok()?));
                before_scans
            }
            APP0 if body.starts_with(b"AVI1") => false,
            APP0 if body.starts_with(b"JFIF") => before_scans && body.len() >= 14 && body[4] == 0,
            APP14 if body.starts_with(b"Adobe") => {
                // Of three components transform 1 says YCbCr to all decoders.
                let single = !mem::replace(&mut self.adobe, true);
                before_scans && single && body.get(11) == Some(&1)
            }
            APP0 | APP1..=APP15 | COM => before_scans,
            _ => false,
        };
        allowed.then_some(())
    }

    fn quantizer_tables(&mut self, body: &[u8]) -> bool {
        let (tables, rest) = body.as_chunks::<65>();
        for &[kind, ..] in tables {
            // Tables of 16 bits have their bit above the number.
            let Some(defined) = self.quantizers.get_mut(usize::from(kind)) else {
                return false;
            };
            *defined = true;
        }
        rest.is_empty()
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = body.split_first() {
            let class = self.huffman.get_mut(usize::from(kind >> 4))?;
            *class.get_mut(usize::from(kind & 0xf))? = true;
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let values = counts.iter().map(|&count| usize::from(count)).sum();
            // Ones must be no code.
            let shares = (0..)
                .zip(counts)
                .map(|(index, &count)| u32::from(count) << (15 - index));
            if shares.sum::<u32>() >= 1 << 16 {
                return None;
            }
            body = rest.get(values..)?;
        }
        Some(())
    }

    fn scan(&mut self, body: &[u8]) -> Option<Intervals> {
        let frame = self.frame.as_mut()?;
        let (&count, rest) = body.split_first()?;
        let (named, spectrum) = rest.split_at_checked(2 * usize::from(count))?;
        let (named, _) = named.as_chunks::<2>();
        let &[first, last, bits]: &[u8; 3] = spectrum.try_into().ok()?;
        let (high, low) = (bits >> 4, bits & 0xf);
        let (first, last) = (usize::from(first), usize::from(last));
        let single = named.len() == 1;
        let whole = named.len() == frame.components.len();
        let fits = if frame.progressive {
            let band = if first == 0 {
                last == 0
            } else {
                single && first <= last && last < 64
            };
            band && (single || whole)
        } else {
            self.scans == 0 && whole && (first, last, bits) == (0, 63, 0)
        };
        if !fits {
            return None;
        }
        let (quantizers, huffman) = (&self.quantizers, &self.huffman);
        let mut after = 0;
        for &[id, tables] in named {
            let mut rest = frame.components.iter_mut().enumerate().skip(after);
            let (place, component) = rest.find(|(_, component)| component.id == id)?;
            after = place + 1;
            let needed = [
                (first == 0 && high == 0, &huffman[0], tables >> 4),
                (last > 0, &huffman[1], tables & 0xf),
                (true, quantizers, component.quantizer),
            ];
            let defined = |&(needed, tables, number): &(bool, &[bool; 4], u8)| {
                !needed || tables.get(usize::from(number)) == Some(&true)
            };
            let band = component.missing_bits.get_mut(first..=last)?;
            let next = match high {
                0 => band.iter().all(Option::is_none),
                _ => low + 1 == high && band.iter().all(|&bits| bits == Some(high)),
            };
            if !next || !needed.iter().all(defined) {
                return None;
            }
            band.fill(Some(low));
        }
        self.scans += 1;

        // A scan of one component has an MCU for each of its blocks.
        let (mcus, blocks) = match named {
            [[id, _]] => (frame.blocks_of(*id)?, 1),
            _ => (frame.mcus(), frame.blocks_in_mcu()),
        };
        let each = if self.restart_interval == 0 {
            mcus
        } else {
            self.restart_interval
        };
        let count = mcus.div_ceil(each);
        let bytes = |mcus: u64| (mcus * blocks).div_ceil(8);
        let one_bit = first == 0 && high > 0;
        Some(Intervals {
            count,
            exact_bytes: one_bit.then(|| (bytes(each), bytes(mcus - (count - 1) * each))),
        })
    }

    fn complete(&self) -> bool {
        let of = |part: &Component| part.missing_bits.iter().all(|&bits| bits == Some(0));
        let frame = self.frame.as_ref();
        frame.is_some_and(|frame| frame.components.iter().all(of))
    }
}

impl Frame {
    fn read(progressive: bool, body: &[u8]) -> Option<Self> {
        let (&[8, h0, h1, w0, w1, count], rest) = body.split_first_chunk::<6>()? else {
            return None;
        };
        let (height, width) = (u16::from_be_bytes([h0, h1]), u16::from_be_bytes([w0, w1]));
        let (parts, surplus) = rest.as_chunks::<3>();
        let factors: Vec<u8> = parts.iter().map(|&[_, factors, _]| factors).collect();
        let sampled = matches!(
            factors[..],
            [0x11] | [0x11 | 0x12 | 0x21 | 0x22, 0x11, 0x11]
        );
        // Letters make RGB of it, for some decoders even beside JFIF.
        let ids: Vec<u8> = parts.iter().map(|&[id, ..]| id).collect();
        let distinct = (1..ids.len()).all(|index| !ids[..index].contains(&ids[index]));
        let fits = parts.len() == usize::from(count) && surplus.is_empty();
        if height.min(width) < MIN_SIDE || !sampled || !distinct || !fits || ids == *b"RGB" {
            return None;
        }
        let components = parts.iter().map(|&[id, factors, quantizer]| Component {
            id,
            h: u64::from(factors >> 4),
            v: u64::from(factors & 0xf),
            quantizer,
            missing_bits: [None; 64],
        });
        Some(Self {
            width: width.into(),
            height: height.into(),
            progressive,
            components: components.collect(),
        })
    }

    /// The largest sampling factors are the first component's.
    fn largest(&self) -> (u64, u64) {
        self.components
            .first()
            .map_or((1, 1), |part| (part.h, part.v))
    }

    /// In interleaved scans.
    fn mcus(&self) -> u64 {
        let (h, v) = self.largest();
        self.width.div_ceil(8 * h) * self.height.div_ceil(8 * v)
    }

    fn blocks_in_mcu(&self) -> u64 {
        self.components.iter().map(|part| part.h * part.v).sum()
    }

    fn blocks_of(&self, id: u8) -> Option<u64> {
        let (h, v) = self.largest();
        let part = self.components.iter().find(|part| part.id == id)?;
        let blocks = |pixels: u64, own: u64, largest: u64| (pixels * own).div_ceil(8 * largest);
        Some(blocks(self.width, part.h, h) * blocks(self.height, part.v, v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::goldens;

    #[test]
    fn what_programs_write_goes_the_fast_way() {
        for name in ["444", "422", "420", "gray", "restarts"] {
            assert!(
                guarded(&goldens::bytes(&format!("decode/{name}.jpg"))).is_some(),
                "{name}"
            );
        }
        for name in ["444", "422", "420", "gray"] {
            let file = format!("decode/{name}-progressive.jpg");
            assert!(guarded(&goldens::bytes(&file)).is_some(), "{file}");
        }
    }

    #[test]
    fn what_fast_decoders_are_not_proven_on_does_not() {
        for name in ["rgb", "cmyk", "ycck", "one-pixel"] {
            let file = format!("decode/{name}.jpg");
            assert!(guarded(&goldens::bytes(&file)).is_none(), "{file}");
        }
    }

    /// Scans that a progression lacks are smoothed over by libjpeg, and by no other decoder.
    #[test]
    fn a_progression_without_its_last_scan_is_not_usual() {
        let mut bytes = goldens::bytes("decode/420-progressive.jpg");
        let last = bytes.windows(2).rposition(|at| at == [0xff, SOS]).unwrap();
        bytes.truncate(last);
        bytes.extend([0xff, EOI]);
        assert!(guarded(&bytes).is_none());
    }
}
