//! Results that are kept for identical requests, and identical requests in flight that are
//! computed once.
//!
//! A result goes when a map is forgotten that was made of it, and lives no longer than the first of
//! them may: it holds the same values, and the same copy of the image.
//!
//! A computation in flight is a shared future that all requests for its result poll. A request that
//! is dropped leaves it to the others; with the last one it is cancelled.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use super::MapRetention;
use crate::{
    Error, Result,
    metrics::{CacheOutcome, Metrics},
    store::Owner,
};

/// What makes two requests the same: SHA-256 over the image's bytes, the model's digest, the maps
/// that are stored and the owner.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct ResultKey([u8; 32]);

impl ResultKey {
    pub(super) fn new(image: &[u8], model_digest: &str, maps: MapRetention, owner: Owner) -> Self {
        let mut hasher = Sha256::new();
        // Everything before the image has a fixed length for a given model, or says its own.
        hasher.update((model_digest.len() as u64).to_le_bytes());
        hasher.update(model_digest);
        hasher.update([match maps {
            MapRetention::None => 0,
            MapRetention::Rollout => 1,
            MapRetention::Heads => 2,
        }]);
        hasher.update(owner.number().to_le_bytes());
        hasher.update(image);
        Self(hasher.finalize().into())
    }
}

impl From<[u8; 32]> for ResultKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<ResultKey> for [u8; 32] {
    fn from(key: ResultKey) -> Self {
        key.0
    }
}

/// What can be kept: bounded by its bytes.
pub(super) trait Weighted {
    /// Bytes that it holds.
    fn bytes(&self) -> usize;
}

/// Results by key. A handle; clones share the content.
pub(super) struct SingleFlightCache<T> {
    cache: Cache<ResultKey, Arc<T>>,
    in_flight: Arc<Mutex<InFlightTable<T>>>,
    metrics: Arc<Metrics>,
}

type ResultFuture<T> = BoxFuture<'static, Result<Arc<T>>>;

type InFlight<T> = Shared<ResultFuture<T>>;

struct InFlightTable<T> {
    /// Computations by key, each with a number of its own.
    by_key: HashMap<ResultKey, (u64, WeakShared<ResultFuture<T>>)>,
    next: u64,
}

impl<T: Weighted + Send + Sync + 'static> SingleFlightCache<T> {
    /// What an entry costs beside its values: key, pointers, the cache's own bookkeeping.
    const OVERHEAD: usize = 300;

    /// Nothing kept yet, never more than so many bytes, and nothing for longer than `ttl`.
    pub(super) fn new(bytes: u64, ttl: Duration, metrics: Arc<Metrics>) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .time_to_live(ttl)
            .weigher(|_, result: &Arc<T>| {
                u32::try_from(result.bytes() + Self::OVERHEAD).unwrap_or(u32::MAX)
            })
            .build();
        Self {
            cache,
            in_flight: Arc::default(),
            metrics,
        }
    }

    /// The result for this key: kept, on its way, or computed now; and whether it was computed for
    /// this request alone.
    ///
    /// # Errors
    /// What is wrong with the image is wrong for all who brought it. Where the computation of
    /// another request ends for reasons of its own, such as its deadline, this one starts again.
    pub(super) async fn get<F>(
        &self,
        key: ResultKey,
        compute: impl Fn() -> F,
    ) -> Result<(Arc<T>, bool)>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        loop {
            if let Some(result) = self.cache.get(&key) {
                self.metrics.cache_outcome(CacheOutcome::Hit);
                return Ok((result, true));
            }
            let (computation, joined) = self.join_or_start(key, &compute);
            self.metrics.cache_outcome(match joined {
                true => CacheOutcome::Joined,
                false => CacheOutcome::Miss,
            });
            match computation.await {
                Ok(result) => return Ok((result, joined)),
                Err(error) if joined && is_request_specific(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a result, if it is cached.
    pub(super) fn remove(&self, key: ResultKey) {
        self.cache.invalidate(&key);
        // Otherwise it would lie in the cache's own queue until the cache is used again.
        self.cache.run_pending_tasks();
    }

    /// Bytes that are kept now.
    pub(super) fn bytes(&self) -> u64 {
        // Weighing waits for bookkeeping that is otherwise put off.
        self.cache.run_pending_tasks();
        self.cache.weighted_size()
    }

    /// The computation for this key, and whether it was in flight already.
    fn join_or_start<F>(&self, key: ResultKey, compute: &impl Fn() -> F) -> (InFlight<T>, bool)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut in_flight = lock(&self.in_flight);
        if let Some((_, computation)) = in_flight.by_key.get(&key)
            && let Some(computation) = computation.upgrade()
        {
            return (computation, true);
        }
        let number = in_flight.next;
        in_flight.next += 1;
        let guard = InFlightGuard {
            in_flight: Arc::clone(&self.in_flight),
            key,
            number,
        };
        let (cache, compute) = (self.cache.clone(), compute());
        let computation = async move {
            // Taken off the list however this ends, and not before the result is kept.
            let _guard = guard;
            let result = Arc::new(compute.await?);
            cache.insert(key, Arc::clone(&result));
            Ok(result)
        };
        let computation = computation.boxed().shared();
        if let Some(weak) = computation.downgrade() {
            in_flight.by_key.insert(key, (number, weak));
        }
        (computation, false)
    }
}

impl<T> Clone for SingleFlightCache<T> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            in_flight: Arc::clone(&self.in_flight),
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl<T> fmt::Debug for SingleFlightCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlightCache").finish_non_exhaustive()
    }
}

impl<T> Default for InFlightTable<T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            next: 0,
        }
    }
}

/// Removes a computation from the table when it has ended, or when the last request for it is
/// dropped.
struct InFlightGuard<T> {
    in_flight: Arc<Mutex<InFlightTable<T>>>,
    key: ResultKey,
    number: u64,
}

impl<T> Drop for InFlightGuard<T> {
    fn drop(&mut self) {
        let mut in_flight = lock(&self.in_flight);
        // Another may be in flight under the same key by now.
        if in_flight.by_key.get(&self.key).map(|(number, _)| *number) == Some(self.number) {
            in_flight.by_key.remove(&self.key);
        }
    }
}

/// Whether an error belongs to one request and says nothing of another with the same image.
fn is_request_specific(error: &Error) -> bool {
    matches!(
        error,
        Error::DeadlinePassed { .. } | Error::Overloaded { .. }
    )
}

/// Nothing that holds this lock leaves the list half changed.
fn lock<T>(in_flight: &Mutex<InFlightTable<T>>) -> MutexGuard<'_, InFlightTable<T>> {
    in_flight.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
