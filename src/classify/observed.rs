//! What is counted and logged of an answer.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use patchlight_model::{Prediction, scores::ScoreSummary};

use super::{Classifier, ImageInfo};
use crate::request_log::{ImageRecord, MapRecord, Record};

/// An answer on its way out.
pub(super) struct Observed<'a> {
    pub(super) logits: &'a [f32],
    /// What is answered; nothing where the request wanted raw output.
    pub(super) predictions: &'a [Prediction],
    /// The image and its bytes, unless a tensor was sent.
    pub(super) image: Option<(&'a ImageInfo, &'a Bytes)>,
    /// See [`AttentionMap::rollout`](crate::store::AttentionMap::rollout); may be empty.
    pub(super) rollout: Option<&'a Arc<[f32]>>,
    pub(super) cached: bool,
    /// From the complete upload until now.
    pub(super) took: Duration,
}

impl Classifier {
    /// Puts an answer into the metrics, and into the request log if it is of its sample.
    pub(super) fn observe(&self, answer: Observed<'_>) {
        let kind = self.model.manifest.task.kind;
        let Some(summary) = ScoreSummary::of(kind, answer.logits) else {
            return;
        };
        let label = self.model.labels.name(summary.class_id);
        self.metrics.answer(&self.model.name, &summary, label);
        self.request_log.record(|with_content| Record {
            time: SystemTime::now(),
            model: Arc::clone(&self.model),
            predictions: answer.predictions.to_vec(),
            summary,
            image: answer.image.map(|(image, content)| ImageRecord {
                width: image.width,
                height: image.height,
                format: image.format,
                region: image.region,
                bytes: content.len(),
                content: with_content.then(|| content.clone()),
            }),
            map: answer
                .rollout
                .filter(|rollout| !rollout.is_empty())
                .map(|rollout| MapRecord {
                    rollout: Arc::clone(rollout),
                    prefix: self.descriptor.tokens.prefix,
                    grid: self.descriptor.tokens.grid,
                }),
            cached: answer.cached,
            took: answer.took,
        });
    }
}
