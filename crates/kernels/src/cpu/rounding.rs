//! Tokens rounded for products: to integers, or to bfloat16.

use super::aligned::{Aligned, LINE};

/// Bytes of a row of inputs are filled up to a multiple of this, in tokens and in kernels: the bytes
/// of a tile's row.
pub(crate) const INPUT_MULTIPLE: usize = 64;

/// What a token's values are rounded to before a product.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rounding {
    /// Integers in a byte each, with a scale for the token.
    Int8,
    /// Bfloat16, two bytes each, little-endian, filled up with zeros to whole
    /// [`INPUT_MULTIPLE`]s of bytes; to the nearest, ties to even.
    Bf16,
}

impl Rounding {
    /// Bytes of a value.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Int8 => 1,
            Self::Bf16 => 2,
        }
    }
}

/// Tokens rounded for a product: as integers with one scale for each, `value ≈ (byte − 128) ·
/// scale`, or as bfloat16, whose scale is 1.
#[derive(Debug)]
pub(crate) struct QuantizedTokens {
    bytes: Aligned<u8>,
    scale: Vec<f32>,
    stride: usize,
}

impl QuantizedTokens {
    /// Room for so many tokens of up to so many bytes.
    pub(crate) fn new(tokens: usize, bytes: usize) -> Self {
        // Rows a power of two apart would share the same few sets of the cache.
        let stride = bytes.next_multiple_of(INPUT_MULTIPLE) + LINE;
        Self {
            // Tiles are loaded in full.
            bytes: Aligned::zeroed(tokens.next_multiple_of(32) * stride),
            scale: vec![0.0; tokens],
            stride,
        }
    }

    /// The tokens, taken apart into ranges of these lengths.
    pub(crate) fn split(&mut self, lengths: impl Iterator<Item = usize>) -> Vec<QuantizedMut<'_>> {
        let all = QuantizedMut {
            bytes: &mut self.bytes,
            scale: &mut self.scale,
            stride: self.stride,
        };
        all.split(lengths)
    }
}

/// Some of [`QuantizedTokens`], to be written.
#[derive(Debug)]
pub(crate) struct QuantizedMut<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) scale: &'a mut [f32],
    /// Bytes from one token to the next.
    pub(crate) stride: usize,
}

impl QuantizedMut<'_> {
    /// The tokens, taken apart into ranges of these lengths.
    pub(crate) fn split(self, lengths: impl Iterator<Item = usize>) -> Vec<Self> {
        let Self {
            mut bytes,
            mut scale,
            stride,
        } = self;
        let mut parts = Vec::new();
        for length in lengths {
            let (first, rest) = bytes.split_at_mut(length * stride);
            let (first_scale, rest_scale) = scale.split_at_mut(length);
            (bytes, scale) = (rest, rest_scale);
            parts.push(Self {
                bytes: first,
                scale: first_scale,
                stride,
            });
        }
        parts
    }

    /// The same tokens, for a while.
    pub(crate) fn reborrow(&mut self) -> QuantizedMut<'_> {
        QuantizedMut {
            bytes: self.bytes,
            scale: self.scale,
            stride: self.stride,
        }
    }

    pub(crate) fn view(&self) -> Quantized<'_> {
        Quantized {
            bytes: self.bytes,
            scale: self.scale,
            stride: self.stride,
        }
    }
}

/// Some of [`QuantizedTokens`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantized<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) scale: &'a [f32],
    pub(crate) stride: usize,
}

impl Quantized<'_> {
    /// The first rows of them.
    pub(crate) fn first(self, rows: usize) -> Self {
        Self {
            scale: &self.scale[..rows],
            ..self
        }
    }
}
