//! How many inputs arrive a second, by the last of them.

use std::{collections::VecDeque, time::Instant};

/// When the last inputs arrived, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals(VecDeque<Instant>);

impl Arrivals {
    /// Enough to know a rate within a tenth (arrivals at random: one in the square root of these),
    /// and few enough to follow a change within seconds where it matters.
    const REMEMBERED: usize = 128;

    /// An input arrived.
    pub(super) fn note(&mut self, now: Instant) {
        if self.0.len() == Self::REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// The rate from the oldest arrival that is remembered until `now`; zero before the second.
    pub(super) fn per_second(&self, now: Instant) -> f64 {
        match self.0.front() {
            Some(oldest) if self.0.len() > 1 => {
                let elapsed = now.saturating_duration_since(*oldest);
                (self.0.len() - 1) as f64 / elapsed.as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `count` arrivals, the first now and the others `gap` milliseconds apart.
    fn regular(start: Instant, count: u64, gap: u64) -> (Arrivals, Instant) {
        let mut arrivals = Arrivals::default();
        let mut last = start;
        for number in 0..count {
            last = start + Duration::from_millis(number * gap);
            arrivals.note(last);
        }
        (arrivals, last)
    }

    #[test]
    fn nothing_and_one_arrival_are_no_rate() {
        let now = Instant::now();
        assert_eq!(Arrivals::default().per_second(now), 0.0);
        assert_eq!(regular(now, 1, 0).0.per_second(now), 0.0);
    }

    #[test]
    fn a_regular_stream_has_the_rate_of_its_gaps() {
        let (arrivals, last) = regular(Instant::now(), 1000, 20);
        assert!((arrivals.per_second(last) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn silence_lowers_the_rate_and_a_new_stream_replaces_it() {
        let (mut arrivals, last) = regular(Instant::now(), 128, 10);
        let later = last + Duration::from_secs(3600);
        assert!(arrivals.per_second(later) < 0.04);
        for number in 0..128 {
            arrivals.note(later + Duration::from_millis(number * 10));
        }
        let rate = arrivals.per_second(later + Duration::from_millis(1270));
        assert!((rate - 100.0).abs() < 1e-9, "{rate}");
    }
}
