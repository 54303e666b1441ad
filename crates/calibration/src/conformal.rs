//! Sets of labels that hold the right one as often as promised: split conformal prediction with
//! regularised adaptive sets (RAPS; Angelopoulos et al. 2021, "Uncertainty Sets for Image
//! Classifiers using Conformal Prediction").
//!
//! A label's *score* is the probability of all labels that rank above it, and a penalty for its
//! rank. That is RAPS with the random number left out (u = 0), in calibration and in use: what is
//! calibrated is exactly what is used, so the promise holds, and an image gets the same set every
//! time. The best label has the score 0, so no set is empty, and where the model is right more often
//! than promised, the set is its best label and covers more.

use crate::probabilities::ranking;

/// How a label's rank is penalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// What each rank beyond `free` adds to the score; 0 gives APS (Romano et al. 2020).
    pub weight: f64,
    /// How many ranks cost nothing.
    pub free: usize,
}

impl Penalty {
    /// Those that are tried.
    pub fn candidates() -> impl Iterator<Item = Self> {
        let weights = [0.0, 0.001, 0.01, 0.05, 0.2];
        weights
            .into_iter()
            .flat_map(|weight| [1, 2, 5].map(|free| Self { weight, free }))
    }

    fn of_rank(self, rank: usize) -> f64 {
        self.weight * (rank + 1).saturating_sub(self.free) as f64
    }

    /// The best label costs nothing, whatever `free` is.
    fn score(self, rank: usize, above: f64) -> f64 {
        match rank {
            0 => 0.0,
            _ => above + self.of_rank(rank),
        }
    }
}

/// The score of one label.
pub fn score(probabilities: &[f64], label: usize, penalty: Penalty) -> f64 {
    let mut above = 0.0;
    for (rank, class) in ranking(probabilities).into_iter().enumerate() {
        if class == label {
            return penalty.score(rank, above);
        }
        above += probabilities[class];
    }
    f64::INFINITY
}

/// The labels whose score is at most `threshold`, best first; never empty.
pub fn set(probabilities: &[f64], threshold: f64, penalty: Penalty) -> Vec<usize> {
    let mut above = 0.0;
    let mut set = ranking(probabilities);
    // Scores rise with the rank, so the first that is too large ends the set.
    let size = set.iter().enumerate().position(|(rank, &class)| {
        let score = penalty.score(rank, above);
        above += probabilities[class];
        score > threshold
    });
    set.truncate(size.unwrap_or(set.len()).max(1));
    set
}

/// The score that the right label of a new image does not exceed with probability `level`: the
/// ⌈(n + 1) · level⌉-th smallest of n scores of right labels. Infinite where n is too small, so that
/// every set holds all labels.
pub fn threshold(scores: &mut [f64], level: f64) -> f64 {
    scores.sort_unstable_by(f64::total_cmp);
    let rank = ((scores.len() + 1) as f64 * level - 1e-9).ceil() as usize;
    match rank {
        0 => f64::NEG_INFINITY,
        rank => scores.get(rank - 1).copied().unwrap_or(f64::INFINITY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APS: Penalty = Penalty {
        weight: 0.0,
        free: 1,
    };

    #[test]
    fn the_best_label_is_in_every_set() {
        assert_eq!(set(&[0.3, 0.7], f64::NEG_INFINITY, APS), [1]);
        assert_eq!(score(&[0.3, 0.7], 1, APS), 0.0);
    }

    #[test]
    fn a_set_holds_the_labels_whose_score_does_not_exceed_the_threshold() {
        let probabilities = [0.1, 0.5, 0.1, 0.3];
        for label in 0..4 {
            let own = score(&probabilities, label, APS);
            assert!(set(&probabilities, own, APS).contains(&label));
            assert!(!set(&probabilities, own - 1e-9, APS).contains(&label) || label == 1);
        }
        assert_eq!(set(&probabilities, f64::INFINITY, APS), [1, 3, 0, 2]);
    }

    #[test]
    fn a_penalty_counts_the_ranks_beyond_those_that_are_free() {
        let penalty = Penalty {
            weight: 0.25,
            free: 2,
        };
        let found = [1, 3, 0].map(|label| score(&[0.125, 0.5, 0.125, 0.25], label, penalty));
        assert_eq!(found, [0.0, 0.5, 0.75 + 0.25]);
    }

    #[test]
    fn too_few_images_for_a_level_give_sets_of_everything() {
        assert_eq!(threshold(&mut [0.5; 18], 0.95), f64::INFINITY);
        assert_eq!(threshold(&mut [0.5; 19], 0.95), 0.5);
        assert_eq!(threshold(&mut [], 0.9), f64::INFINITY);
    }

    #[test]
    fn rounding_does_not_take_the_next_rank() {
        // 100 · 0.99 is 99 and not a little more.
        let mut scores: Vec<f64> = (1..=99).map(f64::from).collect();
        assert_eq!(threshold(&mut scores, 0.99), 99.0);
    }
}
