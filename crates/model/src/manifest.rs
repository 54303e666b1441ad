//! `model.toml`: what a model directory says of itself.
//!
//! Written by `patchlight import`, read by the server. Everything that differs from one checkpoint
//! to the next and that a wrong guess would silently spoil (resize filter, crop, mean, prefix
//! tokens, patch grid) stands here and nowhere in the code.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use patchlight_imaging::preprocess::Preprocess;
pub use patchlight_onnx::vit::{HeadFusion, Precision};
use serde::{Deserialize, Serialize};

pub use super::task::TaskKind;

use super::calibration::Calibration;

/// The version of the layout described here; a server refuses any other.
pub const FORMAT: u32 = 1;

/// The whole of `model.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout version, [`FORMAT`].
    pub format: u32,
    /// Size and shape of the network.
    pub architecture: Architecture,
    /// How outputs become scores.
    pub task: Task,
    /// The graph's input and output tensors.
    pub graph: Graph,
    /// How tokens relate to the image.
    pub tokens: Tokens,
    /// How the rollout in the graph is computed.
    pub rollout: Rollout,
    /// From an upright RGB image to the input tensor.
    pub preprocess: Preprocess,
    /// SHA-256 in lower-case hexadecimal of every other file of the directory, by file name.
    pub files: BTreeMap<String, String>,
    /// Where the weights come from.
    pub provenance: Provenance,
    /// What its scores are worth, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

impl Manifest {
    /// Height and width of the input tensor, in pixels; `None` where the preprocessing does not fix
    /// them, which [`validate`](Self::validate) refuses.
    pub fn input_size(&self) -> Option<(usize, usize)> {
        let (height, width) = self.preprocess.input_size()?;
        Some((height as usize, width as usize))
    }

    /// Checks what the types cannot: that the parts agree with each other and that no file name
    /// leads out of the directory.
    ///
    /// # Errors
    /// Every error, in words.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        if self.format != FORMAT {
            return Err(vec![format!(
                "format {} is not the one this version reads ({FORMAT}); import the model again",
                self.format
            )]);
        }
        let mut errors = self.preprocess.validate().err().unwrap_or_default();
        let patch = self.architecture.patch;
        let [rows, columns] = self.tokens.grid;
        let maps = self.graph.rollout.is_some();
        let unknown = !maps && patch == 0 && self.tokens == Tokens::UNKNOWN;
        if let Some((height, width)) = self.input_size()
            && !unknown
            && (patch == 0 || rows != height / patch || columns != width / patch)
        {
            errors.push(format!(
                "tokens.grid {rows}×{columns} does not fit an input of {height}×{width} in patches of {patch}"
            ));
        }
        if self.task.classes == 0 {
            errors.push("task.classes must be at least 1".to_owned());
        }
        if maps && (self.architecture.layers == 0 || self.architecture.heads == 0) {
            errors.push("architecture.layers and architecture.heads must be at least 1".to_owned());
        }
        let labels = self.graph.attribution.as_ref().map_or(1, |e| e.labels);
        if labels == 0 || labels > self.task.classes {
            errors.push(format!(
                "graph.evidence.labels is {labels}, which must be from 1 to the number of classes"
            ));
        }
        if self.graph.rollout.is_some() != self.graph.rollout_by_start.is_some() {
            errors.push("graph.rollout and graph.rollout_by_start go together".to_owned());
        }
        if !self.files.contains_key(&self.graph.file) {
            errors.push(format!("files lacks the graph `{}`", self.graph.file));
        }
        if let Some(calibration) = &self.calibration {
            let checked = calibration.validate(self.task.kind, self.task.classes);
            errors.extend(checked.err().unwrap_or_default());
        }
        for name in self.files.keys() {
            let plain = Path::new(name)
                .file_name()
                .is_some_and(|only| only == name.as_str());
            if !plain {
                errors.push(format!("file name `{name}` must not be a path"));
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

/// Size and shape of the network. Of a graph that makes no map only the name and the parameters are
/// known; all else is 0.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The family's name with its usual size, such as `ViT-L/16`.
    pub name: String,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the hidden layer of each MLP.
    pub mlp: usize,
    /// Side of a square patch, in pixels.
    pub patch: usize,
    /// Number of trained values.
    pub parameters: u64,
    /// Multiply–accumulate operations of one forward pass on one image, in units of 10⁹.
    pub gmac: f64,
}

impl Architecture {
    /// Of a graph of any kind, which makes no map.
    pub fn unknown(name: Option<Cow<'_, str>>, parameters: u64) -> Self {
        let name = name.unwrap_or(Cow::Borrowed("exported graph"));
        Self {
            name: name.into_owned(),
            layers: 0,
            heads: 0,
            hidden: 0,
            mlp: 0,
            patch: 0,
            parameters,
            gmac: 0.0,
        }
    }
}

/// How outputs become scores.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Whether one label or any number of labels holds.
    pub kind: TaskKind,
    /// Number of classes, the length of `logits` and of `labels.txt`.
    pub classes: usize,
    /// A caution that every answer repeats, for weights or labels that mean nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caution: Option<String>,
    /// Labels that a file of lines cannot hold; `labels.txt` has them with spaces for line breaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole_labels: Vec<MultilineLabel>,
}

