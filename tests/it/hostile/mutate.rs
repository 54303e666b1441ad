//! Damage, the same on every run.

/// Makes damaged copies.
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            end => (self.next() % end as u64) as usize,
        }
    }

    /// One to four kinds of damage, one after the other.
    pub(crate) fn mutate(&mut self, image: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = image.to_vec();
        for _ in 0..=self.below(4) {
            self.damage(&mut bytes, other);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let length = bytes.len();
        let at = self.below(length);
        // Most of what a decoder decides by is at the beginning.
        let early = self.below(length.min(256));
        let some = 1 + self.below((length - at.min(length)).min(64));
        match self.below(9) {
            0 => bytes.truncate(at),
            1 => self.flip(bytes, 1 + length / 1000),
            2 => self.flip(bytes, 1),
            3 => bytes.get_mut(at..at + some).map_or((), |part| {
                part.fill([0x00, 0xff, 0x7f, 0x80][some % 4]);
            }),
            4 => {
                let value = [0, u64::MAX, 1 << 31, 0x7fff_ffff, self.next()][some % 5];
                for (byte, new) in bytes
                    .iter_mut()
                    .skip(early)
                    .zip(value.to_be_bytes())
                    .take(4)
                {
                    *byte = new;
                }
            }
            5 => {
                bytes.drain(at..(at + some).min(length));
            }
            6 => {
                let part: Vec<u8> = bytes.iter().skip(at).take(some * 16).copied().collect();
                bytes.splice(at..at, part);
            }
            7 => {
                let from = self.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(early) {
                    *byte = self.next() as u8;
                }
            }
        }
    }

    fn flip(&mut self, bytes: &mut [u8], count: usize) {
        for _ in 0..count {
            let at = self.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (self.next() % 8);
            }
        }
    }
}
