//! What an encoder is made of, once for each instruction set.

use std::fmt::Debug;

use super::{
    rounding::{Quantized, QuantizedMut, Rounding},
    weights::{Linear, Norm},
};

/// The nonlinearity of an MLP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Activation {
    /// GELU with the Gauss error function.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// x · σ(1.702 x).
    QuickGelu,
    /// x · σ(x).
    Silu,
    /// max(x, 0).
    Relu,
}

/// How the heads' attention matrices become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeadFusion {
    /// Their mean.
    Mean,
    /// The largest of them.
    Max,
    /// The smallest of them.
    Min,
}

/// What a linear layer reads: one row a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand<'a> {
    Int8(Quantized<'a>),
    Bf16(Quantized<'a>),
    /// Rows without gaps.
    Float32(&'a [f32]),
}

impl<'a> Operand<'a> {
    /// Rounded tokens.
    pub(crate) fn rounded(rounding: Rounding, tokens: Quantized<'a>) -> Self {
        match rounding {
            Rounding::Int8 => Self::Int8(tokens),
            Rounding::Bf16 => Self::Bf16(tokens),
        }
    }

    /// The first rows of it, `width` channels each.
    pub(crate) fn first(self, rows: usize, width: usize) -> Self {
        match self {
            Self::Int8(tokens) => Self::Int8(tokens.first(rows)),
            Self::Bf16(tokens) => Self::Bf16(tokens.first(rows)),
            Self::Float32(values) => Self::Float32(&values[..rows * width]),
        }
    }
}

/// What happens to a linear layer's result, one row a token.
#[derive(Debug)]
pub(crate) enum Epilogue<'a> {
    /// It is written, rows without gaps.
    Store(&'a mut [f32]),
    /// It is added to what is there, rows without gaps: the residual stream.
    Add(&'a mut [f32]),
    /// It goes through the nonlinearity and is written.
    Activate(Activation, RowsMut<'a>),
}

/// Rows of values, to be written.
#[derive(Debug)]
pub(crate) struct RowsMut<'a> {
    pub(crate) values: &'a mut [f32],
    /// Values from one row to the next.
    pub(crate) stride: usize,
}

impl Epilogue<'_> {
    /// For how many rows of so many channels there is room.
    pub(crate) fn rows(&self, channels: usize) -> usize {
        match self {
            Self::Store(out) | Self::Add(out) => out.len() / channels,
            Self::Activate(_, out) => out.values.len() / out.stride,
        }
    }
}

/// Sizes of one image's attention.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HeadShape {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) size: usize,
}

impl HeadShape {
    /// Length of a row over all tokens: a multiple of sixteen, filled up with zeros.
    pub(crate) fn row(&self) -> usize {
        self.tokens.next_multiple_of(16)
    }

    /// Width of all heads.
    pub(crate) fn hidden(&self) -> usize {
        self.heads * self.size
    }
}

/// Keys and values of an image, `[token][hidden]` unless they are prepared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeysAndValues<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
}

impl<'a> KeysAndValues<'a> {
    /// Those of one of `images` images.
    pub(crate) fn of_image(self, image: usize, images: usize) -> Self {
        let of_image = |all: &'a [f32]| &all[image * (all.len() / images)..][..all.len() / images];
        Self {
            keys: of_image(self.keys),
            values: of_image(self.values),
        }
    }
}

/// The implementation for one instruction set. Lengths are checked where pointers are formed, and
/// no method fails.
///
/// All sums of integers are exact, so results differ between implementations only by the rounding
/// and the order of float32 operations; a row's result depends neither on the other rows nor on
/// their number.
pub(crate) trait Instructions: Debug + Send + Sync {
    /// As it is called in logs.
    fn name(&self) -> &'static str;

    /// Whether it has products of bfloat16.
    fn has_bf16(&self) -> bool;

    /// Normalises each row to mean 0 and variance 1, then scales and shifts it.
    fn normalize(&self, rows: &[f32], norm: &Norm, epsilon: f32, out: &mut [f32]);

    /// Rounds rows of `width` values, `stride` apart. Integers have a scale for each row, whose
    /// largest magnitude is 127.
    fn quantize(
        &self,
        rows: &[f32],
        width: usize,
        stride: usize,
        rounding: Rounding,
        out: &mut QuantizedMut<'_>,
    );

    /// [`normalize`](Self::normalize), then [`quantize`](Self::quantize).
    fn normalize_and_quantize(
        &self,
        rows: &[f32],
        norm: &Norm,
        epsilon: f32,
        rounding: Rounding,
        out: &mut QuantizedMut<'_>,
    );

    /// A linear layer; on several threads of the current pool if `parts` is more than one, each of
    /// which computes some of the output channels.
    fn multiply(&self, input: Operand<'_>, layer: &Linear, epilogue: Epilogue<'_>, parts: usize);

    /// Room that [`prepare_head`](Self::prepare_head) needs for a head's keys and values.
    fn prepared_len(&self, shape: HeadShape) -> [usize; 2];

    /// Keys and values of one head, out of those of all, in the order in which
    /// [`attend`](Self::attend) reads them.
    fn prepare_head(
        &self,
        shape: HeadShape,
        head: usize,
        of_image: KeysAndValues<'_>,
        out_keys: &mut [f32],
        out_values: &mut [f32],
    );

    /// How one query `[head size]` attends to all tokens, a row of [`HeadShape::row`] values.
    /// `keys` are those of all heads.
    fn attend_one(
        &self,
        shape: HeadShape,
        head: usize,
        query: &[f32],
        keys: &[f32],
        out: &mut [f32],
    );

    /// One head's values out of `[token][hidden]`, each multiplied by its token's weight, as
    /// `[token][channel of the head]`.
    fn weigh_values(
        &self,
        shape: HeadShape,
        head: usize,
        values: &[f32],
        weights: &[f32],
        out: &mut [f32],
    );

    /// Adds `weight · row` to `sum`.
    fn add_weighted(&self, weight: f32, row: &[f32], sum: &mut [f32]);

    /// Attention of some queries `[query][hidden]`: what they read into `mixed`, of the same
    /// shape; and the heads' matrices as one into `fused`, `[query][row of tokens]`, if wanted.
    /// `prepared` are keys and values of all heads, one after the other, `of_image` those that they
    /// were prepared from.
    fn attend(
        &self,
        shape: HeadShape,
        queries: &[f32],
        prepared: KeysAndValues<'_>,
        of_image: KeysAndValues<'_>,
        mixed: &mut [f32],
        fused: Option<(&mut [f32], HeadFusion)>,
    );

    /// The layer's kernel times each of the directions `[direction][out]`, into
    /// `[direction][in]`.
    fn project(&self, layer: &Linear, directions: &[f32], out: &mut [f32]);

    /// What the class token read of each token, `[head][token][head size]`, along each of the
    /// `projected` directions `[direction][hidden]`: `[token][direction]`.
    fn attribute(&self, shape: HeadShape, read: &[f32], projected: &[f32], out: &mut [f32]);
}
