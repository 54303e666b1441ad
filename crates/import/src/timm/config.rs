//! `config.json` of timm.
//!
//! It names an architecture, which is a function of timm, and the arguments that differ from that
//! function's own. Sizes show in the tensors; what does not (heads, activation, pooling) is here.

use std::path::Path;

use patchlight_onnx::vit::{Activation, PoolNorm, Pooling};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{architecture::Architecture, json};
use crate::{
    ImportError, ImportOptions,
    families::timm::Described,
    preprocessing::pretrained_cfg::{Labels, PretrainedCfg},
};

/// The fields that matter.
#[derive(Debug)]
pub(super) struct Config {
    architecture: String,
    model_args: Map<String, Value>,
    global_pool: Option<String>,
    labels: Option<Labels>,
    pub(super) pretrained_cfg: PretrainedCfg,
}

/// The file as it is.
#[derive(Debug, Deserialize)]
struct File {
    architecture: String,
    #[serde(default)]
    model_args: Map<String, Value>,
    global_pool: Option<String>,
    #[serde(alias = "labels")]
    label_names: Option<Labels>,
    pretrained_cfg: Option<PretrainedCfg>,
}

/// Arguments that change nothing when a network classifies.
const HARMLESS: [&str; 13] = [
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "dynamic_img_size",
    "dynamic_img_pad",
    "strict_img_size",
    "pretrained",
    "scriptable",
];

/// Arguments whose effect shows in the tensors.
const IN_TENSORS: [&str; 15] = [
    "patch_size",
    "embed_dim",
    "depth",
    "mlp_ratio",
    "num_classes",
    "in_chans",
    "qkv_bias",
    "qk_norm",
    "proj_bias",
    "init_values",
    "class_token",
    "no_embed_class",
    "reg_tokens",
    "pre_norm",
    "fc_norm",
];

/// Arguments that are read here.
const READ: [&str; 4] = ["img_size", "num_heads", "act_layer", "global_pool"];

impl Config {
    /// Reads it, whatever network it describes.
    pub(super) fn parse(path: &Path) -> Result<Self, ImportError> {
        let file: File = json(path)?;
        let pretrained_cfg = PretrainedCfg::or_whole(file.pretrained_cfg, path)?;
        Ok(Self {
            architecture: file.architecture,
            model_args: file.model_args,
            global_pool: file.global_pool,
            labels: file
                .label_names
                .or_else(|| pretrained_cfg.label_names.clone()),
            pretrained_cfg,
        })
    }

