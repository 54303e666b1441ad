//! Where the preprocessing comes from, and what `--image-size` makes of it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;

use super::{
    ImportError, ImportOptions, huggingface::processor, small_file, source::Located,
    tensor_file::named_digest, timm, torchvision,
};
use crate::{
    onnx::vit::VitSpec,
    preprocess::{Crop, Preprocess, Resize},
};

/// A description of the preprocessing other than the checkpoint's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PreprocessSource {
    /// `preprocessor_config.json` beside the weights.
    HuggingFace,
    /// `pretrained_cfg` in the `config.json` beside the weights.
    Timm,
    /// One of torchvision's presets, such as `vit_l_16` or `vit_b_16:swag_linear`.
    TorchVision(String),
    /// A `preprocessor_config.json`, or a TOML file with the table `[preprocess]` of a `model.toml`.
    File(PathBuf),
}

impl FromStr for PreprocessSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text, text.strip_prefix("torchvision:")) {
            ("hf", _) => Self::HuggingFace,
            ("timm", _) => Self::Timm,
            (_, Some(preset)) => Self::TorchVision(preset.to_owned()),
            _ => Self::File(text.into()),
        })
    }
}

/// SHA-256 of files, by name.
pub(super) type Digests = BTreeMap<String, String>;

/// What was asked for, or else the checkpoint's own, with the digest of the file it stands in.
pub(super) fn of(
    located: &Located,
    options: &ImportOptions,
    own: impl FnOnce() -> Result<(Preprocess, Option<PathBuf>), ImportError>,
) -> Result<(Preprocess, Digests), ImportError> {
    const ADVICE: &str = "--preprocess names it";
    let choice = || processor::Choice::new(options.resize, located.config().ok());
    let (mut preprocess, path) = match &options.preprocess {
        None => own()?,
        Some(PreprocessSource::HuggingFace) => {
            let path = processor::find(located)?;
            (processor::any_size(&path, choice()?)?, Some(path))
        }
        Some(PreprocessSource::Timm) => {
            let path = located.require("config.json", ADVICE)?;
            (timm::preprocess(&path)?, Some(path))
        }
        Some(PreprocessSource::TorchVision(name)) => (torchvision::preset(name)?, None),
        Some(PreprocessSource::File(path)) => {
            // Another checkpoint's file may be older or newer than this one's.
            let choice = processor::Choice::new(options.resize, None)?;
            (from_file(path, choice)?, Some(path.clone()))
        }
    };
    if let Some(backend) = options.resize {
        preprocess.backend = backend;
    }
    let digests = match path {
        Some(path) => Digests::from([named_digest(&path)?]),
        None => Digests::new(),
    };
    Ok((preprocess, digests))
}

/// The network as stored, then preprocessing and network for the size that was asked for; the
/// stored size if none was.
///
/// # Errors
/// If the preprocessing does not make pictures of the network's size, or patches do not divide the
/// size asked for.
pub(super) fn at_size(
    options: &ImportOptions,
    stored: VitSpec,
    preprocess: Preprocess,
) -> Result<(VitSpec, Preprocess, VitSpec), ImportError> {
    let [height, width] = stored.image;
    let made = preprocess.input_size().unwrap_or_default();
    if (made.0 as usize, made.1 as usize) != (height, width) {
        return match options.image_size {
            // Then what was described is for the size asked for.
            Some(side) if (made.0 as usize, made.1 as usize) == (side, side) => {
                let spec = at(&stored, side)?;
                Ok((stored, preprocess, spec))
            }
            _ => Err(ImportError::Preprocess(format!(
                "it makes pictures of {}×{}, but the network takes {height}×{width}; describe \
                 another with --preprocess, or give the network another size with --image-size",
                made.0, made.1
            ))),
        };
    }
    let Some(side) = options.image_size else {
        return Ok((stored.clone(), preprocess, stored));
    };
    let spec = at(&stored, side)?;
    Ok((stored, scaled(preprocess, side as u32), spec))
}

fn at(stored: &VitSpec, side: usize) -> Result<VitSpec, ImportError> {
    if side == 0 || !side.is_multiple_of(stored.patch) {
        return Err(ImportError::Preprocess(format!(
            "--image-size {side} is not a multiple of the patch size {}",
            stored.patch
        )));
    }
    Ok(VitSpec {
        image: [side, side],
        ..stored.clone()
    })
}

/// The same steps for another size: what was resized to more than the crop still is, in
/// proportion, rounded down as timm does.
fn scaled(preprocess: Preprocess, side: u32) -> Preprocess {
    let Preprocess { resize, crop, .. } = &preprocess;
    let in_proportion = |length: u32, of: u32| {
        let scaled = u64::from(length) * u64::from(side) / u64::from(of.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    let resize = match (resize, crop) {
        (&Resize::ShortestEdge { size }, Some(crop)) => Resize::ShortestEdge {
            size: in_proportion(size, crop.height.min(crop.width)),
        },
        (&Resize::Squash { height, width }, Some(crop)) => Resize::Squash {
            height: in_proportion(height, crop.height),
            width: in_proportion(width, crop.width),
        },
        (_, None) => Resize::Squash {
            height: side,
            width: side,
        },
    };
    let crop = crop.as_ref().map(|crop| Crop {
        height: side,
        width: side,
        rounding: crop.rounding,
    });
    Preprocess {
        resize,
        crop,
        ..preprocess
    }
}

/// A file that the user names.
fn from_file(path: &Path, choice: processor::Choice) -> Result<Preprocess, ImportError> {
    #[derive(Deserialize)]
    struct Table {
        preprocess: Preprocess,
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        return processor::any_size(path, choice);
    }
    let text = small_file::text(path)?;
    let table: Table = toml::from_str(&text).map_err(|e| {
        let detail = format!(
            "a table [preprocess] as in model.toml is expected, or a preprocessor_config.json: {e}"
        );
        ImportError::malformed(path, detail)
    })?;
    if let Err(faults) = table.preprocess.validate() {
        return Err(ImportError::malformed(path, faults.join("; ")));
    }
    Ok(table.preprocess)
}
