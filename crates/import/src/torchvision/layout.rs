//! The names of torchvision's `VisionTransformer`.

use patchlight_onnx::vit::{BlockWeight as B, WeightId};

use super::MARKER_TENSOR;
use crate::{
    layout::{Interpolation, Layout, NOT_PLAIN, TensorSource},
    tensor_file::TensorFile,
};

pub(super) const POSITIONS: &str = "encoder.pos_embedding";

/// Names before and after version 0.12, which renamed the layers of the MLP.
#[derive(Debug)]
pub(super) struct TorchvisionLayout {
    up: &'static str,
    down: &'static str,
}

impl TorchvisionLayout {
    pub(super) fn new(file: &dyn TensorFile) -> Self {
        let old = "encoder.layers.encoder_layer_0.mlp.linear_1.weight";
        let (up, down) = match file.shape(old) {
            Some(_) => ("mlp.linear_1", "mlp.linear_2"),
            None => ("mlp.0", "mlp.3"),
        };
        Self { up, down }
    }
}

impl Layout for TorchvisionLayout {
    fn source(&self, weight: WeightId) -> TensorSource {
        TensorSource::Torch(match weight {
            WeightId::PatchKernel => MARKER_TENSOR.to_owned(),
            WeightId::PatchBias => "conv_proj.bias".to_owned(),
            WeightId::Prefix => "class_token".to_owned(),
            WeightId::Positions => POSITIONS.to_owned(),
            // torchvision has none.
            WeightId::PreNormScale => "encoder.ln_pre.weight".to_owned(),
            WeightId::PreNormBias => "encoder.ln_pre.bias".to_owned(),
            WeightId::FinalNormScale => "encoder.ln.weight".to_owned(),
            WeightId::FinalNormBias => "encoder.ln.bias".to_owned(),
            WeightId::HeadKernel => "heads.head.weight".to_owned(),
            WeightId::HeadBias => "heads.head.bias".to_owned(),
            WeightId::RotaryCosines
            | WeightId::RotarySines
            | WeightId::Pool(_)
            | WeightId::Projection => NOT_PLAIN.to_owned(),
            WeightId::Block(layer, weight) => {
                let block = format!("encoder.layers.encoder_layer_{layer}");
                let third = |kind: &str, third| {
                    TensorSource::TorchThird(
                        format!("{block}.self_attention.in_proj_{kind}"),
                        third,
                    )
                };
                let within = match weight {
                    B::QueryKernel => return third("weight", 0),
                    B::KeyKernel => return third("weight", 1),
                    B::ValueKernel => return third("weight", 2),
                    B::QueryBias => return third("bias", 0),
                    B::KeyBias => return third("bias", 1),
                    B::ValueBias => return third("bias", 2),
                    B::AttentionNormScale => "ln_1.weight",
                    B::AttentionNormBias => "ln_1.bias",
                    B::OutKernel => "self_attention.out_proj.weight",
                    B::OutBias => "self_attention.out_proj.bias",
                    B::MlpNormScale => "ln_2.weight",
                    B::MlpNormBias => "ln_2.bias",
                    B::UpKernel => {
                        return TensorSource::Torch(format!("{block}.{}.weight", self.up));
                    }
                    B::UpBias => return TensorSource::Torch(format!("{block}.{}.bias", self.up)),
                    B::DownKernel => {
                        return TensorSource::Torch(format!("{block}.{}.weight", self.down));
                    }
                    B::DownBias => {
                        return TensorSource::Torch(format!("{block}.{}.bias", self.down));
                    }
                    _ => NOT_PLAIN,
                };
                format!("{block}.{within}")
            }
        })
    }

    fn prefix(&self) -> Vec<&str> {
        vec!["class_token"]
    }

    fn positions(&self) -> &str {
        POSITIONS
    }

    fn classifiers(&self) -> Vec<[&str; 2]> {
        vec![["heads.head.weight", "heads.head.bias"]]
    }

    fn unsupported(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "heads.pre_logits.",
                "is of a representation layer before the classifier, which is not imported",
            ),
            (
                "conv_proj.",
                "is of a convolutional stem, which is not imported",
            ),
        ]
    }

    fn interpolation(&self) -> Interpolation {
        Interpolation::BicubicCorners
    }
}