    pub(super) fn architecture(&self) -> Architecture<'_> {
        Architecture::new(&self.architecture)
    }

    /// Number of blocks, if the arguments tell.
    pub(super) fn depth(&self) -> Option<usize> {
        let depth = self.model_args.get("depth").and_then(Value::as_u64)?;
        usize::try_from(depth).ok()
    }

    /// Attention heads, if the arguments tell or the architecture's name does.
    pub(super) fn known_heads(&self) -> Option<usize> {
        let argued = self.model_args.get("num_heads").and_then(Value::as_u64);
        let argued = argued.and_then(|heads| usize::try_from(heads).ok());
        argued.or_else(|| self.architecture().heads())
    }

    /// What the classifier reads, as far as the file tells.
    pub(super) fn pooling(&self) -> Option<Pooling> {
        let argued = self.model_args.get("global_pool").and_then(Value::as_str);
        match (
            argued.or(self.global_pool.as_deref())?,
            self.architecture().is_distilled(),
        ) {
            ("token", true) => Some(Pooling::ClassAndDistillation),
            ("token", false) => Some(Pooling::ClassToken),
            ("avg", _) => Some(Pooling::PatchMean(PoolNorm::BeforeMean)),
            _ => None,
        }
    }

    /// Height and width that positions were trained for.
    pub(super) fn image(&self, path: &Path, patch: usize) -> Result<[usize; 2], ImportError> {
        let image = match (
            self.model_args.get("img_size"),
            self.pretrained_cfg.input_size,
        ) {
            (Some(size), _) if !size.is_null() => sides(size).ok_or_else(|| {
                let detail = format!("has an img_size of {size}; one or two numbers are expected");
                ImportError::field(path, "model_args", detail)
            })?,
            (_, Some([_, height, width])) => [height, width],
            _ => {
                let detail = "has no input_size; [3, height, width] is expected";
                return Err(ImportError::field(path, "pretrained_cfg", detail));
            }
        };
        if image
            .iter()
            .any(|side| *side == 0 || !side.is_multiple_of(patch))
        {
            let [height, width] = image;
            let detail = format!(
                "has an input_size of {height}×{width}; both must be multiples of the patch size {patch}"
            );
            return Err(ImportError::field(path, "pretrained_cfg", detail));
        }
        Ok(image)
    }

    /// Attention heads: from the command line, the arguments, or the architecture's name.
    pub(super) fn heads(
        &self,
        path: &Path,
        given: Option<usize>,
        hidden: usize,
    ) -> Result<usize, ImportError> {
        let heads = given.or_else(|| self.known_heads()).ok_or_else(|| {
            let detail = format!(
                "is \"{}\", whose number of heads is not known here; tell it with --heads N",
                self.architecture
            );
            ImportError::field(path, "architecture", detail)
        })?;
        if heads == 0 || !hidden.is_multiple_of(heads) {
            let detail = format!(
                "is \"{}\" with {heads} heads, which do not divide the width {hidden}; \
                 tell the right number with --heads N",
                self.architecture
            );
            return Err(ImportError::field(path, "architecture", detail));
        }
        Ok(heads)
    }

    pub(super) fn activation(&self, path: &Path) -> Result<Activation, ImportError> {
        match self.model_args.get("act_layer") {
            None | Some(Value::Null) => Ok(self.architecture().activation()),
            Some(Value::String(name)) if name == "gelu" => Ok(Activation::Gelu),
            Some(Value::String(name)) if name == "gelu_tanh" => Ok(Activation::GeluTanh),
            Some(Value::String(name)) if name == "quick_gelu" => Ok(Activation::QuickGelu),
            Some(Value::String(name)) if name == "relu" => Ok(Activation::Relu),
            Some(Value::String(name)) if name == "silu" || name == "swish" => Ok(Activation::Silu),
            Some(other) => {
                let detail = format!(
                    "has an act_layer of {other}; this program knows gelu, gelu_tanh, quick_gelu, \
                     relu, silu and swish"
                );
                Err(ImportError::field(path, "model_args", detail))
            }
        }
    }

    /// What the classifier reads: "token" or "avg".
    pub(super) fn global_pool(&self, path: &Path) -> Result<String, ImportError> {
        let argued = self.model_args.get("global_pool").and_then(Value::as_str);
        let by_name = match self.architecture().pools_patches() {
            true => "avg",
            false => "token",
        };
        let pool = argued.or(self.global_pool.as_deref()).unwrap_or(by_name);
        match pool {
            "token" | "avg" => Ok(pool.to_owned()),
            other => {
                let detail = format!(
                    "is \"{other}\"; this program knows \"token\" (class token) and \"avg\" (mean over patches)"
                );
                Err(ImportError::field(path, "global_pool", detail))
            }
        }
    }

    /// `label_names` in the order of the classes, if the file has them.
    pub(super) fn labels(
        &self,
        path: &Path,
        classes: usize,
    ) -> Result<Option<Vec<String>>, ImportError> {
        let by_id = match &self.labels {
            None => return Ok(None),
            Some(Labels::Listed(names)) => return Ok(Some(names.clone())),
            Some(Labels::ById(by_id)) => by_id,
        };
        let label = |class: usize| {
            by_id.get(&class.to_string()).cloned().ok_or_else(|| {
                let detail = format!(
                    "has no label for class {class} of {classes}; give labels with --labels FILE"
                );
                ImportError::field(path, "label_names", detail)
            })
        };
        (0..classes).map(label).collect::<Result<_, _>>().map(Some)
    }

    /// What a family has to know of the file.
    pub(super) fn described<'a>(
        &'a self,
        path: &'a Path,
        options: &ImportOptions,
    ) -> Described<'a> {
        let input = self.pretrained_cfg.input_size;
        Described {
            path,
            architecture: self.architecture.split('.').next().unwrap_or_default(),
            model_args: &self.model_args,
            global_pool: self.global_pool.as_deref(),
            input_size: input.map(|[_, height, width]| [height, width]),
            heads: options.heads,
            head_fusion: options.head_fusion,
        }
    }

    /// Refuses what is not known to be a plain Vision Transformer, or to change nothing.
    pub(super) fn check(&self, path: &Path) -> Result<(), ImportError> {
        if let Err(detail) = self.architecture().check() {
            return Err(ImportError::field(path, "architecture", detail));
        }
        let differs = |(name, value): &(&String, &Value)| {
            let name = name.as_str();
            let idle = value.is_null() || **value == Value::Bool(false);
            !idle && ![&HARMLESS[..], &IN_TENSORS, &READ].concat().contains(&name)
        };
        match self.model_args.iter().find(differs) {
            Some((name, value)) if name == "final_norm" && *value == Value::Bool(true) => Ok(()),
            Some((name, value)) if name == "pos_embed" && value == "learn" => Ok(()),
            Some((name, value)) => {
                let detail = format!("has {name} = {value}, whose effect is not known here");
                Err(ImportError::field(path, "model_args", detail))
            }
            None => Ok(()),
        }
    }
}

/// One number or two.
fn sides(value: &Value) -> Option<[usize; 2]> {
    let side = |value: &Value| Some(value.as_u64()? as usize);
    match value {
        Value::Array(both) => match &both[..] {
            [height, width] => Some([side(height)?, side(width)?]),
            _ => None,
        },
        one => side(one).map(|side| [side, side]),
    }
}
