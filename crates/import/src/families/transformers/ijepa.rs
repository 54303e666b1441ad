//! I-JEPA (Assran et al. 2023) with a classifier: no class token, and the mean of all patches after
//! the last normalisation.

use patchlight_onnx::vit::{PoolNorm, Pooling, VitSpec};
use serde_json::json;

use super::{Config, Description, Family, Generation, Network, vit_msn};
use crate::{
    ImportError,
    families::{PATCH_MEAN, Sizes, recipe::Positions},
    layout::Interpolation,
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "I-JEPA",
        checkpoints: "IJepaForImageClassification",
        reads: PATCH_MEAN[0],
        evidence: PATCH_MEAN[1],
    },
    model_types: &["ijepa"],
    zero_shot: None,
    anchors: &["ijepa.embeddings.patch_embeddings.projection.weight"],
    open,
};

fn open(config: &Config<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let spec = VitSpec {
        prefix: 0,
        pooling: Pooling::PatchMean(PoolNorm::BeforeMean),
        ..config.spec(config.fields, &json!({}), file)?
    };
    let positions = Positions {
        name: "ijepa.embeddings.position_embeddings".to_owned(),
        leading: 0,
        grid: spec.grid(),
        interpolation: Interpolation::Bicubic,
    };
    let generation = Generation::of("ijepa", file);
    let blocks = match generation {
        Generation::Saved => "ijepa.encoder.layer",
        Generation::Native => "ijepa.layers",
    };
    Ok(Network {
        spec,
        sizes: Sizes::Resampled,
        recipes: Box::new(move |spec| {
            vit_msn::recipes(spec, &positions, (generation, blocks), "ijepa")
        }),
        unused: |name| name.starts_with("ijepa.pooler.") || name == "ijepa.embeddings.mask_token",
    })
}
