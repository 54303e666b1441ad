//! Products of float32 numbers by fused multiplications and additions.

use std::{arch::x86_64::*, ops::Range};

use super::tile::{Sink, tiles_before};
use crate::cpu::{
    aligned::{Aligned, LINE},
    weights::{Linear, PANEL},
};

/// Inputs of a panel that are multiplied with all rows before the next: with them, 256 KiB of
/// weights stay in the second cache.
const INPUTS: usize = 1024;

/// Some panels of a linear layer of float32 rows without gaps.
///
/// # Safety
/// The sink must be made for the layer, and no other thread may compute these panels for it.
///
/// # Panics
/// If the sink is for another number of rows.
#[target_feature(enable = "avx512f,avx512dq,fma")]
pub(super) unsafe fn multiply(
    rows: &[f32],
    layer: &Linear,
    kernel: &[f32],
    panels: Range<usize>,
    sink: Sink<'_>,
) {
    let count = sink.rows();
    assert!(rows.len() == count * layer.inputs && panels.end <= layer.panels());
    assert!(kernel.len() == layer.panels() * layer.inputs * PANEL);
    let mut sums = Aligned::zeroed(match layer.inputs > INPUTS {
        true => count * PANEL,
        false => 0,
    });
    let kernel = &kernel[..panels.end * layer.inputs * PANEL];
    let parts = panels.flat_map(|panel| {
        let firsts = (0..layer.inputs).step_by(INPUTS);
        firsts.map(move |first| (panel, first))
    });
    for (panel, first) in parts {
        let inputs = (layer.inputs - first).min(INPUTS);
        let start = (panel * layer.inputs + first) * PANEL;
        let (weights, next) = kernel[start..].split_at(inputs * PANEL);
        let part = Part {
            rows,
            weights,
            first_input: first,
            panel,
            layer,
            sink,
        };
        let next = &next[..next.len().min(INPUTS * PANEL)];
        for ((first, count), next) in tiles_before(count, next) {
            prefetch(next);
            // SAFETY: the tile's rows and panel exist, and the lengths were checked above.
            unsafe {
                match count {
                    1 => part.multiply::<1>(first, &mut sums),
                    2 => part.multiply::<2>(first, &mut sums),
                    3 => part.multiply::<3>(first, &mut sums),
                    4 => part.multiply::<4>(first, &mut sums),
                    5 => part.multiply::<5>(first, &mut sums),
                    _ => part.multiply::<6>(first, &mut sums),
                }
            }
        }
    }
}

/// Asks for weights to be brought to the second cache.
#[inline]
fn prefetch(weights: &[f32]) {
    for line in weights.chunks(LINE / size_of::<f32>()) {
        // SAFETY: a hint, which may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// Some inputs of one panel, and what is multiplied with them.
struct Part<'a> {
    rows: &'a [f32],
    weights: &'a [f32],
    first_input: usize,
    panel: usize,
    layer: &'a Linear,
    sink: Sink<'a>,
}

impl Part<'_> {
    /// `sums` has a panel's channels for each row, where a layer has more than one part.
    ///
    /// # Safety
    /// `ROWS` rows from `first` on must exist, and the sink must have them and the panel.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,fma")]
    unsafe fn multiply<const ROWS: usize>(&self, first: usize, sums: &mut [f32]) {
        let inputs = self.layer.inputs;
        let count = self.weights.len() / PANEL;
        let last = self.first_input + count == inputs;
        let mut acc = [[_mm512_setzero_ps(); 4]; ROWS];
        if self.first_input > 0 {
            let before = sums[first * PANEL..][..ROWS * PANEL].as_ptr();
            for (at, sum) in acc.as_flattened_mut().iter_mut().enumerate() {
                // SAFETY: the slice has four vectors for each row.
                *sum = unsafe { _mm512_loadu_ps(before.add(at * 16)) };
            }
        }
        let weights = self.weights.as_ptr();
        let rows = self.rows[first * inputs + self.first_input..].as_ptr();
        for input in 0..count {
            // SAFETY: there are four vectors of weights for each input.
            let weights: [__m512; 4] = std::array::from_fn(|vector| unsafe {
                _mm512_loadu_ps(weights.add(input * PANEL + vector * 16))
            });
            for (row, acc) in acc.iter_mut().enumerate() {
                // SAFETY: the row is there by this function's contract.
                let value = _mm512_set1_ps(unsafe { *rows.add(row * inputs + input) });
                for (sum, weights) in acc.iter_mut().zip(weights) {
                    *sum = _mm512_fmadd_ps(value, weights, *sum);
                }
            }
        }
        if !last {
            let after = sums[first * PANEL..][..ROWS * PANEL].as_mut_ptr();
            for (at, sum) in acc.as_flattened().iter().enumerate() {
                // SAFETY: as above.
                unsafe { _mm512_storeu_ps(after.add(at * 16), *sum) };
            }
            return;
        }
        let bias = self.layer.bias[self.panel * PANEL..][..PANEL].as_ptr();
        for (row, sums) in acc.into_iter().enumerate() {
            // SAFETY: the bias has a whole panel from here on.
            let results: [__m512; 4] = std::array::from_fn(|vector| unsafe {
                _mm512_add_ps(sums[vector], _mm512_loadu_ps(bias.add(vector * 16)))
            });
            // SAFETY: by this function's contract.
            unsafe { self.sink.put(first + row, self.panel * PANEL, results) };
        }
    }
}
