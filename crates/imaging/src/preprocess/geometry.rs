//! Sizes and offsets: what an image is resized to, what of that is kept, and which part of the
//! image that was. Whole numbers in, whole numbers out; no pixels here.

use serde::Serialize;

use super::{Crop, CropRounding, Resize};

/// The part of the upright image that the model saw, in whole pixels of that image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Region {
    /// Left edge, in pixels.
    pub x: u32,
    /// Upper edge, in pixels.
    pub y: u32,
    /// At least 1; `x + width` stays inside the image.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub width: u32,
    /// At least 1; `y + height` stays inside the image.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub height: u32,
}

/// The area of the upright image that the model's whole input stands for, in fractions of its
/// pixels. Where a crop larger than the image padded it, the area reaches beyond the image.
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
    /// The whole pixels of a `width`×`height` image that lie nearest to this area.
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

/// One axis of the way from image to input: `size` pixels become `resized`, of which `kept`
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

    /// Start and length of the input on this axis, in pixels of the image.
    fn extent(&self) -> (f64, f64) {
        let scale = f64::from(self.size) / f64::from(self.resized);
        (
            (f64::from(self.first) - f64::from(self.offset)) * scale,
            f64::from(self.input) * scale,
        )
    }
}

/// Both axes, horizontal first, for an image of `width`×`height` pixels.
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

/// The area of the image that the input stands for.
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
        Resize::Cover {
            height: target_height,
            width: target_width,
        } => keeping_ratio([width, height], [target_width, target_height], f64::min),
        Resize::Contain {
            height: target_height,
            width: target_width,
        } => keeping_ratio([width, height], [target_width, target_height], f64::max),
    }
}

/// Both sides divided by one of the ratios to their targets, `round` with halves to even as
/// Python's.
fn keeping_ratio(sides: [u32; 2], targets: [u32; 2], select: fn(f64, f64) -> f64) -> (u32, u32) {
    let ratio = |axis: usize| f64::from(sides[axis]) / f64::from(targets[axis]);
    let ratio = select(ratio(0), ratio(1));
    let [width, height] = sides.map(|side| (f64::from(side) / ratio).round_ties_even() as u32);
    (width.max(1), height.max(1))
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
    // `as` saturates, and both values are clamped to the image first.
    let first = (start.clamp(0.0, limit).round() as u32).min(size - 1);
    let end = (start + length).clamp(0.0, limit).round() as u32;
    (first, end.max(first + 1) - first)
}

#[cfg(test)]
mod tests;
