//! The perturbation test: does the answer depend on the patches that a map is strong on?
//!
//! Patches of the model's input are replaced by a [`Fill`] in the order of a map, and after each
//! step the model says how probable it still holds the label (deletion, insertion: Petsiuk, Das &
//! Saenko 2018).
//!
//! * **Deletion** takes patches away, the strongest first. If the map is right, the score falls
//!   early: a small area under the curve is good.
//! * **Insertion** begins with the fill alone and puts patches back, the strongest first. If the
//!   map is right, the score rises early: a large area is good.
//!
//! Both curves begin and end at the same two images, the whole one and the fill, and are to be
//! compared with those of a random order. Taking patches away in an order is putting them back in
//! the reverse of it, seen from the other end, and the reverse of a random order is another random
//! order: so one random order gives two curves of each kind, whose means are used.
//!
//! Everything here is arithmetic on input tensors, apart from engines and clocks. A patch is what
//! one token of the model sees: the same square of all three planes, in the units of the tensor.
//!
//! What the test does not say: images with holes are none that the model was trained on, so that
//! a score may fall because of the hole and not for what was under it. That is why the random
//! order is part of it.

mod curve;
mod fill;
mod order;
mod patch_layout;

pub use self::{
    curve::{Curve, Curves},
    fill::Fill,
    order::PatchOrder,
    patch_layout::PatchLayout,
};

/// The steps of a test: which images have to be run, and what their scores mean.
#[derive(Clone, Debug, PartialEq)]
pub struct PerturbationPlan {
    /// The maps' orders; the last is a random one.
    orders: Vec<PatchOrder>,
    steps: usize,
}

/// The curves of each map's order, and of a random one.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Of each map, in their order.
    pub maps: Vec<Curves>,
    /// Of the random order and its reverse, on average.
    pub random: Curves,
}

impl PerturbationPlan {
    /// A test of the orders of `maps` over `patches` patches, in `steps` equal steps, and of a
    /// random order that `seed` fixes. There is at least one step.
    pub fn new(maps: Vec<PatchOrder>, patches: usize, steps: usize, seed: u64) -> Self {
        let mut orders = maps;
        orders.push(PatchOrder::random(patches, seed));
        Self {
            orders,
            steps: steps.max(1),
        }
    }

    /// How many images have to be run: the whole one, the fill, and for each order the steps
    /// between them in both directions.
    pub fn images(&self) -> usize {
        2 + self.orders.len() * 2 * (self.steps - 1)
    }

    /// For each image to be run, which patches are replaced; the whole image comes first.
    pub fn masks(&self) -> impl Iterator<Item = Vec<bool>> {
        let patches = self.orders.first().map_or(0, PatchOrder::len);
        let ends = [vec![false; patches], vec![true; patches]].into_iter();
        let between = self.orders.iter().flat_map(|order| {
            let deleted = (1..self.steps).map(|step| order.strongest(self.count(order, step)));
            let inserted = (1..self.steps).map(|step| {
                let mut mask = order.strongest(self.count(order, step));
                mask.iter_mut().for_each(|replaced| *replaced = !*replaced);
                mask
            });
            deleted.chain(inserted)
        });
        ends.chain(between)
    }

    /// The curves, from the label's score for each of [`masks`](Self::masks); `None` unless there
    /// is one for each.
    pub fn outcome(&self, scores: &[f64]) -> Option<Outcome> {
        let [whole, fill, between @ ..] = scores else {
            return None;
        };
        if scores.len() != self.images() {
            return None;
        }
        let each = self.steps - 1;
        let mut curves: Vec<Curves> = (0..self.orders.len())
            .map(|order| {
                let (deleted, inserted) = between[order * 2 * each..][..2 * each].split_at(each);
                Curves {
                    deletion: Curve::between(*whole, deleted, *fill),
                    insertion: Curve::between(*fill, inserted, *whole),
                }
            })
            .collect();
        let random = curves.pop()?.averaged_with_reverse();
        Some(Outcome {
            maps: curves,
            random,
        })
    }

    /// How many patches of an order have gone after so many steps.
    fn count(&self, order: &PatchOrder, step: usize) -> usize {
        (order.len() * step + self.steps / 2) / self.steps
    }
}

#[cfg(test)]
mod tests;
