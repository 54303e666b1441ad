//! From logits to scores and the best of them.

mod summary;

use serde::Serialize;

pub use self::summary::ScoreSummary;
use super::{ModelInfo, manifest::TaskKind};

/// A label and how sure the model is of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prediction {
    /// The class's number, from 0.
    pub class_id: usize,
    /// The class's name.
    pub label: String,
    /// Probability: softmax, or sigmoid for a multi-label model.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub score: f32,
}

/// What makes scores of logits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScoreFunction {
    /// They add up to 1.
    Softmax,
    /// Each for itself, from 0 to 1.
    Sigmoid,
    /// The logits as they are.
    Identity,
}

impl ScoreFunction {
    /// The one that a model was trained with.
    pub fn of(kind: TaskKind) -> Self {
        match kind {
            TaskKind::SingleLabel => Self::Softmax,
            TaskKind::MultiLabel => Self::Sigmoid,
        }
    }

    /// The score of every class. `logits` must be finite.
    pub fn apply(self, logits: &[f32]) -> Vec<f32> {
        match self {
            Self::Softmax => softmax(logits),
            Self::Sigmoid => logits.iter().map(|&z| sigmoid(z)).collect(),
            Self::Identity => logits.to_vec(),
        }
    }
}

/// The `top_k` best classes with at least `min_score`, best first, ties by class id.
///
/// `logits` must be finite, one per class of `model`.
pub fn best(
    model: &ModelInfo,
    logits: &[f32],
    function: ScoreFunction,
    top_k: usize,
    min_score: f32,
) -> Vec<Prediction> {
    let scores = function.apply(logits);
    ranking(&scores, top_k)
        .into_iter()
        .filter(|&class_id| scores[class_id] >= min_score)
        .map(|class_id| Prediction {
            class_id,
            label: model.labels.name(class_id).to_owned(),
            score: scores[class_id],
        })
        .collect()
}

/// The score of every class: softmax, or sigmoid of each logit. `logits` must be finite.
pub fn of_all(kind: TaskKind, logits: &[f32]) -> Vec<f32> {
    ScoreFunction::of(kind).apply(logits)
}

/// Class ids by falling score, ties by rising id, the first `top_k` of them.
pub fn ranking(scores: &[f32], top_k: usize) -> Vec<usize> {
    let order = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
    let mut ids: Vec<usize> = (0..scores.len()).collect();
    let top_k = top_k.min(ids.len());
    if top_k < ids.len() {
        ids.select_nth_unstable_by(top_k, order);
        ids.truncate(top_k);
    }
    ids.sort_unstable_by(order);
    ids
}

/// Shifted by the maximum, so that nothing overflows; summed in f64.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&z| f64::from(z - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers
        .into_iter()
        .map(|power| (power / sum) as f32)
        .collect()
}

fn sigmoid(z: f32) -> f32 {
    (1.0 / (1.0 + f64::from(-z).exp())) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_adds_up_and_survives_extremes() {
        for logits in [
            vec![1.0, 2.0, 3.0],
            vec![1e30, -1e30],
            vec![-500.0; 7],
            vec![0.0],
        ] {
            let sum: f32 = softmax(&logits).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{logits:?}");
        }
    }

    #[test]
    fn large_negative_logits_do_not_overflow() {
        assert_eq!(softmax(&[-1000.0, -1001.0])[0], softmax(&[0.0, -1.0])[0]);
    }

    #[test]
    fn sigmoid_reaches_its_limits_without_nan() {
        assert_eq!(
            (sigmoid(-1e30), sigmoid(0.0), sigmoid(1e30)),
            (0.0, 0.5, 1.0)
        );
    }

    #[test]
    fn ties_are_ordered_by_class_id() {
        assert_eq!(ranking(&[0.1, 0.4, 0.1, 0.4], 3), [1, 3, 0]);
    }

    #[test]
    fn asking_for_more_than_there_is_gives_all() {
        assert_eq!(ranking(&[0.2, 0.8], 10), [1, 0]);
    }

    #[test]
    fn asking_for_none_gives_none() {
        assert!(ranking(&[0.2, 0.8], 0).is_empty());
    }
}
