//! `preprocessor_config.json`: how an image becomes the network's input.
//!
//! Three generations of the file are in use: feature extractors (`size` is a number, rescaling is
//! implied), image processors (`size` is an object), and their fast variants (the same with more
//! fields). All run resize, centre crop, rescale, normalise in this order. Since version 5 the same
//! may lie in a `processor_config.json` under `image_processor`.

mod choice;

use std::path::{Path, PathBuf};

use patchlight_imaging::preprocess::{
    Backend, Crop, CropRounding, Filter, Normalize, Preprocess, Resize,
};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::choice::Choice;
use crate::{ImportError, paths::CheckpointPaths, small_file::json};

const ALONE: &str = "preprocessor_config.json";
const JOINED: &str = "processor_config.json";
const INSIDE: &str = "image_processor";

/// The file in a checkpoint's directory; as transformers does, the joined one first.
pub(crate) fn find(located: &CheckpointPaths) -> Result<PathBuf, ImportError> {
    if let Ok(joined) = located.require(JOINED, "")
        && json::<Value>(&joined)?.get(INSIDE).is_some()
    {
        return Ok(joined);
    }
    located.require(
        ALONE,
        "it tells how images are resized and normalised, which cannot be guessed; take the \
         one from the model's page, write it with ViTImageProcessor(…).save_pretrained(DIRECTORY), \
         or name another description with --preprocess",
    )
}

/// Reads the file; what comes out of it must have the height and width that the network takes.
pub(crate) fn read(
    path: &Path,
    image: [usize; 2],
    choice: Choice,
) -> Result<Preprocess, ImportError> {
    let reader = Reader {
        path,
        file: file(path)?,
        choice,
    };
    let preprocess = reader.preprocess()?;
    let [height, width] = image;
    let produced = match (&preprocess.crop, &preprocess.resize) {
        (Some(crop), _) => Some((crop.height as usize, crop.width as usize)),
        (None, Resize::Squash { height, width }) => Some((*height as usize, *width as usize)),
        (None, _) => None,
    };
    match produced {
        Some(produced) if produced == (height, width) => Ok(preprocess),
        Some((produced_height, produced_width)) => {
            let detail = format!("makes images of {produced_height}×{produced_width}, but image_size in config.json is {height}×{width}");
            Err(reader.field(if preprocess.crop.is_some() { "crop_size" } else { "size" }, detail))
        }
        None => Err(reader.field(
            "size",
            "keeps the aspect and nothing is cropped, so images would differ in size; set do_center_crop and crop_size",
        )),
    }
}

/// Reads the file, whatever the height and width that come out of it.
pub(crate) fn any_size(path: &Path, choice: Choice) -> Result<Preprocess, ImportError> {
    let reader = Reader {
        path,
        file: file(path)?,
        choice,
    };
    reader.preprocess()
}

fn file(path: &Path) -> Result<File, ImportError> {
    let whole: Value = json(path)?;
    let inner = whole.get(INSIDE).cloned().unwrap_or(whole);
    File::deserialize(inner).map_err(|e| ImportError::malformed(path, e))
}

/// The file as it is.
#[derive(Debug, Deserialize)]
struct File {
    image_processor_type: Option<String>,
    /// What it was called at first; files of the years between have both.
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<u32>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<PerChannel>,
    image_std: Option<PerChannel>,
    do_pad: Option<bool>,
    crop_pct: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u32),
    /// Height and width.
    Pair([u32; 2]),
    Sides {
        height: u32,
        width: u32,
    },
    ShortestEdge {
        shortest_edge: u32,
    },
    /// None of these.
    Other(Value),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum PerChannel {
    Same(f64),
    Each([f64; 3]),
}

impl PerChannel {
    fn values(self) -> [f64; 3] {
        match self {
            Self::Same(value) => [value; 3],
            Self::Each(values) => values,
        }
    }
}

/// What a processor's class decides where the file is silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    /// `ViTImageProcessor`: missing fields have its defaults; a number is the side of a square.
    Vit,
    /// The same steps with other defaults, which we do not guess; a number is the side of a square.
    Square,
    /// The same, without a crop, which its files do not speak of.
    Siglip,
    /// The same, but a number is the shorter side.
    Shortest,
    /// `ConvNextImageProcessor`, which convolutional networks have: resizing and cropping are one
    /// step.
    ConvNext,
}

