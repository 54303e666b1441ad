//! The scan header, and what frame, headers and scans have in common.

/// A scan header.
pub(super) struct Scan {
    pub(super) components: Vec<ScanComponent>,
    /// The band of coefficients in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bits that earlier scans left out; 0 for the first of a band.
    pub(super) high: u8,
    /// Bits that this one leaves out.
    pub(super) low: u8,
}

/// A component's part in a scan.
#[derive(Clone, Copy)]
pub(super) struct ScanComponent {
    /// In the frame.
    pub(super) index: usize,
    /// Numbers of Huffman tables.
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// Quantizers in the order of the block.
pub(super) type Quantizers = [u16; 64];

/// From zigzag order to place in the block; more than 64, as runs may end beyond (libjpeg puts what
/// they lead to last).
pub(super) const ZIGZAG: [u8; 80] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
    63, 63, 63, 63, 63, 63,
];

pub(super) fn damaged(what: &str) -> String {
    format!("its {what} is damaged")
}
