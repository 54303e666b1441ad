//! How far scores are from what they promise: expected calibration error and log loss.

use patchlight_splitmix::SplitMix64;

/// Bins of equal width, as in Guo et al. 2017.
pub const BINS: usize = 15;
/// Resamples for an interval.
const RESAMPLES: usize = 1000;

/// A measured value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The value.
    pub value: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Predictions and what became of them. It grows with their number, by 16 bytes for each.
#[derive(Clone, Debug, Default)]
pub struct Reliability {
    outcomes: Vec<(f64, bool)>,
    log_loss: Mean,
}

/// A bin of the reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many predictions fell into it.
    pub count: usize,
    /// Mean score.
    pub score: f64,
    /// Which share of them was right.
    pub right: f64,
}

impl Reliability {
    /// A prediction made with `score`, whether it was `right`, and −ln of the probability that was
    /// given to what is true.
    pub fn add(&mut self, score: f64, right: bool, log_loss: f64) {
        self.outcomes.push((score, right));
        self.log_loss.add(log_loss);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.outcomes.len()
    }

    /// Which share was right.
    pub fn accuracy(&self) -> f64 {
        let right = self.outcomes.iter().filter(|(_, right)| *right).count();
        right as f64 / self.count().max(1) as f64
    }

    /// The bins of the reliability diagram; a score on an edge belongs below it.
    pub fn bins(&self) -> [Bin; BINS] {
        Sums::of(self.outcomes.iter()).bins()
    }

    /// Expected calibration error: the mean distance of score and share of right predictions over
    /// the bins, each weighed by what is in it. The interval is the bootstrap's, which `seed` fixes.
    pub fn ece(&self, seed: u64) -> Interval {
        let mut random = SplitMix64::new(seed);
        let value = Sums::of(self.outcomes.iter()).ece();
        let count = self.count();
        if count == 0 {
            return Interval {
                value,
                low: value,
                high: value,
            };
        }
        let mut resampled: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn = (0..count).map(|_| &self.outcomes[random.next_below(count)]);
                Sums::of(drawn).ece()
            })
            .collect();
        resampled.sort_unstable_by(f64::total_cmp);
        Interval {
            value,
            low: resampled[RESAMPLES * 25 / 1000],
            high: resampled[RESAMPLES * 975 / 1000 - 1],
        }
    }

    /// Mean log loss; the interval is that of the normal distribution.
    pub fn log_loss(&self) -> Interval {
        self.log_loss.interval()
    }
}

/// Sums of a diagram's bins.
#[derive(Default)]
struct Sums {
    bins: [(usize, f64, usize); BINS],
    count: usize,
}

impl Sums {
    fn of<'a>(outcomes: impl Iterator<Item = &'a (f64, bool)>) -> Self {
        let mut sums = Self::default();
        for &(score, right) in outcomes {
            let at = (score * BINS as f64).ceil() as usize;
            let (count, scores, rights) = &mut sums.bins[at.saturating_sub(1).min(BINS - 1)];
            *count += 1;
            *scores += score;
            *rights += usize::from(right);
            sums.count += 1;
        }
        sums
    }

    fn bins(&self) -> [Bin; BINS] {
        self.bins.map(|(count, scores, rights)| Bin {
            count,
            score: scores / count.max(1) as f64,
            right: rights as f64 / count.max(1) as f64,
        })
    }

    fn ece(&self) -> f64 {
        let bins = self.bins.iter();
        let distances = bins.map(|(_, scores, rights)| (scores - *rights as f64).abs());
        distances.sum::<f64>() / self.count.max(1) as f64
    }
}

/// A mean and its standard error, one value at a time (Welford 1962).
#[derive(Clone, Debug, Default)]
struct Mean {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    fn interval(&self) -> Interval {
        let count = self.count as f64;
        let error = match self.count > 1 {
            true => (self.squares / (count - 1.0) / count).sqrt(),
            false => 0.0,
        };
        Interval {
            value: self.mean,
            low: self.mean - 1.96 * error,
            high: self.mean + 1.96 * error,
        }
    }
}

/// Wilson's 95 % interval of a share (1927), which is sound for shares near 0 and 1.
pub fn share(hits: usize, count: usize) -> Interval {
    const Z: f64 = 1.959_963_984_540_054;
    let n = count.max(1) as f64;
    let value = hits as f64 / n;
    let middle = value + Z * Z / (2.0 * n);
    let reach = Z * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Interval {
        value,
        low: ((middle - reach) / scale).max(0.0),
        high: ((middle + reach) / scale).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bin_below_and_zero_and_one_to_the_outer_bins() {
        let mut reliability = Reliability::default();
        for score in [0.0, 0.2, 1.0] {
            reliability.add(score, true, 0.0);
        }
        let counts = reliability.bins().map(|bin| bin.count);
        assert_eq!((counts[0], counts[2], counts[14]), (1, 1, 1));
    }

    #[test]
    fn scores_that_come_true_have_no_error() {
        let mut reliability = Reliability::default();
        for at in 0..100 {
            reliability.add(0.75, at % 4 != 0, 0.0);
        }
        let ece = reliability.ece(1);
        assert!(
            ece.value < 1e-6 && ece.low < ece.high && ece.high < 0.2,
            "{ece:?}"
        );
        assert_eq!(reliability.ece(1), ece);
    }

    #[test]
    fn nothing_measured_is_zero_and_not_nan() {
        let none = Reliability::default();
        assert_eq!(
            (none.ece(1).value, none.log_loss().value, none.accuracy()),
            (0.0, 0.0, 0.0)
        );
        assert_eq!(share(0, 0).value, 0.0);
    }
}
