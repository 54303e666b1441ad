//! Temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks"): the number by
//! which logits are divided so that the log loss on images with known labels is least.
//!
//! The log loss is convex in the inverse β of the temperature, so Newton's method finds it: a pass
//! over the images gives the two derivatives, and a bracket holds the steps.

use crate::probabilities::{sigmoid, softmax};

/// Temperatures outside 1/`LIMIT` … `LIMIT` are not looked for: labels that the logits separate
/// without any error have none that is best.
const LIMIT: f64 = 32.0;
/// A step of β, relative to it, that ends the search.
const TOLERANCE: f64 = 1e-9;

/// One temperature that is being looked for.
///
/// ```
/// # use patchlight_calibration::temperature::Search;
/// # let images = [([2.0_f32, 0.0], 0_usize), ([2.0, 0.0], 1), ([2.0, 0.0], 0)];
/// let mut search = Search::default();
/// while search.unfinished() {
///     for (logits, label) in &images {
///         search.add(logits, *label);
///     }
///     search.step();
/// }
/// assert!((search.temperature() - 2.0 / 2_f64.ln()).abs() < 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    beta: f64,
    low: f64,
    high: f64,
    slope: f64,
    curvature: f64,
    images: u64,
    finished: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            beta: 1.0,
            low: 1.0 / LIMIT,
            high: LIMIT,
            slope: 0.0,
            curvature: 0.0,
            images: 0,
            finished: false,
        }
    }
}

impl Search {
    /// Whether another pass is needed.
    pub fn unfinished(&self) -> bool {
        !self.finished
    }

    /// The temperature as far as it is known.
    pub fn temperature(&self) -> f64 {
        1.0 / self.beta
    }

    /// Adds an image whose classes exclude each other: the loss is that of the softmax.
    pub fn add(&mut self, logits: &[f32], label: usize) {
        let probabilities = softmax(logits, 1.0 / self.beta);
        let terms = || logits.iter().map(|&z| f64::from(z)).zip(&probabilities);
        let mean: f64 = terms().map(|(z, p)| z * p).sum();
        let variance: f64 = terms().map(|(z, p)| p * (z - mean).powi(2)).sum();
        self.slope += mean - f64::from(logits[label]);
        self.curvature += variance;
        self.images += 1;
    }

    /// Adds an image to the search of one class that holds or does not: the loss is that of the
    /// sigmoid.
    pub fn add_binary(&mut self, logit: f32, holds: bool) {
        let z = f64::from(logit);
        let p = sigmoid(self.beta * z);
        self.slope += (p - f64::from(u8::from(holds))) * z;
        self.curvature += p * (1.0 - p) * z * z;
        self.images += 1;
    }

    /// Ends a pass: a step of Newton's method, or half of the bracket where that leaves it.
    pub fn step(&mut self) {
        if self.images == 0 {
            self.finished = true;
            return;
        }
        match self.slope > 0.0 {
            true => self.high = self.beta,
            false => self.low = self.beta,
        }
        let newton = self.beta - self.slope / self.curvature;
        let next = match newton > self.low && newton < self.high {
            true => newton,
            // Geometric: the bracket spans orders of magnitude.
            false => (self.low * self.high).sqrt(),
        };
        self.finished = (next - self.beta).abs() <= TOLERANCE * self.beta;
        self.beta = next;
        (self.slope, self.curvature, self.images) = (0.0, 0.0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(images: &[([f32; 2], usize)]) -> f64 {
        let mut search = Search::default();
        let mut passes = 0;
        while search.unfinished() {
            images.iter().for_each(|(z, y)| search.add(z, *y));
            search.step();
            passes += 1;
            assert!(passes < 100);
        }
        search.temperature()
    }

    /// Odds of 3 to 1 are e^(z/T).
    #[test]
    fn odds_are_those_of_the_labels() {
        let image = [9.0, 0.0];
        let temperature = found(&[(image, 0), (image, 0), (image, 0), (image, 1)]);
        assert!(
            (temperature - 9.0 / 3_f64.ln()).abs() < 1e-6,
            "{temperature}"
        );
    }

    #[test]
    fn labels_without_any_error_end_at_the_limit() {
        let temperature = found(&[([1.0, 0.0], 0), ([0.0, 2.0], 1)]);
        assert!((temperature * LIMIT - 1.0).abs() < 1e-6, "{temperature}");
    }

    #[test]
    fn labels_against_the_logits_end_at_the_other_limit() {
        let temperature = found(&[([1.0, 0.0], 1), ([0.0, 2.0], 0)]);
        assert!((temperature / LIMIT - 1.0).abs() < 1e-6, "{temperature}");
    }

    #[test]
    fn equal_logits_say_nothing_and_end_at_once() {
        assert!(found(&[([1.0, 1.0], 0)]).is_finite());
    }

    #[test]
    fn without_images_nothing_is_scaled() {
        assert_eq!(found(&[]), 1.0);
    }
}
