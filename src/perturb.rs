//! The perturbation test: does the answer hang on the patches that a map is strong on?
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
//! Both curves begin and end at the same two pictures, the whole one and the fill, and are to be
//! compared with those of a random order. Taking patches away in an order is putting them back in
//! the reverse of it, seen from the other end, and the reverse of a random order is another random
//! order: so one random order gives two curves of each kind, whose means are used.
//!
//! Everything here is arithmetic on input tensors, apart from engines and clocks. A patch is what
//! one token of the model sees: the same square of all three planes, in the units of the tensor.
//!
//! What the test does not say: pictures with holes are none that the model was trained on, so that
//! a score may fall because of the hole and not for what was under it. That is why the random
//! order is part of it.

mod curve;
mod cut;
mod fill;
mod order;

pub use self::{
    curve::{Curve, Curves},
    cut::Cut,
    fill::Fill,
    order::Order,
};

/// The steps of a test: which pictures have to be run, and what their scores mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The maps' orders; the last is a random one.
    orders: Vec<Order>,
    steps: usize,
}

/// What one map's order did, beside what a random one did.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Of each map, in their order.
    pub maps: Vec<Curves>,
    /// Of the random order and its reverse, on average.
    pub random: Curves,
}

impl Plan {
    /// A test of the orders of `maps` over `patches` patches, in `steps` equal steps, and of a
    /// random order that `seed` fixes. There is at least one step.
    pub fn new(maps: Vec<Order>, patches: usize, steps: usize, seed: u64) -> Self {
        let mut orders = maps;
        orders.push(Order::random(patches, seed));
        Self {
            orders,
            steps: steps.max(1),
        }
    }

    /// How many pictures have to be run: the whole one, the fill, and for each order the steps
    /// between them in both directions.
    pub fn pictures(&self) -> usize {
        2 + self.orders.len() * 2 * (self.steps - 1)
    }

    /// For each picture to be run, which patches are replaced; the whole picture comes first.
    pub fn masks(&self) -> impl Iterator<Item = Vec<bool>> {
        let patches = self.orders.first().map_or(0, Order::len);
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
        if scores.len() != self.pictures() {
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
        let random = curves.pop()?.with_its_reverse();
        Some(Outcome {
            maps: curves,
            random,
        })
    }

    /// How many patches of an order have gone after so many steps.
    fn count(&self, order: &Order, step: usize) -> usize {
        (order.len() * step + self.steps / 2) / self.steps
    }
}

#[cfg(test)]
mod tests;
