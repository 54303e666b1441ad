//! A directory as Hugging Face's `save_pretrained` writes it for a ViT or DeiT classifier:
//! `config.json`, `preprocessor_config.json`, and the weights.

mod config;
mod names;
pub(super) mod processor;

use self::{config::Config, names::Names};
use super::{
    Checkpoint, ImportError, ImportOptions,
    layout::{Sizes, Understood, check_names},
    preprocessing,
    source::{Located, json},
    tensor_file::{self, named_digest},
};
use crate::onnx::vit::VitSpec;

pub(super) const PROCESSOR: &str = "preprocessor_config.json";

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
    let (preprocess, mut source_files) = preprocessing::of(located, options, || {
        let path = located.require(
            PROCESSOR,
            "it tells how pictures are resized and normalised, which cannot be guessed; take the \
             one from the model's page, write it with ViTImageProcessor(…).save_pretrained(DIRECTORY), \
             or name another description with --preprocess",
        )?;
        let preprocess = processor::read(&path, spec.image)?;
        Ok((preprocess, Some(path)))
    })?;
    source_files.extend([named_digest(config_path)?]);
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
        task: config.task(config_path)?,
        source: "huggingface",
        source_files,
    }
    .checkpoint(options)
}
