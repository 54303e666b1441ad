//! A checkpoint of timm as its `save_for_hf` writes it: `config.json` with `architecture`,
//! `model_args` and `pretrained_cfg`, and the weights.

mod architecture;
mod config;
mod layout;

use patchlight_imaging::preprocess::Preprocess;
use patchlight_model::manifest::TaskKind;

use self::{config::Config, layout::TimmLayout};
use super::{
    Checkpoint, ImportError, ImportOptions, SidecarMetadata,
    families::{self, Surroundings},
    layout::{Hyperparameters, ParsedCheckpoint, Sizes, check_names},
    paths::CheckpointPaths,
    preprocessing::{self, Digests, pretrained_cfg},
    small_file::json,
    tensor_file::{self, named_digest},
};

/// A tensor by which the layout is known.
pub(super) const MARKER_TENSOR: &str = "patch_embed.proj.weight";

/// Opens the directory and checks that everything is there and understood; tensors' values are
/// read later.
pub(super) fn open(
    paths: &CheckpointPaths,
    options: &ImportOptions,
) -> Result<Checkpoint, ImportError> {
    let config_path = paths.config()?;
    let config = Config::parse(config_path)?;
    let file = tensor_file::open(&paths.weights()?)?;
    let file = tensor_file::by_anchor(file, MARKER_TENSOR)?;
    let described = config.described(config_path, options);
    if let Some(network) = families::timm::network(described, file.as_ref())? {
        let (preprocess, source_files) = own_preprocess(paths, options, &config)?;
        let surroundings = Surroundings {
            preprocess,
            labels: config.labels(config_path, network.classes())?,
            task: TaskKind::SingleLabel,
            source: "timm",
            source_files,
        };
        return network.checkpoint(file, surroundings, options);
    }
    config.check(config_path)?;
    let layout = TimmLayout::new(file.as_ref());
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
    let spec = sizes.spec(Hyperparameters {
        heads,
        image,
        norm_epsilon: config.architecture().norm_epsilon(),
        activation: config.activation(config_path)?,
        pooling: layout.pooling(&config.global_pool(config_path)?, config_path)?,
        head_fusion: options.head_fusion,
    });
    check_names(file.as_ref(), &layout, &spec)?;
    let (preprocess, source_files) = own_preprocess(paths, options, &config)?;
    ParsedCheckpoint {
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
    paths: &CheckpointPaths,
    options: &ImportOptions,
    patch: Option<usize>,
    classes: usize,
) -> Result<SidecarMetadata, ImportError> {
    let path = paths.config()?;
    let config = Config::parse(path)?;
    let (preprocess, source_files) = own_preprocess(paths, options, &config)?;
    Ok(SidecarMetadata {
        layers: config.depth(),
        heads: options.heads.or_else(|| config.known_heads()),
        name: Some(config.architecture().whole().to_owned()),
        image: patch.map(|patch| config.image(path, patch)).transpose()?,
        pooling: config.pooling(),
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
    paths: &CheckpointPaths,
    options: &ImportOptions,
    config: &Config,
) -> Result<(Preprocess, Digests), ImportError> {
    let path = paths.config()?;
    let (preprocess, mut source_files) = preprocessing::of(paths, options, || {
        let own = pretrained_cfg::read(&config.pretrained_cfg, path)?;
        Ok((own, None))
    })?;
    source_files.extend([named_digest(path)?]);
    Ok((preprocess, source_files))
}
