//! A checkpoint of timm as its `save_for_hf` writes it: `config.json` with `architecture`,
//! `model_args` and `pretrained_cfg`, and the weights.

mod config;
mod names;
mod transforms;

use std::path::Path;

use self::{config::Config, names::Names};
use super::{
    Checkpoint, ImportError, ImportOptions,
    layout::{Sizes, Understood, check_names},
    preprocessing,
    source::{Located, json},
    tensor_file::{self, named_digest},
};
use crate::{model::manifest::TaskKind, onnx::vit::VitSpec, preprocess::Preprocess};

/// Opens the directory and checks that everything is there and understood; tensors' values are
/// read later.
pub(super) fn open(located: &Located, options: &ImportOptions) -> Result<Checkpoint, ImportError> {
    let config_path = located.config()?;
    let config = Config::read(config_path)?;
    let file = tensor_file::open(&located.weights()?)?;
    let layout = Names::new(file.as_ref());
    let mut sizes = Sizes::read(file.as_ref(), &layout)?;
    let image = config.image(config_path, sizes.patch)?;
    let patches = image.iter().map(|side| side / sizes.patch).product();
    // Whether the prefix has positions shows only in their number.
    let layout = layout.with_positions_for(sizes.patches, patches);
    sizes = Sizes::read(file.as_ref(), &layout)?;
    if sizes.patches != patches {
        let detail = format!(
            "has positions for {} patches, but config.json tells of an input of {}×{} pixels, so \
             {patches} patches",
            sizes.patches, image[0], image[1]
        );
        return Err(ImportError::tensor(file.path(), "pos_embed", detail));
    }
    let heads = config.heads(config_path, options.heads, sizes.hidden)?;
    let spec = VitSpec {
        layers: sizes.layers,
        heads,
        hidden: sizes.hidden,
        mlp: sizes.mlp,
        image,
        patch: sizes.patch,
        prefix: sizes.prefix,
        classes: sizes.classes,
        norm_epsilon: 1e-6,
        activation: config.activation(config_path)?,
        qkv_bias: sizes.qkv_bias,
        readout: layout.readout(&config.global_pool(config_path)?, config_path)?,
        head_fusion: options.head_fusion,
    };
    check_names(file.as_ref(), &layout, &spec)?;
    let (preprocess, mut source_files) = preprocessing::of(located, options, || {
        let own = transforms::read(&config.pretrained_cfg, config_path)?;
        Ok((own, None))
    })?;
    source_files.extend([named_digest(config_path)?]);
    Understood {
        file,
        layout,
        spec,
        preprocess,
        labels: config.labels(config_path, sizes.classes)?,
        task: TaskKind::SingleLabel,
        source: "timm",
        source_files,
    }
    .checkpoint(options)
}

/// The preprocessing that a `config.json` of timm describes.
pub(super) fn preprocess(path: &Path) -> Result<Preprocess, ImportError> {
    let config = Config::read(path)?;
    transforms::read(&config.pretrained_cfg, path)
}
