//! Parts that timm's classes have in common: embeddings, blocks, heads.

use patchlight_onnx::{
    tensor::Tensor,
    vit::{BlockWeight as B, MlpForm, PoolNorm, PoolWeight as P, Pooling, VitSpec, WeightId},
};

use super::Arguments;
use crate::{
    ImportError,
    families::recipe::{Positions, Recipe, Recipes, projected},
    layout::Interpolation,
    tensor_file::TensorFile,
};

pub(super) const PATCH: &str = "patch_embed.proj";

/// In the order in which timm puts them before the patches.
const PREFIX: [&str; 2] = ["cls_token", "reg_token"];

/// What tells one network's tensors from another's.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) prefix: Vec<String>,
    pub(super) positions: Option<Positions>,
    pub(super) patch_bias: bool,
    /// Whether pairs of values that are turned lie beside each other.
    pub(super) pairs_together: bool,
    /// Of a gated MLP in one tensor, whether the gate comes last.
    pub(super) gate_last: bool,
    pub(super) qkv: Qkv,
    pub(super) projection_bias: bool,
    /// Names of the layer scales in a block.
    pub(super) layer_scales: [Option<&'static str>; 2],
    pub(super) gate: Gate,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Qkv {
    /// In one tensor, with a bias of the same form.
    Joined,
    /// In one tensor, with biases of their own for queries and values.
    JoinedWithoutKeyBias,
    /// In one tensor each; these of them have a bias.
    Apart([bool; 3]),
    /// In one tensor, without a bias.
    JoinedWithoutBias,
}

/// How a gated MLP is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gate {
    None,
    Packed,
    Apart,
}

