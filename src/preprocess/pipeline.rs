//! The validated steps of one model, run for each picture.

use super::{
    Backend, Crop, ExactRegion, Filter, Normalize, Preprocess, Region, Resize,
    geometry::{self, Side},
    normalize::Table,
    resample::{self, Axis},
};
use crate::decode::Rgb8;

/// The longest side that a model's input may have, in pixels: far above any Vision Transformer,
/// and small enough that no product of two sides overflows.
const MAX_INPUT_SIDE: u32 = 4096;

/// The preprocessing of one model, validated, with its tables built.
#[derive(Clone, Debug)]
pub struct Pipeline {
    resize: Resize,
    filter: Filter,
    backend: Backend,
    crop: Option<Crop>,
    table: Table,
    input_size: (u32, u32),
}

/// One picture, ready for the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Planes R, G, B of [`Pipeline::input_size`], rows from the top: `3 × height × width` values.
    pub tensor: Vec<f32>,
    /// The part of the picture that is in it, in whole pixels.
    pub region: Region,
    /// The area that the tensor's whole extent stands for: what a map is drawn over.
    pub exact_region: ExactRegion,
}

impl Preprocess {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// All faults, one sentence each, beginning with the field's name.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        match self.resize {
            Resize::Squash { height, width } => {
                check_side("resize.height", height, &mut faults);
                check_side("resize.width", width, &mut faults);
            }
            Resize::ShortestEdge { size } => {
                check_side("resize.size", size, &mut faults);
                if self.crop.is_none() {
                    faults.push(
                        "crop is missing: after resizing the shortest edge, pictures differ in \
                         size, and the model needs one size"
                            .to_owned(),
                    );
                }
            }
        }
        if let Some(crop) = &self.crop {
            check_side("crop.height", crop.height, &mut faults);
            check_side("crop.width", crop.width, &mut faults);
        }
        self.normalize.check(&mut faults);
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// Height and width of the model's input; `None` if the values do not fix them.
    pub fn input_size(&self) -> Option<(u32, u32)> {
        match (&self.crop, &self.resize) {
            (Some(crop), _) => Some((crop.height, crop.width)),
            (None, &Resize::Squash { height, width }) => Some((height, width)),
            (None, Resize::ShortestEdge { .. }) => None,
        }
    }
}

impl Normalize {
    fn check(&self, faults: &mut Vec<String>) {
        if !(self.scale.is_finite() && self.scale != 0.0) {
            faults.push(format!(
                "normalize.scale is {}; it has to be finite and not 0 (usually 1/255)",
                self.scale
            ));
        }
        for (channel, (&mean, &std)) in self.mean.iter().zip(&self.std).enumerate() {
            if !mean.is_finite() {
                faults.push(format!(
                    "normalize.mean[{channel}] is {mean}; it has to be finite"
                ));
            }
            // Divided by in f32, so it has to be there too.
            if !(std.is_finite() && (std as f32).is_normal()) {
                faults.push(format!(
                    "normalize.std[{channel}] is {std}; it has to be finite and not 0"
                ));
            }
        }
    }
}

impl Pipeline {
    /// Validates `preprocess` and builds its tables.
    ///
    /// # Errors
    ///
    /// See [`Preprocess::validate`].
    pub fn new(preprocess: &Preprocess) -> Result<Self, Vec<String>> {
        preprocess.validate()?;
        let Some(input_size) = preprocess.input_size() else {
            return Err(vec!["crop is missing".to_owned()]);
        };
        Ok(Self {
            resize: preprocess.resize.clone(),
            filter: preprocess.filter,
            backend: preprocess.backend,
            crop: preprocess.crop.clone(),
            table: Table::new(&preprocess.normalize, preprocess.backend),
            input_size,
        })
    }

    /// Height and width of the model's input, in pixels.
    pub fn input_size(&self) -> (u32, u32) {
        self.input_size
    }

    /// Width and height that a picture of this size is resized to, before any crop.
    pub fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        let (horizontal, vertical) = self.sides(width, height);
        (horizontal.resized, vertical.resized)
    }

    /// Resizes, crops and normalises one picture.
    pub fn run(&self, picture: &Rgb8) -> Prepared {
        self.run_reduced(picture, (picture.width(), picture.height()), 1)
    }

    /// The same for a picture of `size` pixels that was decoded at one `reduction`-th of it, with
    /// sizes rounded up. Every size and region is that of the whole picture.
    pub fn run_reduced(&self, picture: &Rgb8, size: (u32, u32), reduction: u32) -> Prepared {
        let (width, height) = size;
        let (horizontal, vertical) = self.sides(width, height);
        let exact_region = geometry::region(&horizontal, &vertical);
        let axes = [
            self.axis(&horizontal, picture.width(), reduction),
            self.axis(&vertical, picture.height(), reduction),
        ];
        Prepared {
            tensor: self
                .table
                .planes(&input(picture, &horizontal, &vertical, &axes)),
            region: exact_region.within(width, height),
            exact_region,
        }
    }

    pub(super) fn sides(&self, width: u32, height: u32) -> (Side, Side) {
        geometry::sides(&self.resize, self.crop.as_ref(), width, height)
    }

    /// For `samples` that stand for the side's pixels, each for `reduction` of them.
    pub(super) fn axis(&self, side: &Side, samples: u32, reduction: u32) -> Axis {
        Axis::of_part(
            self.filter,
            self.backend,
            samples,
            f64::from(side.size) / f64::from(reduction),
            side.resized,
            side.first..side.first + side.kept,
        )
    }
}

/// The model's input as RGB bytes, before normalising.
pub(super) fn input(
    picture: &Rgb8,
    horizontal: &Side,
    vertical: &Side,
    [across, down]: &[Axis; 2],
) -> Vec<u8> {
    let kept = resample::resize(picture, across, down);
    if horizontal.kept == horizontal.input && vertical.kept == vertical.input {
        return kept;
    }
    padded(&kept, horizontal, vertical)
}

/// Puts the kept pixels on black.
fn padded(kept: &[u8], horizontal: &Side, vertical: &Side) -> Vec<u8> {
    let bytes = |pixels: u32| pixels as usize * 3;
    let stride = bytes(horizontal.input);
    let left = bytes(horizontal.offset);
    let line = bytes(horizontal.kept);
    let mut canvas = vec![0; stride * vertical.input as usize];
    let rows = canvas
        .chunks_exact_mut(stride)
        .skip(vertical.offset as usize);
    for (row, source) in rows.zip(kept.chunks_exact(line)) {
        row[left..left + line].copy_from_slice(source);
    }
    canvas
}

fn check_side(name: &str, side: u32, faults: &mut Vec<String>) {
    if !(1..=MAX_INPUT_SIDE).contains(&side) {
        faults.push(format!(
            "{name} is {side}; it has to be between 1 and {MAX_INPUT_SIDE} pixels"
        ));
    }
}
