//! How much may be decoded at once: in bytes, and in threads.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Header;
use crate::error::{Error, Result};

/// Permits count KiB, so that budgets of terabytes fit the semaphore's 32 bits.
const UNIT: u64 = 1024;

/// Admits decodes while their estimated bytes fit a budget, and only so many at a time.
///
/// First come, first served: a large picture is not overtaken forever by small ones.
#[derive(Clone, Debug)]
pub struct DecodeBudget {
    memory: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    total_units: u32,
    demand: Arc<Demand>,
}

/// The right to decode one picture; given back when dropped, from whatever thread.
#[derive(Debug)]
pub struct Permit {
    _memory: OwnedSemaphorePermit,
    _thread: OwnedSemaphorePermit,
    wanted: Wanted,
    began: Option<Instant>,
}

impl DecodeBudget {
    /// A budget of `bytes` for at most `threads` decodes at a time (at least one).
    pub fn new(bytes: u64, threads: usize) -> Self {
        let total_units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self {
            memory: Arc::new(Semaphore::new(total_units as usize)),
            threads: Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS))),
            total_units,
            demand: Arc::new(Demand {
                threads: threads.max(1),
                state: Mutex::default(),
            }),
        }
    }

    /// How long a newcomer would wait for the end of its decoding, from the bytes that wait or are
    /// at work and the speed at which bytes have been decoded; zero before anything was measured.
    pub fn predicted_wait(&self) -> Duration {
        self.demand.lock().wait(self.demand.threads)
    }

    /// Waits until the picture may be decoded. Cancel safe: a dropped future takes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::ImageTooLarge`] at once if the picture would exceed the whole budget.
    pub async fn admit(&self, header: &Header) -> Result<Permit> {
        let units = header.cost_bytes.div_ceil(UNIT);
        let Some(units) = u32::try_from(units)
            .ok()
            .filter(|&units| units <= self.total_units)
        else {
            return Err(Error::ImageTooLarge {
                width: header.width,
                height: header.height,
                detail: format_args!(
                    "decoding it takes {} MiB of memory, and the server allows {} MiB",
                    header.cost_bytes.div_ceil(1 << 20),
                    (u64::from(self.total_units) * UNIT) >> 20,
                )
                .into(),
            });
        };
        let wanted = self.demand.want(header.cost_bytes);
        // The thread first: who waits for one holds no memory that others could use.
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let memory = Arc::clone(&self.memory).acquire_many_owned(units).await;
        match (thread, memory) {
            (Ok(thread), Ok(memory)) => Ok(Permit {
                _memory: memory,
                _thread: thread,
                wanted,
                began: None,
            }),
            // Only a closed semaphore fails, and nothing closes these.
            _ => Err(Error::Internal),
        }
    }
}

impl Permit {
    /// Work on the picture begins now. What it takes until the permit is dropped is learned.
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            let Wanted { demand, bytes } = &self.wanted;
            demand.lock().learn(*bytes, began.elapsed());
        }
    }
}

/// What all decodes together want.
#[derive(Debug)]
struct Demand {
    threads: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that wait or are at work.
    bytes: u64,
    /// Bytes that were decoded lately, and the seconds that it took; old ones fade.
    done: (f64, f64),
}

/// One picture's part of the demand, until dropped.
#[derive(Debug)]
struct Wanted {
    demand: Arc<Demand>,
    bytes: u64,
}

impl Demand {
    fn want(self: &Arc<Self>, bytes: u64) -> Wanted {
        self.lock().bytes += bytes;
        Wanted {
            demand: Arc::clone(self),
            bytes,
        }
    }

    /// Nothing that holds this lock leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut state = self.demand.lock();
        state.bytes = state.bytes.saturating_sub(self.bytes);
    }
}

impl State {
    /// What one decode adds to the past before it: about twenty count.
    const FADE: f64 = 0.95;

    fn learn(&mut self, bytes: u64, took: Duration) {
        self.done.0 = self.done.0 * Self::FADE + bytes as f64;
        self.done.1 = self.done.1 * Self::FADE + took.as_secs_f64();
    }

    fn wait(&self, threads: usize) -> Duration {
        let (bytes, seconds) = self.done;
        if bytes <= 0.0 {
            return Duration::ZERO;
        }
        let seconds = self.bytes as f64 * seconds / bytes / threads as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_bytes_ahead_and_the_speed_so_far() {
        let demand = Arc::new(Demand {
            threads: 2,
            state: Mutex::default(),
        });
        let ahead = [demand.want(3000), demand.want(1000)];
        assert_eq!(
            demand.lock().wait(2),
            Duration::ZERO,
            "nothing was measured"
        );
        demand.lock().learn(1000, Duration::from_secs(1));
        // 4000 bytes at 1000 a second and thread, on two threads.
        assert_eq!(demand.lock().wait(2), Duration::from_secs(2));
        drop(ahead);
        assert_eq!(demand.lock().wait(2), Duration::ZERO);
    }

    #[test]
    fn a_change_of_speed_is_learned() {
        let mut state = State {
            bytes: 100,
            ..State::default()
        };
        for _ in 0..100 {
            state.learn(100, Duration::from_secs(1));
        }
        for _ in 0..100 {
            state.learn(100, Duration::from_secs(3));
        }
        assert!((2.9..3.1).contains(&state.wait(1).as_secs_f64()));
    }
}
