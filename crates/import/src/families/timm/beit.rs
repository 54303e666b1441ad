//! timm's `Beit`: BEiT and BEiT v2 with the names that timm gives them.

use patchlight_onnx::vit::{Activation, BlockWeight as B, MlpForm, Variant, VitSpec};

use super::{
    Arguments, Description, Family, Network,
    parts::{self, Parts},
};
use crate::{
    ImportError,
    families::{Sizes, recipe::Recipes, transformers},
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "BEiT, BEiT v2",
        checkpoints: "beit_*, beitv2_*",
        reads: "mean over the patches, normalised afterwards; or class token",
        evidence: "last state of every patch, or attention of the class token",
    },
    class: "Beit",
    takes: |_| true,
    open,
};

const SHARED: &str = "rel_pos_bias.relative_position_bias_table";

fn open(arguments: &Arguments<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let [hidden, patch] = parts::hidden_and_patch(file)?;
    let has = |name: &str| file.shape(name).is_some();
    let pool = arguments.pool("avg").to_owned();
    let fc_norm = arguments
        .optional_flag("use_fc_norm")
        .unwrap_or(pool == "avg");
    let shared = has(SHARED);
    let own = has("blocks.0.attn.relative_position_bias_table");
    let gated = has("blocks.0.mlp.fc1_g.weight");
    let spec = VitSpec {
        layers: parts::depth(file, "norm1.weight")?,
        heads: arguments.heads(12),
        hidden,
        mlp: match gated {
            true => parts::rows_of(file, "blocks.0.mlp.fc1_x.weight")?,
            false => parts::rows_of(file, "blocks.0.mlp.fc1.weight")?,
        },
        image: arguments.image(patch)?,
        patch,
        prefix: parts::prefix_tokens(file),
        classes: parts::classes(file)?,
        norm_epsilon: arguments.norm()?.epsilon,
        activation: match gated {
            true => Activation::Silu,
            false => Activation::Gelu,
        },
        pre_norm: false,
        qkv_bias: true,
        pooling: parts::pooling(arguments, &pool, has("cls_token"), fc_norm, true)?,
        head_fusion: arguments.head_fusion(),
        variant: Variant {
            relative_bias: own || shared,
            mlp: MlpForm::of(gated, has("blocks.0.mlp.norm.weight")),
            rms_norm: arguments.norm()?.rms,
            ..Variant::default()
        },
    };
    spec.check()
        .map_err(|detail| arguments.error("model_args", detail))?;
    let parts = Parts::of(arguments, file, &spec)?;
    Ok(Network {
        spec,
        sizes: Sizes::Fixed("its table of relative positions is of that size"),
        recipes: Box::new(move |spec| recipes(spec, &parts, [shared, own], fc_norm)),
        unused: |name| name.ends_with("relative_position_index"),
    })
}

fn recipes(spec: &VitSpec, parts: &Parts, [shared, own]: [bool; 2], fc_norm: bool) -> Recipes {
    let mut recipes = Recipes::default();
    parts.embeddings(&mut recipes, spec);
    for layer in 0..spec.layers {
        parts.block(&mut recipes, spec, layer);
        let table = own.then(|| format!("blocks.{layer}.attn.relative_position_bias_table"));
        let tables = shared.then(|| SHARED.to_owned()).into_iter().chain(table);
        let recipe = transformers::beit::relative_bias(tables.collect());
        recipes.block(layer, B::RelativeBias, recipe);
    }
    parts::head(&mut recipes, spec, fc_norm);
    recipes
}