struct Reader<'a> {
    path: &'a Path,
    file: File,
    choice: Choice,
}

impl Reader<'_> {
    fn preprocess(&self) -> Result<Preprocess, ImportError> {
        let class = self.class()?;
        if self.file.do_pad == Some(true) {
            return Err(self.field("do_pad", "is true; padding is not known here"));
        }
        if !self.flag(class, "do_resize", self.file.do_resize, true)? {
            return Err(self.field(
                "do_resize",
                "is false; images of any size must be resized, set it and `size`",
            ));
        }
        let (resize, crop) = match class {
            Class::ConvNext => self.resize_and_crop()?,
            _ => (self.resize(class)?, self.crop(class)?),
        };
        Ok(Preprocess {
            resize,
            filter: self.filter(class)?,
            backend: self.backend(),
            crop,
            normalize: self.normalize(class)?,
        })
    }

    /// Name of the processor's class.
    fn class_name(&self) -> Option<&str> {
        let File {
            image_processor_type,
            feature_extractor_type,
            ..
        } = &self.file;
        let name = image_processor_type.as_ref();
        name.or(feature_extractor_type.as_ref()).map(String::as_str)
    }

    fn backend(&self) -> Backend {
        self.choice.backend(self.class_name())
    }

    fn rounding(&self) -> CropRounding {
        match self.backend() {
            Backend::Pillow => CropRounding::Floor,
            Backend::Torchvision => CropRounding::FloorPadBehind,
        }
    }

    fn class(&self) -> Result<Class, ImportError> {
        let Some(name) = self.class_name() else {
            return Ok(Class::Vit);
        };
        let stem = [
            "ImageProcessorFast",
            "ImageProcessorPil",
            "ImageProcessor",
            "FeatureExtractor",
        ]
        .into_iter()
        .find_map(|suffix| name.strip_suffix(suffix));
        match stem {
            Some("ViT") => Ok(Class::Vit),
            Some("DeiT" | "Beit") => Ok(Class::Square),
            Some("Siglip") => Ok(Class::Siglip),
            Some("CLIP" | "Bit") => Ok(Class::Shortest),
            Some("ConvNext") => Ok(Class::ConvNext),
            _ => {
                let detail = format!(
                    "is \"{name}\", whose steps are not known here; known are those of ViT, DeiT, Beit, Siglip, CLIP, Bit and ConvNext"
                );
                Err(self.field("image_processor_type", detail))
            }
        }
    }

    fn resize(&self, class: Class) -> Result<Resize, ImportError> {
        match (self.file.size.clone(), class) {
            (Some(Size::Sides { height, width } | Size::Pair([height, width])), _) => {
                Ok(Resize::Squash { height, width })
            }
            (
                Some(Size::ShortestEdge {
                    shortest_edge: size,
                }),
                _,
            )
            | (Some(Size::Number(size)), Class::Shortest | Class::ConvNext) => {
                Ok(Resize::ShortestEdge { size })
            }
            (Some(Size::Number(side)), Class::Vit | Class::Square | Class::Siglip) => {
                Ok(Resize::Squash {
                    height: side,
                    width: side,
                })
            }
            (Some(Size::Other(found)), _) => {
                let detail = format!(
                    "is {found}; expected are a number, height and width, or shortest_edge"
                );
                Err(self.field("size", detail))
            }
            (None, Class::Vit) => Ok(Resize::Squash {
                height: 224,
                width: 224,
            }),
            (None, _) => Err(self.missing("size")),
        }
    }

    /// Below 384 the shorter side becomes larger by `crop_pct` than the crop out of its middle;
    /// from there on images are squeezed.
    fn resize_and_crop(&self) -> Result<(Resize, Option<Crop>), ImportError> {
        let Resize::ShortestEdge { size: side } = self.resize(Class::ConvNext)? else {
            return Err(self.field("size", "is not a number, nor shortest_edge"));
        };
        if self.file.do_center_crop == Some(true) {
            return Err(self.field("do_center_crop", "is true, beside the crop of this class"));
        }
        if side >= 384 {
            let squash = Resize::Squash {
                height: side,
                width: side,
            };
            return Ok((squash, None));
        }
        let share = self.file.crop_pct.unwrap_or(224.0 / 256.0);
        if !(share > 0.0 && share <= 1.0) {
            let detail = format!("is {share}; a share above 0 and up to 1 is expected");
            return Err(self.field("crop_pct", detail));
        }
        let resize = Resize::ShortestEdge {
            size: (f64::from(side) / share) as u32,
        };
        let own = self.choice.rounding_of_convnext(self.class_name());
        let crop = Crop {
            height: side,
            width: side,
            rounding: own.unwrap_or_else(|| self.rounding()),
            fill: [0; 3],
        };
        Ok((resize, Some(crop)))
    }

    /// Numbers are those of Pillow's `Resampling`.
    fn filter(&self, class: Class) -> Result<Filter, ImportError> {
        match self.file.resample {
            Some(1) => Ok(Filter::Lanczos),
            Some(2) => Ok(Filter::Bilinear),
            Some(3) => Ok(Filter::Bicubic),
            Some(other) => {
                let detail =
                    format!("is {other}; known are 1 (Lanczos), 2 (bilinear) and 3 (bicubic)");
                Err(self.field("resample", detail))
            }
            None if class == Class::Vit => Ok(Filter::Bilinear),
            None => Err(self.missing("resample")),
        }
    }

    fn crop(&self, class: Class) -> Result<Option<Crop>, ImportError> {
        let given = match class {
            Class::Siglip => self.file.do_center_crop.or(Some(false)),
            _ => self.file.do_center_crop,
        };
        if !self.flag(class, "do_center_crop", given, false)? {
            return Ok(None);
        }
        let (height, width) = match self.file.crop_size.clone() {
            Some(Size::Sides { height, width } | Size::Pair([height, width])) => (height, width),
            Some(Size::Number(side)) => (side, side),
            Some(Size::ShortestEdge { .. } | Size::Other(_)) => {
                let detail = "is neither a number nor height and width";
                return Err(self.field("crop_size", detail));
            }
            None => return Err(self.missing("crop_size")),
        };
        Ok(Some(Crop {
            height,
            width,
            rounding: self.rounding(),
            fill: [0; 3],
        }))
    }

    fn normalize(&self, class: Class) -> Result<Normalize, ImportError> {
        // Feature extractors rescaled without saying so.
        let scale = match self.flag(Class::Vit, "do_rescale", self.file.do_rescale, true)? {
            true => self.file.rescale_factor.unwrap_or(1.0 / 255.0),
            false => 1.0,
        };
        if !self.flag(class, "do_normalize", self.file.do_normalize, true)? {
            return Ok(Normalize {
                scale,
                mean: [0.0; 3],
                std: [1.0; 3],
            });
        }
        let channels = |name, value: Option<PerChannel>| match value {
            Some(value) => Ok(value.values()),
            None if class == Class::Vit => Ok([0.5; 3]),
            None => Err(self.missing(name)),
        };
        let mean = channels("image_mean", self.file.image_mean)?;
        let std = channels("image_std", self.file.image_std)?;
        if std.iter().any(|&std| std <= 0.0) {
            return Err(self.field("image_std", format!("is {std:?}; it must be positive")));
        }
        Ok(Normalize { scale, mean, std })
    }

    fn flag(
        &self,
        class: Class,
        name: &'static str,
        value: Option<bool>,
        default: bool,
    ) -> Result<bool, ImportError> {
        match value {
            Some(value) => Ok(value),
            None if class == Class::Vit => Ok(default),
            None => Err(self.missing(name)),
        }
    }

    fn missing(&self, name: &'static str) -> ImportError {
        self.field(
            name,
            "is missing; write down what the checkpoint was trained with",
        )
    }

    fn field(&self, name: &'static str, detail: impl Into<String>) -> ImportError {
        ImportError::field(self.path, name, detail)
    }
}
