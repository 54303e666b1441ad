//! The transforms that torchvision publishes with its weights.

use std::path::Path;

use patchlight_imaging::preprocess::{
    Backend, Crop, CropRounding, Filter, Normalize, Preprocess, Resize,
};
use patchlight_onnx::vit::VitSpec;

use crate::ImportError;

/// One published set of weights.
struct Preset {
    name: &'static str,
    /// What the file is called before the hyphen.
    file: &'static str,
    hidden: usize,
    patch: usize,
    resize: u32,
    crop: u32,
    filter: Filter,
}

const fn preset_of(
    [name, file]: [&'static str; 2],
    [hidden, patch]: [usize; 2],
    [resize, crop]: [u32; 2],
    filter: Filter,
) -> Preset {
    Preset {
        name,
        file,
        hidden,
        patch,
        resize,
        crop,
        filter,
    }
}

/// Sizes and filters of torchvision 0.29, the same since 0.13.
const PRESETS: [Preset; 10] = [
    preset_of(
        ["vit_b_16", "vit_b_16"],
        [768, 16],
        [256, 224],
        Filter::Bilinear,
    ),
    preset_of(
        ["vit_b_16:swag_linear", "vit_b_16_lc_swag"],
        [768, 16],
        [224, 224],
        Filter::Bicubic,
    ),
    preset_of(
        ["vit_b_16:swag_e2e", "vit_b_16_swag"],
        [768, 16],
        [384, 384],
        Filter::Bicubic,
    ),
    preset_of(
        ["vit_b_32", "vit_b_32"],
        [768, 32],
        [256, 224],
        Filter::Bilinear,
    ),
    preset_of(
        ["vit_l_16", "vit_l_16"],
        [1024, 16],
        [242, 224],
        Filter::Bilinear,
    ),
    preset_of(
        ["vit_l_16:swag_linear", "vit_l_16_lc_swag"],
        [1024, 16],
        [224, 224],
        Filter::Bicubic,
    ),
    preset_of(
        ["vit_l_16:swag_e2e", "vit_l_16_swag"],
        [1024, 16],
        [512, 512],
        Filter::Bicubic,
    ),
    preset_of(
        ["vit_l_32", "vit_l_32"],
        [1024, 32],
        [256, 224],
        Filter::Bilinear,
    ),
    preset_of(
        ["vit_h_14:swag_linear", "vit_h_14_lc_swag"],
        [1280, 14],
        [224, 224],
        Filter::Bicubic,
    ),
    preset_of(
        ["vit_h_14:swag_e2e", "vit_h_14_swag"],
        [1280, 14],
        [518, 518],
        Filter::Bicubic,
    ),
];

/// The preprocessing of a preset, named as on the command line.
pub(crate) fn preset(name: &str) -> Result<Preprocess, ImportError> {
    let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) else {
        let known = PRESETS.map(|preset| preset.name).join(", ");
        return Err(ImportError::Preprocess(format!(
            "torchvision has no preset `{name}`; known are {known}"
        )));
    };
    Ok(Preprocess {
        resize: Resize::ShortestEdge {
            size: preset.resize,
        },
        filter: preset.filter,
        backend: Backend::Pillow,
        crop: Some(Crop {
            height: preset.crop,
            width: preset.crop,
            rounding: CropRounding::HalfEven,
            fill: [0; 3],
        }),
        normalize: Normalize {
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            bgr: false,
        },
    })
}

/// The preset of published weights: by the file's published name, or because only one set of
/// weights has this size.
///
/// # Errors
/// What to say on the command line.
pub(crate) fn of_stock_model(path: &Path, spec: &VitSpec) -> Result<&'static str, String> {
    let stock_classes = spec.classes == 1000;
    let fits = |preset: &&Preset| {
        let side = preset.crop as usize;
        stock_classes
            && (preset.hidden, preset.patch) == (spec.hidden, spec.patch)
            && spec.image == [side, side]
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(['-', '.']).next().unwrap_or_default();
    let fitting: Vec<&Preset> = PRESETS.iter().filter(fits).collect();
    if name.contains('-')
        && let Some(preset) = fitting.iter().find(|preset| preset.file == stem)
    {
        return Ok(preset.name);
    }
    match fitting[..] {
        [only] => Ok(only.name),
        [] => Err(
            "the file does not tell how images were resized and normalised, and this is none of \
             torchvision's own models; name the preset that it was trained with, such as \
             --preprocess torchvision:vit_b_16, or describe it in a file: --preprocess FILE"
                .to_owned(),
        ),
        _ => {
            let names: Vec<String> = fitting
                .iter()
                .map(|preset| format!("--preprocess torchvision:{}", preset.name))
                .collect();
            Err(format!(
                "torchvision published several sets of weights of this size, with different \
                 preprocessing; name the right one: {}",
                names.join(" or ")
            ))
        }
    }
}
