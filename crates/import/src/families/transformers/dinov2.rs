//! DINOv2 (Oquab et al. 2023), with registers (Darcet et al. 2023) or without, the giant with a
//! gated MLP: the classifier reads the class token and, beside it, the mean over the patches.
//!
//! The library resamples positions for whatever image comes: without antialiasing, or with it where
//! there are registers. So the network takes the size that its preprocessing makes.

use patchlight_onnx::vit::{
    Activation, BlockWeight as B, MlpForm, Pooling, Variant, VitSpec, WeightId,
};
use serde_json::json;

use super::{BlockNames, Config, Description, Family, Network, Recipe, Recipes, classifier};
use crate::{
    ImportError,
    families::{Sizes, recipe::Positions},
    layout::Interpolation,
    tensor_file::TensorFile,
};

pub(super) const FAMILY: Family = Family {
    description: Description {
        name: "DINOv2, with registers or without",
        checkpoints: "Dinov2ForImageClassification, Dinov2WithRegistersForImageClassification",
        reads: "class token and mean over the patches, half each",
        evidence: "attention of the class token, and last state of every patch",
    },
    model_types: &["dinov2", "dinov2_with_registers"],
    zero_shot: None,
    anchors: &[
        "dinov2.embeddings.patch_embeddings.projection.weight",
        "dinov2_with_registers.embeddings.patch_embeddings.projection.weight",
    ],
    open,
};

/// What names begin with, the two kinds' roots being different.
#[derive(Clone, Debug)]
struct Names {
    root: &'static str,
    /// What blocks lie below.
    blocks: &'static str,
    /// Whether attention is called as the model itself calls it since version 5.
    native: bool,
    packed_gate: bool,
}

fn open(config: &Config<'_>, file: &dyn TensorFile) -> Result<Network, ImportError> {
    let registers = config
        .fields
        .get("model_type")
        .and_then(|kind| kind.as_str())
        == Some("dinov2_with_registers");
    let root = match registers {
        true => "dinov2_with_registers",
        false => "dinov2",
    };
    let fields = config.fields;
    let hidden = Config::number(fields, "hidden_size").unwrap_or(768.0);
    let wide = (hidden * Config::number(fields, "mlp_ratio").unwrap_or(4.0)) as usize;
    let gated = config.flag("use_swiglu_ffn", false);
    let mlp = match gated {
        true => (wide * 2 / 3).next_multiple_of(8),
        false => wide,
    };
    let defaults = json!({"layer_norm_eps": 1e-6, "intermediate_size": mlp});
    let plain = config.spec(fields, &defaults, file)?;
    let count = Config::number(fields, "num_register_tokens").unwrap_or(4.0) as usize;
    let spec = VitSpec {
        prefix: match registers {
            true => 1 + count,
            false => 1,
        },
        activation: match gated {
            true => Activation::Silu,
            false => plain.activation,
        },
        pooling: Pooling::ClassAndMean,
        variant: Variant {
            mlp: match gated {
                true => MlpForm::Gated,
                false => MlpForm::Plain,
            },
            ..Variant::default()
        },
        ..plain
    };
    let blocks = match file.shape(&format!("{root}.layers.0.norm1.weight")) {
        Some(_) => "layers",
        None => "encoder.layer",
    };
    let has = |part: &str| file.shape(&format!("{root}.{blocks}.0.{part}")).is_some();
    let names = Names {
        root,
        blocks,
        native: has("attention.q_proj.weight"),
        packed_gate: has("mlp.weights_in.weight"),
    };
    let positions = Positions {
        name: format!("{root}.embeddings.position_embeddings"),
        leading: 1,
        grid: spec.grid(),
        interpolation: match registers {
            true => Interpolation::BicubicAntialias,
            false => Interpolation::Bicubic,
        },
    };
    Ok(Network {
        spec,
        sizes: Sizes::OfPreprocessing,
        recipes: Box::new(move |spec| recipes(spec, &positions, &names)),
        unused: |name| name.ends_with(".embeddings.mask_token"),
    })
}

fn recipes(spec: &VitSpec, positions: &Positions, names: &Names) -> Recipes {
    let root = names.root;
    let mut recipes = Recipes::default();
    recipes.patch_projection(
        &format!("{root}.embeddings.patch_embeddings.projection"),
        spec,
        true,
    );
    let mut prefix = vec![format!("{root}.embeddings.cls_token")];
    if spec.prefix > 1 {
        prefix.push(format!("{root}.embeddings.register_tokens"));
    }
    recipes.embeddings(&prefix, Some(positions), spec);
    for layer in 0..spec.layers {
        let block = names.block(layer);
        recipes.usual_block(layer, &block);
        if !spec.qkv_bias {
            for bias in [B::QueryBias, B::KeyBias, B::ValueBias] {
                recipes.block(layer, bias, Recipe::fill(0.0));
            }
        }
        if spec.variant.mlp == MlpForm::Gated {
            names.gated_mlp(&mut recipes, layer, &block);
        }
    }
    let norm = [WeightId::FinalNormScale, WeightId::FinalNormBias];
    recipes.pair(norm, &format!("{root}.layernorm"));
    classifier(&mut recipes);
    recipes
}

impl Names {
    fn block(&self, layer: usize) -> BlockNames {
        let before = format!("{}.{}.{layer}", self.root, self.blocks);
        let name = |part: &str| format!("{before}.{part}");
        let [query, key, value, out] = match self.native {
            true => ["q_proj", "k_proj", "v_proj", "o_proj"]
                .map(|part| name(&format!("attention.{part}"))),
            false => [
                "attention.query",
                "attention.key",
                "attention.value",
                "output.dense",
            ]
            .map(|part| name(&format!("attention.{part}"))),
        };
        BlockNames {
            attention_norm: name("norm1"),
            query,
            key,
            value,
            out,
            mlp_norm: name("norm2"),
            up: name("mlp.fc1"),
            down: name("mlp.fc2"),
            layer_scales: Some([name("layer_scale1.lambda1"), name("layer_scale2.lambda1")]),
        }
    }

    /// The gate comes first where both layers are one tensor.
    fn gated_mlp(&self, recipes: &mut Recipes, layer: usize, block: &BlockNames) {
        let before = block.mlp_norm.trim_end_matches("norm2").to_owned();
        let name = |part: &str| format!("{before}mlp.{part}");
        let scale = block.layer_scales.as_ref().map(|scales| scales[1].as_str());
        let pairs = [
            ([B::GateKernel, B::GateBias], 0, "gate_proj"),
            ([B::UpKernel, B::UpBias], 1, "up_proj"),
        ];
        for (weights, part, own) in pairs {
            for (weight, kind) in weights.into_iter().zip(["weight", "bias"]) {
                let recipe = match self.packed_gate {
                    true => Recipe::torch_part(name(&format!("weights_in.{kind}")), part, 2),
                    false => Recipe::torch(name(&format!("{own}.{kind}"))),
                };
                recipes.block(layer, weight, recipe);
            }
        }
        let down = match self.packed_gate {
            true => name("weights_out"),
            false => name("down_proj"),
        };
        recipes.scaled_pair(layer, [B::DownKernel, B::DownBias], &down, scale);
    }
}
