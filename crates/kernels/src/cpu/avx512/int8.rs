//! Products of bytes by VNNI's `vpdpbusd`: unsigned tokens times signed weights, four at a time,
//! added up in 32 bits.

use std::{arch::x86_64::*, ops::Range};

use super::tile::{Sink, tiles_before};
use crate::cpu::{
    aligned::LINE,
    rounding::Quantized,
    weights::{GROUP, HALF_PANEL, Int8Kernel, Linear, PANEL, panel_len},
};

/// Some panels of a linear layer of tokens as integers.
///
/// Panel after panel, so that a panel's weights, which stay in the second cache meanwhile, are
/// multiplied with all rows.
///
/// # Safety
/// The sink must be made for the layer, and no other thread may compute these panels for it.
///
/// # Panics
/// If the sink is for another number of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply(
    tokens: Quantized<'_>,
    layer: &Linear,
    kernel: &Int8Kernel,
    panels: Range<usize>,
    sink: Sink<'_>,
) {
    let rows = tokens.scale.len();
    assert_eq!(rows, sink.rows());
    let end = panels.end;
    for panel in panels {
        let next = match panel + 1 < end {
            true => next_panel(panel_len(layer.inputs), &kernel.values, panel),
            false => &[],
        };
        let panel = Panel::new(tokens, layer, kernel, panel, sink);
        for ((first, count), next) in tiles_before(rows, next) {
            prefetch(next);
            // SAFETY: the tile's rows are among those that `Panel::new` checked.
            unsafe {
                match count {
                    1 => panel.multiply::<1>(first),
                    2 => panel.multiply::<2>(first),
                    3 => panel.multiply::<3>(first),
                    4 => panel.multiply::<4>(first),
                    5 => panel.multiply::<5>(first),
                    _ => panel.multiply::<6>(first),
                }
            }
        }
    }
}

/// The weights that are multiplied after this panel's, of panels of `len` bytes.
pub(super) fn next_panel(len: usize, kernel: &[i8], panel: usize) -> &[i8] {
    &kernel[(panel + 1) * len..][..len]
}

/// Asks for weights to be brought to the second cache.
#[inline]
pub(super) fn prefetch(weights: &[i8]) {
    for line in weights.chunks(LINE) {
        // SAFETY: a hint, which may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr()) };
    }
}

/// One panel of a layer, what is multiplied with it, and where results go.
pub(super) struct Panel<'a> {
    tokens: Quantized<'a>,
    /// `[half][group of inputs][channel][input of the group]`.
    weights: &'a [i8],
    offset: &'a [i32],
    scale: &'a [f32],
    bias: &'a [f32],
    inputs: usize,
    panel: usize,
    sink: Sink<'a>,
}

impl<'a> Panel<'a> {
    /// The layer's panel with this number. What computes with it relies on the sink's being made
    /// for as many rows as tokens and for the layer, and on no other thread's computing this panel.
    ///
    /// # Panics
    /// If the tokens' rows are shorter than the layer's inputs, or there is no such panel.
    pub(super) fn new(
        tokens: Quantized<'a>,
        layer: &'a Linear,
        kernel: &'a Int8Kernel,
        panel: usize,
        sink: Sink<'a>,
    ) -> Self {
        assert!(layer.inputs.div_ceil(GROUP) * GROUP <= tokens.stride);
        assert!(tokens.bytes.len() >= tokens.scale.len() * tokens.stride);
        let panel_len = panel_len(layer.inputs);
        let channels = panel * PANEL..(panel + 1) * PANEL;
        Self {
            tokens,
            weights: &kernel.values[panel * panel_len..][..panel_len],
            offset: &kernel.offset[channels.clone()],
            scale: &kernel.scale[channels.clone()],
            bias: &layer.bias[channels],
            inputs: layer.inputs,
            panel,
            sink,
        }
    }

    /// # Safety
    /// `ROWS` rows from `first` on must be among the tokens.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
    unsafe fn multiply<const ROWS: usize>(&self, first: usize) {
        let mut sums = [[_mm512_setzero_si512(); 4]; ROWS];
        let rows = self.tokens.bytes[first * self.tokens.stride..].as_ptr();
        let weights = self.weights.as_ptr();
        for group in 0..self.inputs.div_ceil(GROUP) {
            // SAFETY: each half of a panel has so many groups of two vectors.
            let weights: [__m512i; 4] = std::array::from_fn(|vector| unsafe {
                let half = weights.add(vector / 2 * self.weights.len() / 2);
                let at = half.add((group * HALF_PANEL + vector % 2 * 16) * GROUP);
                _mm512_loadu_si512(at.cast())
            });
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the row is there by this function's contract, and has so many groups.
                let bytes = unsafe {
                    let at = rows.add(row * self.tokens.stride + group * GROUP);
                    at.cast::<i32>().read_unaligned()
                };
                let bytes = _mm512_set1_epi32(bytes);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, bytes, weights);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            // SAFETY: by this function's contract.
            unsafe { self.finish(first + row, 0, sums) };
        }
    }

    /// From sums of the panel's vectors from `first` on to results:
    /// `(sum − offset) · scale of the channel · scale of the token + bias`.
    ///
    /// # Safety
    /// The row must be among the tokens, and a panel has four vectors.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) unsafe fn finish<const VECTORS: usize>(
        &self,
        row: usize,
        first: usize,
        sums: [__m512i; VECTORS],
    ) {
        let of_token = _mm512_set1_ps(self.tokens.scale[row]);
        let channels = first * 16..(first + VECTORS) * 16;
        let [offset, scale, bias] = [
            self.offset[channels.clone()].as_ptr().cast(),
            self.scale[channels.clone()].as_ptr(),
            self.bias[channels.clone()].as_ptr(),
        ];
        // SAFETY: each of the three slices has the vectors.
        let results = std::array::from_fn(|vector| unsafe {
            let offset = _mm512_loadu_si512(offset.add(vector * 16).cast());
            let scale = _mm512_loadu_ps(scale.add(vector * 16));
            let bias = _mm512_loadu_ps(bias.add(vector * 16));
            let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[vector], offset));
            _mm512_fmadd_ps(_mm512_mul_ps(sum, scale), of_token, bias)
        });
        let channel = self.panel * PANEL + channels.start;
        // SAFETY: the sink has the rows of the tokens and the channels of the panel.
        unsafe { self.sink.put::<VECTORS>(row, channel, results) };
    }
}
