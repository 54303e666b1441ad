//! In which order patches go.

use patchlight_splitmix::SplitMix64;

/// Patches by their index, row-major; each once.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchOrder(Vec<usize>);

impl PatchOrder {
    /// A random order that the seed fixes.
    pub fn random(patches: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..patches).collect();
        SplitMix64::new(seed).shuffle(&mut order);
        Self(order)
    }

    /// The largest value first. Equal values are in a random order, which the seed fixes, so that a
    /// constant map gets no credit for row-major order.
    pub fn strongest_first(values: &[f32], seed: u64) -> Self {
        let Self(mut order) = Self::random(values.len(), seed);
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        Self(order)
    }

    /// How many patches there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For each patch whether it is among the first `count`.
    pub(super) fn strongest(&self, count: usize) -> Vec<bool> {
        let mut among = vec![false; self.0.len()];
        for &patch in self.0.iter().take(count) {
            among[patch] = true;
        }
        among
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_comes_first_and_negative_last() {
        let order = PatchOrder::strongest_first(&[0.0, -3.0, 5.0, 1.0], 7);
        assert_eq!(order, PatchOrder(vec![2, 3, 0, 1]));
        assert_eq!(order.strongest(2), [false, false, true, true]);
    }

    #[test]
    fn a_constant_map_has_a_random_order() {
        assert_eq!(
            PatchOrder::strongest_first(&[0.5; 40], 7),
            PatchOrder::random(40, 7)
        );
        assert_ne!(PatchOrder::random(40, 7), PatchOrder((0..40).collect()));
    }
}
