//! One component's samples at the size of the picture.
//!
//! Chroma at half the size goes through a triangle filter (three parts the nearer sample, one part the
//! farther one, in each halved direction), any other is repeated, as libjpeg does by default.

use std::{array, mem};

use super::frame::{Component, Frame};

/// How samples become pixels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Method {
    /// Triangle filter across, down, or both.
    Across,
    Down,
    Both,
    /// So many times across and down.
    Repeat(usize, usize),
}

/// Samples of a row of MCUs with their neighbours, and the way they are upsampled.
pub(super) struct Upsampler {
    method: Method,
    /// Samples that count.
    width: usize,
    height: usize,
    /// Rows of samples in a row of MCUs.
    rows: usize,
    /// The largest vertical factor, and this component's.
    max_v: usize,
    v: usize,
    stride: usize,
    /// The last row of the MCUs above; this row of MCUs; the one below.
    above: Vec<u8>,
    current: Vec<u8>,
    below: Vec<u8>,
}

impl Upsampler {
    pub(super) fn new(frame: &Frame, component: &Component) -> Result<Self, String> {
        let &Component {
            h,
            v,
            width,
            height,
            ..
        } = component;
        let &Frame { max_h, max_v, .. } = frame;
        if !max_h.is_multiple_of(h) || !max_v.is_multiple_of(v) {
            return Err(format!(
                "sampling factors of {h}×{v} beside {max_h}×{max_v} are not supported"
            ));
        }
        // Two samples are too few for the filter across.
        let method = match (max_h / h, max_v / v) {
            (2, 1) if width > 2 => Method::Across,
            (1, 2) => Method::Down,
            (2, 2) if width > 2 => Method::Both,
            (across, down) => Method::Repeat(across, down),
        };
        let stride = component.padded_blocks() * 8;
        Ok(Self {
            method,
            width,
            height,
            rows: 8 * v,
            max_v,
            v,
            stride,
            above: vec![0; stride],
            current: vec![0; stride * 8 * v],
            below: vec![0; stride * 8 * v],
        })
    }

    /// Room for a row of pixels.
    pub(super) fn line(&self) -> Vec<u8> {
        let across = match self.method {
            Method::Across | Method::Both => 2,
            Method::Down => 1,
            Method::Repeat(across, _) => across,
        };
        vec![0; self.width * across]
    }

    /// Where the samples of the next row of MCUs go.
    pub(super) fn next_row(&mut self) -> &mut [u8] {
        &mut self.below
    }

    /// Makes the next row of MCUs the current one.
    pub(super) fn turn(&mut self) {
        let last = self.current.len() - self.stride;
        self.above.copy_from_slice(&self.current[last..]);
        mem::swap(&mut self.current, &mut self.below);
    }

    /// Writes the row `y` of the picture, which lies in the current row of MCUs, the `mcu_row`-th.
    pub(super) fn row(&self, y: usize, mcu_row: usize, line: &mut [u8]) {
        let first = mcu_row * self.rows;
        let own = y * self.v / self.max_v;
        let samples = |row: usize| -> &[u8] {
            // The filter repeats the first and the last row that count.
            let row = row.min(self.height - 1);
            let source = match row.checked_sub(first) {
                None => &self.above[..],
                Some(row) if row < self.rows => &self.current[row * self.stride..],
                Some(row) => &self.below[(row - self.rows) * self.stride..],
            };
            &source[..self.width]
        };
        let near = samples(own);
        // Of two rows of pixels to a row of samples, the first lies nearer to the one above.
        let upper = y.is_multiple_of(2);
        let far = || match upper {
            true => samples(own.saturating_sub(1)),
            false => samples(own + 1),
        };
        match self.method {
            Method::Repeat(1, _) => line.copy_from_slice(near),
            Method::Repeat(across, _) => {
                for (pixels, &sample) in line.chunks_exact_mut(across).zip(near) {
                    pixels.fill(sample);
                }
            }
            Method::Down => {
                let bias = if upper { 1 } else { 2 };
                for ((pixel, &near), &far) in line.iter_mut().zip(near).zip(far()) {
                    *pixel = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Method::Across => {
                let sums = near.iter().map(|&near| u16::from(near));
                across(sums, line, 2, [1, 2]);
            }
            Method::Both => {
                let sums = near.iter().zip(far());
                let sums = sums.map(|(&near, &far)| 3 * u16::from(near) + u16::from(far));
                across(sums, line, 4, [8, 7]);
            }
        }
    }
}

/// Two pixels for each of at least two samples: `(3·nearer + farther + bias) / 2^shift`, where the
/// first and the last pixel have nothing but their own sample.
fn across(mut samples: impl Iterator<Item = u16>, line: &mut [u8], shift: u32, biases: [u16; 2]) {
    let [Some(first), second] = array::from_fn(|_| samples.next()) else {
        return;
    };
    let mut pair = |index: usize, left: u16, own: u16, right: u16| {
        let pixel = |far: u16, bias: u16| ((3 * own + far + bias) >> shift) as u8;
        line[2 * index] = pixel(left, biases[0]);
        line[2 * index + 1] = pixel(right, biases[1]);
    };
    let (mut left, mut own) = (first, first);
    let mut index = 0;
    for right in second.into_iter().chain(samples) {
        pair(index, left, own, right);
        (left, own) = (own, right);
        index += 1;
    }
    pair(index, left, own, own);
}
