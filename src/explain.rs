//! From a rollout (or any number per patch) to an image: right, honest, and readable.
//!
//! Everything here is a pure function of plain data; the same inputs give the same bytes.
//!
//! # What the image means
//!
//! Attention rollout says how much of the class token's final state can be traced back to each
//! patch when attention is followed through all blocks, heads averaged and residuals counted half.
//! A color stands for a patch's share *relative to the fair share*, the mean over the patches:
//! the scale is fixed (see [`Scale`]), so two images may be compared, an undecided map looks
//! undecided, and a strong color always means the same number.
//!
//! The map lies where the model looked: [`Placement`] undoes resize and crop, and what was cropped
//! away is greyed and hatched, for the model has not seen it.
//!
//! # What it does not mean
//!
//! * Rollout knows no classes: it is the same map whatever label is asked about, and "looked at"
//!   is not "argued for". Per-label attribution is another map, signed, with a diverging colormap.
//! * It ignores values, projections and MLPs, and treats heads alike. Large models concentrate attention
//!   in a few background patches; those peaks are real attention, yet say nothing of the object.
//! * There are as many numbers as patches, usually 14 × 14. [`Smooth::Bilinear`] draws between
//!   patch centres and adds no knowledge; [`Smooth::None`] shows the numbers themselves.
//!
//! # How
//!
//! ```text
//!  PatchMap ──► Scale ──► positions 0…1 ──► Colormap ─┐
//!  Placement ────────────► where on the canvas ───────┼──► render ──► Raster ──► png
//!  preview (JPEG) ──► RgbView ───────────────────┘
//! ```

mod colormap;
mod map;
mod npy;
mod placement;
mod png;
mod preview;
mod raster;
mod render;
mod scale;
mod sheet;
mod style;

pub use colormap::Colormap;
pub use map::{Grid, PatchMap};
pub use npy::{npy, npy_stack};
pub use placement::{Placement, Rect};
pub use png::png;
pub use preview::{PREVIEW_SIDE, decode_preview, encode_preview};
pub use raster::{Raster, RgbView};
pub use render::render;
pub use scale::Scale;
pub use sheet::sheet;
pub use style::{Alpha, Smooth, Style, View};

/// Why plain data cannot be drawn: a fault of the caller, never of a client.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// A grid without patches.
    #[error("a patch grid of {rows}×{cols} has no patches; both sides must be at least 1")]
    EmptyGrid {
        /// Rows of patches.
        rows: usize,
        /// Patches in a row.
        cols: usize,
    },

    /// Not one value for every patch.
    #[error("{found} values for a grid of {rows}×{cols} patches; {} are needed", rows * cols)]
    ValueCount {
        /// Rows of patches.
        rows: usize,
        /// Patches in a row.
        cols: usize,
        /// How many values there are.
        found: usize,
    },

    /// A value is infinite or not a number.
    #[error("the value of patch {index} is {value}; every value must be finite")]
    NotFinite {
        /// Row-major.
        index: usize,
        /// The value.
        value: f32,
    },

    /// An image without pixels.
    #[error("an image of {width}×{height} has no pixels; both sides must be at least 1")]
    EmptyImage {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },

    /// Not three bytes for every pixel.
    #[error("{found} bytes for an RGB image of {width}×{height}; three a pixel are needed")]
    PixelCount {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// How many bytes there are.
        found: usize,
    },

    /// A region without area, or one that is not finite.
    #[error("the region {region:?} has no area; width and height must be positive and finite")]
    Region {
        /// In upright pixels.
        region: Rect,
    },

    /// Maps of one sheet have different grids, or there are none.
    #[error("a contact sheet needs at least one map, and all with the same grid")]
    Sheet,

    /// The JPEG or PNG codec failed.
    #[error("cannot {action} an image: {detail}")]
    Codec {
        /// What was tried.
        action: &'static str,
        /// What the codec said.
        detail: String,
    },
}
