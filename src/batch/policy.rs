//! When to close a batch: a pure rule over what waits.

use std::num::NonZeroUsize;

use super::curve::Curve;

/// The rule and the bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How batches are closed.
    pub batching: Batching,
    /// The most inputs that one run takes.
    pub max_batch: NonZeroUsize,
    /// The most inputs that may wait. Each holds its tensor, so this bounds memory as well.
    pub max_waiting: NonZeroUsize,
}

/// How batches are closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Batching {
    /// Everything that waits, up to the largest batch, as soon as the engine is free.
    Greedy,
    /// What the measured speed of each batch size recommends; [`Batching::Greedy`] until anything
    /// has been learned.
    Auto,
}

impl Policy {
    /// By what part low-priority inputs may lengthen a batch.
    const UNNOTICED: f64 = 0.05;

    /// How many of the oldest `waiting` inputs run now, the engine being free.
    ///
    /// [`Batching::Auto`] compares, for each size `k`, the mean time until the `waiting` inputs
    /// have their answers if they ran in batches of `k`: `seconds(k) · (batches + 1) / 2`. Where a
    /// batch of eight takes eight times as long as a single, nobody is made to wait for the
    /// others; where batches gain, their size grows with the square root of the crowd, and reaches
    /// the largest under load. A size that has never run is tried once, the next time the queue
    /// is long enough for it.
    pub(super) fn close(&self, waiting: usize, curve: &Curve) -> usize {
        let most = waiting.min(self.max_batch.get());
        match self.batching {
            Batching::Greedy => most,
            Batching::Auto => self
                .untried(most, curve)
                .unwrap_or_else(|| quickest(waiting, most, curve)),
        }
    }

    /// How many of `background` low-priority inputs join a batch that takes `foreground` others,
    /// none of which is left waiting.
    ///
    /// Whoever waits for the batch, or arrives while it runs, must hardly notice: as many join as
    /// make it longer by no more than [`UNNOTICED`](Self::UNNOTICED). Where every input of a batch
    /// costs its own time that is none, and an idle engine runs them one by one; where a device
    /// takes several at the price of one they travel free. Sizes are judged by what is known of
    /// them and never tried out here.
    pub(super) fn fill(&self, foreground: usize, background: usize, curve: &Curve) -> usize {
        let idle = foreground == 0;
        let room = self.max_batch.get().saturating_sub(foreground);
        let most = background.min(room);
        let least = usize::from(idle && most > 0);
        let Some(allowed) = curve.seconds(foreground.max(1)) else {
            return least;
        };
        let allowed = allowed * (1.0 + Self::UNNOTICED);
        let unnoticed = |more: &usize| {
            let seconds = curve.seconds(foreground + more);
            seconds.is_some_and(|seconds| seconds <= allowed)
        };
        (1..=most)
            .take_while(unnoticed)
            .last()
            .unwrap_or_default()
            .max(least)
    }

    /// The smallest power of two up to `most`, or the largest batch, that has not run yet.
    fn untried(&self, most: usize, curve: &Curve) -> Option<usize> {
        let largest = self.max_batch.get();
        let powers = (0..usize::BITS)
            .map(|n| 1_usize << n)
            .take_while(|&size| size < largest);
        powers
            .chain([largest])
            .find(|&size| size <= most && !curve.knows(size))
    }
}

