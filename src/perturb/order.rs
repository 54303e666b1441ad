//! In which order patches go.

use patchlight_splitmix::SplitMix64;

/// Patches by their index, row-major; each once.
#[derive(Clone, Debug, PartialEq)]
pub struct Order(Vec<usize>);

impl Order {
    /// A random order that the seed fixes.
    pub fn random(patches: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..patches).collect();
        SplitMix64::new(seed).shuffle(&mut order);
        Self(order)
    }

    /// The largest value first. Equal values are in a random order, which the seed fixes, lest a
    /// map that says nothing gets the merits of reading a picture from its upper left.
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
        let order = Order::strongest_first(&[0.0, -3.0, 5.0, 1.0], 7);
        assert_eq!(order, Order(vec![2, 3, 0, 1]));
        assert_eq!(order.strongest(2), [false, false, true, true]);
    }

    #[test]
    fn a_map_that_says_nothing_has_a_random_order() {
        assert_eq!(Order::strongest_first(&[0.5; 40], 7), Order::random(40, 7));
        assert_ne!(Order::random(40, 7), Order((0..40).collect()));
    }
}
