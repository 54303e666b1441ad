//! From an upright RGB image to the model's input tensor, exactly as the checkpoint's own
//! library does it.
//!
//! ```text
//!  image ──► geometry: what to resize to, what to keep of it
//!                 ├──► resample: the library's 8-bit arithmetic, only the pixels that are kept
//!                 │       ├──► normalize: 0…255 → f32, channel planes (3 × height × width)
//!                 │       └──► or the bytes themselves, where the graph normalises
//!                 └──► region: what of the image the model saw
//! ```
//!
//! A [`Preprocess`] is what `model.toml` says; a [`Pipeline`] is built from it once and run for
//! each image. Wrong preprocessing costs accuracy without any error, so it is data beside the
//! model, and every step is compared with goldens that Pillow, NumPy and torchvision made.

mod backend;
mod geometry;
mod normalize;
mod pipeline;
mod resample;
mod tensor;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::normalize::NormalizeLut;
pub use self::{
    backend::Backend,
    geometry::{ExactRegion, Region},
    pipeline::{Pipeline, Prepared},
    tensor::{ImageTensor, ImageTensorRef, TensorForm},
};

/// The preprocessing that a checkpoint was trained with; a table of `model.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// What the image is resized to.
    pub resize: Resize,
    /// The filter, with Pillow's definition.
    pub filter: Filter,
    /// Whose arithmetic resizes and normalises.
    #[serde(default, skip_serializing_if = "Backend::is_default")]
    pub backend: Backend,
    /// What is cut out of the middle after resizing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// How 0…255 becomes the model's range.
    pub normalize: Normalize,
}

/// What the image is resized to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "mode", deny_unknown_fields)]
pub enum Resize {
    /// To exactly this size, whatever the aspect.
    Squash {
        /// Pixels.
        height: u32,
        /// Pixels.
        width: u32,
    },
    /// The shorter side to this many pixels, the longer in proportion, rounded down
    /// (`int(size * long / short)`, as torchvision and timm do).
    ShortestEdge {
        /// Pixels of the shorter side.
        size: u32,
    },
    /// In proportion, so that it just covers this size (timm's `ResizeKeepRatio`).
    Cover {
        /// Pixels.
        height: u32,
        /// Pixels.
        width: u32,
    },
    /// In proportion, so that it just fits into this size (the same with `longest=1`).
    Contain {
        /// Pixels.
        height: u32,
        /// Pixels.
        width: u32,
    },
}

/// A resampling filter as Pillow defines it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The sample that lies nearest.
    Nearest,
    /// Support ½, all samples alike.
    Box,
    /// Support 1, a cosine window on a sinc.
    Hamming,
    /// Support 1.
    Bilinear,
    /// Support 2, a = −0.5.
    Bicubic,
    /// Support 3.
    Lanczos,
}

/// What is cut out of the middle after resizing.
///
/// A crop larger than the resized image is filled up with black around it, as torchvision's
/// `CenterCrop` and transformers' `center_crop` do, or with another color, as timm's
/// `CenterCropOrPad`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Pixels.
    pub height: u32,
    /// Pixels.
    pub width: u32,
    /// Where the crop starts when the margin is odd.
    pub rounding: CropRounding,
    /// R, G and B of what is around a smaller image.
    #[serde(default, skip_serializing_if = "is_black")]
    pub fill: [u8; 3],
}

fn is_black(color: &[u8; 3]) -> bool {
    *color == [0; 3]
}

/// Where a centred crop starts when the margin is odd.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropRounding {
    /// `round((size - crop) / 2)` with halves to even: torchvision and timm. Padding puts the odd
    /// pixel behind.
    HalfEven,
    /// `(size - crop) / 2` rounded down: transformers on Pillow's images. Padding puts the odd
    /// pixel in front.
    Floor,
    /// The same, but padding puts the odd pixel behind: transformers on torchvision's tensors.
    FloorPadBehind,
}

/// How 0…255 becomes the model's range: `(v · scale − mean) / std`, in the order and precision of
/// the source library, per channel R, G, B.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// Usually 1/255.
    pub scale: f64,
    /// Subtracted after scaling; zeros where the checkpoint does not normalise.
    pub mean: [f64; 3],
    /// Divides last; ones where the checkpoint does not normalise.
    pub std: [f64; 3],
    /// Whether the planes come in the order B, G, R; `mean` and `std` are in theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bgr: bool,
}
