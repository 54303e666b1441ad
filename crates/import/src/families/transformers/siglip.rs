//! SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025): no class token. A classifier reads
//! the mean of the patches after the last normalisation; where texts classify, they are compared with
//! what a learned query reads of the patches.
//!
//! SigLIP 2 of the model type `siglip2` takes any aspect; here it takes the square that it has
//! positions for, cut into patches as flat vectors: row, column, channel.

use std::sync::Arc;

use patchlight_model::manifest::TaskKind;
use patchlight_onnx::{
    tensor::Tensor,
    vit::{
        AttentionPool, PoolNorm, PoolWeight as P, Pooling, UnitLength, Variant, VitSpec, WeightId,
    },
};
use serde_json::json;

use super::{
    Config, Description, Family, Network, Recipe, Recipes, classifier, clip_block, text_classifier,
};
use crate::{
    ImportError,
    families::{
        Sizes,
        recipe::{Positions, projected},
    },
    layout::Interpolation,
    tensor_file::TensorFile,
    text_embeddings::TextEmbeddings,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "SigLIP, SigLIP 2 of one size",
        checkpoints: "SiglipForImageClassification, Siglip2ForImageClassification; SiglipModel, \
                      Siglip2Model with --text-embeddings",
        reads: "mean over the patches; with texts attention of a learned query",
        evidence: "last state of every patch, exact; with texts attention that pools",
    },
    model_types: &[
        "siglip",
        "siglip_vision_model",
        "siglip2",
        "siglip2_vision_model",
    ],
    zero_shot: Some(TaskKind::MultiLabel),
    anchors: &[PATCH],
    open,
};

const PATCH: &str = "vision_model.embeddings.patch_embedding.weight";
const PROBE: &str = "vision_model.head.probe";
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
    let texts = config.texts.cloned();
    let plain = config.spec(fields, &defaults, file)?;
    let spec = match &texts {
        None => VitSpec {
            prefix: 0,
            pooling: Pooling::PatchMean(PoolNorm::BeforeMean),
            ..plain
        },
        Some(texts) => pooled(texts, file, plain)?,
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
        recipes: Box::new(move |spec| recipes(spec, &positions, flat, texts.as_ref())),
        unused: |name| {
            name.starts_with("text_model.")
                || name.starts_with("vision_model.head.")
                || ["logit_scale", "logit_bias"].contains(&name)
                || name.ends_with(".position_ids")
        },
    })
}

/// The network whose learned query makes an image's embedding.
fn pooled(
    texts: &TextEmbeddings,
    file: &dyn TensorFile,
    plain: VitSpec,
) -> Result<VitSpec, ImportError> {
    if file.shape(PROBE).is_none() {
        let expected = "images are compared with texts through it; import the whole SigLIP model, or \
                        its vision model with the head";
        return Err(file.missing(PROBE, expected));
    }
    if texts.width != plain.hidden {
        let detail = format!(
            "has embeddings of width {}, but those of images have {}: they are of another network's \
             texts",
            texts.width, plain.hidden
        );
        return Err(ImportError::text_embeddings(&texts.path, detail));
    }
    Ok(VitSpec {
        prefix: 0,
        pooling: Pooling::Attention,
        variant: Variant {
            attention_pool: AttentionPool {
                heads: plain.heads,
                mlp: plain.mlp,
                activation: None,
                patches_only: false,
                norm_after: false,
            },
            unit_length: UnitLength::State,
            ..Variant::default()
        },
        ..plain
    })
}

fn recipes(
    spec: &VitSpec,
    positions: &Positions,
    flat: bool,
    texts: Option<&Arc<TextEmbeddings>>,
) -> Recipes {
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
    match texts {
        None => classifier(&mut recipes),
        Some(texts) => {
            attention_pool(&mut recipes, spec.hidden);
            text_classifier(&mut recipes, texts, None, true);
        }
    }
    recipes
}

/// torch's `MultiheadAttention` with the probe as its only query, and an MLP after it.
fn attention_pool(recipes: &mut Recipes, hidden: usize) {
    const KERNEL: &str = "vision_model.head.attention.in_proj_weight";
    const BIAS: &str = "vision_model.head.attention.in_proj_bias";
    let pool = |weight| WeightId::Pool(weight);
    let reads = [PROBE, KERNEL, BIAS].map(str::to_owned);
    let query = Recipe::of(reads, move |file, shape| {
        let probe = file.tensor(PROBE, &[1, 1, hidden])?.to_f32();
        let kernel = file.tensor(KERNEL, &[3 * hidden, hidden])?.to_f32();
        let bias = file.tensor(BIAS, &[3 * hidden])?.to_f32();
        let values = projected(&probe, &kernel[..hidden * hidden], &bias[..hidden]);
        Ok(Tensor::f32(shape.to_vec(), &values))
    });
    recipes.set(pool(P::Query), query);
    for (third, kernel, bias) in [
        (1, P::KeyKernel, P::KeyBias),
        (2, P::ValueKernel, P::ValueBias),
    ] {
        recipes.set(pool(kernel), Recipe::torch_part(KERNEL, third, 3));
        recipes.set(pool(bias), Recipe::torch_part(BIAS, third, 3));
    }
    for (weights, part) in [
        ([P::OutKernel, P::OutBias], "attention.out_proj"),
        ([P::MlpNormScale, P::MlpNormBias], "layernorm"),
        ([P::UpKernel, P::UpBias], "mlp.fc1"),
        ([P::DownKernel, P::DownBias], "mlp.fc2"),
    ] {
        recipes.pair(weights.map(pool), &format!("vision_model.head.{part}"));
    }
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
