//! `pretrained_cfg` → preprocessing: what timm's `create_transform` makes of it for evaluation.

use std::{collections::BTreeMap, path::Path};

use patchlight_imaging::preprocess::{
    Backend, Crop, CropRounding, Filter, Normalize, Preprocess, Resize,
};
use serde::Deserialize;

use crate::{ImportError, small_file::json};

/// timm's own values where the file is silent.
const CROP_PCT: f64 = 0.875;
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// How the checkpoint was evaluated.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PretrainedCfg {
    pub(crate) input_size: Option<[usize; 3]>,
    interpolation: Option<String>,
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    mean: Option<[f64; 3]>,
    std: Option<[f64; 3]>,
    pub(crate) label_names: Option<Labels>,
}

/// In the order of the classes, or by number.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Labels {
    Listed(Vec<String>),
    ById(BTreeMap<String, String>),
}

impl PretrainedCfg {
    /// Until 2023 the whole file was what is `pretrained_cfg` in it now.
    pub(crate) fn or_whole(inner: Option<Self>, path: &Path) -> Result<Self, ImportError> {
        inner.map_or_else(|| json(path), Ok)
    }
}

/// The preprocessing that a `config.json` of timm describes, whatever the network.
pub(crate) fn of_file(path: &Path) -> Result<Preprocess, ImportError> {
    #[derive(Deserialize)]
    struct File {
        /// By which the file is known as one of timm.
        #[serde(rename = "architecture")]
        _architecture: String,
        pretrained_cfg: Option<PretrainedCfg>,
    }
    let file: File = json(path)?;
    read(&PretrainedCfg::or_whole(file.pretrained_cfg, path)?, path)
}

/// `path` is for messages.
pub(crate) fn read(config: &PretrainedCfg, path: &Path) -> Result<Preprocess, ImportError> {
    let fail = |detail: String| Err(ImportError::field(path, "pretrained_cfg", detail));
    let Some([channels, height, width]) = config.input_size else {
        return fail("has no input_size; [3, height, width] is expected".to_owned());
    };
    if channels != 3 {
        return fail(format!(
            "has an input_size with {channels} channels; images have 3"
        ));
    }
    let filter = match config.interpolation.as_deref() {
        // Drawn from several in training; evaluation takes this one.
        None | Some("bicubic" | "random") => Filter::Bicubic,
        Some("bilinear") => Filter::Bilinear,
        Some("lanczos") => Filter::Lanczos,
        Some("nearest") => Filter::Nearest,
        Some("box") => Filter::Box,
        Some("hamming") => Filter::Hamming,
        Some(other) => {
            return fail(format!(
                "has an interpolation of \"{other}\"; known are nearest, box, bilinear, hamming, bicubic and lanczos"
            ));
        }
    };
    let crop_pct = config.crop_pct.unwrap_or(CROP_PCT);
    if !(crop_pct > 0.0 && crop_pct <= 1.0) {
        return fail(format!(
            "has a crop_pct of {crop_pct}; it must be above 0 and at most 1"
        ));
    }
    let scaled = |side: usize| (side as f64 / crop_pct).floor() as u32;
    let resize = match config.crop_mode.as_deref() {
        None | Some("center") if height == width => Resize::ShortestEdge {
            size: scaled(height),
        },
        Some("squash") => Resize::Squash {
            height: scaled(height),
            width: scaled(width),
        },
        None | Some("center") => Resize::Cover {
            height: scaled(height),
            width: scaled(width),
        },
        Some("border") => Resize::Contain {
            height: scaled(height),
            width: scaled(width),
        },
        Some(other) => {
            return fail(format!(
                "has a crop_mode of \"{other}\"; known are center, squash and border. Describe \
                 another with --preprocess FILE"
            ));
        }
    };
    let mean = config.mean.unwrap_or(IMAGENET_MEAN);
    let crop = Crop {
        height: height as u32,
        width: width as u32,
        rounding: CropRounding::HalfEven,
        fill: match resize {
            // The mean, so that borders are zeros once they are normalised.
            Resize::Contain { .. } => mean.map(|mean| (255.0 * mean).round_ties_even() as u8),
            _ => [0; 3],
        },
    };
    let std = config.std.unwrap_or(IMAGENET_STD);
    if std.iter().any(|&std| std <= 0.0) {
        return fail(format!("has a std of {std:?}; it must be positive"));
    }
    Ok(Preprocess {
        resize,
        filter,
        backend: Backend::Pillow,
        crop: Some(crop),
        normalize: Normalize {
            scale: 1.0 / 255.0,
            mean,
            std,
            bgr: false,
        },
    })
}
