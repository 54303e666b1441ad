//! The validated steps of one model, run for each image.

use super::{
    Backend, Crop, ExactRegion, Filter, ImageTensor, Normalize, Preprocess, Region, Resize,
    TensorForm,
    geometry::{self, Side},
    normalize::NormalizeLut,
    resample::{self, Axis},
};
use crate::decode::Rgb8;

/// The longest side that a model's input may have, in pixels: far above any Vision Transformer,
/// and small enough that no product of two sides overflows.
const MAX_INPUT_SIDE: u32 = 4096;

const NO_CROP: &str = "crop is missing: after resizing in proportion, images differ in size, and the \
                       model needs one size";

/// The preprocessing of one model, validated, with its tables built.
#[derive(Clone, Debug)]
pub struct Pipeline {
    resize: Resize,
    filter: Filter,
    backend: Backend,
    crop: Option<Crop>,
    lut: NormalizeLut,
    input_size: (u32, u32),
}

/// One image, ready for the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared<T = Vec<f32>> {
    /// Its values, of [`Pipeline::input_size`]: by default the planes of
    /// [`ImageTensor::Normalized`].
    pub tensor: T,
    /// The part of the image that is in it, in whole pixels.
    pub region: Region,
    /// The area that the tensor's whole extent stands for: what a map is drawn over.
    pub exact_region: ExactRegion,
}

impl<T> Prepared<T> {
    fn map<U>(self, convert: impl FnOnce(T) -> U) -> Prepared<U> {
        Prepared {
            tensor: convert(self.tensor),
            region: self.region,
            exact_region: self.exact_region,
        }
    }
}

impl Preprocess {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// All errors, one sentence each, beginning with the field's name.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        match self.resize {
            Resize::Squash { height, width }
            | Resize::Cover { height, width }
            | Resize::Contain { height, width } => {
                check_side("resize.height", height, &mut errors);
                check_side("resize.width", width, &mut errors);
                let keeps_aspect = !matches!(self.resize, Resize::Squash { .. });
                if keeps_aspect && self.crop.is_none() {
                    errors.push(NO_CROP.to_owned());
                }
            }
            Resize::ShortestEdge { size } => {
                check_side("resize.size", size, &mut errors);
                if self.crop.is_none() {
                    errors.push(NO_CROP.to_owned());
                }
            }
        }
        if let Some(crop) = &self.crop {
            check_side("crop.height", crop.height, &mut errors);
            check_side("crop.width", crop.width, &mut errors);
        }
        self.normalize.check(&mut errors);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Height and width of the model's input; `None` if the values do not fix them.
    pub fn input_size(&self) -> Option<(u32, u32)> {
        match (&self.crop, &self.resize) {
            (Some(crop), _) => Some((crop.height, crop.width)),
            (None, &Resize::Squash { height, width }) => Some((height, width)),
            (None, Resize::ShortestEdge { .. } | Resize::Cover { .. } | Resize::Contain { .. }) => {
                None
            }
        }
    }
}

impl Normalize {
    fn check(&self, errors: &mut Vec<String>) {
        if !(self.scale.is_finite() && self.scale != 0.0) {
            errors.push(format!(
                "normalize.scale is {}; it has to be finite and not 0 (usually 1/255)",
                self.scale
            ));
        }
        for (channel, (&mean, &std)) in self.mean.iter().zip(&self.std).enumerate() {
            if !mean.is_finite() {
                errors.push(format!(
                    "normalize.mean[{channel}] is {mean}; it has to be finite"
                ));
            }
            // Divided by in f32, so it has to be there too.
            if !(std.is_finite() && (std as f32).is_normal()) {
                errors.push(format!(
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
            lut: NormalizeLut::new(&preprocess.normalize, preprocess.backend),
            input_size,
        })
    }

    /// Height and width of the model's input, in pixels.
    pub fn input_size(&self) -> (u32, u32) {
        self.input_size
    }

    /// Width and height that an image of this size is resized to, before any crop.
    pub fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        let (horizontal, vertical) = self.sides(width, height);
        (horizontal.resized, vertical.resized)
    }

    /// Resizes, crops and normalises one image.
    pub fn run(&self, image: &Rgb8) -> Prepared {
        let size = (image.width(), image.height());
        self.resize(image, size, 1)
            .map(|pixels| self.lut.planes(&pixels))
    }

    /// The same for an image of `size` pixels that was decoded at one `reduction`-th of it, with
    /// sizes rounded up, in the form that the session takes. Every size and region is that of the
    /// whole image.
    pub fn run_reduced(
        &self,
        image: &Rgb8,
        size: (u32, u32),
        reduction: u32,
        form: TensorForm,
    ) -> Prepared<ImageTensor> {
        let resized = self.resize(image, size, reduction);
        resized.map(|pixels| match form {
            TensorForm::Normalized => ImageTensor::Normalized(self.lut.planes(&pixels)),
            TensorForm::Pixels => ImageTensor::Pixels(pixels),
        })
    }

    /// Resizes and crops.
    fn resize(&self, image: &Rgb8, size: (u32, u32), reduction: u32) -> Prepared<Vec<u8>> {
        let (width, height) = size;
        let (horizontal, vertical) = self.sides(width, height);
        let exact_region = geometry::region(&horizontal, &vertical);
        let axes = [
            self.axis(&horizontal, image.width(), reduction),
            self.axis(&vertical, image.height(), reduction),
        ];
        Prepared {
            tensor: input(image, &horizontal, &vertical, &axes, self.fill()),
            region: exact_region.within(width, height),
            exact_region,
        }
    }

    /// What is around an image that is smaller than the crop.
    fn fill(&self) -> [u8; 3] {
        self.crop.as_ref().map_or([0; 3], |crop| crop.fill)
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
    image: &Rgb8,
    horizontal: &Side,
    vertical: &Side,
    [across, down]: &[Axis; 2],
    fill: [u8; 3],
) -> Vec<u8> {
    let resized = resample::resize(image, across, down);
    if horizontal.kept == horizontal.input && vertical.kept == vertical.input {
        return resized;
    }
    padded(&resized, horizontal, vertical, fill)
}

/// Puts the kept pixels on one color.
fn padded(kept: &[u8], horizontal: &Side, vertical: &Side, fill: [u8; 3]) -> Vec<u8> {
    let bytes = |pixels: u32| pixels as usize * 3;
    let stride = bytes(horizontal.input);
    let left = bytes(horizontal.offset);
    let line = bytes(horizontal.kept);
    let pixels = horizontal.input as usize * vertical.input as usize;
    let mut canvas = fill.repeat(pixels);
    let rows = canvas
        .chunks_exact_mut(stride)
        .skip(vertical.offset as usize);
    for (row, source) in rows.zip(kept.chunks_exact(line)) {
        row[left..left + line].copy_from_slice(source);
    }
    canvas
}

fn check_side(name: &str, side: u32, errors: &mut Vec<String>) {
    if !(1..=MAX_INPUT_SIDE).contains(&side) {
        errors.push(format!(
            "{name} is {side}; it has to be between 1 and {MAX_INPUT_SIDE} pixels"
        ));
    }
}
