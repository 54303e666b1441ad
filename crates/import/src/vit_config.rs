//! `config.json` of a Vision Transformer, as transformers writes it: the network's size and its
//! conventions.

use std::path::Path;

use patchlight_model::manifest::HeadFusion;
use patchlight_onnx::vit::{Activation, Pooling, Variant, VitSpec};
use serde::Deserialize;

use crate::ImportError;

/// The fields that matter. What the file leaves out has the value that transformers' `ViTConfig`
/// gives it.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    image_size: Sides,
    patch_size: Sides,
    num_channels: usize,
    qkv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_type: None,
            architectures: None,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            image_size: Sides::Square(224),
            patch_size: Sides::Square(16),
            num_channels: 3,
            qkv_bias: true,
        }
    }
}

/// One number or `[height, width]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Sides {
    Square(usize),
    Both([usize; 2]),
}

impl Sides {
    fn height_width(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side, side],
            Self::Both(sides) => sides,
        }
    }
}

impl Config {
    /// What the names of the network's tensors begin with. `path` and the model types of other
    /// families, `others`, are for messages.
    pub(crate) fn root<'n>(
        &self,
        path: &Path,
        others: impl Iterator<Item = &'n str>,
    ) -> Result<&'static str, ImportError> {
        let detail = match self.model_type.as_deref() {
            Some("vit") => return Ok("vit"),
            Some("deit") => return Ok("deit"),
            Some(other) => {
                let others: Vec<&str> = others.collect();
                format!(
                    "is \"{other}\"; this program imports vit, deit, {}",
                    others.join(", ")
                )
            }
            None => "is missing; \"vit\" or \"deit\" is expected".to_owned(),
        };
        Err(ImportError::field(path, "model_type", detail))
    }

    /// What the classifier of the architecture reads, where that is known.
    pub(crate) fn pooling(&self) -> Option<Pooling> {
        let architecture = self.architectures.as_ref()?.first()?;
        match architecture.as_str() {
            "ViTForImageClassification" | "DeiTForImageClassification" => Some(Pooling::ClassToken),
            "DeiTForImageClassificationWithTeacher" => Some(Pooling::ClassAndDistillation),
            _ => None,
        }
    }

    /// The network, with a class token and nothing else before the patches.
    pub(crate) fn spec(
        &self,
        path: &Path,
        classes: usize,
        head_fusion: HeadFusion,
    ) -> Result<VitSpec, ImportError> {
        let field = |name, detail: String| Err(ImportError::field(path, name, detail));
        if self.num_channels != 3 {
            let detail = format!("is {}; images have 3 channels", self.num_channels);
            return field("num_channels", detail);
        }
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return field(name, "is 0".to_owned());
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let detail = format!(
                "is {}, which does not divide hidden_size {}",
                self.num_attention_heads, self.hidden_size
            );
            return field("num_attention_heads", detail);
        }
        let [patch, patch_width] = self.patch_size.height_width();
        if patch != patch_width || patch == 0 {
            let detail = format!("is {patch}×{patch_width}; patches must be square");
            return field("patch_size", detail);
        }
        let image = self.image_size.height_width();
        if image
            .iter()
            .any(|side| *side == 0 || !side.is_multiple_of(patch))
        {
            let detail = format!(
                "is {}×{}; both must be multiples of the patch size {patch}",
                image[0], image[1]
            );
            return field("image_size", detail);
        }
        Ok(VitSpec {
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            hidden: self.hidden_size,
            mlp: self.intermediate_size,
            image,
            patch,
            prefix: 1,
            classes,
            norm_epsilon: self.layer_norm_eps as f32,
            activation: self.activation(path)?,
            pre_norm: false,
            qkv_bias: self.qkv_bias,
            pooling: Pooling::ClassToken,
            head_fusion,
            variant: Variant::default(),
        })
    }

    fn activation(&self, path: &Path) -> Result<Activation, ImportError> {
        match self.hidden_act.as_str() {
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast"
            | "gelu_accurate" => Ok(Activation::GeluTanh),
            "quick_gelu" => Ok(Activation::QuickGelu),
            "relu" => Ok(Activation::Relu),
            "silu" | "swish" => Ok(Activation::Silu),
            other => {
                let detail = format!(
                    "is \"{other}\"; this program knows gelu, gelu_python, gelu_new, gelu_pytorch_tanh, gelu_python_tanh, gelu_fast, gelu_accurate, quick_gelu, relu, silu and swish"
                );
                Err(ImportError::field(path, "hidden_act", detail))
            }
        }
    }
}
