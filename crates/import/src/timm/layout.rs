//! The names of timm's `VisionTransformer` and `VisionTransformerDistilled`.

use std::path::Path;

use patchlight_onnx::vit::{BlockWeight as B, PoolNorm, Pooling, WeightId};

use super::MARKER_TENSOR;
use crate::{
    ImportError,
    layout::{Interpolation, Layout, NOT_PLAIN, TensorSource},
    tensor_file::TensorFile,
};

/// Which of the parts that a network may have it has: the tensors tell.
#[derive(Debug)]
pub(super) struct TimmLayout {
    prefix: Vec<&'static str>,
    prefix_tokens: usize,
    prefix_has_positions: bool,
    distilled: bool,
    /// Whether the last normalisation is `fc_norm`, after pooling.
    fc_norm: bool,
    layer_scale: bool,
    patch_bias: bool,
    /// Whether the layers after attention and in the MLP have biases (`proj_bias`).
    projection_bias: bool,
}

/// In the order in which timm puts them before the patches.
const PREFIX: [&str; 3] = ["cls_token", "dist_token", "reg_token"];

impl TimmLayout {
    /// Positions of the prefix are taken for granted until
    /// [`with_positions_for`](Self::with_positions_for).
    pub(super) fn new(file: &dyn TensorFile) -> Self {
        let has = |name: &str| file.shape(name).is_some();
        let tokens = |name: &&str| file.shape(name).and_then(|shape| shape.get(1)).copied();
        Self {
            prefix: PREFIX.into_iter().filter(|name| has(name)).collect(),
            prefix_tokens: PREFIX.iter().filter_map(tokens).sum(),
            prefix_has_positions: false,
            distilled: has("head_dist.weight"),
            fc_norm: has("fc_norm.weight"),
            layer_scale: has("blocks.0.ls1.gamma"),
            patch_bias: has("patch_embed.proj.bias"),
            projection_bias: has("blocks.0.attn.proj.bias"),
        }
    }

    /// `no_embed_class` leaves the prefix without positions: then there are as many positions as
    /// patches.
    pub(super) fn with_positions_for(self, positions: usize, patches: usize) -> Self {
        Self {
            prefix_has_positions: positions == patches + self.prefix_tokens,
            ..self
        }
    }

    /// What the classifier reads. `path` is for messages.
    pub(super) fn pooling(&self, pool: &str, path: &Path) -> Result<Pooling, ImportError> {
        let class_token = self.prefix.contains(&"cls_token");
        match (pool, self.distilled) {
            ("avg", false) => Ok(Pooling::PatchMean(match self.fc_norm {
                true => PoolNorm::AfterMean,
                false => PoolNorm::BeforeMean,
            })),
            ("token", true) if class_token => Ok(Pooling::ClassAndDistillation),
            ("token", false) if class_token => Ok(Pooling::ClassToken),
            _ => {
                let detail = format!(
                    "is \"{pool}\", which does not fit the tokens of the weights ({:?})",
                    self.prefix
                );
                Err(ImportError::field(path, "global_pool", detail))
            }
        }
    }
}

impl Layout for TimmLayout {
    fn source(&self, weight: WeightId) -> TensorSource {
        let norm = if self.fc_norm { "fc_norm" } else { "norm" };
        TensorSource::Torch(match weight {
            WeightId::PatchKernel => MARKER_TENSOR.to_owned(),
            WeightId::PatchBias => "patch_embed.proj.bias".to_owned(),
            WeightId::Prefix => "cls_token".to_owned(),
            WeightId::Positions => self.positions().to_owned(),
            WeightId::PreNormScale => "norm_pre.weight".to_owned(),
            WeightId::PreNormBias => "norm_pre.bias".to_owned(),
            WeightId::FinalNormScale => format!("{norm}.weight"),
            WeightId::FinalNormBias => format!("{norm}.bias"),
            WeightId::HeadKernel => "head.weight".to_owned(),
            WeightId::HeadBias => "head.bias".to_owned(),
            WeightId::RotaryCosines
            | WeightId::RotarySines
            | WeightId::Pool(_)
            | WeightId::Projection => NOT_PLAIN.to_owned(),
            WeightId::Block(layer, weight) => {
                let third = |kind: &str, third| {
                    TensorSource::TorchThird(format!("blocks.{layer}.attn.qkv.{kind}"), third)
                };
                let within = match weight {
                    B::QueryKernel => return third("weight", 0),
                    B::KeyKernel => return third("weight", 1),
                    B::ValueKernel => return third("weight", 2),
                    B::QueryBias => return third("bias", 0),
                    B::KeyBias => return third("bias", 1),
                    B::ValueBias => return third("bias", 2),
                    B::AttentionNormScale => "norm1.weight",
                    B::AttentionNormBias => "norm1.bias",
                    B::OutKernel => "attn.proj.weight",
                    B::OutBias => "attn.proj.bias",
                    B::MlpNormScale => "norm2.weight",
                    B::MlpNormBias => "norm2.bias",
                    B::UpKernel => "mlp.fc1.weight",
                    B::UpBias => "mlp.fc1.bias",
                    B::DownKernel => "mlp.fc2.weight",
                    B::DownBias => "mlp.fc2.bias",
                    _ => NOT_PLAIN,
                };
                format!("blocks.{layer}.{within}")
            }
        })
    }

    fn prefix(&self) -> Vec<&str> {
        self.prefix.clone()
    }

    fn positions(&self) -> &str {
        "pos_embed"
    }

    fn prefix_has_positions(&self) -> bool {
        self.prefix_has_positions
    }

    fn classifiers(&self) -> Vec<[&str; 2]> {
        const HEAD: [&str; 2] = ["head.weight", "head.bias"];
        match self.distilled {
            true => vec![HEAD, ["head_dist.weight", "head_dist.bias"]],
            false => vec![HEAD],
        }
    }

    fn layer_scale(&self, layer: usize, weight: B) -> Option<String> {
        let scale = match weight {
            B::OutKernel | B::OutBias => "ls1",
            B::DownKernel | B::DownBias => "ls2",
            _ => return None,
        };
        self.layer_scale
            .then(|| format!("blocks.{layer}.{scale}.gamma"))
    }

    fn is_absent(&self, weight: WeightId) -> bool {
        match weight {
            WeightId::PatchBias => !self.patch_bias,
            WeightId::Block(_, B::OutBias | B::UpBias | B::DownBias) => !self.projection_bias,
            _ => false,
        }
    }

    fn unsupported(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                ".q_norm.",
                "normalises queries and keys (qk_norm), which is not imported",
            ),
            (
                ".k_norm.",
                "normalises queries and keys (qk_norm), which is not imported",
            ),
            (
                "attn_pool.",
                "pools by attention (global_pool \"map\"), which is not imported",
            ),
            (
                ".attn.norm.",
                "normalises inside attention (scale_attn_norm), which is not imported",
            ),
            (
                ".mlp.norm.",
                "normalises inside the MLP (scale_mlp_norm), which is not imported",
            ),
        ]
    }

    fn interpolation(&self) -> Interpolation {
        Interpolation::BicubicAntialias
    }
}
