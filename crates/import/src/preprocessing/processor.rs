//! `preprocessor_config.json`: how an image becomes the network's input.
//!
//! Three generations of the file are in use: feature extractors (`size` is a number, rescaling is
//! implied), image processors (`size` is an object), and their fast variants (the same with more
//! fields). All run resize, centre crop, rescale, normalise in this order. Since version 5 the same
//! may lie in a `processor_config.json` under `image_processor`.

mod choice;
mod class;

use std::path::{Path, PathBuf};

use patchlight_imaging::preprocess::{
    Backend, Crop, CropRounding, Filter, Normalize, Preprocess, Resize,
};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::choice::Choice;
use self::class::{Class, Defaults};
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
    /// Of `EfficientNetImageProcessor`: whether 1 is subtracted after scaling.
    rescale_offset: Option<bool>,
    /// Of the same: whether values are divided by the deviation once more.
    include_top: Option<bool>,
    /// Of `MobileViTImageProcessor`.
    do_flip_channel_order: Option<bool>,
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
    ShortestEdge(OnlyShortestEdge),
    /// None of these.
    Other(Value),
}

/// Nothing else beside it: a longest edge would bound it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyShortestEdge {
    shortest_edge: u32,
    #[serde(rename = "longest_edge")]
    _no_longest_edge: Option<()>,
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
        if self.file.do_resize == Some(false) {
            return Err(self.field(
                "do_resize",
                "is false; images of any size must be resized, set it and `size`",
            ));
        }
        let (resize, crop) = match class {
            Class::ConvNext => self.resize_and_crop()?,
            _ => {
                let resize = self.enlarged(class, self.resize(class)?)?;
                (resize, self.crop(class)?)
            }
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
        Class::of(name).ok_or_else(|| {
            let detail = match name {
                _ if name.starts_with("Siglip2ImageProcessor") => {
                    "is \"Siglip2ImageProcessor\", which makes an input of another aspect of each \
                     image, while a graph takes one; to squeeze images into the square instead \
                     (the library's answer for square images only), name with --preprocess a TOML \
                     file with [preprocess] and resize = { mode = \"squash\", … } (docs/importing.md)"
                        .to_owned()
                }
                _ => format!(
                    "is \"{name}\", whose steps are not known here; known are those of {}. Describe \
                     others with --preprocess FILE",
                    Class::NAMES
                ),
            };
            self.field("image_processor_type", detail)
        })
    }

    /// What the class does where the file is silent.
    fn defaults(&self, class: Class) -> Defaults {
        class.defaults(self.choice.is_always_torchvision())
    }

    fn resize(&self, class: Class) -> Result<Resize, ImportError> {
        let size = match &self.file.size {
            None => return Ok(self.defaults(class).resize),
            Some(size) => size.clone(),
        };
        match size {
            Size::Sides { height, width } | Size::Pair([height, width]) => {
                Ok(Resize::Squash { height, width })
            }
            Size::ShortestEdge(OnlyShortestEdge { shortest_edge, .. }) => {
                Ok(Resize::ShortestEdge {
                    size: shortest_edge,
                })
            }
            Size::Number(size) if class.number_is_shorter_side() => {
                Ok(Resize::ShortestEdge { size })
            }
            Size::Number(side) => Ok(Resize::Squash {
                height: side,
                width: side,
            }),
            Size::Other(found) => {
                let detail = format!(
                    "is {found}; expected are a number, height and width, or shortest_edge"
                );
                Err(self.field("size", detail))
            }
        }
    }

    /// What `LevitImageProcessor` and `PoolFormerImageProcessor` make of it: more than the crop.
    fn enlarged(&self, class: Class, resize: Resize) -> Result<Resize, ImportError> {
        let share = match class {
            Class::Levit => 224.0 / 256.0,
            Class::PoolFormer => self.file.crop_pct.unwrap_or(0.9),
            _ => return Ok(resize),
        };
        if !(share > 0.0 && share <= 1.0) {
            return Err(self.share(share));
        }
        match (resize, class) {
            (Resize::ShortestEdge { size }, Class::Levit) => Ok(Resize::ShortestEdge {
                size: (256.0 / 224.0 * f64::from(size)) as u32,
            }),
            (Resize::ShortestEdge { size }, _) => Ok(Resize::ShortestEdge {
                size: (f64::from(size) / share) as u32,
            }),
            (squash, Class::Levit) => Ok(squash),
            (Resize::Squash { height, width }, _) if height == width => Ok(Resize::ShortestEdge {
                size: (f64::from(height) / share) as u32,
            }),
            (Resize::Squash { height, width }, _) => Ok(Resize::Squash {
                height: (f64::from(height) / share) as u32,
                width: (f64::from(width) / share) as u32,
            }),
            (other, _) => Ok(other),
        }
    }

    fn share(&self, share: f64) -> ImportError {
        let detail = format!("is {share}; a share above 0 and up to 1 is expected");
        self.field("crop_pct", detail)
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
            return Err(self.share(share));
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
        let filter = match self.file.resample {
            None => self.defaults(class).filter,
            Some(0) => Filter::Nearest,
            Some(1) => Filter::Lanczos,
            Some(2) => Filter::Bilinear,
            Some(3) => Filter::Bicubic,
            Some(4) => Filter::Box,
            Some(5) => Filter::Hamming,
            Some(other) => {
                let detail = format!(
                    "is {other}; known are 0 (nearest), 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box) \
                     and 5 (Hamming)"
                );
                return Err(self.field("resample", detail));
            }
        };
        match (filter, self.backend()) {
            (Filter::Box | Filter::Hamming, Backend::Torchvision) => {
                let detail = "is a filter that torchvision does not have for tensors, so the library \
                              itself refuses it; --resize pillow takes Pillow's";
                Err(self.field("resample", detail))
            }
            _ => Ok(filter),
        }
    }

    fn crop(&self, class: Class) -> Result<Option<Crop>, ImportError> {
        let defaults = self.defaults(class);
        let crops = self.file.do_center_crop.unwrap_or(defaults.crops);
        if !crops {
            return Ok(None);
        }
        let (height, width) = match self.file.crop_size.clone() {
            Some(Size::Sides { height, width } | Size::Pair([height, width])) => (height, width),
            Some(Size::Number(side)) => (side, side),
            Some(Size::ShortestEdge(_) | Size::Other(_)) => {
                let detail = "is neither a number nor height and width";
                return Err(self.field("crop_size", detail));
            }
            None => match defaults.crop {
                Some(side) => (side, side),
                None => return Err(self.missing("crop_size")),
            },
        };
        Ok(Some(Crop {
            height,
            width,
            rounding: self.rounding(),
            fill: [0; 3],
        }))
    }

    fn normalize(&self, class: Class) -> Result<Normalize, ImportError> {
        let defaults = self.defaults(class);
        // Feature extractors rescaled without saying so.
        let scale = match self.file.do_rescale.unwrap_or(true) {
            true => self.file.rescale_factor.unwrap_or(1.0 / 255.0),
            false => 1.0,
        };
        let bgr = class == Class::MobileVit && self.file.do_flip_channel_order.unwrap_or(true);
        let std = self.file.image_std.map(PerChannel::values);
        let std = std.unwrap_or(defaults.std);
        if std.iter().any(|&std| std <= 0.0) {
            return Err(self.field("image_std", format!("is {std:?}; it must be positive")));
        }
        let normalizes = self.file.do_normalize.unwrap_or(defaults.normalizes);
        let mut normalize = Normalize {
            scale,
            mean: [0.0; 3],
            std: [1.0; 3],
            bgr,
        };
        if normalizes && class != Class::MobileVit {
            let mean = self.file.image_mean.map(PerChannel::values);
            normalize.mean = mean.unwrap_or(defaults.mean);
            normalize.std = std;
        }
        if class != Class::EfficientNet {
            return Ok(normalize);
        }
        if self.file.do_rescale != Some(false) && self.file.rescale_offset == Some(true) {
            normalize.mean = normalize.mean.map(|mean| mean + 1.0);
        }
        // The classifier's networks were trained with a second division by the deviation.
        if self.file.include_top.unwrap_or(true) {
            normalize.std = std::array::from_fn(|at| normalize.std[at] * std[at]);
        }
        Ok(normalize)
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
