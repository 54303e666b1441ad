//! Weights of patches in 16 bits each.
//!
//! Each is written in units of the largest one / 65535, so that small maps are as fine as large
//! ones. Reading divides by their sum and multiplies by what the patches hold together: whatever
//! rounding did, weights and prefix tokens still add up to 1.

/// Two bytes for each weight, little-endian. The weights must not be negative.
pub(super) fn quantize(weights: &[f32]) -> Vec<u8> {
    let largest = weights.iter().copied().fold(0.0, f32::max);
    let unit = match largest > 0.0 {
        true => f64::from(u16::MAX) / f64::from(largest),
        false => 0.0,
    };
    weights
        .iter()
        // `as` saturates; the largest weight is exactly the largest number.
        .map(|&weight| (f64::from(weight) * unit).round() as u16)
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// The weights, which add up to `total`; `None` if that cannot be.
pub(super) fn dequantize(packed: &[u8], total: f64) -> Option<Vec<f32>> {
    if !packed.len().is_multiple_of(2) {
        return None;
    }
    let units: Vec<f64> = packed
        .chunks_exact(2)
        .map(|pair| f64::from(u16::from_le_bytes([pair[0], pair[1]])))
        .collect();
    let sum: f64 = units.iter().sum();
    let scale = match sum > 0.0 {
        true => total / sum,
        false => 0.0,
    };
    Some(units.iter().map(|&unit| (unit * scale) as f32).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Weights that add up to `total`.
    fn weights(total: f64) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(1e-6_f64..1.0, 1..600).prop_map(move |parts| {
            let sum: f64 = parts.iter().sum();
            parts
                .iter()
                .map(|part| (part / sum * total) as f32)
                .collect()
        })
    }

    proptest! {
        #[test]
        fn sums_survive_and_no_weight_moves_by_more_than_its_rounding(before in weights(0.9)) {
            let after = dequantize(&quantize(&before), 0.9).unwrap();
            let sum: f64 = after.iter().copied().map(f64::from).sum();
            prop_assert!((sum - 0.9).abs() < 1e-6, "{sum}");
            // Half a unit of its own, and its part of what rounding did to the sum: at most half
            // a unit for each of the others, spread over all.
            let unit = before.iter().copied().fold(0.0, f32::max) / 65535.0;
            let spread = before.len() as f32 * unit / 2.0 / 0.9;
            for (before, after) in before.iter().zip(&after) {
                let moved = (before - after).abs();
                prop_assert!(moved <= unit / 2.0 + before * spread + 1e-8, "{before} {after}");
            }
        }
    }

    #[test]
    fn patches_that_hold_nothing_stay_nothing() {
        assert_eq!(
            dequantize(&quantize(&[0.0, 0.0]), 0.0),
            Some(vec![0.0, 0.0])
        );
    }

    #[test]
    fn a_dominant_patch_leaves_the_others_precise() {
        let after = dequantize(&quantize(&[0.75, 0.25, 0.0]), 1.0).unwrap();
        assert!((after[0] - 0.75).abs() < 1e-5 && (after[1] - 0.25).abs() < 1e-5);
        assert_eq!(after[2], 0.0);
    }

    #[test]
    fn half_a_number_is_refused() {
        assert_eq!(dequantize(&[1, 2, 3], 1.0), None);
    }
}
