//! CLIP's image tower (Radford et al. 2021) with a classifier, and MetaCLIP 2's: normalised before
//! the first block, and the mean of the patches as the last block leaves them.

use patchlight_onnx::vit::{PoolNorm, Pooling, VitSpec, WeightId};
use serde_json::json;

use super::{Config, Description, Family, Network, Recipes, classifier, clip_block};
use crate::{
    ImportError,
    families::{PATCH_MEAN, Sizes, recipe::Positions},
    layout::Interpolation,
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "CLIP, MetaCLIP 2",
        checkpoints: "CLIPForImageClassification, MetaClip2ForImageClassification",
        reads: "mean over the patches, not normalised",
        evidence: PATCH_MEAN[1],
    },
    model_types: &[
        "clip",
        "clip_vision_model",
        "metaclip_2",
        "metaclip_2_vision_model",
    ],
    anchors: &["vision_model.embeddings.patch_embedding.weight"],
    open,
};

fn open(config: &Config<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let defaults = json!({"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "patch_size": 32});
    let spec = VitSpec {
        pooling: Pooling::PatchMean(PoolNorm::Absent),
        pre_norm: true,
        ..config.spec(config.vision(), &defaults, file)?
    };
    let positions = Positions {
        name: "vision_model.embeddings.position_embedding.weight".to_owned(),
        leading: 1,
        grid: spec.grid(),
        interpolation: Interpolation::Bicubic,
    };
    Ok(Network {
        spec,
        sizes: Sizes::Resampled,
        recipes: Box::new(move |spec| recipes(spec, &positions)),
        unused: |name| {
            let others = [
                "text_model.",
                "vision_model.post_layernorm.",
                "text_projection.",
                "visual_projection.",
            ];
            others.iter().any(|before| name.starts_with(before))
                || name == "logit_scale"
                || name.ends_with(".position_ids")
        },
    })
}

fn recipes(spec: &VitSpec, positions: &Positions) -> Recipes {
    let mut recipes = Recipes::default();
    recipes.patch_projection("vision_model.embeddings.patch_embedding", spec, false);
    let class_token = "vision_model.embeddings.class_embedding".to_owned();
    recipes.embeddings(&[class_token], Some(positions), spec);
    // Spelled so in every checkpoint.
    let norm = [WeightId::PreNormScale, WeightId::PreNormBias];
    recipes.pair(norm, "vision_model.pre_layrnorm");
    for layer in 0..spec.layers {
        recipes.usual_block(layer, &clip_block(layer));
    }
    classifier(&mut recipes);
    recipes
}
