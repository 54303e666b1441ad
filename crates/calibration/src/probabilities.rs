//! From logits to probabilities and energy, in float64.

/// The softmax of `logits / temperature`.
pub fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |&z: &f32| ((f64::from(z) - f64::from(max)) / temperature).exp();
    let powers: Vec<f64> = logits.iter().map(power).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// 1 / (1 + e⁻ᶻ).
pub fn sigmoid(z: f64) -> f64 {
    // Either branch raises e to a negative power only.
    match z >= 0.0 {
        true => 1.0 / (1.0 + (-z).exp()),
        false => z.exp() / (1.0 + z.exp()),
    }
}

/// The free energy −ln Σ e^z of the logits (Liu et al. 2020, at temperature 1): low where an image
/// is like those that the model was trained on.
pub fn energy(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&z| (f64::from(z) - max).exp()).sum();
    -(max + sum.ln())
}

/// Class ids by falling probability, ties by rising id.
pub(crate) fn ranking(probabilities: &[f64]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..probabilities.len()).collect();
    ids.sort_unstable_by(|&a, &b| {
        probabilities[b]
            .total_cmp(&probabilities[a])
            .then(a.cmp(&b))
    });
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_give_no_infinity_and_no_nan() {
        assert_eq!(softmax(&[1e30, -1e30], 0.01), [1.0, 0.0]);
        assert_eq!((sigmoid(-1e30), sigmoid(1e30)), (0.0, 1.0));
        assert_eq!(energy(&[-1000.0, -1000.0]), 1000.0 - 2f64.ln());
    }

    #[test]
    fn ties_are_ordered_by_class_id() {
        assert_eq!(ranking(&[0.1, 0.4, 0.1, 0.4]), [1, 3, 0, 2]);
    }
}
