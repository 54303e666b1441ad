//! Results that are kept for identical requests, and identical requests in flight that are
//! computed once.
//!
//! A result goes when a map is forgotten that was made of it, and lives no longer than the first of
//! them may: it holds the same values, and the same copy of the picture.
//!
//! A flight is a future that all who want its result poll together: whoever leaves leaves the
//! others in the air, and with the last one it is dropped, so that no work is done for nobody.

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

use super::{Keep, reading::Reading};
use crate::{
    Error, Result,
    metrics::{Metrics, Reuse},
    store::Owner,
};

/// What makes two requests the same: SHA-256 over the picture's bytes, the model's digest, the
/// maps that are wanted and who asks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(picture: &[u8], model_digest: &str, maps: Keep, owner: Owner) -> Self {
        let mut hasher = Sha256::new();
        // Everything before the picture has a fixed length for a given model, or says its own.
        hasher.update((model_digest.len() as u64).to_le_bytes());
        hasher.update(model_digest);
        hasher.update([match maps {
            Keep::Nothing => 0,
            Keep::Rollout => 1,
            Keep::Heads => 2,
        }]);
        hasher.update(owner.number().to_le_bytes());
        hasher.update(picture);
        Self(hasher.finalize().into())
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Key> for [u8; 32] {
    fn from(key: Key) -> Self {
        key.0
    }
}

/// What can be kept: bounded by its bytes.
pub(super) trait Weigh {
    /// Bytes that it holds.
    fn bytes(&self) -> usize;
}

/// What the models made of pictures, for identical requests. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct ResultCache(pub(super) Results<Reading>);

impl ResultCache {
    /// Nothing kept yet, never more than so many bytes, and nothing for longer than `ttl`.
    pub fn new(bytes: u64, ttl: Duration, metrics: Arc<Metrics>) -> Self {
        Self(Results::new(bytes, ttl, metrics))
    }

    /// Bytes that are kept now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// Results by key. A handle; clones share the content.
pub(super) struct Results<T> {
    kept: Cache<Key, Arc<T>>,
    flights: Arc<Mutex<Flights<T>>>,
    metrics: Arc<Metrics>,
}

type Work<T> = BoxFuture<'static, Result<Arc<T>>>;

type Flight<T> = Shared<Work<T>>;

struct Flights<T> {
    /// Flights by key, each with a number of its own.
    by_key: HashMap<Key, (u64, WeakShared<Work<T>>)>,
    next: u64,
}

impl<T: Weigh + Send + Sync + 'static> Results<T> {
    /// What an entry costs beside its values: key, pointers, the cache's own bookkeeping.
    const OVERHEAD: usize = 300;

    /// Nothing kept yet, never more than so many bytes, and nothing for longer than `ttl`.
    pub(super) fn new(bytes: u64, ttl: Duration, metrics: Arc<Metrics>) -> Self {
        let kept = Cache::builder()
            .max_capacity(bytes)
            .time_to_live(ttl)
            .weigher(|_, result: &Arc<T>| {
                u32::try_from(result.bytes() + Self::OVERHEAD).unwrap_or(u32::MAX)
            })
            .build();
        Self {
            kept,
            flights: Arc::default(),
            metrics,
        }
    }

    /// The result for this key: kept, on its way, or computed now; and whether it was computed for
    /// this request alone.
    ///
    /// # Errors
    /// What is wrong with the picture is wrong for all who brought it. Where another request's
    /// flight ends for that request's own reasons, such as its deadline, this one flies itself.
    pub(super) async fn get<F>(&self, key: Key, compute: impl Fn() -> F) -> Result<(Arc<T>, bool)>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        loop {
            if let Some(result) = self.kept.get(&key) {
                self.metrics.reused(Reuse::Hit);
                return Ok((result, true));
            }
            let (flight, joined) = self.board(key, &compute);
            self.metrics.reused(match joined {
                true => Reuse::Joined,
                false => Reuse::Miss,
            });
            match flight.await {
                Ok(result) => return Ok((result, joined)),
                Err(why) if joined && is_personal(&why) => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Forgets a result, if it is kept.
    pub(super) fn forget(&self, key: Key) {
        self.kept.invalidate(&key);
        // Otherwise it would lie in the cache's own queue until somebody uses the cache again.
        self.kept.run_pending_tasks();
    }

    /// Bytes that are kept now.
    pub(super) fn bytes(&self) -> u64 {
        // Weighing waits for bookkeeping that is otherwise put off.
        self.kept.run_pending_tasks();
        self.kept.weighted_size()
    }

    /// The flight for this key, and whether it was in the air already.
    fn board<F>(&self, key: Key, compute: &impl Fn() -> F) -> (Flight<T>, bool)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut flights = lock(&self.flights);
        if let Some((_, flight)) = flights.by_key.get(&key)
            && let Some(flight) = flight.upgrade()
        {
            return (flight, true);
        }
        let number = flights.next;
        flights.next += 1;
        let landing = Landing {
            flights: Arc::clone(&self.flights),
            key,
            number,
        };
        let (kept, work) = (self.kept.clone(), compute());
        let flight = async move {
            // Taken off the list however this ends, and not before the result is kept.
            let _landing = landing;
            let result = Arc::new(work.await?);
            kept.insert(key, Arc::clone(&result));
            Ok(result)
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.by_key.insert(key, (number, weak));
        }
        (flight, false)
    }
}

impl<T> Clone for Results<T> {
    fn clone(&self) -> Self {
        Self {
            kept: self.kept.clone(),
            flights: Arc::clone(&self.flights),
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl<T> fmt::Debug for Results<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            next: 0,
        }
    }
}

/// Takes a flight off the list when it has landed, or when the last one who wanted it has left.
struct Landing<T> {
    flights: Arc<Mutex<Flights<T>>>,
    key: Key,
    number: u64,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights);
        // Another may be in the air under the same key by now.
        if flights.by_key.get(&self.key).map(|(number, _)| *number) == Some(self.number) {
            flights.by_key.remove(&self.key);
        }
    }
}

/// Whether an error is of one request and says nothing of the next with the same picture.
fn is_personal(why: &Error) -> bool {
    matches!(why, Error::DeadlinePassed { .. } | Error::Overloaded { .. })
}

/// Nothing that holds this lock leaves the list half changed.
fn lock<T>(flights: &Mutex<Flights<T>>) -> MutexGuard<'_, Flights<T>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
