//! A directory as Hugging Face's `save_pretrained` writes it for a ViT or DeiT classifier:
//! `config.json`, `preprocessor_config.json`, and the weights.

mod classes;
mod config;
mod names;
pub(super) mod processor;

use self::{classes::Classes, config::Config, names::Names};
use super::{
    Checkpoint, Described, ImportError, ImportOptions,
    layout::{Sizes, Understood, check_names},
    preprocessing::{self, Digests},
    small_file::json,
    source::Located,
    tensor_file::{self, named_digest},
};
use crate::{onnx::vit::VitSpec, preprocess::Preprocess};

/// Opens the directory and checks that everything is there and understood; tensors' values are
/// read later.
pub(super) fn open(located: &Located, options: &ImportOptions) -> Result<Checkpoint, ImportError> {
    let config_path = located.config()?;
    let config: Config = json(config_path)?;
    let root = config.root(config_path)?;
    let file = tensor_file::open(&located.weights()?)?;
    let file = tensor_file::by_anchor(file, &names::anchor(root))?;
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
    let described = Classes::read(config_path)?;
    let (preprocess, source_files) = preprocess(located, options, Some(spec.image))?;
    Understood {
        file,
        layout,
        spec,
        preprocess,
        // Not asked for where others take their place: they may be incomplete.
        labels: match options.labels {
            Some(_) => None,
            None => Some(described.labels(classes)?),
        },
        task: described.task(classes)?,
        source: "huggingface",
        source_files,
    }
    .checkpoint(options)
}

/// What the files beside a graph say that was exported from a model of transformers. Where no map is
/// asked for, the network may be any.
pub(super) fn describe(
    located: &Located,
    options: &ImportOptions,
    classes: usize,
) -> Result<Described, ImportError> {
    let config_path = located.config()?;
    let described = Classes::read(config_path)?;
    let network = match options.without_map {
        true => None,
        false => {
            let config: Config = json(config_path)?;
            let spec = config.spec(config_path, classes, options.head_fusion)?;
            Some((spec, config.readout()))
        }
    };
    let spec = network.as_ref().map(|(spec, _)| spec);
    let (preprocess, source_files) = preprocess(located, options, spec.map(|spec| spec.image))?;
    Ok(Described {
        name: described.architecture().map(str::to_owned),
        layers: spec.map(|spec| spec.layers),
        heads: options.heads.or_else(|| spec.map(|spec| spec.heads)),
        image: spec.map(|spec| spec.image),
        readout: network.as_ref().and_then(|(_, readout)| *readout),
        preprocess,
        labels: match options.labels {
            Some(_) => None,
            None => Some(described.labels(classes)?),
        },
        task: described.task(classes)?,
        source_files,
    })
}

/// What was asked for, or `preprocessor_config.json`, which has to make pictures of the network's size
/// where that is known; with the digests of what was read.
fn preprocess(
    located: &Located,
    options: &ImportOptions,
    image: Option<[usize; 2]>,
) -> Result<(Preprocess, Digests), ImportError> {
    let (preprocess, mut source_files) = preprocessing::of(located, options, || {
        let path = processor::find(located)?;
        let choice = processor::Choice::new(options.resize, located.config().ok())?;
        let preprocess = match image {
            Some(image) => processor::read(&path, image, choice)?,
            None => processor::any_size(&path, choice)?,
        };
        Ok((preprocess, Some(path)))
    })?;
    source_files.extend([named_digest(located.config()?)?]);
    Ok((preprocess, source_files))
}
