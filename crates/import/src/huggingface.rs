//! A directory as Hugging Face's `save_pretrained` writes it for a ViT or DeiT classifier:
//! `config.json`, `preprocessor_config.json`, and the weights.

mod classes;
mod layout;

use std::sync::Arc;

use patchlight_imaging::preprocess::Preprocess;
use patchlight_onnx::vit::VitSpec;

use self::{classes::Classes, layout::HuggingFaceLayout};
use serde_json::{Map, Value};

use super::{
    Checkpoint, ImportError, ImportOptions, SidecarMetadata,
    families::{
        Surroundings,
        transformers::{self as families, Family},
    },
    layout::{ParsedCheckpoint, Sizes, check_names},
    paths::CheckpointPaths,
    preprocessing::{self, Digests, processor},
    small_file::json,
    tensor_file::{self, named_digest},
    text_embeddings::TextEmbeddings,
    vit_config::Config,
};

/// Opens the directory and checks that everything is there and understood; tensors' values are
/// read later.
pub(super) fn open(
    paths: &CheckpointPaths,
    options: &ImportOptions,
) -> Result<Checkpoint, ImportError> {
    let config_path = paths.config()?;
    let fields: Map<String, Value> = json(config_path)?;
    let model_type = fields.get("model_type").and_then(Value::as_str);
    let family = model_type.and_then(families::family);
    if let (Some(texts), None) = (&options.text_embeddings, family) {
        let detail = "are for networks that compare images with texts: CLIP and SigLIP";
        return Err(ImportError::text_embeddings(texts, detail));
    }
    if let Some(family) = family {
        return open_family(family, &fields, paths, options);
    }
    let config: Config = json(config_path)?;
    let root = config.root(config_path, families::model_types())?;
    let file = tensor_file::open(&paths.weights()?)?;
    let file = tensor_file::by_anchor(file, &layout::anchor(root))?;
    let layout = HuggingFaceLayout::new(root, file.as_ref());
    let Sizes {
        classes, prefix, ..
    } = Sizes::read(file.as_ref(), &layout)?;
    let spec = VitSpec {
        prefix,
        pooling: layout.pooling(),
        ..config.spec(config_path, classes, options.head_fusion)?
    };
    check_names(file.as_ref(), &layout, &spec)?;
    let described = Classes::read(config_path)?;
    let (preprocess, source_files) = preprocess(paths, options, Some(spec.image))?;
    ParsedCheckpoint {
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

/// The same for one of the families that are not plain Vision Transformers.
fn open_family(
    family: &Family,
    fields: &Map<String, Value>,
    paths: &CheckpointPaths,
    options: &ImportOptions,
) -> Result<Checkpoint, ImportError> {
    let config_path = paths.config()?;
    let file = tensor_file::open(&paths.weights()?)?;
    let anchor = family.anchor(file.as_ref());
    let file = tensor_file::by_anchor(file, anchor)?;
    let texts = options.text_embeddings.as_deref();
    let texts = texts.map(TextEmbeddings::read).transpose()?.map(Arc::new);
    let network = family.network(
        config_path,
        fields,
        file.as_ref(),
        options.head_fusion,
        texts.as_ref(),
    )?;
    let described = Classes::read(config_path)?;
    let classes = network.classes();
    let (preprocess, mut source_files) = preprocess(paths, options, None)?;
    if let Some(texts) = &texts {
        source_files.extend([named_digest(&texts.path)?]);
    }
    let surroundings = Surroundings {
        preprocess,
        labels: match (&options.labels, &texts) {
            (Some(_), _) => None,
            (None, Some(texts)) => Some(texts.labels.clone()),
            (None, None) => Some(described.labels(classes)?),
        },
        task: match (&texts, family.zero_shot) {
            (Some(_), Some(task)) => task,
            _ => described.task(classes)?,
        },
        source: "huggingface",
        source_files,
    };
    network.checkpoint(file, surroundings, options)
}

/// What the files beside a graph say that was exported from a model of transformers. Where no map
/// is asked for, the network may be any.
pub(super) fn describe(
    paths: &CheckpointPaths,
    options: &ImportOptions,
    classes: usize,
) -> Result<SidecarMetadata, ImportError> {
    let config_path = paths.config()?;
    let described = Classes::read(config_path)?;
    let fields: Map<String, Value> = json(config_path)?;
    let model_type = fields.get("model_type").and_then(Value::as_str);
    // Of others than ViT and DeiT the graph itself tells what there is.
    let plain = matches!(model_type, Some("vit" | "deit"));
    let network = match options.without_map || !plain {
        true => None,
        false => {
            let config: Config = json(config_path)?;
            let spec = config.spec(config_path, classes, options.head_fusion)?;
            Some((spec, config.pooling()))
        }
    };
    let spec = network.as_ref().map(|(spec, _)| spec);
    let (preprocess, source_files) = preprocess(paths, options, spec.map(|spec| spec.image))?;
    Ok(SidecarMetadata {
        name: described.architecture().map(str::to_owned),
        layers: spec.map(|spec| spec.layers),
        heads: options.heads.or_else(|| spec.map(|spec| spec.heads)),
        image: spec.map(|spec| spec.image),
        pooling: network.as_ref().and_then(|(_, pooling)| *pooling),
        preprocess,
        labels: match options.labels {
            Some(_) => None,
            None => Some(described.labels(classes)?),
        },
        task: described.task(classes)?,
        source_files,
    })
}

/// What was asked for, or `preprocessor_config.json`, which has to make images of the network's
/// size where that is known; with the digests of what was read.
fn preprocess(
    paths: &CheckpointPaths,
    options: &ImportOptions,
    image: Option<[usize; 2]>,
) -> Result<(Preprocess, Digests), ImportError> {
    let (preprocess, mut source_files) = preprocessing::of(paths, options, || {
        let path = processor::find(paths)?;
        let choice = processor::Choice::new(options.resize, paths.config().ok())?;
        let preprocess = match image {
            Some(image) => processor::read(&path, image, choice)?,
            None => processor::any_size(&path, choice)?,
        };
        Ok((preprocess, Some(path)))
    })?;
    source_files.extend([named_digest(paths.config()?)?]);
    Ok((preprocess, source_files))
}
