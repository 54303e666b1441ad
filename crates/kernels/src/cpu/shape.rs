//! Sizes of an encoder.

use super::instructions::{Activation, HeadFusion, HeadShape};

/// Sizes and conventions of an encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderShape {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads of a block; divides `hidden`.
    pub heads: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the hidden layer of each MLP.
    pub mlp: usize,
    /// Height and width of an image in pixels.
    pub image: [usize; 2],
    /// Side of a patch in pixels; divides both sides of the image.
    pub patch: usize,
    /// Tokens before the first patch.
    pub prefix: usize,
    /// Tokens, from the first, that the classifier reads; all of them where it reads a mean over
    /// the patches.
    pub read: usize,
    /// Added to the variance in every normalisation.
    pub norm_epsilon: f32,
    /// Between the two layers of each MLP.
    pub activation: Activation,
    /// How the heads' attention matrices become one for the rollout.
    pub head_fusion: HeadFusion,
}

impl EncoderShape {
    /// Tokens of an image.
    pub fn tokens(&self) -> usize {
        self.prefix + self.patches()
    }

    pub(crate) fn patches(&self) -> usize {
        self.image.iter().map(|side| side / self.patch).product()
    }

    /// Values of an image, three channels.
    pub fn image_len(&self) -> usize {
        3 * self.image[0] * self.image[1]
    }

    /// Whether the classifier reads a mean over the patches.
    pub(crate) fn pools_patches(&self) -> bool {
        self.read == self.tokens()
    }

    pub(crate) fn head_shape(&self) -> HeadShape {
        HeadShape {
            tokens: self.tokens(),
            heads: self.heads,
            size: self.hidden / self.heads,
        }
    }
}
