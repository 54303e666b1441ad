//! How sure a model was of an image, whatever a request asked for: what drift shows in.

use super::{ScoreFunction, ranking};
use crate::manifest::TaskKind;

/// The best class and how the scores are spread, of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreSummary {
    /// The class with the highest score, the first of several.
    pub class_id: usize,
    /// Its score.
    pub score: f32,
    /// Shannon's entropy as a share of the largest possible, from 0 (all in one class) to 1 (no
    /// class before another). Of a multi-label model the mean of its labels' binary entropies.
    pub entropy: f32,
}

impl ScoreSummary {
    /// Of the logits of one image, which must be finite; `None` where there is none.
    pub fn of(kind: TaskKind, logits: &[f32]) -> Option<Self> {
        let scores = ScoreFunction::of(kind).apply(logits);
        let class_id = *ranking(&scores, 1).first()?;
        let entropy = match kind {
            TaskKind::SingleLabel => {
                let nats: f64 = scores.iter().map(|&score| surprise(score)).sum();
                // One class is always certain.
                let most = (scores.len().max(2) as f64).ln();
                nats / most
            }
            TaskKind::MultiLabel => {
                let binary = |&score: &f32| surprise(score) + surprise(1.0 - score);
                let nats: f64 = scores.iter().map(binary).sum();
                nats / (scores.len() as f64 * std::f64::consts::LN_2)
            }
        };
        Some(Self {
            class_id,
            score: scores[class_id],
            // Rounding may leave a hair more than there can be.
            entropy: entropy.clamp(0.0, 1.0) as f32,
        })
    }
}

/// −p ln p, which is 0 at 0.
fn surprise(score: f32) -> f64 {
    let score = f64::from(score);
    match score > 0.0 {
        true => -score * score.ln(),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy(kind: TaskKind, logits: &[f32]) -> f32 {
        ScoreSummary::of(kind, logits).unwrap().entropy
    }

    /// −(0.7 ln 0.7 + 0.2 ln 0.2 + 0.1 ln 0.1) / ln 3, by hand.
    #[test]
    fn entropy_is_the_share_of_the_largest_possible() {
        let logits = [0.2_f32.ln(), 0.7_f32.ln(), 0.1_f32.ln()];
        let summary = ScoreSummary::of(TaskKind::SingleLabel, &logits).unwrap();
        assert_eq!(summary.class_id, 1);
        assert!((summary.score - 0.7).abs() < 1e-6);
        assert!((summary.entropy - 0.729_847).abs() < 1e-5, "{summary:?}");
    }

    #[test]
    fn all_alike_is_one_and_all_in_one_is_zero() {
        assert!((entropy(TaskKind::SingleLabel, &[3.0; 1000]) - 1.0).abs() < 1e-6);
        assert_eq!(entropy(TaskKind::SingleLabel, &[1e30, 0.0, -1e30]), 0.0);
        assert_eq!(entropy(TaskKind::SingleLabel, &[5.0]), 0.0);
    }

    /// A label at one half is one bit of one, a certain one none.
    #[test]
    fn labels_of_their_own_have_entropies_of_their_own() {
        assert!((entropy(TaskKind::MultiLabel, &[0.0, 0.0]) - 1.0).abs() < 1e-6);
        assert!((entropy(TaskKind::MultiLabel, &[0.0, 1e30]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn no_logits_have_no_summary() {
        assert_eq!(ScoreSummary::of(TaskKind::SingleLabel, &[]), None);
    }
}
