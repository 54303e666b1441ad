//! A directory as Hugging Face's `save_pretrained` writes it for a ViT or DeiT classifier:
//! `config.json`, `preprocessor_config.json`, and the weights.

mod config;
mod names;

use patchlight_imaging::preprocess::Preprocess;
use patchlight_onnx::vit::VitSpec;

use self::{config::Config, names::Names};
use super::{
    Checkpoint, Described, ImportError, ImportOptions,
    layout::{Sizes, Understood, check_names},
    located::{Located, json},
    preprocessing::{self, Digests, processor},
    tensor_file::{self, named_digest},
};

/// Opens the directory and checks that everything is there and understood; tensors' values are
/// read later.
pub(super) fn open(located: &Located, options: &ImportOptions) -> Result<Checkpoint, ImportError> {
    let config_path = located.config()?;
    let config: Config = json(config_path)?;
    let root = config.root(config_path)?;
    let file = tensor_file::open(&located.weights()?)?;
    let layout = Names::new(root, file.as_ref());
    let Sizes {
        classes, prefix, ..
    } = Sizes::read(file.as_ref(), &layout)?;
    let spec = VitSpec {
        prefix,
        readout: layout.readout(),
        ..config.spec(config_path, classes, options.head_fusion)?
    };
    check_names(file.as_ref(), &layout, &spec)?;
    let (preprocess, source_files) = preprocess(located, options, spec.image)?;
    Understood {
        file,
        layout,
        spec,
        preprocess,
        // Not asked for where others take their place: they may be incomplete.
        labels: match options.labels {
            Some(_) => None,
            None => Some(config.labels(config_path, classes)?),
        },
        task: config.task(config_path, classes)?,
        source: "huggingface",
        source_files,
    }
    .checkpoint(options)
}

/// What the files beside a graph say that was exported from a model of transformers.
pub(super) fn describe(
    located: &Located,
    options: &ImportOptions,
    classes: usize,
) -> Result<Described, ImportError> {
    let config_path = located.config()?;
    let config: Config = json(config_path)?;
    let spec = config.spec(config_path, classes, options.head_fusion)?;
    let (preprocess, source_files) = preprocess(located, options, spec.image)?;
    Ok(Described {
        layers: Some(spec.layers),
        heads: Some(options.heads.unwrap_or(spec.heads)),
        image: Some(spec.image),
        readout: config.readout(),
        preprocess,
        labels: match options.labels {
            Some(_) => None,
            None => Some(config.labels(config_path, classes)?),
        },
        task: config.task(config_path, classes)?,
        source_files,
    })
}

/// What was asked for, or `preprocessor_config.json`; with the digests of what was read.
fn preprocess(
    located: &Located,
    options: &ImportOptions,
    image: [usize; 2],
) -> Result<(Preprocess, Digests), ImportError> {
    let (preprocess, mut source_files) = preprocessing::of(located, options, || {
        let path = processor::find(located)?;
        let preprocess = processor::read(&path, image)?;
        Ok((preprocess, Some(path)))
    })?;
    source_files.extend([named_digest(located.config()?)?]);
    Ok((preprocess, source_files))
}
