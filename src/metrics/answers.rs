//! Metrics of the answers themselves: when the images that come are no longer those that a model
//! was made for, its scores and labels shift.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use patchlight_model::scores::ScoreSummary;
use prometheus::{HistogramVec, IntCounterVec, Result};

use super::catalogue::MetricBuilder;

/// Labels of a model that have a series of their own; the first that it answers.
const MAX_LABELS: usize = 100;

/// The series of all others.
const OTHER_LABELS: &str = "other";

/// Characters of a label's name in a series; names may be of any length.
const MAX_LABEL_CHARS: usize = 80;

/// Twentieths, and finer where sure models are.
const SHARES: &[f64] = &[
    0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
    0.85, 0.9, 0.95, 0.99, 1.0,
];

#[derive(Debug)]
pub(super) struct AnswerMetrics {
    best_score: HistogramVec,
    entropy: HistogramVec,
    labels: IntCounterVec,
    /// The label values of each model's series of `labels`.
    named: Mutex<HashMap<String, HashSet<String>>>,
}

impl AnswerMetrics {
    pub(super) fn new(builder: &mut MetricBuilder) -> Result<Self> {
        Ok(Self {
            best_score: builder.histograms(
                "answer_best_score",
                "Score of the best label of an answer, from 0 to 1, by model.",
                &["model"],
                SHARES,
            )?,
            entropy: builder.histograms(
                "answer_entropy",
                "Entropy of an answer's scores over all labels as a share of the largest possible, from 0 to 1, by model.",
                &["model"],
                SHARES,
            )?,
            labels: builder.counters(
                "answer_labels_total",
                &format!(
                    "Answers by model and their best label; the first {MAX_LABELS} labels that a model answers have a series each, the others share `{OTHER_LABELS}`."
                ),
                &["model", "label"],
            )?,
            named: Mutex::default(),
        })
    }

    pub(super) fn observe(&self, model: &str, summary: &ScoreSummary, label: &str) {
        let model_labels = [model];
        self.best_score
            .with_label_values(&model_labels)
            .observe(f64::from(summary.score));
        self.entropy
            .with_label_values(&model_labels)
            .observe(f64::from(summary.entropy));
        let label = match label.char_indices().nth(MAX_LABEL_CHARS) {
            Some((end, _)) => &label[..end],
            None => label,
        };
        let label = match self.has_series(model, label) {
            true => label,
            false => OTHER_LABELS,
        };
        self.labels.with_label_values(&[model, label]).inc();
    }

    pub(super) fn remove(&self, model: &str) {
        // Missing where it has answered nothing.
        let _ = self.best_score.remove_label_values(&[model]);
        let _ = self.entropy.remove_label_values(&[model]);
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = named.remove(model).unwrap_or_default();
        for label in labels.iter().map(String::as_str).chain([OTHER_LABELS]) {
            let _ = self.labels.remove_label_values(&[model, label]);
        }
    }

    /// Whether the label has a series of its own; it gets one while there is room.
    fn has_series(&self, model: &str, label: &str) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(labels) = named.get_mut(model) else {
            named.insert(model.to_owned(), HashSet::from([label.to_owned()]));
            return true;
        };
        labels.contains(label) || (labels.len() < MAX_LABELS && labels.insert(label.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const SUMMARY: ScoreSummary = ScoreSummary {
        class_id: 0,
        score: 0.75,
        entropy: 0.25,
    };

    #[test]
    fn labels_beyond_the_bound_share_a_series() {
        let metrics = Metrics::new().unwrap();
        for number in 0..MAX_LABELS + 20 {
            metrics.answer("m", &SUMMARY, &format!("label {number}"));
        }
        metrics.answer("m", &SUMMARY, "label 3");
        metrics.answer("m", &SUMMARY, &"é".repeat(1000));
        let text = metrics.encode(&[], 0).unwrap();
        let series = text
            .lines()
            .filter(|line| line.starts_with("patchlight_answer_labels_total{"));
        assert_eq!(series.count(), MAX_LABELS + 1);
        for line in [
            "patchlight_answer_labels_total{label=\"other\",model=\"m\"} 21",
            "patchlight_answer_labels_total{label=\"label 3\",model=\"m\"} 2",
            "patchlight_answer_best_score_bucket{model=\"m\",le=\"0.7\"} 0",
            "patchlight_answer_entropy_bucket{model=\"m\",le=\"0.25\"} 122",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_model_that_goes_leaves_nothing_and_frees_its_names() {
        let metrics = Metrics::new().unwrap();
        for number in 0..MAX_LABELS + 1 {
            metrics.answer("m", &SUMMARY, &number.to_string());
        }
        metrics.remove_model("m");
        assert!(!metrics.encode(&[], 0).unwrap().contains("model=\"m\""));
        metrics.answer("m", &SUMMARY, "new");
        let text = metrics.encode(&[], 0).unwrap();
        assert!(text.contains("{label=\"new\",model=\"m\"} 1"), "{text}");
    }
}
