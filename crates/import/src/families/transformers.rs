//! Families that transformers writes, by the `model_type` of their `config.json`.

pub(super) mod beit;
mod clip;
mod dinov2;
mod ijepa;
mod siglip;
mod vit_msn;

use std::{path::Path, sync::Arc};

use patchlight_model::manifest::{HeadFusion, TaskKind};
use patchlight_onnx::{
    tensor::Tensor,
    vit::{VitSpec, WeightId},
};
use serde_json::{Map, Value};

use super::{
    Description, Network,
    recipe::{BlockNames, Recipe, Recipes},
};
use crate::{
    ImportError,
    tensor_file::{self, TensorFile},
    text_embeddings::TextEmbeddings,
    vit_config::Config as VitConfig,
};

/// A family of transformers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) description: Description,
    /// Values of `model_type`.
    pub(crate) model_types: &'static [&'static str],
    /// What scores are where the classifier is made of texts; `None` where images are not compared
    /// with texts.
    pub(crate) zero_shot: Option<TaskKind>,
    /// Tensors one of which every one of its networks has once, by its own name.
    anchors: &'static [&'static str],
    open: fn(&Config<'_>, &dyn TensorFile) -> Result<Network, ImportError>,
}

/// All of them.
pub(crate) const FAMILIES: [Family; 6] = [
    siglip::FAMILY,
    dinov2::FAMILY,
    clip::FAMILY,
    vit_msn::FAMILY,
    ijepa::FAMILY,
    beit::FAMILY,
];

/// The family of this `model_type`.
pub(crate) fn family(model_type: &str) -> Option<&'static Family> {
    let found = FAMILIES.iter();
    found
        .into_iter()
        .find(|family| family.model_types.contains(&model_type))
}

/// Every `model_type` that a family is known by.
pub(crate) fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES
        .iter()
        .flat_map(|family| family.model_types.iter().copied())
}

impl Family {
    /// The tensor by which a file's names are known, whatever stands before them.
    pub(crate) fn anchor(&self, file: &dyn TensorFile) -> &'static str {
        let found = self
            .anchors
            .iter()
            .find(|anchor| tensor_file::has(file, anchor));
        found
            .or_else(|| self.anchors.first())
            .copied()
            .unwrap_or_default()
    }

    /// Reads the network that a `config.json` describes.
    ///
    /// # Errors
    /// If a field or a tensor does not fit.
    pub(crate) fn network(
        &self,
        path: &Path,
        fields: &Map<String, Value>,
        file: &dyn TensorFile,
        head_fusion: HeadFusion,
        texts: Option<&Arc<TextEmbeddings>>,
    ) -> Result<Network, ImportError> {
        let config = Config {
            path,
            fields,
            head_fusion,
            texts,
        };
        if let (Some(texts), None) = (texts, self.zero_shot) {
            let detail = format!(
                "are for networks that compare images with texts (CLIP, SigLIP); {} does not",
                self.description.name
            );
            return Err(ImportError::text_embeddings(&texts.path, detail));
        }
        if texts.is_some() && file.shape(HEAD).is_some() {
            let detail = "is there: the checkpoint has a classifier of its own; leave \
                          --text-embeddings out, or import the checkpoint that it was trained from";
            return Err(ImportError::tensor(file.path(), HEAD, detail));
        }
        (self.open)(&config, file)
    }
}

/// A `config.json`.
pub(super) struct Config<'a> {
    path: &'a Path,
    fields: &'a Map<String, Value>,
    head_fusion: HeadFusion,
    texts: Option<&'a Arc<TextEmbeddings>>,
}

impl<'a> Config<'a> {
    /// The fields of the tower that sees images, where they are a part of their own.
    fn vision(&self) -> &'a Map<String, Value> {
        let inner = self.fields.get("vision_config").and_then(Value::as_object);
        inner.unwrap_or(self.fields)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        let value = self.fields.get(name).and_then(Value::as_bool);
        value.unwrap_or(default)
    }

    fn number(fields: &Map<String, Value>, name: &str) -> Option<f64> {
        fields.get(name).and_then(Value::as_f64)
    }

    /// The network as these fields describe it, with `defaults` for those that are left out, and a
    /// class token before the patches.
    fn spec(
        &self,
        fields: &Map<String, Value>,
        defaults: &Value,
        file: &dyn TensorFile,
    ) -> Result<VitSpec, ImportError> {
        let mut merged = defaults.as_object().cloned().unwrap_or_default();
        merged.extend(fields.clone());
        let config: VitConfig = serde_json::from_value(Value::Object(merged))
            .map_err(|error| ImportError::malformed(self.path, error))?;
        let classes = match self.texts {
            Some(texts) => texts.labels.len(),
            None => classes(file)?,
        };
        config.spec(self.path, classes, self.head_fusion)
    }

    fn error(&self, field: &'static str, detail: impl Into<String>) -> ImportError {
        ImportError::field(self.path, field, detail)
    }
}