/// The batch size with the least mean time to an answer; the smaller one on a tie.
fn quickest(waiting: usize, most: usize, curve: &Curve) -> usize {
    let mean_time = |size: usize| {
        let batches = waiting.div_ceil(size) as f64;
        curve
            .seconds(size)
            .map(|seconds| seconds * (batches + 1.0) / 2.0)
    };
    (1..=most)
        .filter_map(|size| Some((size, mean_time(size)?)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or(most, |(size, _)| size)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(batching: Batching, max_batch: usize) -> Policy {
        Policy {
            batching,
            max_batch: NonZeroUsize::new(max_batch).unwrap(),
            max_waiting: NonZeroUsize::new(100).unwrap(),
        }
    }

    /// An engine that takes `fixed + each · size` milliseconds and has run every size.
    fn engine(fixed: u64, each: u64, max_batch: usize) -> Curve {
        let mut curve = Curve::new(max_batch);
        for size in 1..=max_batch {
            curve.learn(size, Duration::from_millis(fixed + each * size as u64));
        }
        curve
    }

    #[test]
    fn a_lone_request_runs_alone_and_at_once() {
        for batching in [Batching::Greedy, Batching::Auto] {
            assert_eq!(policy(batching, 8).close(1, &engine(5, 5, 8)), 1);
            assert_eq!(policy(batching, 8).close(1, &Curve::new(8)), 1);
        }
    }

    #[test]
    fn nothing_waiting_closes_nothing() {
        for batching in [Batching::Greedy, Batching::Auto] {
            assert_eq!(policy(batching, 8).close(0, &engine(5, 5, 8)), 0);
            assert_eq!(policy(batching, 8).close(0, &Curve::new(8)), 0);
        }
    }

    #[test]
    fn greedy_takes_all_up_to_the_largest_batch() {
        let curve = engine(0, 10, 8);
        assert_eq!(policy(Batching::Greedy, 8).close(5, &curve), 5);
        assert_eq!(policy(Batching::Greedy, 8).close(50, &curve), 8);
    }

    #[test]
    fn auto_makes_nobody_wait_where_batches_gain_nothing() {
        let curve = engine(0, 10, 8);
        for waiting in [2, 5, 50] {
            assert_eq!(policy(Batching::Auto, 8).close(waiting, &curve), 1);
        }
    }

    #[test]
    fn auto_fills_up_where_a_batch_costs_as_much_as_a_single() {
        let curve = engine(10, 0, 8);
        assert_eq!(policy(Batching::Auto, 8).close(5, &curve), 5);
        assert_eq!(policy(Batching::Auto, 8).close(50, &curve), 8);
    }

    #[test]
    fn auto_grows_with_the_crowd_in_between() {
        let curve = engine(10, 10, 16);
        let sizes = [4, 16, 64].map(|waiting| policy(Batching::Auto, 16).close(waiting, &curve));
        assert!(
            sizes.is_sorted() && sizes[0] < sizes[2] && sizes[2] < 16,
            "{sizes:?}"
        );
    }

    #[test]
    fn auto_tries_each_size_once_before_it_judges() {
        let mut curve = Curve::new(12);
        let auto = policy(Batching::Auto, 12);
        for expected in [1, 2, 4, 8, 12] {
            assert_eq!(auto.close(40, &curve), expected);
            curve.learn(expected, Duration::from_millis(10 * expected as u64));
        }
        assert_eq!(auto.close(40, &curve), 1);
    }

    #[test]
    fn a_size_is_not_tried_before_that_many_wait() {
        let mut curve = Curve::new(8);
        curve.learn(1, Duration::from_millis(10));
        curve.learn(2, Duration::from_millis(20));
        assert_eq!(policy(Batching::Auto, 8).close(3, &curve), 1);
    }

    #[test]
    fn background_runs_one_by_one_where_every_input_costs_its_own_time() {
        let curve = engine(0, 10, 8);
        let greedy = policy(Batching::Greedy, 8);
        assert_eq!(greedy.fill(0, 20, &curve), 1);
        for foreground in [1, 4, 8] {
            assert_eq!(greedy.fill(foreground, 20, &curve), 0);
        }
    }

    #[test]
    fn background_travels_free_where_a_batch_costs_as_much_as_a_single() {
        let curve = engine(10, 0, 8);
        let greedy = policy(Batching::Greedy, 8);
        assert_eq!(greedy.fill(0, 20, &curve), 8);
        assert_eq!(greedy.fill(3, 20, &curve), 5);
        assert_eq!(greedy.fill(3, 2, &curve), 2);
        assert_eq!(greedy.fill(8, 20, &curve), 0);
    }

    #[test]
    fn an_engine_of_which_nothing_is_known_runs_background_alone_and_only_when_idle() {
        let greedy = policy(Batching::Greedy, 8);
        assert_eq!(greedy.fill(0, 20, &Curve::new(8)), 1);
        assert_eq!(greedy.fill(2, 20, &Curve::new(8)), 0);
        assert_eq!(greedy.fill(0, 0, &Curve::new(8)), 0);
    }
}