impl Parts {
    /// Reads them off the names of the first block and of the embeddings.
    pub(super) fn of(
        arguments: &Arguments<'_>,
        file: &dyn TensorFile,
        spec: &VitSpec,
    ) -> Result<Self, ImportError> {
        let has = |name: &str| file.shape(name).is_some();
        let block = |name: &str| has(&format!("blocks.0.{name}"));
        let prefix: Vec<String> = PREFIX
            .iter()
            .filter(|name| has(name))
            .map(|&name| name.to_owned())
            .collect();
        let grid = spec.grid();
        let stored = file
            .shape("pos_embed")
            .and_then(|shape| shape.get(1))
            .copied();
        let positions = match stored {
            None => None,
            Some(count) if count == spec.patches() || count == spec.tokens() => Some(Positions {
                name: "pos_embed".to_owned(),
                leading: count - spec.patches(),
                grid,
                interpolation: Interpolation::BicubicAntialias,
            }),
            Some(count) => {
                let detail = format!(
                    "has {count} positions, but config.json tells of an input of {}×{} pixels, so \
                     {} patches and {} tokens before them",
                    spec.image[0],
                    spec.image[1],
                    spec.patches(),
                    spec.prefix
                );
                return Err(ImportError::tensor(file.path(), "pos_embed", detail));
            }
        };
        let qkv = match (
            block("attn.qkv.weight"),
            block("attn.qkv.bias"),
            block("attn.q_bias"),
        ) {
            (true, true, _) => Qkv::Joined,
            (true, _, true) => Qkv::JoinedWithoutKeyBias,
            (true, _, _) => Qkv::JoinedWithoutBias,
            (false, ..) => {
                Qkv::Apart(["q", "k", "v"].map(|part| block(&format!("attn.{part}_proj.bias"))))
            }
        };
        let scale = |names: [&'static str; 2]| names.into_iter().find(|name| block(name));
        Ok(Self {
            prefix,
            positions,
            patch_bias: has("patch_embed.proj.bias"),
            pairs_together: false,
            gate_last: arguments
                .text("mlp_layer")
                .is_some_and(|layer| layer == "GluMlp"),
            qkv,
            projection_bias: block("attn.proj.bias"),
            layer_scales: [
                scale(["ls1.gamma", "gamma_1"]),
                scale(["ls2.gamma", "gamma_2"]),
            ],
            gate: match (block("mlp.fc1_g.weight"), spec.variant.mlp) {
                (true, _) => Gate::Apart,
                (false, MlpForm::Plain | MlpForm::PlainWithNorm) => Gate::None,
                (false, _) => Gate::Packed,
            },
        })
    }

    /// Embeddings, and the normalisation after them where there is one.
    pub(super) fn embeddings(&self, recipes: &mut Recipes, spec: &VitSpec) {
        recipes.patch_projection(PATCH, spec, self.patch_bias);
        recipes.embeddings(&self.prefix, self.positions.as_ref(), spec);
        if spec.pre_norm {
            recipes.pair([WeightId::PreNormScale, WeightId::PreNormBias], "norm_pre");
        }
    }

    /// A block as `Block`, `ResPostBlock`, `EvaBlock` and BEiT's have it.
    pub(super) fn block(&self, recipes: &mut Recipes, spec: &VitSpec, layer: usize) {
        let name = |part: &str| format!("blocks.{layer}.{part}");
        recipes.block_pair(
            layer,
            [B::AttentionNormScale, B::AttentionNormBias],
            &name("norm1"),
        );
        recipes.block_pair(layer, [B::MlpNormScale, B::MlpNormBias], &name("norm2"));
        self.qkv(recipes, spec, layer);
        let variant = &spec.variant;
        if variant.qk_norm {
            for (weights, part) in [
                ([B::QueryNormScale, B::QueryNormBias], "q_norm"),
                ([B::KeyNormScale, B::KeyNormBias], "k_norm"),
            ] {
                for (weight, kind) in weights.into_iter().zip(["weight", "bias"]) {
                    let recipe = Recipe::torch(name(&format!("attn.{part}.{kind}")));
                    recipes.block(layer, weight, self.ordered(recipe, spec));
                }
            }
        }
        if variant.heads_norm {
            recipes.block_pair(
                layer,
                [B::HeadsNormScale, B::HeadsNormBias],
                &name("attn.norm"),
            );
        }
        let [attention, mlp] = self.layer_scales.map(|scale| scale.map(name));
        let scaled =
            |recipes: &mut Recipes, [kernel, bias]: [B; 2], part: &str, scale: Option<&str>| {
                recipes.scaled_pair(layer, [kernel, bias], &name(part), scale);
                if !self.projection_bias {
                    recipes.block(layer, bias, Recipe::fill(0.0));
                }
            };
        scaled(
            recipes,
            [B::OutKernel, B::OutBias],
            "attn.proj",
            attention.as_deref(),
        );
        scaled(
            recipes,
            [B::DownKernel, B::DownBias],
            "mlp.fc2",
            mlp.as_deref(),
        );
        self.up(recipes, layer);
        if matches!(variant.mlp, MlpForm::GatedWithNorm | MlpForm::PlainWithNorm) {
            recipes.block_pair(
                layer,
                [B::InnerNormScale, B::InnerNormBias],
                &name("mlp.norm"),
            );
        }
    }

    fn up(&self, recipes: &mut Recipes, layer: usize) {
        let name = |part: &str| format!("blocks.{layer}.mlp.{part}");
        for (up, gate, kind) in [
            (B::UpKernel, B::GateKernel, "weight"),
            (B::UpBias, B::GateBias, "bias"),
        ] {
            let absent = kind == "bias" && !self.projection_bias;
            let set = |recipes: &mut Recipes, weight, recipe| {
                let recipe = match absent {
                    true => Recipe::fill(0.0),
                    false => recipe,
                };
                recipes.block(layer, weight, recipe);
            };
            match self.gate {
                Gate::None => set(recipes, up, Recipe::torch(name(&format!("fc1.{kind}")))),
                Gate::Apart => {
                    set(recipes, up, Recipe::torch(name(&format!("fc1_x.{kind}"))));
                    set(recipes, gate, Recipe::torch(name(&format!("fc1_g.{kind}"))));
                }
                Gate::Packed => {
                    let last = usize::from(self.gate_last);
                    let part = |part| Recipe::torch_part(name(&format!("fc1.{kind}")), part, 2);
                    set(recipes, gate, part(last));
                    set(recipes, up, part(1 - last));
                }
            }
        }
    }

    fn qkv(&self, recipes: &mut Recipes, spec: &VitSpec, layer: usize) {
        let name = |part: &str| format!("blocks.{layer}.attn.{part}");
        let thirds = [
            (B::QueryKernel, B::QueryBias, "q"),
            (B::KeyKernel, B::KeyBias, "k"),
            (B::ValueKernel, B::ValueBias, "v"),
        ];
        for (third, (kernel, bias, letter)) in thirds.into_iter().enumerate() {
            let kernel_recipe = match self.qkv {
                Qkv::Apart(_) => Recipe::torch(name(&format!("{letter}_proj.weight"))),
                _ => Recipe::torch_part(name("qkv.weight"), third, 3),
            };
            let bias_recipe = match self.qkv {
                Qkv::Joined => Recipe::torch_part(name("qkv.bias"), third, 3),
                Qkv::JoinedWithoutKeyBias if letter != "k" => {
                    Recipe::torch(name(&format!("{letter}_bias")))
                }
                Qkv::Apart(has) if has[third] => {
                    Recipe::torch(name(&format!("{letter}_proj.bias")))
                }
                _ => Recipe::fill(0.0),
            };
            let turned = letter != "v";
            let ordered = |recipe| match turned {
                true => self.ordered(recipe, spec),
                false => recipe,
            };
            recipes.block(layer, kernel, ordered(kernel_recipe));
            recipes.block(layer, bias, ordered(bias_recipe));
        }
    }

    fn ordered(&self, recipe: Recipe, spec: &VitSpec) -> Recipe {
        match self.pairs_together {
            true => recipe.pairs_apart(spec.head_size()),
            false => recipe,
        }
    }
}

/// The last normalisation, pooling by attention where that is, and the classifier.
pub(super) fn head(recipes: &mut Recipes, spec: &VitSpec, fc_norm: bool) {
    let pools = spec.pooling == Pooling::Attention;
    let norm = match fc_norm && !pools {
        true => "fc_norm",
        false => "norm",
    };
    recipes.pair([WeightId::FinalNormScale, WeightId::FinalNormBias], norm);
    recipes.pair([WeightId::HeadKernel, WeightId::HeadBias], "head");
    if !pools {
        return;
    }
    let pool = |weight| WeightId::Pool(weight);
    recipes.set(pool(P::Query), query(spec.hidden));
    for (part, weights) in [[P::KeyKernel, P::KeyBias], [P::ValueKernel, P::ValueBias]]
        .into_iter()
        .enumerate()
    {
        for (weight, kind) in weights.into_iter().zip(["weight", "bias"]) {
            recipes.set(
                pool(weight),
                Recipe::torch_part(format!("attn_pool.kv.{kind}"), part, 2),
            );
        }
    }
    for (weights, name) in [
        ([P::OutKernel, P::OutBias], "attn_pool.proj"),
        ([P::MlpNormScale, P::MlpNormBias], "attn_pool.norm"),
        ([P::UpKernel, P::UpBias], "attn_pool.mlp.fc1"),
        ([P::DownKernel, P::DownBias], "attn_pool.mlp.fc2"),
        ([P::NormAfterScale, P::NormAfterBias], "fc_norm"),
    ] {
        recipes.pair(weights.map(pool), name);
    }
}

/// The latent query, projected: q·latent + b, in float64.
fn query(hidden: usize) -> Recipe {
    let names = ["attn_pool.latent", "attn_pool.q.weight", "attn_pool.q.bias"];
    let reads = names.map(str::to_owned);
    Recipe::of(reads, move |file, shape| {
        let latent = file.tensor(names[0], &[1, 1, hidden])?.to_f32();
        let kernel = file.tensor(names[1], &[hidden, hidden])?.to_f32();
        let bias = file.tensor(names[2], &[hidden])?.to_f32();
        Ok(Tensor::f32(
            shape.to_vec(),
            &projected(&latent, &kernel, &bias),
        ))
    })
}

/// What the classifier reads, and whether the last normalisation comes after pooling.
///
/// # Errors
/// If it is neither the class token nor a mean over the patches.
pub(super) fn pooling(
    arguments: &Arguments<'_>,
    pool: &str,
    class_token: bool,
    fc_norm: bool,
    final_norm: bool,
) -> Result<Pooling, ImportError> {
    match pool {
        "token" | "map" if !final_norm => {
            let detail =
                format!("is \"{pool}\", and nothing is normalised at the end: not imported");
            Err(arguments.error("global_pool", detail))
        }
        "avg" if !final_norm => Ok(Pooling::PatchMean(PoolNorm::Absent)),
        "avg" if fc_norm => Ok(Pooling::PatchMean(PoolNorm::AfterMean)),
        "avg" => Ok(Pooling::PatchMean(PoolNorm::BeforeMean)),
        "token" if class_token => Ok(Pooling::ClassToken),
        "map" => Ok(Pooling::Attention),
        other => {
            let detail = format!(
                "is \"{other}\", which is not imported for this network; known are avg (mean over \
                 patches), token (class token) and map (attention)"
            );
            Err(arguments.error("global_pool", detail))
        }
    }
}

/// Blocks, by the tensor of the first normalisation that every block has.
pub(super) fn depth(file: &dyn TensorFile, within: &str) -> Result<usize, ImportError> {
    let has = |layer: &usize| file.shape(&format!("blocks.{layer}.{within}")).is_some();
    match (0..).take_while(has).count() {
        0 => {
            let name = format!("blocks.0.{within}");
            Err(file.missing(&name, "without it there is no transformer block"))
        }
        depth => Ok(depth),
    }
}

/// Width of the residual stream and side of a patch, off the patch projection.
pub(super) fn hidden_and_patch(file: &dyn TensorFile) -> Result<[usize; 2], ImportError> {
    let name = "patch_embed.proj.weight";
    match file.shape(name) {
        Some(&[hidden, 3, patch, same]) if patch == same && patch > 0 => Ok([hidden, patch]),
        Some(shape) => {
            let detail = format!("has the shape {shape:?}; [width, 3, side, side] is expected");
            Err(ImportError::tensor(file.path(), name, detail))
        }
        None => Err(file.missing(name, "every network of timm has it")),
    }
}

/// First axis of a tensor.
pub(super) fn rows_of(file: &dyn TensorFile, name: &str) -> Result<usize, ImportError> {
    match file.shape(name).and_then(|shape| shape.first()) {
        Some(&rows) if rows > 0 => Ok(rows),
        _ => Err(file.missing(name, "its first axis tells a size of the network")),
    }
}

/// How many classes there are.
pub(super) fn classes(file: &dyn TensorFile) -> Result<usize, ImportError> {
    if file.shape("head.weight").is_none() {
        let expected = "the checkpoint has no classifier; import one that was trained to classify";
        return Err(file.missing("head.weight", expected));
    }
    rows_of(file, "head.weight")
}

/// Tokens before the patches.
pub(super) fn prefix_tokens(file: &dyn TensorFile) -> usize {
    let tokens = |name: &&str| file.shape(name).and_then(|shape| shape.get(1)).copied();
    PREFIX.iter().filter_map(tokens).sum()
}