/// How many classes the classifier has.
fn classes(file: &dyn TensorFile) -> Result<usize, ImportError> {
    match file.shape(HEAD) {
        Some(&[classes, _]) if classes > 0 => Ok(classes),
        Some(shape) => {
            let detail = format!("has the shape {shape:?}; [classes, width] is expected");
            Err(ImportError::tensor(file.path(), HEAD, detail))
        }
        None => {
            let projects = file.shape("visual_projection.weight").is_some();
            let expected = match projects || file.shape("vision_model.head.probe").is_some() {
                true => {
                    "the checkpoint has no classifier; one is made of the labels' texts with \
                     --text-embeddings FILE, or import a checkpoint that was trained to classify"
                }
                false => {
                    "the checkpoint has no classifier; import one that was trained to classify"
                }
            };
            Err(file.missing(HEAD, expected))
        }
    }
}

const HEAD: &str = "classifier.weight";

/// The classifier, which all families call alike.
fn classifier(recipes: &mut Recipes) {
    recipes.set(WeightId::HeadKernel, Recipe::torch(HEAD));
    recipes.set(WeightId::HeadBias, Recipe::torch("classifier.bias"));
}

/// The classifier that texts make, of a state that the kernel `[width, hidden]` of this name projects,
/// or of the state itself; and whether a bias is added.
fn text_classifier(
    recipes: &mut Recipes,
    texts: &Arc<TextEmbeddings>,
    projection: Option<&'static str>,
    has_bias: bool,
) {
    let width = texts.width;
    let parameters = texts.asked_of_checkpoint(has_bias);
    let reads = parameters.iter().cloned();
    let reads = reads.chain(projection.map(str::to_owned));
    let own = Arc::clone(texts);
    let kernel = Recipe::of(reads, move |file, shape| {
        let hidden = shape[0];
        let stored = projection.map(|name| file.tensor(name, &[width, hidden]));
        let stored = stored.transpose()?.map(|tensor| tensor.to_f32());
        let values = own.kernel(file, stored.as_deref())?;
        Ok(Tensor::f32(shape.to_vec(), &values))
    });
    recipes.set(WeightId::HeadKernel, kernel);
    if let Some(name) = projection {
        recipes.set(WeightId::Projection, Recipe::torch(name));
    }
    let own = Arc::clone(texts);
    let bias = Recipe::of(Vec::new(), move |file, shape| {
        let bias = own.bias(file, has_bias)?;
        Ok(Tensor::f32(shape.to_vec(), &vec![bias; shape[0]]))
    });
    recipes.set(WeightId::HeadBias, bias);
}

/// How the tensors of what was made after ViT are called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Generation {
    /// As the Hub has them and `save_pretrained` writes them.
    Saved,
    /// As the model's own `state_dict()` calls them since version 5.
    Native,
}

impl Generation {
    /// That of a file whose network lies below `root`.
    fn of(root: &str, file: &dyn TensorFile) -> Self {
        let native = format!("{root}.layers.0.layernorm_before.weight");
        match file.shape(&native) {
            Some(_) => Self::Native,
            None => Self::Saved,
        }
    }

    /// Names of a block below `before`.
    fn block(self, before: &str) -> BlockNames {
        match self {
            Self::Saved => vit_block(before),
            Self::Native => native_vit_block(before),
        }
    }
}

fn native_vit_block(before: &str) -> BlockNames {
    let name = |part: &str| format!("{before}.{part}");
    BlockNames {
        query: name("attention.q_proj"),
        key: name("attention.k_proj"),
        value: name("attention.v_proj"),
        out: name("attention.o_proj"),
        up: name("mlp.fc1"),
        down: name("mlp.fc2"),
        ..vit_block(before)
    }
}

/// As the Hub has them.
fn vit_block(before: &str) -> BlockNames {
    let name = |part: &str| format!("{before}.{part}");
    BlockNames {
        attention_norm: name("layernorm_before"),
        query: name("attention.attention.query"),
        key: name("attention.attention.key"),
        value: name("attention.attention.value"),
        out: name("attention.output.dense"),
        mlp_norm: name("layernorm_after"),
        up: name("intermediate.dense"),
        down: name("output.dense"),
        layer_scales: None,
    }
}

/// Names of the blocks of CLIP and what was made after it.
fn clip_block(layer: usize) -> BlockNames {
    let name = |part: &str| format!("vision_model.encoder.layers.{layer}.{part}");
    BlockNames {
        attention_norm: name("layer_norm1"),
        query: name("self_attn.q_proj"),
        key: name("self_attn.k_proj"),
        value: name("self_attn.v_proj"),
        out: name("self_attn.out_proj"),
        mlp_norm: name("layer_norm2"),
        up: name("mlp.fc1"),
        down: name("mlp.fc2"),
        layer_scales: None,
    }
}
