//! timm's `Eva`: EVA (Fang et al. 2022), EVA-02 (Fang et al. 2023), DINOv3 (Siméoni et al. 2025) and
//! the Perception Encoder's towers (Bolya et al. 2025): rotary positions, gated MLPs, normalisations
//! inside of attention and MLP, and a mean, a class token or an attention at the end.

use patchlight_onnx::vit::{
    Activation, AttentionPool, MlpForm, Pooling, Rotation, Variant, VitSpec, WeightId,
};

use super::{
    Arguments, Description, Family, Network,
    parts::{self, Parts},
    rotary::{self, Rotary},
};
use crate::{
    ImportError,
    families::recipe::{Recipe, Recipes},
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "EVA, EVA-02, DINOv3, Perception Encoder, RoPE-ViT",
        checkpoints: "eva_giant_*, eva02_*, vit_*_dinov3, vit_pe_*, vit_*_rope_*",
        reads: "mean over the patches, class token, or attention of a learned query",
        evidence: "as for what is read",
    },
    class: "Eva",
    takes: |_| true,
    open,
};

fn open(arguments: &Arguments<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    // What has no effect when the network classifies is not asked for.
    arguments.refuse(&["num_kv_heads", "rope_mrope_section"])?;
    let [hidden, patch] = parts::hidden_and_patch(file)?;
    let has = |name: &str| file.shape(name).is_some();
    if has("blocks.0.attn.gate.weight") {
        return Err(arguments.unknown("attention", "gated"));
    }
    let heads = arguments.heads(12);
    let pool = arguments.pool("avg").to_owned();
    let fc_norm = arguments
        .optional_flag("use_fc_norm")
        .unwrap_or(pool == "avg");
    let post = arguments
        .optional_flag("use_post_transformer_norm")
        .unwrap_or(!fc_norm);
    if fc_norm && post {
        let detail = "true, beside use_fc_norm: two normalisations at the end";
        return Err(arguments.unknown("use_post_transformer_norm", detail));
    }
    let gate_apart = has("blocks.0.mlp.fc1_g.weight");
    let gated = arguments.flag("swiglu_mlp", false);
    let inner_norm = has("blocks.0.mlp.norm.weight");
    let up = match gate_apart {
        true => "blocks.0.mlp.fc1_x.weight",
        false => "blocks.0.mlp.fc1.weight",
    };
    let mlp = parts::rows_of(file, up)?;
    let mlp = if gated && !gate_apart { mlp / 2 } else { mlp };
    let prefix = parts::prefix_tokens(file);
    let pooling = parts::pooling(arguments, &pool, has("cls_token"), fc_norm, fc_norm || post)?;
    let post_norm = arguments.flag("use_post_norm", false);
    let rotary = rotation(arguments)?;
    let spec = VitSpec {
        layers: parts::depth(file, "norm1.weight")?,
        heads,
        hidden,
        mlp,
        image: arguments.image(patch)?,
        patch,
        prefix,
        classes: parts::classes(file)?,
        norm_epsilon: arguments.norm()?.epsilon,
        activation: match gated {
            true => Activation::Silu,
            false => Activation::Gelu,
        },
        pre_norm: has("norm_pre.weight"),
        qkv_bias: true,
        pooling,
        head_fusion: arguments.head_fusion(),
        variant: Variant {
            mlp: MlpForm::of(gated, inner_norm),
            post_norm,
            qk_norm: has("blocks.0.attn.q_norm.weight"),
            heads_norm: has("blocks.0.attn.norm.weight"),
            rotary: match rotary {
                None => Rotation::None,
                Some(Rotary { learned: true, .. }) => Rotation::OfEachHead,
                Some(_) => Rotation::Shared,
            },
            rms_norm: arguments.norm()?.rms,
            attention_pool: match pooling {
                Pooling::Attention => AttentionPool {
                    heads: arguments.number("attn_pool_num_heads", heads as f64) as usize,
                    mlp: parts::rows_of(file, "attn_pool.mlp.fc1.weight")?,
                    activation: Some(Activation::Gelu),
                    patches_only: false,
                    norm_after: fc_norm,
                },
                _ => AttentionPool::default(),
            },
            ..Variant::default()
        },
    };
    spec.check()
        .map_err(|detail| arguments.error("model_args", detail))?;
    let mut parts = Parts::of(arguments, file, &spec)?;
    parts.pairs_together = rotary.is_some_and(|rotary| !rotary.halves);
    Ok(Network {
        spec,
        sizes: arguments.sizes_of_input(),
        recipes: Box::new(move |spec| recipes(spec, &parts, rotary, fc_norm)),
        unused: |name| name.starts_with("rope.") && name != rotary::FREQUENCIES,
    })
}

/// The rotation, where there is one.
fn rotation(arguments: &Arguments<'_>) -> Result<Option<Rotary>, ImportError> {
    if !arguments.flag("use_rot_pos_emb", false) {
        return Ok(None);
    }
    let kind = arguments.text("rope_type").unwrap_or("cat").to_owned();
    let (centred, learned) = match kind.as_str() {
        "cat" => (false, false),
        "dinov3" => (true, false),
        "mixed" => (false, true),
        other => return Err(arguments.unknown("rope_type", other)),
    };
    Ok(Some(Rotary {
        centred,
        learned,
        temperature: arguments.number("rope_temperature", 10_000.0),
        offset: arguments.number("rope_grid_offset", 0.0),
        reference: match centred {
            true => None,
            false => arguments.sides("ref_feat_shape"),
        },
        columns_first: arguments.text("rope_grid_indexing") == Some("xy"),
        halves: arguments.flag("rope_rotate_half", false),
    }))
}

fn recipes(spec: &VitSpec, parts: &Parts, rotary: Option<Rotary>, fc_norm: bool) -> Recipes {
    let mut recipes = Recipes::default();
    parts.embeddings(&mut recipes, spec);
    match rotary {
        None => {}
        Some(rotary) if rotary.learned => rotary.learned_tables(&mut recipes, spec),
        Some(rotary) => {
            let [cosines, sines] = rotary.tables(spec.grid(), spec.head_size());
            recipes.set(WeightId::RotaryCosines, Recipe::values(cosines));
            recipes.set(WeightId::RotarySines, Recipe::values(sines));
        }
    }
    for layer in 0..spec.layers {
        parts.block(&mut recipes, spec, layer);
    }
    parts::head(&mut recipes, spec, fc_norm);
    recipes
}
