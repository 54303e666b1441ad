//! What the products share: tiles of a few rows by up to four vectors of output channels.

use std::{arch::x86_64::*, array};

use super::math;
use crate::cpu::{
    instructions::{Activation, Epilogue},
    weights::{Linear, PANEL},
};

/// Rows of a tile: with four vectors of sums each, inputs and weights still find registers.
pub(super) const ROWS: usize = 6;

/// Where a tile's result goes.
#[derive(Clone, Copy)]
pub(super) struct Sink {
    out: *mut f32,
    stride: usize,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    Store,
    Add,
    Activate(Activation),
}

impl Sink {
    /// For `rows` rows of the layer's output channels, written to `epilogue`.
    ///
    /// # Panics
    /// If the epilogue's room is of another length.
    pub(super) fn new(epilogue: Epilogue<'_>, rows: usize, layer: &Linear) -> Self {
        assert_eq!(epilogue.len(), rows * layer.outputs);
        let (out, action) = match epilogue {
            Epilogue::Store(out) => (out, Action::Store),
            Epilogue::Add(out) => (out, Action::Add),
            Epilogue::Activate(out, activation) => (out, Action::Activate(activation)),
        };
        Self {
            out: out.as_mut_ptr(),
            stride: layer.outputs,
            action,
        }
    }

    /// Takes a row's results for the panel's channels, bias included; those beyond the last
    /// channel are left out.
    ///
    /// # Safety
    /// The row and the panel must be of those that the sink was made for.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) unsafe fn put(self, row: usize, panel: usize, results: [__m512; 4]) {
        let valid = valid_lanes(self.stride, panel);
        for (vector, (result, valid)) in results.into_iter().zip(valid).enumerate() {
            // SAFETY: row and panel lie within the room; lanes beyond its last channel are masked,
            // and a masked lane is not touched.
            unsafe {
                let at = (self.out).wrapping_add(row * self.stride + panel * PANEL + vector * 16);
                let result = match self.action {
                    Action::Store => result,
                    Action::Add => _mm512_add_ps(_mm512_maskz_loadu_ps(valid, at), result),
                    Action::Activate(activation) => math::activate(activation, result),
                };
                _mm512_mask_storeu_ps(at, valid, result);
            }
        }
    }
}

/// Which lanes of a panel's four vectors are channels.
#[inline]
fn valid_lanes(outputs: usize, panel: usize) -> [__mmask16; 4] {
    let channels = (outputs - panel * PANEL).min(PANEL);
    array::from_fn(|vector| first_lanes(channels.saturating_sub(vector * 16)))
}

/// A mask of the first lanes, of all sixteen at most.
#[inline]
pub(super) fn first_lanes(count: usize) -> __mmask16 {
    match count {
        0..16 => (1 << count) - 1,
        _ => __mmask16::MAX,
    }
}

/// `rows` as tiles of nearly equal numbers of rows, at most [`ROWS`] each: `(first row, rows)`.
pub(super) fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = rows.div_ceil(ROWS);
    (0..tiles).map(move |tile| {
        let first = tile * rows / tiles;
        (first, (tile + 1) * rows / tiles - first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_rows_and_none_is_much_smaller() {
        for rows in 0..400 {
            let mut next = 0;
            for (first, count) in tiles(rows) {
                assert_eq!(first, next);
                assert!((1..=ROWS).contains(&count));
                assert!(rows < ROWS || count + 1 >= rows / rows.div_ceil(ROWS));
                next = first + count;
            }
            assert_eq!(next, rows);
        }
    }

    #[test]
    fn channels_beyond_the_last_are_masked() {
        assert_eq!(valid_lanes(64, 0), [0xffff; 4]);
        assert_eq!(valid_lanes(72, 1), [0xff, 0, 0, 0]);
        assert_eq!(valid_lanes(81, 1), [0xffff, 1, 0, 0]);
    }
}
