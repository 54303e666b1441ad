//! SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025) with a classifier: no class token,
//! and the mean of the patches after the last normalisation.
//!
//! The head that pools by attention is in many files, but `…ForImageClassification` has none.
//! SigLIP 2 of the model type `siglip2` takes any aspect; here it takes the square that it has
//! positions for, cut into patches as flat vectors: row, column, channel.

use patchlight_onnx::{
    tensor::Tensor,
    vit::{PoolNorm, Pooling, VitSpec, WeightId},
};
use serde_json::json;

use super::{Config, Description, Family, Network, Recipe, Recipes, classifier, clip_block};
use crate::{
    ImportError,
    families::{PATCH_MEAN, Sizes, recipe::Positions},
    layout::Interpolation,
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "SigLIP, SigLIP 2 of one size",
        checkpoints: "SiglipForImageClassification, Siglip2ForImageClassification",
        reads: PATCH_MEAN[0],
        evidence: PATCH_MEAN[1],
    },
    model_types: &[
        "siglip",
        "siglip_vision_model",
        "siglip2",
        "siglip2_vision_model",
    ],
    anchors: &[PATCH],
    open,
};

const PATCH: &str = "vision_model.embeddings.patch_embedding.weight";
const POSITIONS: &str = "vision_model.embeddings.position_embedding.weight";

fn open(config: &Config<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let fields = config.vision();
    let mut defaults = json!({"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6});
    // A linear layer of patches that are flat already.
    let flat = file.shape(PATCH).is_some_and(|shape| shape.len() == 2);
    if flat {
        let patches = Config::number(fields, "num_patches").unwrap_or(256.0) as usize;
        let side = patches.isqrt();
        if side * side != patches {
            let detail =
                format!("is {patches}, which is no square: there is no one size of images");
            return Err(config.error("num_patches", detail));
        }
        let patch = Config::number(fields, "patch_size").unwrap_or(16.0) as usize;
        defaults["image_size"] = (side * patch).into();
    }
    let spec = VitSpec {
        prefix: 0,
        pooling: Pooling::PatchMean(PoolNorm::BeforeMean),
        ..config.spec(fields, &defaults, file)?
    };
    let positions = Positions {
        name: POSITIONS.to_owned(),
        leading: 0,
        grid: spec.grid(),
        interpolation: Interpolation::Bicubic,
    };
    Ok(Network {
        spec,
        sizes: match flat {
            true => {
                Sizes::Fixed("SigLIP 2 resamples its positions in a way that is not known here")
            }
            false => Sizes::Resampled,
        },
        recipes: Box::new(move |spec| recipes(spec, &positions, flat)),
        unused: |name| {
            name.starts_with("text_model.")
                || name.starts_with("vision_model.head.")
                || ["logit_scale", "logit_bias"].contains(&name)
                || name.ends_with(".position_ids")
        },
    })
}

fn recipes(spec: &VitSpec, positions: &Positions, flat: bool) -> Recipes {
    let mut recipes = Recipes::default();
    recipes.patch_projection("vision_model.embeddings.patch_embedding", spec, true);
    if flat {
        recipes.set(WeightId::PatchKernel, flat_patches(spec));
    }
    recipes.embeddings(&[], Some(positions), spec);
    for layer in 0..spec.layers {
        recipes.usual_block(layer, &clip_block(layer));
    }
    let norm = [WeightId::FinalNormScale, WeightId::FinalNormBias];
    recipes.pair(norm, "vision_model.post_layernorm");
    classifier(&mut recipes);
    recipes
}

/// From `[hidden, row · column · channel]`.
fn flat_patches(spec: &VitSpec) -> Recipe {
    let (hidden, pixels) = (spec.hidden, spec.patch * spec.patch);
    Recipe::of([PATCH.to_owned()], move |file, shape| {
        let values = file.tensor(PATCH, &[hidden, pixels * 3])?.to_f32();
        let mut ordered = Vec::with_capacity(values.len());
        for channel in 0..3 {
            for pixel in 0..pixels {
                let column = (0..hidden).map(|out| values[(out * pixels + pixel) * 3 + channel]);
                ordered.extend(column);
            }
        }
        Ok(Tensor::f32(shape.to_vec(), &ordered))
    })
}
