//! The largest batch that a device has memory for: a pure rule over runs.
//!
//! A batch that the device had no memory for is halved, and no larger one is run for a while. Then
//! a larger one is tried, because the memory may have been somebody else's: first twice as large,
//! then halfway between what fits and what does not. So the limit comes to within an eighth of what
//! really fits, and what is known not to fit is tried ever more seldom.

use std::time::{Duration, Instant};

/// What one device takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimit {
    /// What is configured.
    max: usize,
    /// The largest that is thought to fit.
    fits: usize,
    /// The smallest that is known not to, above `fits`.
    fails: Option<usize>,
    /// When a larger one than `fits` may run; `None` where there is no need.
    trial: Option<Instant>,
    /// From one trial of a size that is known not to fit to the next.
    pause: Duration,
}

impl BatchLimit {
    /// From a failure to the next trial of a larger batch.
    const FIRST_PAUSE: Duration = Duration::from_secs(60);

    /// At most so long from one trial of a size that did not fit to the next.
    const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

    /// For a device that runs batches up to `max`, of which those up to `fits` are known to fit.
    pub(super) fn new(max: usize, fits: usize, now: Instant) -> Self {
        let fits = fits.clamp(1, max);
        let lowered = fits < max;
        Self {
            max,
            fits,
            fails: lowered.then_some(fits + 1),
            trial: lowered.then(|| now + Self::FIRST_PAUSE),
            pause: Self::FIRST_PAUSE,
        }
    }

    /// The largest batch that may run now.
    pub(super) fn at(&self, now: Instant) -> usize {
        match self.trial {
            Some(trial) if trial <= now => self.next_trial(),
            _ => self.fits,
        }
    }

    /// What is thought to fit, trials apart.
    pub(super) fn fits(&self) -> usize {
        self.fits
    }

    /// The device had no memory for a batch of `size`. Answers the new limit if that was thought to
    /// fit.
    pub(super) fn ran_out(&mut self, size: usize, now: Instant) -> Option<usize> {
        if size > self.fits {
            // It is as long since the last trial whatever its size was, but a size that did not fit
            // before is worth it less often.
            self.pause = match self.fails.is_some_and(|fails| size >= fails) {
                true => (2 * self.pause).min(Self::LONGEST_PAUSE),
                false => Self::FIRST_PAUSE,
            };
            self.fails = Some(self.fails.map_or(size, |fails| fails.min(size)));
            self.trial = Some(now + self.pause);
            return None;
        }
        self.fails = Some(size.max(2));
        self.fits = size.div_ceil(2);
        self.pause = Self::FIRST_PAUSE;
        self.trial = Some(now + self.pause);
        (size > 1).then_some(self.fits)
    }

    /// A batch of `size` has run.
    pub(super) fn ran(&mut self, size: usize, now: Instant) {
        if size <= self.fits {
            return;
        }
        self.fits = size;
        self.fails = self.fails.filter(|&fails| fails > size);
        self.pause = Self::FIRST_PAUSE;
        self.trial = (size < self.max).then(|| now + self.pause);
    }

    fn next_trial(&self) -> usize {
        match self.fails {
            None => (2 * self.fits).min(self.max),
            Some(fails) if fails - self.fits > (self.fits / 8).max(1) => {
                self.fits + (fails - self.fits) / 2
            }
            Some(fails) => fails.min(self.max),
        }
    }
}

#[cfg(test)]
mod tests;
