//! Sizes and offsets: what a picture is resized to, what of that is kept, and which part of the
//! picture that was. Whole numbers in, whole numbers out; no pixels here.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Crop, CropRounding, Resize};

/// The part of the upright picture that the model saw, in whole pixels of that picture.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct Region {
    /// Left edge, in pixels.
    pub x: u32,
    /// Upper edge, in pixels.
    pub y: u32,
    /// At least 1; `x + width` stays inside the picture.
    #[schema(minimum = 1)]
    pub width: u32,
    /// At least 1; `y + height` stays inside the picture.
    #[schema(minimum = 1)]
    pub height: u32,
}

/// The area of the upright picture that the model's whole input stands for, in fractions of its
/// pixels. Where a crop larger than the picture padded it, the area reaches beyond the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExactRegion {
    /// Left edge; negative where padded.
    pub x: f64,
    /// Upper edge; negative where padded.
    pub y: f64,
    /// Greater than 0.
    pub width: f64,
    /// Greater than 0.
    pub height: f64,
}

impl ExactRegion {
    /// The whole pixels of a `width`×`height` picture that lie nearest to this area.
    pub fn within(&self, width: u32, height: u32) -> Region {
        let (x, region_width) = whole_pixels(self.x, self.width, width);
        let (y, region_height) = whole_pixels(self.y, self.height, height);
        Region {
            x,
            y,
            width: region_width,
            height: region_height,
        }
    }
}

/// One axis of the way from picture to input: `size` pixels become `resized`, of which `kept`
/// starting at `first` are put at `offset` into an input of `input` pixels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Side {
    pub(super) size: u32,
    pub(super) resized: u32,
    pub(super) first: u32,
    pub(super) kept: u32,
    pub(super) offset: u32,
    pub(super) input: u32,
}

impl Side {
    fn new(size: u32, resized: u32, crop: Option<(u32, CropRounding)>) -> Self {
        let Some((input, rounding)) = crop else {
            return Self {
                size,
                resized,
                first: 0,
                kept: resized,
                offset: 0,
                input: resized,
            };
        };
        let (first, offset) = if input <= resized {
            (margin_cut(resized - input, rounding), 0)
        } else {
            (0, margin_added(input - resized, rounding))
        };
        Self {
            size,
            resized,
            first,
            kept: input.min(resized),
            offset,
            input,
        }
    }

    /// Start and length of the input on this axis, in pixels of the picture.
    fn extent(&self) -> (f64, f64) {
        let scale = f64::from(self.size) / f64::from(self.resized);
        (
            (f64::from(self.first) - f64::from(self.offset)) * scale,
            f64::from(self.input) * scale,
        )
    }
}

/// Both axes, horizontal first, for a picture of `width`×`height` pixels.
pub(super) fn sides(resize: &Resize, crop: Option<&Crop>, width: u32, height: u32) -> (Side, Side) {
    let (resized_width, resized_height) = resized(resize, width, height);
    (
        Side::new(
            width,
            resized_width,
            crop.map(|crop| (crop.width, crop.rounding)),
        ),
        Side::new(
            height,
            resized_height,
            crop.map(|crop| (crop.height, crop.rounding)),
        ),
    )
}

/// The area of the picture that the input stands for.
pub(super) fn region(horizontal: &Side, vertical: &Side) -> ExactRegion {
    let (x, width) = horizontal.extent();
    let (y, height) = vertical.extent();
    ExactRegion {
        x,
        y,
        width,
        height,
    }
}

/// Width and height after resizing.
fn resized(resize: &Resize, width: u32, height: u32) -> (u32, u32) {
    match *resize {
        Resize::Squash { height, width } => (width, height),
        Resize::ShortestEdge { size } if width <= height => {
            (size, in_proportion(size, height, width))
        }
        Resize::ShortestEdge { size } => (in_proportion(size, width, height), size),
    }
}

/// `int(size * long / short)`: the reference divides in floating point, which for these ranges
/// never rounds up to the next whole number.
fn in_proportion(size: u32, long: u32, short: u32) -> u32 {
    let scaled = u64::from(size) * u64::from(long) / u64::from(short);
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

/// Where the crop starts when `margin` pixels are cut away.
fn margin_cut(margin: u32, rounding: CropRounding) -> u32 {
    let half = margin / 2;
    match rounding {
        CropRounding::Floor | CropRounding::FloorPadBehind => half,
        CropRounding::HalfEven => half + (margin % 2) * (half % 2),
    }
}

/// How many of `margin` added pixels come first.
fn margin_added(margin: u32, rounding: CropRounding) -> u32 {
    match rounding {
        CropRounding::Floor => margin.div_ceil(2),
        CropRounding::HalfEven | CropRounding::FloorPadBehind => margin / 2,
    }
}

/// Start and length in whole pixels, inside `0..size` and never empty.
fn whole_pixels(start: f64, length: f64, size: u32) -> (u32, u32) {
    let limit = f64::from(size);
    // `as` saturates, and both values are clamped to the picture first.
    let first = (start.clamp(0.0, limit).round() as u32).min(size - 1);
    let end = (start + length).clamp(0.0, limit).round() as u32;
    (first, end.max(first + 1) - first)
}

#[cfg(test)]
mod tests;
