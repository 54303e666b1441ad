//! ViT-MSN (Assran et al. 2022) with a classifier: a ViT with a class token.

use patchlight_onnx::vit::{VitSpec, WeightId};
use serde_json::json;

use super::{Config, Description, Family, Generation, Network, Recipe, Recipes, classifier};
use crate::{
    ImportError,
    families::{CLASS_TOKEN, Sizes, recipe::Positions},
    layout::Interpolation,
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "ViT-MSN",
        checkpoints: "ViTMSNForImageClassification",
        reads: CLASS_TOKEN[0],
        evidence: CLASS_TOKEN[1],
    },
    model_types: &["vit_msn"],
    zero_shot: None,
    anchors: &["vit.embeddings.patch_embeddings.projection.weight"],
    open,
};

fn open(config: &Config<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let defaults = json!({"layer_norm_eps": 1e-6});
    let spec = config.spec(config.fields, &defaults, file)?;
    let positions = Positions {
        name: "vit.embeddings.position_embeddings".to_owned(),
        leading: 1,
        grid: spec.grid(),
        interpolation: Interpolation::Bicubic,
    };
    let generation = Generation::of("vit", file);
    // Version 5 saves blocks without the name of the network that holds them.
    let blocks = match (
        generation,
        file.shape("encoder.layer.0.layernorm_before.weight"),
    ) {
        (Generation::Native, _) => "vit.layers",
        (_, Some(_)) => "encoder.layer",
        (_, None) => "vit.encoder.layer",
    };
    Ok(Network {
        spec,
        sizes: Sizes::Resampled,
        recipes: Box::new(move |spec| recipes(spec, &positions, (generation, blocks), "vit")),
        unused: |name| name == "vit.embeddings.mask_token",
    })
}

/// Of a network below `root` whose blocks lie below `blocks`.
pub(super) fn recipes(
    spec: &VitSpec,
    positions: &Positions,
    (generation, blocks): (Generation, &str),
    root: &str,
) -> Recipes {
    use patchlight_onnx::vit::BlockWeight as B;
    let mut recipes = Recipes::default();
    recipes.patch_projection(
        &format!("{root}.embeddings.patch_embeddings.projection"),
        spec,
        true,
    );
    let class_token = (spec.prefix > 0).then(|| format!("{root}.embeddings.cls_token"));
    recipes.embeddings(class_token.as_slice(), Some(positions), spec);
    for layer in 0..spec.layers {
        recipes.usual_block(layer, &generation.block(&format!("{blocks}.{layer}")));
        if !spec.qkv_bias {
            for bias in [B::QueryBias, B::KeyBias, B::ValueBias] {
                recipes.block(layer, bias, Recipe::fill(0.0));
            }
        }
    }
    let norm = [WeightId::FinalNormScale, WeightId::FinalNormBias];
    recipes.pair(norm, &format!("{root}.layernorm"));
    classifier(&mut recipes);
    recipes
}
