//! What the products share: tiles of a few rows by up to four vectors of output channels.

use std::{arch::x86_64::*, marker::PhantomData};

use super::math;
use crate::cpu::{
    instructions::{Activation, Epilogue, RowsMut},
    weights::Linear,
};

/// Rows of a tile: with four vectors of sums each, inputs and weights still find registers.
pub(super) const ROWS: usize = 6;

/// Where a tile's result goes. Several threads may have it, each for other panels.
#[derive(Clone, Copy)]
pub(super) struct Sink<'a> {
    out: *mut f32,
    rows: usize,
    channels: usize,
    stride: usize,
    action: Action,
    room: PhantomData<&'a mut [f32]>,
}

// SAFETY: values are reached through `put` alone, whose contract keeps threads apart.
unsafe impl Send for Sink<'_> {}
// SAFETY: as above.
unsafe impl Sync for Sink<'_> {}

#[derive(Clone, Copy)]
enum Action {
    Store,
    Add,
    Activate(Activation),
}

impl<'a> Sink<'a> {
    /// For the layer's output channels of as many rows as `epilogue` has room for.
    ///
    /// # Panics
    /// If its rows are shorter than that.
    pub(super) fn new(epilogue: Epilogue<'a>, layer: &Linear) -> Self {
        let rows = epilogue.rows(layer.outputs);
        let channels = layer.outputs;
        let (out, stride, action) = match epilogue {
            Epilogue::Store(out) => (out, channels, Action::Store),
            Epilogue::Add(out) => (out, channels, Action::Add),
            Epilogue::Activate(activation, RowsMut { values, stride }) => {
                (values, stride, Action::Activate(activation))
            }
        };
        assert!(stride >= channels && out.len() >= rows * stride);
        Self {
            out: out.as_mut_ptr(),
            rows,
            channels,
            stride,
            action,
            room: PhantomData,
        }
    }

    /// For how many rows it was made.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes a row's results for the channels from `channel` on, bias included; those beyond the
    /// last channel are left out.
    ///
    /// # Safety
    /// The row must be of those that the sink was made for, `channel` below the padded number of
    /// channels, and no other thread may put results for these channels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) unsafe fn put<const VECTORS: usize>(
        self,
        row: usize,
        channel: usize,
        results: [__m512; VECTORS],
    ) {
        for (vector, result) in results.into_iter().enumerate() {
            let channel = channel + vector * 16;
            let valid = first_lanes(self.channels.saturating_sub(channel));
            // SAFETY: the row lies within the room; lanes beyond its last channel are masked, and a
            // masked lane is not touched.
            unsafe {
                let at = self.out.wrapping_add(row * self.stride + channel);
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

/// A mask of the first lanes, of all sixteen at most.
#[inline]
pub(super) fn first_lanes(count: usize) -> __mmask16 {
    match count {
        0..16 => (1 << count) - 1,
        _ => __mmask16::MAX,
    }
}

/// [`tiles`], each with an even share of what is worth having in the second cache after them.
pub(super) fn tiles_before<T>(
    rows: usize,
    next: &[T],
) -> impl Iterator<Item = ((usize, usize), &[T])> {
    let share = next.len().div_ceil(rows.div_ceil(ROWS).max(1)).max(1);
    let mut coming = next.chunks(share);
    tiles(rows).map(move |tile| (tile, coming.next().unwrap_or_default()))
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
    fn masks_have_the_first_lanes() {
        assert_eq!(
            [0, 1, 15, 16, 40].map(first_lanes),
            [0, 1, 0x7fff, 0xffff, 0xffff]
        );
    }
}
