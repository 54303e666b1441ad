//! timm's `VisionTransformer` with what a plain one lacks: attention that pools (SigLIP's towers),
//! normalised queries and keys, gated MLPs (DINOv2's giant), normalisations after attention and
//! MLP, inside of them, or blocks side by side.

mod parallel;

use patchlight_onnx::vit::{AttentionPool, MlpForm, Pooling, Variant, VitSpec};

use super::{
    Arguments, Description, Family, Network,
    parts::{self, Parts},
};
use crate::{ImportError, families::recipe::Recipes, tensor_file::TensorFile};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "SigLIP towers, DINOv2 giant, BEiT-3, ViT with other blocks or RMSNorm",
        checkpoints: "vit_*_siglip_*, vit_giant_patch14_dinov2, beit3_*, vit_*_rpn_*, vit_*_18x2_*",
        reads: "attention of a learned query, class token, or mean over the patches",
        evidence: "as for what is read",
    },
    class: "VisionTransformer",
    takes: is_no_plain_one,
    open,
};

/// How a block is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// Attention, then the MLP.
    Usual,
    /// Both read the same, and share tensors.
    ParallelScaling,
    /// Several of each side by side.
    ParallelThings(usize),
}

/// Arguments that a plain network does not have.
fn is_no_plain_one(arguments: &Arguments<'_>) -> bool {
    let flags = ["qk_norm", "scale_attn_norm", "scale_mlp_norm"];
    flags.iter().any(|flag| arguments.flag(flag, false))
        || arguments.text("global_pool") == Some("map")
        || ["block_fn", "mlp_layer"]
            .iter()
            .any(|name| arguments.text(name).is_some())
        || !arguments.flag("final_norm", true)
        || arguments.flag("pool_include_prefix", false)
        || matches!(arguments.text("pos_embed"), Some("none" | ""))
        || arguments.norm().is_ok_and(|norm| norm.rms)
}

fn open(arguments: &Arguments<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    arguments.refuse(&["attn_layer", "embed_norm_layer", "num_kv_heads"])?;
    let [hidden, patch] = parts::hidden_and_patch(file)?;
    let has = |name: &str| file.shape(name).is_some();
    let (form, post_norm) = match arguments.text("block_fn") {
        None | Some("Block") => (Form::Usual, false),
        Some("ResPostBlock") => (Form::Usual, true),
        Some("ParallelScalingBlock") => (Form::ParallelScaling, false),
        Some("ParallelThingsBlock") => {
            let branch = |at: &usize| has(&format!("blocks.0.attns.{at}.norm.weight"));
            (
                Form::ParallelThings((0..).take_while(branch).count()),
                false,
            )
        }
        Some(other) => return Err(arguments.unknown("block_fn", other)),
    };
    let gated = match arguments.text("mlp_layer") {
        None | Some("Mlp") => false,
        Some("SwiGLU" | "GluMlp(act_layer=SiLU,gate_last=False)" | "SwiGLUPacked") => true,
        Some(other) => return Err(arguments.unknown("mlp_layer", other)),
    };
    let heads = arguments.heads(12);
    let pool = arguments.pool("token").to_owned();
    let fc_norm = arguments.optional_flag("fc_norm").unwrap_or(pool == "avg");
    let final_norm = arguments.flag("final_norm", true);
    let prefix = parts::prefix_tokens(file);
    let pooling = parts::pooling(arguments, &pool, has("cls_token"), fc_norm, final_norm)?;
    match pooling {
        Pooling::Attention => {}
        _ => arguments.refuse(&["pool_include_prefix"])?,
    }
    if pooling == Pooling::Attention && (!final_norm || fc_norm) {
        return Err(arguments.unknown("global_pool", "map, normalised elsewhere"));
    }
    let (depth, mlp) = match form {
        Form::Usual if has("blocks.0.mlp.fc1_x.weight") => (
            parts::depth(file, "norm1.weight")?,
            parts::rows_of(file, "blocks.0.mlp.fc1_x.weight")?,
        ),
        Form::Usual => {
            let rows = parts::rows_of(file, "blocks.0.mlp.fc1.weight")?;
            let mlp = if gated { rows / 2 } else { rows };
            (parts::depth(file, "norm1.weight")?, mlp)
        }
        Form::ParallelScaling => {
            let joined = parts::rows_of(file, "blocks.0.in_proj.weight")?;
            (
                parts::depth(file, "in_norm.weight")?,
                joined.saturating_sub(3 * hidden),
            )
        }
        Form::ParallelThings(branches) => {
            let rows = parts::rows_of(file, "blocks.0.ffns.0.mlp.fc1.weight")?;
            (parts::depth(file, "attns.0.norm.weight")?, branches * rows)
        }
    };
    let branches = match form {
        Form::ParallelThings(branches) => branches,
        Form::Usual | Form::ParallelScaling => 1,
    };
    let inner_norm = arguments.flag("scale_mlp_norm", false);
    let qk_norm = arguments.flag("qk_norm", false);
    let heads_norm = arguments.flag("scale_attn_norm", false);
    if branches > 1 && (arguments.norm()?.rms || qk_norm || inner_norm || heads_norm || gated) {
        return Err(arguments.unknown("block_fn", "ParallelThingsBlock with more normalisations"));
    }
    let spec = VitSpec {
        layers: depth,
        heads: branches * heads,
        hidden,
        mlp,
        image: arguments.image(patch)?,
        patch,
        prefix,
        classes: parts::classes(file)?,
        norm_epsilon: arguments.norm()?.epsilon,
        // Also of gated MLPs: it is passed to whatever class they have.
        activation: arguments.activation()?,
        pre_norm: has("norm_pre.weight"),
        qkv_bias: true,
        pooling,
        head_fusion: arguments.head_fusion(),
        variant: Variant {
            head_size: (branches > 1).then(|| hidden / heads.max(1)),
            mlp: MlpForm::of(gated, inner_norm),
            parallel_mlp: form == Form::ParallelScaling,
            post_norm,
            qk_norm,
            heads_norm,
            rms_norm: arguments.norm()?.rms,
            attention_pool: match pooling {
                Pooling::Attention => AttentionPool {
                    heads,
                    mlp: parts::rows_of(file, "attn_pool.mlp.fc1.weight")?,
                    activation: None,
                    patches_only: !arguments.flag("pool_include_prefix", false),
                    norm_after: false,
                },
                _ => AttentionPool::default(),
            },
            ..Variant::default()
        },
    };
    if hidden % heads.max(1) != 0 {
        return Err(arguments.error(
            "model_args",
            format!("has {heads} heads, which do not divide the width {hidden}"),
        ));
    }
    spec.check()
        .map_err(|detail| arguments.error("model_args", detail))?;
    let parts = Parts::of(arguments, file, &spec)?;
    let stored = parallel::Stored::of(file);
    Ok(Network {
        spec,
        sizes: arguments.sizes_of_input(),
        recipes: Box::new(move |spec| {
            let mut recipes = Recipes::default();
            parts.embeddings(&mut recipes, spec);
            for layer in 0..spec.layers {
                match form {
                    Form::Usual => parts.block(&mut recipes, spec, layer),
                    Form::ParallelScaling => parallel::scaling(&mut recipes, spec, layer, stored),
                    Form::ParallelThings(branches) => {
                        parallel::things(&mut recipes, spec, layer, branches, stored);
                    }
                }
            }
            parts::head(&mut recipes, spec, fc_norm);
            recipes
        }),
        unused: |_| false,
    })
}
