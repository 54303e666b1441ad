//! Keeps what `GET /attention/{id}` needs, bounded in bytes and in time.
//!
//! A map is kept when an image is classified and forgotten when its time is over, when memory is
//! short, or when its owner says so. There are three places for it:
//!
//! | store | where a map is | who can answer | images | what it needs |
//! |---|---|---|---|---|
//! | [`MemoryStore`] | in this process | this process | yes | memory |
//! | [`SealedTokenStore`] | in its own id, sealed | servers with the key | no | a shared key |
//! | [`RedisStore`] | in Redis or Valkey | servers that reach it | yes, sealed | a server; a shared key |
//!
//! The server that answers need not serve the model that made a map: all that is needed to describe
//! it lies in the map ([`AttentionMap`]), and `codec` writes it down for the two stores that are
//! shared.
//!
//! A map that cannot be kept never fails a classification ([`StoreError`]).

mod address;
mod attention_map;
mod attribution;
mod circuit_breaker;
pub(crate) mod codec;
mod id;
mod memory;
mod owner;
mod quantize;
mod redis;
mod sealed_token;
mod sealing_keys;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

pub(crate) use self::id::MapId;
pub use self::{
    address::RedisAddress,
    attention_map::{AttentionMap, MapKind},
    attribution::{ClassAttribution, KeptAttribution},
    memory::MemoryStore,
    owner::Owner,
    redis::RedisStore,
    sealed_token::SealedTokenStore,
    sealing_keys::SealingKeys,
};
use crate::{Result, metrics::Metrics};

/// Which store, and its bounds.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where maps go.
    pub kind: StoreKind,
    /// For maps and images together, where they are in this process's memory.
    pub bytes: u64,
    /// How long a map is kept at the longest.
    pub ttl: Duration,
}

impl StoreOptions {
    /// The keys that follow their file.
    pub fn keys(&self) -> Option<SealingKeys> {
        match &self.kind {
            StoreKind::Memory => None,
            StoreKind::SealedToken(keys) => Some(keys.clone()),
            StoreKind::Redis(_, keys) => keys.clone(),
        }
    }
}

/// Where maps go.
#[derive(Clone, Debug)]
pub enum StoreKind {
    /// Into this process's memory.
    Memory,
    /// Into their own ids.
    SealedToken(SealingKeys),
    /// Into Redis or Valkey; images only with keys to seal them with.
    Redis(Box<RedisAddress>, Option<SealingKeys>),
}

/// The store that was chosen. A handle; clones share the content.
#[derive(Clone, Debug)]
pub enum Store {
    /// Maps in this process's memory.
    Memory(MemoryStore),
    /// Maps in their own ids.
    SealedToken(SealedTokenStore),
    /// Maps in Redis or Valkey.
    Redis(RedisStore),
}

/// A map that was stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMap {
    /// Its id, a secret shared with the client.
    pub id: String,
    /// The kinds of maps that can be asked for.
    pub maps: Vec<MapKind>,
    /// How long it is kept at the longest.
    pub expires_in: Duration,
}

/// A map from the store.
#[derive(Clone, Debug)]
pub struct FoundMap {
    /// The map.
    pub map: AttentionMap,
    /// The bounded JPEG copy of the upright image, if it is still kept.
    pub preview: Option<Bytes>,
    /// Seconds until it expires.
    pub expires_in_s: u64,
}

/// Why a map is not stored. The classification is answered all the same, with this as a note.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached.
    #[error("the map store cannot be reached at the moment")]
    Unavailable,
    /// The store takes nothing more.
    #[error("the map store is full")]
    Full,
    /// The store has a bound for a single map.
    #[error("the map is larger than the map store takes")]
    TooLarge,
    /// An id that carries its map has room for a rollout only.
    #[error(
        "ids of this server carry a rollout, and this model makes evidence only; a server with \
         `--attention-store memory` or one in Redis keeps it"
    )]
    NoRollout,
    /// The log has the reason.
    #[error("the map could not be kept: internal error")]
    Internal,
}

impl Store {
    /// The store that `options` choose, connected to nothing yet.
    pub fn new(options: &StoreOptions, metrics: Arc<Metrics>) -> Self {
        match &options.kind {
            StoreKind::Memory => {
                Self::Memory(MemoryStore::new(options.bytes, options.ttl, metrics))
            }
            StoreKind::SealedToken(keys) => {
                Self::SealedToken(SealedTokenStore::new(keys.clone(), options.ttl))
            }
            StoreKind::Redis(address, keys) => Self::Redis(RedisStore::new(
                RedisAddress::clone(address),
                keys.clone(),
                options.ttl,
                metrics,
            )),
        }
    }

    /// Keeps a map, and its image where it is taken.
    ///
    /// # Errors
    /// Why it is not kept. The log has details where they are the operator's concern.
    pub async fn put(
        &self,
        map: AttentionMap,
        preview: Option<Bytes>,
    ) -> std::result::Result<StoredMap, StoreError> {
        match self {
            Self::Memory(store) => store.put(map, preview),
            Self::SealedToken(store) => store.put(&map, now()),
            Self::Redis(store) => store.put(&map, preview, now()).await,
        }
    }

    /// The map with this id, if it is this owner's.
    ///
    /// # Errors
    /// [`Error::NoSuchMap`](crate::Error::NoSuchMap) for whatever this store does not know,
    /// [`Error::StoreUnavailable`](crate::Error::StoreUnavailable) when it cannot be asked.
    pub async fn get(&self, id: &str, owner: Owner) -> Result<FoundMap> {
        match self {
            Self::Memory(store) => store.get(id, owner),
            Self::SealedToken(store) => store.get(id, owner, now()),
            Self::Redis(store) => store.get(id, owner, now()).await,
        }
    }

    /// Forgets a map; the key of the kept result that it was made of.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::NotDeletable`](crate::Error::NotDeletable) where the
    /// id is the only place that the map is in.
    pub async fn delete(&self, id: &str, owner: Owner) -> Result<Option<[u8; 32]>> {
        match self {
            Self::Memory(store) => store.delete(id, owner),
            Self::SealedToken(store) => store.delete(id, owner, now()),
            Self::Redis(store) => store.delete(id, owner, now()).await,
        }
    }

    /// Whether it takes previews.
    pub fn keeps_previews(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::SealedToken(_) => false,
            Self::Redis(store) => store.keeps_previews(),
        }
    }

    /// How many maps are in this process's memory.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(store) => store.len(),
            Self::SealedToken(_) | Self::Redis(_) => 0,
        }
    }

    /// Whether no map is in this process's memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Seconds since 1970, which all processes agree on.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
