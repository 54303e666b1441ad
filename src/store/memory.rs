//! Maps in this process's memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};

use super::{Found, KeptMap, MapId, NotKept, Owner, Receipt};
use crate::{Error, Result, metrics::Metrics};

/// Maps and pictures in memory. A picture is by far the larger part and has a budget of its own:
/// it may go while its map stays. A handle; clones share the content.
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

    /// An empty store for this many bytes.
    pub fn new(bytes: u64, ttl: Duration, metrics: Arc<Metrics>) -> Self {
        let for_maps = (bytes as f64 * Self::MAPS) as u64;
        // Least recently used, not the default: that one may refuse a newcomer in favour of what
        // is asked for more often, but every answer promises its own map.
        let maps = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(for_maps)
            .time_to_live(ttl)
            .weigher(|_, kept: &Kept| weight(kept.map.size() + size_of::<Kept>()))
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    metrics.map_evicted();
                }
            })
            .build();
        let pictures = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .max_capacity(bytes - for_maps)
            .time_to_live(ttl)
            .weigher(|_, picture: &Bytes| weight(picture.len()))
            .build();
        Self {
            maps,
            pictures,
            ttl,
        }
    }

    /// Keeps a map under a new id.
    pub(super) fn keep(
        &self,
        map: KeptMap,
        picture: Option<Bytes>,
    ) -> std::result::Result<Receipt, NotKept> {
        let id = MapId::random()?;
        let maps = map.kinds();
        self.maps.insert(
            id,
            Kept {
                map,
                until: Instant::now() + self.ttl,
            },
        );
        if let Some(jpeg) = picture {
            self.pictures.insert(id, jpeg);
        }
        Ok(Receipt {
            id: id.to_string(),
            maps,
            expires_in: self.ttl,
        })
    }

    pub(super) fn find(&self, id: &str, owner: Owner) -> Result<Found> {
        let id: MapId = id.parse()?;
        let kept = self.maps.get(&id).filter(|kept| kept.map.owner == owner);
        let kept = kept.ok_or(Error::NoSuchMap)?;
        let left = kept.until.saturating_duration_since(Instant::now());
        Ok(Found {
            map: kept.map,
            picture: self.pictures.get(&id),
            expires_in_s: left.as_secs(),
        })
    }

    pub(super) fn forget(&self, id: &str, owner: Owner) -> Result<Option<[u8; 32]>> {
        let found = self.find(id, owner)?;
        let id: MapId = id.parse()?;
        self.pictures.invalidate(&id);
        self.maps.invalidate(&id);
        self.tidy();
        Ok(found.map.result)
    }

    /// Lets go of what is forgotten, which would otherwise lie in the caches' own queues until
    /// somebody uses them again.
    fn tidy(&self) {
        self.pictures.run_pending_tasks();
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
