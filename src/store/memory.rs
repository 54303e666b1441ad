//! Maps in this process's memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};

use super::{Found, KeptMap, MapId, Owner};
use crate::{Error, Result, metrics::Metrics};

/// The bounds of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// For maps and pictures together.
    pub bytes: u64,
    /// How long a map is kept at the longest.
    pub ttl: Duration,
}

/// Maps and pictures in memory. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    maps: Cache<MapId, Kept>,
    pictures: Cache<MapId, Bytes>,
    ttl: Duration,
}

#[derive(Clone, Debug)]
struct Kept {
    map: KeptMap,
    until: Instant,
}

impl MemoryStore {
    /// The share of the memory that is for maps; the rest is for pictures. A map of ViT-L/16 takes
    /// 24 kB with its evidence and 300 kB more with all heads, a picture about 100 kB.
    const MAPS: f64 = 0.25;

    /// What an entry costs beside its values: keys, pointers, the cache's own bookkeeping.
    const OVERHEAD: usize = 400;

    /// An empty store.
    pub fn new(options: StoreOptions, metrics: Arc<Metrics>) -> Self {
        let for_maps = (options.bytes as f64 * Self::MAPS) as u64;
        // Least recently used, not the default: that one may refuse a newcomer in favour of what
        // is asked for more often, but every answer promises its own map.
        let maps = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(for_maps)
            .time_to_live(options.ttl)
            .weigher(|_, kept: &Kept| weight(kept.map.size() + size_of::<Kept>()))
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    metrics.map_evicted();
                }
            })
            .build();
        let pictures = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(options.bytes - for_maps)
            .time_to_live(options.ttl)
            .weigher(|_, picture: &Bytes| weight(picture.len()))
            .build();
        Self {
            maps,
            pictures,
            ttl: options.ttl,
        }
    }

    /// Keeps a map under a new id.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system has no random numbers.
    pub fn keep(&self, map: KeptMap) -> Result<MapId> {
        let id = MapId::random().map_err(|why| {
            tracing::error!(%why, "no random numbers");
            Error::Internal
        })?;
        self.maps.insert(
            id,
            Kept {
                map,
                until: Instant::now() + self.ttl,
            },
        );
        Ok(id)
    }

    /// Adds the picture to a map that is kept; does nothing when it has been forgotten meanwhile.
    pub fn keep_picture(&self, id: MapId, jpeg: Bytes) {
        if self.maps.contains_key(&id) {
            self.pictures.insert(id, jpeg);
        }
    }

    /// The map with this id, if it is this owner's.
    pub fn find(&self, id: MapId, owner: Owner) -> Option<Found> {
        let kept = self.maps.get(&id).filter(|kept| kept.map.owner == owner)?;
        let left = kept.until.saturating_duration_since(Instant::now());
        Some(Found {
            map: kept.map,
            picture: self.pictures.get(&id),
            expires_in_s: left.as_secs(),
        })
    }

    /// Forgets a map; whether there was one of this owner.
    pub fn forget(&self, id: MapId, owner: Owner) -> bool {
        if self.find(id, owner).is_none() {
            return false;
        }
        self.pictures.invalidate(&id);
        self.maps.remove(&id).is_some()
    }

    /// How long a map is kept at the longest.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How many maps are kept now.
    pub fn len(&self) -> u64 {
        // Counting waits for bookkeeping that is otherwise put off.
        self.maps.run_pending_tasks();
        self.maps.entry_count()
    }

    /// Whether no map is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes + MemoryStore::OVERHEAD).unwrap_or(u32::MAX)
}
