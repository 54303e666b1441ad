//! The bits of a scan, with stuffed bytes taken out, and its restart markers.
//!
//! Behind a marker there are zeros, as many as are asked for; [`Bits::exhausted`] remembers.

use super::huffman::Table;

/// Bits of entropy-coded data.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, the first one uppermost, zeros behind the last.
    buffer: u64,
    count: u32,
    /// The marker that ends the data, or the segment of it, once it was met.
    marker: Option<u8>,
    /// Whether bits were asked for that are not there.
    exhausted: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            buffer: 0,
            count: 0,
            marker: None,
            exhausted: false,
        }
    }

    /// Where the reader stands, and the marker just before that, if one was met.
    pub(super) fn position(&self) -> (usize, Option<u8>) {
        (self.at, self.marker)
    }

    /// Whether data was missing since the last restart.
    pub(super) fn exhausted(&self) -> bool {
        self.exhausted
    }

    /// The symbol that comes next; 0 where no code of `table` does.
    pub(super) fn symbol(&mut self, table: &Table) -> u8 {
        self.fill();
        let entry = table.lookup[(self.buffer >> 56) as usize];
        if entry != 0 {
            self.consume(u32::from(entry >> 8));
            return entry as u8;
        }
        let window = (self.buffer >> 47) as i32;
        for length in 9..=16 {
            let code = window >> (17 - length);
            if code <= table.last_code[length] {
                self.consume(length as u32);
                return table.values[(code + table.offset[length]) as usize & 0xff];
            }
        }
        self.consume(17);
        0
    }

    /// A number of `size` bits, at most 15, as T.81 stores differences and coefficients (F.2.2.1).
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.take(size) as i32;
        if value < 1 << (size - 1) {
            value - (1 << size) + 1
        } else {
            value
        }
    }

    /// The next `size` bits, at most 16.
    pub(super) fn take(&mut self, size: u32) -> u32 {
        if size == 0 {
            return 0;
        }
        self.fill();
        let value = (self.buffer >> (64 - size)) as u32;
        self.consume(size);
        value
    }

    fn consume(&mut self, size: u32) {
        if size > self.count {
            self.exhausted = true;
            self.buffer = 0;
            self.count = 0;
        } else {
            self.buffer <<= size;
            self.count -= size;
        }
    }

    /// Holds at least 32 bits afterwards, if the data has them.
    fn fill(&mut self) {
        if self.count >= 32 || self.marker.is_some() {
            return;
        }
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at..) {
                None | Some([]) => return,
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([0xff, ..]) => {
                    // Fill bytes may stand before the marker.
                    let rest = &self.bytes[self.at..];
                    let Some(fill) = rest.iter().position(|&byte| byte != 0xff) else {
                        self.at = self.bytes.len();
                        return;
                    };
                    self.at += fill + 1;
                    if rest[fill] != 0 {
                        self.marker = Some(rest[fill]);
                        return;
                    }
                    0xff
                }
                Some([byte, ..]) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Goes on behind the restart marker number `expected`, 0 to 7. Where another marker is met,
    /// the rule is libjpeg's `jpeg_resync_to_restart`: one that is just past is passed over, one
    /// that is just ahead (or no restart) is left until its turn comes, any other is taken for
    /// the expected one.
    pub(super) fn restart(&mut self, expected: u8) -> Result<(), String> {
        self.buffer = 0;
        self.count = 0;
        let mut marker = match self.marker {
            Some(marker) => marker,
            None => self.next_marker()?,
        };
        loop {
            let ahead = marker.wrapping_sub(RST0).wrapping_sub(expected) & 7;
            match marker {
                RST0..=RST7 if matches!(ahead, 0 | 3 | 4 | 5) => break self.marker = None,
                RST0..=RST7 if matches!(ahead, 1 | 2) => break self.marker = Some(marker),
                // Passed already, or no marker that there is.
                RST0..=RST7 | 0..SOF0 => marker = self.next_marker()?,
                _ => break self.marker = Some(marker),
            }
        }
        if self.marker.is_none() {
            self.exhausted = false;
        }
        Ok(())
    }

    fn next_marker(&mut self) -> Result<u8, String> {
        let (marker, at) = next_marker(self.bytes, self.at)?;
        self.at = at;
        Ok(marker)
    }
}

const SOF0: u8 = 0xc0;
const RST0: u8 = 0xd0;
const RST7: u8 = 0xd7;

/// The first marker at or behind `at`, and where it ends.
pub(super) fn next_marker(bytes: &[u8], at: usize) -> Result<(u8, usize), String> {
    let mut rest = bytes.get(at..).unwrap_or_default();
    loop {
        let truncated = || "it is truncated".to_owned();
        let start = rest.iter().position(|&byte| byte == 0xff);
        rest = &rest[start.ok_or_else(truncated)?..];
        let end = rest.iter().position(|&byte| byte != 0xff);
        let end = end.ok_or_else(truncated)?;
        let marker = rest[end];
        rest = &rest[end + 1..];
        if marker != 0 {
            return Ok((marker, bytes.len() - rest.len()));
        }
    }
}
