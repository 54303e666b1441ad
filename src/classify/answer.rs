//! The answer to `POST /classify` for one image, in the form that clients rely on.

use std::time::Duration;

use patchlight_imaging::{decode::Format, preprocess::Region};
use patchlight_model::{ModelInfo, Prediction, manifest::TaskKind};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::Confidence;
use crate::store::{MapKind, StoreError, StoredMap};

/// One image's answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Classification {
    /// The map's id, or null without a map.
    #[schema(required)]
    pub id: Option<String>,
    /// The model's name.
    pub model: String,
    /// Labels, best first; ties by class id.
    pub predictions: Vec<Prediction>,
    /// How the scores of a multi-label model come about: they do not add up to 1. Absent otherwise.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<Activation>,
    /// Where the map is, or null.
    #[schema(required)]
    pub attention: Option<AttentionLink>,
    /// Why there is no map.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_note: Option<String>,
    /// A caution about the model, such as random weights.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caution: Option<String>,
    /// What the answer is worth; there if the model is calibrated.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// True if the server's rules say not to act on this answer; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub abstain: bool,
    /// True if the result was computed for an identical request; absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// The image as it was understood.
    pub image: ImageInfo,
    /// Where the time went.
    pub timing_ms: Timing,
}

/// What makes scores of logits, where it is not the softmax.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Of each label for itself.
    Sigmoid,
}

/// Whether a map was stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Attention {
    /// It is kept.
    Stored(StoredMap),
    /// The request asked for none.
    NotRequested,
    /// The model makes none.
    Unsupported,
    /// It could not be kept.
    NotStored(StoreError),
}

impl From<Result<StoredMap, StoreError>> for Attention {
    fn from(kept: Result<StoredMap, StoreError>) -> Self {
        kept.map_or_else(Self::NotStored, Self::Stored)
    }
}

/// Where an image's map is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Attention)]
pub struct AttentionLink {
    /// Its path on this server.
    url: String,
    /// What it shows unless something else is asked for.
    method: DefaultMap,
    /// What can be asked for there.
    maps: Vec<MapKind>,
    /// Where the map can be tested by perturbation, if the server makes such tests.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<String>,
    /// Seconds until it expires; it may be evicted before.
    expires_in_s: u64,
}

/// The map that is shown unless something else is asked for.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DefaultMap {
    Rollout,
}

/// The image as it was understood: upright, after EXIF orientation.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Image)]
pub struct ImageInfo {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// What its bytes are, whatever their name.
    pub format: Format,
    /// The part that the model saw after resize and crop.
    pub region: Region,
}

/// Where the time went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Timing {
    /// Bytes to upright RGB.
    #[schema(value_type = f64, minimum = 0)]
    #[serde(serialize_with = "milliseconds")]
    pub decode: Duration,
    /// RGB to input tensor.
    #[schema(value_type = f64, minimum = 0)]
    #[serde(serialize_with = "milliseconds")]
    pub preprocess: Duration,
    /// Waiting for a batch.
    #[schema(value_type = f64, minimum = 0)]
    #[serde(serialize_with = "milliseconds")]
    pub queue: Duration,
    /// The batch's run.
    #[schema(value_type = f64, minimum = 0)]
    #[serde(serialize_with = "milliseconds")]
    pub inference: Duration,
    /// From the complete upload to the answer.
    #[schema(value_type = f64, minimum = 0)]
    #[serde(serialize_with = "milliseconds")]
    pub total: Duration,
}

impl Classification {
    /// Says where its map can be tested by perturbation.
    pub fn offer_test(&mut self, path: impl FnOnce(&str) -> String) {
        if let (Some(id), Some(attention)) = (&self.id, &mut self.attention) {
            attention.verify = Some(path(id));
        }
    }

    pub(super) fn new(
        model: &ModelInfo,
        predictions: Vec<Prediction>,
        attention: Attention,
        image: ImageInfo,
        timing_ms: Timing,
    ) -> Self {
        let task = &model.manifest.task;
        let (id, link, attention_note) = match attention {
            Attention::NotRequested => (None, None, Some("not asked for".to_owned())),
            Attention::Unsupported => {
                let error = model.manifest.graph.no_map_reason().unwrap_or_default();
                (
                    None,
                    None,
                    Some(format!("this model makes no map: {error}")),
                )
            }
            Attention::NotStored(error) => (None, None, Some(error.to_string())),
            Attention::Stored(StoredMap {
                id,
                maps,
                expires_in,
            }) => {
                let link = AttentionLink {
                    url: format!("/attention/{id}"),
                    method: DefaultMap::Rollout,
                    maps,
                    verify: None,
                    expires_in_s: expires_in.as_secs(),
                };
                (Some(id), Some(link), None)
            }
        };
        Self {
            id,
            model: model.name.clone(),
            predictions,
            scores: (task.kind == TaskKind::MultiLabel).then_some(Activation::Sigmoid),
            attention: link,
            attention_note,
            caution: task.caution.clone(),
            confidence: None,
            abstain: false,
            cached: false,
            image,
            timing_ms,
        }
    }

    /// Says what it is worth, and whether to act on it.
    pub(super) fn with_confidence(self, confidence: Option<Confidence>, abstain: bool) -> Self {
        Self {
            confidence,
            abstain,
            ..self
        }
    }

    /// Says whether the result was computed for an identical request.
    pub(super) fn reused(self, cached: bool) -> Self {
        Self { cached, ..self }
    }
}

/// Three decimals: these clocks are no more precise than a microsecond.
fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_micros() as f64 / 1000.0)
}
