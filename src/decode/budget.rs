//! How much may be decoded at once: in bytes, and in threads.

use std::sync::Arc;

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
}

/// The right to decode one picture; given back when dropped, from whatever thread.
#[derive(Debug)]
pub struct Permit {
    _memory: OwnedSemaphorePermit,
    _thread: OwnedSemaphorePermit,
}

impl DecodeBudget {
    /// A budget of `bytes` for at most `threads` decodes at a time (at least one).
    pub fn new(bytes: u64, threads: usize) -> Self {
        let total_units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self {
            memory: Arc::new(Semaphore::new(total_units as usize)),
            threads: Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS))),
            total_units,
        }
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
                detail: format!(
                    "decoding it takes {} MiB of memory, and the server allows {} MiB",
                    header.cost_bytes.div_ceil(1 << 20),
                    (u64::from(self.total_units) * UNIT) >> 20,
                ),
            });
        };
        // The thread first: who waits for one holds no memory that others could use.
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let memory = Arc::clone(&self.memory).acquire_many_owned(units).await;
        match (thread, memory) {
            (Ok(thread), Ok(memory)) => Ok(Permit {
                _memory: memory,
                _thread: thread,
            }),
            // Only a closed semaphore fails, and nothing closes these.
            _ => Err(Error::Internal),
        }
    }
}
