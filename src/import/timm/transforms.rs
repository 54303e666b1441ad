//! `pretrained_cfg` → preprocessing: what timm's `create_transform` makes of it for evaluation.

use std::path::Path;

use super::config::PretrainedCfg;
use crate::{
    import::ImportError,
    preprocess::{Backend, Crop, CropRounding, Filter, Normalize, Preprocess, Resize},
};

/// timm's own values where the file is silent.
const CROP_PCT: f64 = 0.875;
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// `path` is for messages.
pub(super) fn read(config: &PretrainedCfg, path: &Path) -> Result<Preprocess, ImportError> {
    let fail = |detail: String| Err(ImportError::field(path, "pretrained_cfg", detail));
    let Some([channels, height, width]) = config.input_size else {
        return fail("has no input_size; [3, height, width] is expected".to_owned());
    };
    if channels != 3 {
        return fail(format!(
            "has an input_size with {channels} channels; pictures have 3"
        ));
    }
    let filter = match config.interpolation.as_deref() {
        None | Some("bicubic") => Filter::Bicubic,
        Some("bilinear") => Filter::Bilinear,
        Some("lanczos") => Filter::Lanczos,
        Some(other) => {
            return fail(format!(
                "has an interpolation of \"{other}\"; known are bilinear, bicubic and lanczos"
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
        None | Some("center") => {
            return fail(format!(
                "has an input_size of {height}×{width}, for which timm resizes in a way that is \
                 not known here; describe what you want with --preprocess FILE"
            ));
        }
        Some(other) => {
            return fail(format!(
                "has a crop_mode of \"{other}\"; known are center and squash. Describe another \
                 with --preprocess FILE"
            ));
        }
    };
    let crop = Crop {
        height: height as u32,
        width: width as u32,
        rounding: CropRounding::HalfEven,
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
            mean: config.mean.unwrap_or(IMAGENET_MEAN),
            std,
        },
    })
}
