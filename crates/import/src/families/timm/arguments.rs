//! What a function of timm passes to its class.

use patchlight_model::manifest::HeadFusion;
use patchlight_onnx::vit::Activation;
use serde_json::{Map, Value};

use super::Described;
use crate::{ImportError, families::Sizes};

/// Every function's class and arguments, where they differ from the class's own defaults.
const ARCHITECTURES: &str = include_str!("architectures.json");

/// The arguments of one network: the function's own, and over them those of `config.json`.
pub(crate) struct Arguments<'a> {
    described: Described<'a>,
    class: String,
    values: Map<String, Value>,
}

/// LayerNorm or RMSNorm, and what is added to the variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norm {
    pub(super) rms: bool,
    pub(super) epsilon: f32,
}

impl<'a> Arguments<'a> {
    /// `None` if no function is called so.
    pub(super) fn of(described: Described<'a>) -> Result<Option<Self>, ImportError> {
        let all: Map<String, Value> = serde_json::from_str(ARCHITECTURES)
            .map_err(|error| ImportError::malformed(described.path, error))?;
        let Some(Value::Array(entry)) = all.get(described.architecture) else {
            return Ok(None);
        };
        let class = entry.first().and_then(Value::as_str).unwrap_or_default();
        let own = entry.get(1).and_then(Value::as_object);
        let mut values = own.cloned().unwrap_or_default();
        values.extend(described.model_args.clone());
        if let Some(pool) = described.global_pool
            && !described.model_args.contains_key("global_pool")
        {
            values.insert("global_pool".to_owned(), pool.into());
        }
        Ok(Some(Self {
            described,
            class: class.to_owned(),
            values,
        }))
    }

    pub(super) fn class(&self) -> &str {
        &self.class
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        match self.values.get(name) {
            None | Some(Value::Null) => default,
            Some(value) => value.as_bool().unwrap_or(default),
        }
    }

    /// A flag that may be absent, where something else decides.
    pub(super) fn optional_flag(&self, name: &str) -> Option<bool> {
        self.values.get(name).and_then(Value::as_bool)
    }

    pub(super) fn number(&self, name: &str, default: f64) -> f64 {
        self.values
            .get(name)
            .and_then(Value::as_f64)
            .unwrap_or(default)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Value::as_str)
    }

    /// One number or two.
    pub(super) fn sides(&self, name: &str) -> Option<[usize; 2]> {
        let number = |value: &Value| value.as_u64().and_then(|side| usize::try_from(side).ok());
        match self.values.get(name)? {
            Value::Array(both) => match &both[..] {
                [height, width] => Some([number(height)?, number(width)?]),
                _ => None,
            },
            one => number(one).map(|side| [side, side]),
        }
    }

    /// Height and width of the input.
    pub(super) fn image(&self, patch: usize) -> Result<[usize; 2], ImportError> {
        let own = self.described.model_args.contains_key("img_size");
        let argued = own.then(|| self.sides("img_size")).flatten();
        let image = argued
            .or(self.described.input_size)
            .or_else(|| self.sides("img_size"))
            .unwrap_or([224, 224]);
        match image
            .iter()
            .all(|side| *side > 0 && side.is_multiple_of(patch))
        {
            true => Ok(image),
            false => Err(self.error(
                "pretrained_cfg",
                format!(
                    "tells of an input of {}×{}; both must be multiples of the patch size {patch}",
                    image[0], image[1]
                ),
            )),
        }
    }

    /// Which sizes it takes.
    pub(super) fn sizes_of_input(&self) -> Sizes {
        match self.flag("dynamic_img_size", false) {
            true => Sizes::OfPreprocessing,
            false => Sizes::Resampled,
        }
    }

    pub(super) fn heads(&self, default: usize) -> usize {
        let argued = self.number("num_heads", default as f64) as usize;
        self.described.heads.unwrap_or(argued)
    }

    pub(super) fn head_fusion(&self) -> HeadFusion {
        self.described.head_fusion
    }

    pub(super) fn pool(&self, default: &'static str) -> &str {
        self.text("global_pool").unwrap_or(default)
    }

    /// What every normalisation is.
    pub(super) fn norm(&self) -> Result<Norm, ImportError> {
        let (rms, epsilon) = match self.text("norm_layer") {
            None | Some("LayerNorm" | "layernorm" | "LayerNorm(eps=1e-06)") => (false, 1e-6),
            Some("LayerNorm(eps=1e-05)") => (false, 1e-5),
            Some("RmsNorm" | "rmsnorm" | "RmsNorm(eps=1e-06)") => (true, 1e-6),
            Some("RmsNorm(eps=1e-05)") => (true, 1e-5),
            Some(other) => return Err(self.unknown("norm_layer", other)),
        };
        Ok(Norm { rms, epsilon })
    }

    pub(super) fn activation(&self) -> Result<Activation, ImportError> {
        match self.text("act_layer") {
            None | Some("gelu" | "GELU") => Ok(Activation::Gelu),
            Some("gelu_tanh" | "GELUTanh") => Ok(Activation::GeluTanh),
            Some("quick_gelu" | "QuickGELU") => Ok(Activation::QuickGelu),
            Some("silu" | "swish" | "SiLU") => Ok(Activation::Silu),
            Some("relu" | "ReLU") => Ok(Activation::Relu),
            Some(other) => Err(self.unknown("act_layer", other)),
        }
    }

    /// Refuses arguments that are there and do something that is not known here.
    pub(super) fn refuse(&self, names: &[&str]) -> Result<(), ImportError> {
        let active = |name: &&&str| match self.values.get(**name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        match names.iter().find(active) {
            Some(name) => {
                let value = self.values.get(*name).cloned().unwrap_or_default();
                Err(self.unknown(name, value))
            }
            None => Ok(()),
        }
    }

    pub(super) fn unknown(&self, name: &str, value: impl std::fmt::Display) -> ImportError {
        let detail = format!(
            "is \"{}\", whose {name} is {value}: its effect is not known here; export the network \
             with torch.onnx.export, and import the .onnx file",
            self.described.architecture
        );
        self.error("architecture", detail)
    }

    pub(super) fn error(&self, field: &'static str, detail: String) -> ImportError {
        ImportError::field(self.described.path, field, detail)
    }
}
