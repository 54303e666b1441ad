//! A checkpoint of timm as its `save_for_hf` writes it: `config.json` with `architecture`,
//! `model_args` and `pretrained_cfg`, and the weights.

mod architecture;
mod config;
mod names;
mod transforms;

use std::path::Path;

use self::{config::Config, names::Names};
use super::{
    Checkpoint, Described, ImportError, ImportOptions,
    layout::{Sizes, Understood, Unshaped, check_names},
    preprocessing::{self, Digests},
    small_file::json,
    source::Located,
    tensor_file::{self, named_digest},
};
use crate::{model::manifest::TaskKind, preprocess::Preprocess};

/// A tensor by which the layout is known.
pub(super) const MARK: &str = "patch_embed.proj.weight";

/// Opens the directory and checks that everything is there and understood; tensors' values are
/// read later.
pub(super) fn open(located: &Located, options: &ImportOptions) -> Result<Checkpoint, ImportError> {
    let config_path = located.config()?;
    let config = Config::read(config_path)?;
    let file = tensor_file::open(&located.weights()?)?;
    let file = tensor_file::by_anchor(file, MARK)?;
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
    let spec = sizes.spec(Unshaped {
        heads,
        image,
        norm_epsilon: config.architecture().norm_epsilon(),
        activation: config.activation(config_path)?,
        readout: layout.readout(&config.global_pool(config_path)?, config_path)?,
        head_fusion: options.head_fusion,
    });
    check_names(file.as_ref(), &layout, &spec)?;
    let (preprocess, source_files) = own_preprocess(located, options, &config)?;
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

/// What the file beside a graph says that was exported from a model of timm. Which network it is
/// matters less than for weights: the graph spells out what it computes.
pub(super) fn describe(
    located: &Located,
    options: &ImportOptions,
    patch: Option<usize>,
    classes: usize,
) -> Result<Described, ImportError> {
    let path = located.config()?;
    let config = Config::parse(path)?;
    let (preprocess, source_files) = own_preprocess(located, options, &config)?;
    Ok(Described {
        layers: config.depth(),
        heads: options.heads.or_else(|| config.known_heads()),
        name: Some(config.architecture().whole().to_owned()),
        image: patch.map(|patch| config.image(path, patch)).transpose()?,
        readout: config.readout(),
        preprocess,
        labels: match options.labels {
            Some(_) => None,
            None => config.labels(path, classes)?,
        },
        task: TaskKind::SingleLabel,
        source_files,
    })
}

/// What was asked for, or `pretrained_cfg`; with the digests of what was read.
fn own_preprocess(
    located: &Located,
    options: &ImportOptions,
    config: &Config,
) -> Result<(Preprocess, Digests), ImportError> {
    let path = located.config()?;
    let (preprocess, mut source_files) = preprocessing::of(located, options, || {
        let own = transforms::read(&config.pretrained_cfg, path)?;
        Ok((own, None))
    })?;
    source_files.extend([named_digest(path)?]);
    Ok((preprocess, source_files))
}

/// The preprocessing that a `config.json` of timm describes.
pub(super) fn preprocess(path: &Path) -> Result<Preprocess, ImportError> {
    let config = Config::parse(path)?;
    transforms::read(&config.pretrained_cfg, path)
}