/// A label of several lines.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MultilineLabel {
    /// Whose it is.
    pub class: usize,
    /// The label, byte for byte.
    pub label: String,
}

/// The graph's input and output tensors.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// File name of the ONNX graph inside the directory.
    pub file: String,
    /// Input: float32 `[batch, 3, height, width]`.
    pub input: String,
    /// Output: float32 `[batch, classes]`.
    pub logits: String,
    /// Output: float32 `[batch, patches]`, the class token's attention rollout over the patches,
    /// row-major over the grid. Absent if the graph makes no map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// Output: float32 `[batch, layers, tokens]`; row `k` is the rollout that starts at block `k`,
    /// over all tokens (prefix tokens first). Row 0 agrees with `rollout`. There if that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_by_start: Option<String>,
    /// Why the graph makes no map, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_map: Option<String>,
    /// Arithmetic of the large matrix products.
    pub precision: Precision,
    /// Output: float32 `[batch, layers, heads, tokens]`, the class token's attention, prefix
    /// tokens first. Absent if the graph does not hand it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_attention: Option<String>,
    /// Why the graph lacks attribution and the class token's attention, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "without_evidence")]
    pub without_attribution: Option<String>,
    /// Outputs with per-label attribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "evidence")]
    pub attribution: Option<AttributionOutputs>,
}

impl Graph {
    /// Why there is no map; `None` if there is.
    pub fn no_map_reason(&self) -> Option<&str> {
        match (&self.rollout_by_start, &self.without_map) {
            (Some(_), _) => None,
            (None, Some(error)) => Some(error),
            (None, None) => Some("the graph makes none"),
        }
    }

    /// Why the graph lacks attribution or the class token's attention.
    pub fn no_attribution_reason(&self) -> &str {
        let before = "it was imported before they were made; import it again";
        self.without_attribution.as_deref().unwrap_or(before)
    }
}

/// Output tensors with per-label attribution: how much each patch wrote into a logit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AttributionOutputs {
    /// Float32 `[batch, labels + 1, patches]`: of the best classes, then of the mean over all.
    pub patches: String,
    /// Float32 `[batch, labels + 1]`: everything else in these logits.
    pub rest: String,
    /// Int64 `[batch, labels]`: the best classes, best first.
    pub classes: String,
    /// For how many classes there is attribution.
    pub labels: usize,
}

/// How tokens relate to the image.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Tokens before the first patch: the class token, a distillation token, registers.
    pub prefix: usize,
    /// Rows and columns of the patch grid.
    pub grid: [usize; 2],
}

impl Tokens {
    /// Of a graph that makes no map.
    pub const UNKNOWN: Self = Self {
        prefix: 0,
        grid: [0, 0],
    };

    /// Number of patches.
    pub fn patches(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Length of the token sequence.
    pub fn total(&self) -> usize {
        self.prefix + self.patches()
    }
}

/// How the rollout in the graph is computed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// How the heads' attention matrices become one.
    pub head_fusion: HeadFusion,
}

/// Where the weights come from.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The layout that was read: `huggingface`, `random`, …
    pub source: String,
    /// Files that were read and their SHA-256.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_files: BTreeMap<String, String>,
    /// The address that they were fetched from; absent if they were here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The program that wrote the directory, with its version.
    pub importer: String,
    /// What a comparison with the float32 graph found, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<PrecisionCheck>,
}

/// Where something was fetched from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The address as it was given, such as `hf://ORG/NAME`.
    pub address: String,
    /// What it stood for then: the commit, or what else names a content for good.
    pub revision: String,
}

/// What a comparison with the float32 graph on the user's images found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PrecisionCheck {
    /// How many images were compared.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// For which share of them both graphs name the same best class.
    pub top1_agreement: f64,
    /// The largest difference of a score, over all classes and images.
    pub score_drift: f64,
    /// The largest difference of a token's share of the rollout, from any block.
    pub map_drift: f64,
    /// Linear layers that compute in float32 all the same, so that agreement is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub float32_layers: Vec<String>,
}
