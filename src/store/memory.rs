//! Maps in this process's memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};

use super::{AttentionMap, FoundMap, MapId, Owner, StoreError, StoredMap};
use crate::{Error, Result, metrics::Metrics};

/// Maps and images in memory. An image is by far the larger part and has a budget of its own:
/// it may go while its map stays. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    maps: Cache<MapId, StoredEntry>,
    previews: Cache<MapId, Bytes>,
    ttl: Duration,
}

#[derive(Clone, Debug)]
struct StoredEntry {
    map: AttentionMap,
    until: Instant,
}

impl MemoryStore {
    /// The share of the memory that is for maps; the rest is for images. A map of ViT-L/16 takes
    /// 24 kB with its attribution and 300 kB more with all heads, an image about 100 kB.
    const MAP_SHARE: f64 = 0.25;

    /// What an entry costs beside its values: keys, pointers, the cache's own bookkeeping.
    const OVERHEAD: usize = 400;

    /// An empty store for this many bytes.
    pub fn new(bytes: u64, ttl: Duration, metrics: Arc<Metrics>) -> Self {
        let for_maps = (bytes as f64 * Self::MAP_SHARE) as u64;
        // Least recently used, not the default: that one may refuse a new request in favour of what
        // is asked for more often, but every answer promises its own map.
        let maps = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(for_maps)
            .time_to_live(ttl)
            .weigher(|_, kept: &StoredEntry| weight(kept.map.size() + size_of::<StoredEntry>()))
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    metrics.map_evicted();
                }
            })
            .build();
        let previews = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(bytes - for_maps)
            .time_to_live(ttl)
            .weigher(|_, preview: &Bytes| weight(preview.len()))
            .build();
        Self {
            maps,
            previews,
            ttl,
        }
    }

    /// Keeps a map under a new id.
    pub(super) fn put(
        &self,
        map: AttentionMap,
        preview: Option<Bytes>,
    ) -> std::result::Result<StoredMap, StoreError> {
        let id = MapId::random()?;
        let maps = map.kinds();
        self.maps.insert(
            id,
            StoredEntry {
                map,
                until: Instant::now() + self.ttl,
            },
        );
        if let Some(jpeg) = preview {
            self.previews.insert(id, jpeg);
        }
        Ok(StoredMap {
            id: id.to_string(),
            maps,
            expires_in: self.ttl,
        })
    }

    pub(super) fn get(&self, id: &str, owner: Owner) -> Result<FoundMap> {
        let id: MapId = id.parse()?;
        let kept = self.maps.get(&id).filter(|kept| kept.map.owner == owner);
        let kept = kept.ok_or(Error::NoSuchMap)?;
        let left = kept.until.saturating_duration_since(Instant::now());
        Ok(FoundMap {
            map: kept.map,
            preview: self.previews.get(&id),
            expires_in_s: left.as_secs(),
        })
    }

    pub(super) fn delete(&self, id: &str, owner: Owner) -> Result<Option<[u8; 32]>> {
        let found = self.get(id, owner)?;
        let id: MapId = id.parse()?;
        self.previews.invalidate(&id);
        self.maps.invalidate(&id);
        self.tidy();
        Ok(found.map.result)
    }

    /// Drops what was removed, which would otherwise stay in the caches' own queues until
    /// they are used again.
    fn tidy(&self) {
        self.previews.run_pending_tasks();
        self.maps.run_pending_tasks();
    }

    /// How many maps are kept now.
    pub(super) fn len(&self) -> u64 {
        self.tidy();
        self.maps.entry_count()
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes + MemoryStore::OVERHEAD).unwrap_or(u32::MAX)
}
