//! Where a value lies among those of familiar images.

/// How many steps the table has.
const STEPS: usize = 200;

/// Quantiles of a value over familiar images; larger is more familiar.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiles(Vec<f32>);

impl Quantiles {
    /// Of all values that were measured; `None` of none.
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let steps = STEPS.min(last.max(1));
        let at = |step: usize| values[(step * last + steps / 2) / steps] as f32;
        Some(Self((0..=steps).map(at).collect()))
    }

    /// Those of a file. `None` if they are not two or more, finite and in order.
    pub fn from_values(values: Vec<f32>) -> Option<Self> {
        let whole = values.len() >= 2 && values.iter().all(|value| value.is_finite());
        (whole && values.is_sorted()).then_some(Self(values))
    }

    /// For a file.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// The share of familiar images whose value is smaller, from 0 to 1, to the nearest of the
    /// table's steps.
    pub fn percentile(&self, value: f64) -> f64 {
        percentile(&self.0, value)
    }
}

/// [`Quantiles::percentile`] of a table whose values were checked before: two or more, rising.
pub fn percentile(quantiles: &[f32], value: f64) -> f64 {
    let below = quantiles.partition_point(|&known| f64::from(known) < value);
    (below as f64 / (quantiles.len() - 1) as f64).min(1.0)
}

/// The value below which an image is flagged, so that `rate` of familiar images are: the
/// ⌊(n + 1) · rate⌋-th smallest of n. `None` where n is too small to flag so few.
pub fn flag_threshold(values: &mut [f64], rate: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = ((values.len() + 1) as f64 * rate + 1e-9).floor() as usize;
    values.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_shares_of_smaller_values() {
        let values: Vec<f64> = (0..5000).map(|at| f64::from(at) * 0.5).collect();
        let table = Quantiles::new(values).unwrap();
        for (value, share) in [(-1.0, 0.0), (625.0, 0.25), (2000.0, 0.8), (1e9, 1.0)] {
            assert!(
                (table.percentile(value) - share).abs() <= 1.1 / STEPS as f64,
                "{value}"
            );
        }
        assert_eq!(Quantiles::from_values(table.values().to_vec()), Some(table));
    }

    #[test]
    fn few_values_none_and_broken_tables() {
        let two = Quantiles::new(vec![3.0, 1.0]).unwrap();
        let found = [0.0, 2.0, 4.0].map(|value| two.percentile(value));
        assert_eq!(found, [0.0, 1.0, 1.0]);
        assert_eq!(Quantiles::new(Vec::new()), None);
        assert_eq!(Quantiles::from_values(vec![2.0, 1.0]), None);
        assert_eq!(Quantiles::from_values(vec![1.0, f32::NAN]), None);
    }

    #[test]
    fn one_in_a_hundred_is_flagged_of_ninety_nine_and_none_of_fewer() {
        let mut values: Vec<f64> = (0..99).map(f64::from).collect();
        assert_eq!(flag_threshold(&mut values, 0.01), Some(0.0));
        assert_eq!(flag_threshold(&mut values[..98], 0.01), None);
    }
}
