//! CLIP's image tower (Radford et al. 2021) and MetaCLIP 2's: normalised before the first block. A
//! classifier reads the mean of the patches as the last block leaves them; where texts classify, they
//! are compared with the class token, normalised and projected.

use std::sync::Arc;

use patchlight_model::manifest::TaskKind;
use patchlight_onnx::vit::{PoolNorm, Pooling, UnitLength, Variant, VitSpec, WeightId};
use serde_json::json;

use super::{
    Config, Description, Family, Network, Recipes, classifier, clip_block, text_classifier,
};
use crate::{
    ImportError,
    families::{Sizes, recipe::Positions},
    layout::Interpolation,
    tensor_file::TensorFile,
    text_embeddings::TextEmbeddings,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "CLIP, MetaCLIP 2",
        checkpoints: "CLIPForImageClassification, MetaClip2ForImageClassification; CLIPModel with \
                      --text-embeddings",
        reads: "mean over the patches, not normalised; with texts the class token",
        evidence: "last state of every patch, exact; with texts attention of the class token",
    },
    model_types: &[
        "clip",
        "clip_vision_model",
        "metaclip_2",
        "metaclip_2_vision_model",
    ],
    zero_shot: Some(TaskKind::SingleLabel),
    anchors: &["vision_model.embeddings.patch_embedding.weight"],
    open,
};

const PROJECTION: &str = "visual_projection.weight";

fn open(config: &Config<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let defaults = json!({"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "patch_size": 32});
    let texts = config.texts.cloned();
    if let Some(texts) = &texts {
        check_projection(texts, file)?;
    }
    let spec = VitSpec {
        pooling: match &texts {
            None => Pooling::PatchMean(PoolNorm::Absent),
            Some(_) => Pooling::ClassToken,
        },
        pre_norm: true,
        variant: Variant {
            unit_length: match &texts {
                None => UnitLength::None,
                Some(texts) => UnitLength::Projected(texts.width),
            },
            ..Variant::default()
        },
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
        recipes: Box::new(move |spec| recipes(spec, &positions, texts.as_ref())),
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

fn check_projection(texts: &TextEmbeddings, file: &dyn TensorFile) -> Result<(), ImportError> {
    match file.shape(PROJECTION) {
        Some(&[width, _]) if width == texts.width => Ok(()),
        Some(shape) => {
            let detail = format!(
                "has embeddings of width {}, but images are projected by a kernel {shape:?}: they are \
                 of another network's texts",
                texts.width
            );
            Err(ImportError::text_embeddings(&texts.path, detail))
        }
        None => {
            let expected = "images are compared with texts through it; import the whole CLIP model, \
                            or its vision model with the projection";
            Err(file.missing(PROJECTION, expected))
        }
    }
}

fn recipes(spec: &VitSpec, positions: &Positions, texts: Option<&Arc<TextEmbeddings>>) -> Recipes {
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
    let Some(texts) = texts else {
        classifier(&mut recipes);
        return recipes;
    };
    let norm = [WeightId::FinalNormScale, WeightId::FinalNormBias];
    recipes.pair(norm, "vision_model.post_layernorm");
    text_classifier(&mut recipes, texts, Some(PROJECTION), false);
    recipes
}
