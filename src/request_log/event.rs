//! What an event says.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use patchlight_imaging::{decode::Format, preprocess::Region};
use patchlight_model::{ModelInfo, Prediction, manifest::TaskKind, scores::ScoreSummary};
use serde::Serialize;

/// The `type` attribute: a new number where a field changes its meaning or goes.
const TYPE: &str = "patchlight.classification.v1";

/// What is known of an image that was classified.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was answered.
    pub time: SystemTime,
    /// The model.
    pub model: Arc<ModelInfo>,
    /// Labels that were answered, best first; none where the request wanted raw output.
    pub predictions: Vec<Prediction>,
    /// How sure the model was, whatever was answered.
    pub summary: ScoreSummary,
    /// The image; `None` where a tensor was sent.
    pub image: Option<ImageRecord>,
    /// Its rollout, if one was made.
    pub map: Option<MapRecord>,
    /// Whether the result was computed for an identical request.
    pub cached: bool,
    /// From the complete upload to the answer.
    pub took: Duration,
}

/// An image as it was understood.
#[derive(Clone, Debug)]
pub struct ImageRecord {
    /// Pixels, upright.
    pub width: u32,
    /// Pixels, upright.
    pub height: u32,
    /// What its bytes are.
    pub format: Format,
    /// The part that the model saw.
    pub region: Region,
    /// How many bytes were sent.
    pub bytes: usize,
    /// These bytes, where events have them.
    pub content: Option<Bytes>,
}

/// A rollout, of which the event gets a summary.
#[derive(Clone, Debug)]
pub struct MapRecord {
    /// At least `prefix + rows × columns` weights that add up to 1, prefix tokens first.
    pub rollout: Arc<[f32]>,
    /// Tokens before the patches.
    pub prefix: usize,
    /// Rows and columns of patches.
    pub grid: [usize; 2],
}

/// A CloudEvent (specification 1.0.2) with JSON data.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) specversion: &'static str,
    pub(super) id: String,
    pub(super) source: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) time: String,
    pub(super) datacontenttype: &'static str,
    pub(super) data: Data,
}

/// The event's data.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    model: String,
    model_digest: String,
    predictions: Vec<Prediction>,
    best: Prediction,
    entropy: f32,
    /// `softmax` or `sigmoid`.
    scores: &'static str,
    cached: bool,
    total_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<MapSummary>,
}

#[derive(Debug, Serialize)]
struct ImageData {
    width: u32,
    height: u32,
    format: Format,
    region: Region,
    bytes: usize,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// What a rollout looks like, without its values.
#[derive(Debug, PartialEq, Serialize)]
struct MapSummary {
    method: &'static str,
    grid: [usize; 2],
    prefix_mass: f32,
    /// Entropy of the patches' weights as a share of the largest possible: near 1 the model looked
    /// everywhere alike.
    entropy: f32,
    peak: Peak,
}

/// The patch with the largest weight.
#[derive(Debug, PartialEq, Serialize)]
struct Peak {
    row: usize,
    column: usize,
    /// Of the patches' weights together.
    share: f32,
}

impl Record {
    /// Bytes of the image that it holds.
    pub(super) fn image_bytes(&self) -> usize {
        let content = self.image.as_ref().and_then(|image| image.content.as_ref());
        content.map_or(0, Bytes::len)
    }

    /// The event, under an id of 128 random bits.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn into_event(self) -> Result<Event, getrandom::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let model = &self.model;
        let best = self.summary;
        Ok(Event {
            specversion: "1.0",
            id: hex::encode(id),
            source: format!("/patchlight/models/{}", model.name),
            kind: TYPE,
            time: humantime::format_rfc3339_micros(self.time).to_string(),
            datacontenttype: "application/json",
            data: Data {
                model: model.name.clone(),
                model_digest: model.digest.clone(),
                predictions: self.predictions,
                best: Prediction {
                    class_id: best.class_id,
                    label: model.labels.name(best.class_id).to_owned(),
                    score: best.score,
                },
                entropy: best.entropy,
                scores: match model.manifest.task.kind {
                    TaskKind::SingleLabel => "softmax",
                    TaskKind::MultiLabel => "sigmoid",
                },
                cached: self.cached,
                total_ms: self.took.as_micros() as f64 / 1000.0,
                image: self.image.map(ImageData::from),
                map: self.map.as_ref().and_then(MapSummary::of),
            },
        })
    }
}

impl From<ImageRecord> for ImageData {
    fn from(image: ImageRecord) -> Self {
        Self {
            width: image.width,
            height: image.height,
            format: image.format,
            region: image.region,
            bytes: image.bytes,
            content: image.content.map(|content| STANDARD.encode(content)),
        }
    }
}

impl MapSummary {
    /// `None` where the rollout has no weight on any patch.
    fn of(map: &MapRecord) -> Option<Self> {
        let [rows, columns] = map.grid;
        let prefix = map.rollout.get(..map.prefix)?;
        let patches = map
            .rollout
            .get(map.prefix..map.prefix + rows * columns)
            .filter(|patches| !patches.is_empty())?;
        let mass: f64 = patches.iter().copied().map(f64::from).sum();
        if mass <= 0.0 {
            return None;
        }
        let (at, &peak) = patches
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let shares = patches.iter().map(|&weight| f64::from(weight) / mass);
        let nats: f64 = shares
            .filter(|&share| share > 0.0)
            .map(|share| -share * share.ln())
            .sum();
        // A single patch is always certain.
        let most = (patches.len().max(2) as f64).ln();
        Some(Self {
            method: "rollout",
            grid: map.grid,
            prefix_mass: prefix.iter().sum(),
            entropy: (nats / most).clamp(0.0, 1.0) as f32,
            peak: Peak {
                row: at / columns,
                column: at % columns,
                share: (f64::from(peak) / mass) as f32,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(weights: &[f32], prefix: usize, grid: [usize; 2]) -> Option<MapSummary> {
        MapSummary::of(&MapRecord {
            rollout: weights.into(),
            prefix,
            grid,
        })
    }

    /// Shares ½, ¼, ⅛, ⅛ have 1.75 bits of 2.
    #[test]
    fn a_map_s_summary_is_over_its_patches() {
        let found = summary(&[0.2, 0.1, 0.1, 0.2, 0.4], 1, [2, 2]).unwrap();
        assert!((found.prefix_mass - 0.2).abs() < 1e-6);
        assert!((found.entropy - 0.875).abs() < 1e-6, "{found:?}");
        assert_eq!((found.peak.row, found.peak.column), (1, 1));
        assert!((found.peak.share - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_map_without_weight_or_of_another_size_has_none() {
        assert_eq!(summary(&[1.0, 0.0, 0.0], 1, [1, 2]), None);
        assert_eq!(summary(&[], 0, [0, 0]), None);
        assert_eq!(summary(&[0.5, 0.5], 1, [2, 2]), None);
    }

    #[test]
    fn rows_of_later_blocks_are_not_looked_at() {
        let found = summary(&[0.0, 0.25, 0.75, 9.0, 9.0, 9.0], 1, [1, 2]).unwrap();
        assert_eq!(found.peak.column, 1);
    }
}
