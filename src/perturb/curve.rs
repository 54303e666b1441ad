//! A label's score over the share of patches that are gone, or back.

use serde::Serialize;

/// Scores at equal steps from no patch to all of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve(Vec<f64>);

/// Both curves of one order.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// Patches go, the strongest first: from the whole image to the fill.
    pub deletion: Curve,
    /// Patches come back, the strongest first: from the fill to the whole image.
    pub insertion: Curve,
}

impl Curve {
    /// With its two ends.
    pub fn between(first: f64, middle: &[f64], last: f64) -> Self {
        let ends = [first, last];
        Self([&ends[..1], middle, &ends[1..]].concat())
    }

    /// The scores, from no patch to all.
    pub fn scores(&self) -> &[f64] {
        &self.0
    }

    /// The area under it by the trapezoidal rule, 0…1 for scores of 0…1.
    pub fn area(&self) -> f64 {
        let pairs = self.0.windows(2);
        let count = pairs.len().max(1) as f64;
        pairs.map(|pair| (pair[0] + pair[1]) / 2.0).sum::<f64>() / count
    }

    /// The point-wise mean of curves of the same steps; empty for none.
    pub fn mean<'a>(curves: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sums: Vec<f64> = Vec::new();
        let mut count = 0.0;
        for curve in curves {
            sums.resize(curve.0.len(), 0.0);
            for (sum, score) in sums.iter_mut().zip(&curve.0) {
                *sum += score;
            }
            count += 1.0;
        }
        Self(sums.into_iter().map(|sum| sum / count).collect())
    }

    fn reversed(&self) -> Self {
        Self(self.0.iter().rev().copied().collect())
    }
}

impl Curves {
    /// The means over an order and its reverse, whose curves are these read backwards.
    pub(super) fn averaged_with_reverse(&self) -> Self {
        let deletion = Curve::mean([&self.deletion, &self.insertion.reversed()]);
        Self {
            insertion: deletion.reversed(),
            deletion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_of_a_straight_fall_is_one_half() {
        let curve = Curve::between(1.0, &[0.75, 0.5, 0.25], 0.0);
        assert_eq!(curve.area(), 0.5);
        assert_eq!(Curve::between(0.5, &[], 0.25).area(), 0.375);
    }

    #[test]
    fn a_score_that_never_falls_has_all_the_area() {
        assert_eq!(Curve::between(1.0, &[1.0; 9], 1.0).area(), 1.0);
    }

    #[test]
    fn mean_is_taken_step_by_step() {
        let (a, b) = (
            Curve::between(1.0, &[0.5], 0.0),
            Curve::between(0.0, &[0.25], 1.0),
        );
        assert_eq!(Curve::mean([&a, &b]).scores(), [0.5, 0.375, 0.5]);
    }
}
