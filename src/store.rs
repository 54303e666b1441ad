//! Keeps what `GET /attention/{id}` needs, bounded in bytes and in time.
//!
//! A map is kept when a picture is classified and forgotten when its time is over, when memory is
//! short, or when its owner says so. There are three places for it:
//!
//! | store | where a map is | who can answer | pictures | what it needs |
//! |---|---|---|---|---|
//! | [`MemoryStore`] | in this process | this process | yes | memory |
//! | [`SignedStore`] | in its own id, sealed | whoever has the key | no | a shared key |
//! | [`RedisStore`] | in Redis or Valkey | whoever reaches it | yes, sealed | a server; a shared key |
//!
//! Whoever answers need not serve the model that made a map: all that is needed to describe it
//! lies in the map ([`KeptMap`]), and `entry` writes it down for the two stores that are shared.
//!
//! A map that cannot be kept never fails a classification ([`NotKept`]).

mod absence;
mod address;
pub(crate) mod entry;
mod evidence;
mod id;
mod kept;
mod keys;
mod memory;
mod owner;
mod redis;
mod shares;
mod signed;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

pub(crate) use self::id::MapId;
pub use self::{
    address::RedisAddress,
    evidence::{ClassEvidence, KeptEvidence},
    kept::{KeptMap, MapKind},
    keys::SigningKeys,
    memory::MemoryStore,
    owner::Owner,
    redis::RedisStore,
    signed::SignedStore,
};
use crate::{Result, metrics::Metrics};

/// Which store, and its bounds.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where maps go.
    pub place: Place,
    /// For maps and pictures together, where they are in this process's memory.
    pub bytes: u64,
    /// How long a map is kept at the longest.
    pub ttl: Duration,
}

impl StoreOptions {
    /// The keys that follow their file.
    pub fn keys(&self) -> Option<SigningKeys> {
        match &self.place {
            Place::Memory => None,
            Place::Signed(keys) => Some(keys.clone()),
            Place::Redis(_, keys) => keys.clone(),
        }
    }
}

/// Where maps go.
#[derive(Clone, Debug)]
pub enum Place {
    /// Into this process's memory.
    Memory,
    /// Into their own ids.
    Signed(SigningKeys),
    /// Into Redis or Valkey; pictures only with keys to seal them with.
    Redis(Box<RedisAddress>, Option<SigningKeys>),
}

/// The store that was chosen. A handle; clones share the content.
#[derive(Clone, Debug)]
pub enum Store {
    /// Maps in this process's memory.
    Memory(MemoryStore),
    /// Maps in their own ids.
    Signed(SignedStore),
    /// Maps in Redis or Valkey.
    Redis(RedisStore),
}

/// A map that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// Its id, a secret shared with the client.
    pub id: String,
    /// The kinds of maps that can be asked for.
    pub maps: Vec<MapKind>,
    /// How long it is kept at the longest.
    pub expires_in: Duration,
}

/// A map as it comes out of the store.
#[derive(Clone, Debug)]
pub struct Found {
    /// The map.
    pub map: KeptMap,
    /// The bounded JPEG copy of the upright picture, if it is still kept.
    pub picture: Option<Bytes>,
    /// Seconds until it is forgotten at the latest.
    pub expires_in_s: u64,
}

/// Why a map is not kept. The classification is answered all the same, with this as a note.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotKept {
    /// The store cannot be reached.
    #[error("the map store cannot be reached at the moment")]
    Away,
    /// The store takes nothing more.
    #[error("the map store is full")]
    Full,
    /// The store has a bound for a single map.
    #[error("the map is larger than the map store takes")]
    TooLarge,
    /// The log has the reason.
    #[error("the map could not be kept: internal error")]
    Internal,
}

impl Store {
    /// The store that `options` choose, connected to nothing yet.
    pub fn new(options: &StoreOptions, metrics: Arc<Metrics>) -> Self {
        match &options.place {
            Place::Memory => Self::Memory(MemoryStore::new(options.bytes, options.ttl, metrics)),
            Place::Signed(keys) => Self::Signed(SignedStore::new(keys.clone(), options.ttl)),
            Place::Redis(address, keys) => Self::Redis(RedisStore::new(
                RedisAddress::clone(address),
                keys.clone(),
                options.ttl,
                metrics,
            )),
        }
    }

    /// Keeps a map, and its picture where it is taken.
    ///
    /// # Errors
    /// Why it is not kept. The log has details where they are the operator's concern.
    pub async fn keep(
        &self,
        map: KeptMap,
        picture: Option<Bytes>,
    ) -> std::result::Result<Receipt, NotKept> {
        match self {
            Self::Memory(store) => store.keep(map, picture),
            Self::Signed(store) => store.keep(&map, now()),
            Self::Redis(store) => store.keep(&map, picture, now()).await,
        }
    }

    /// The map with this id, if it is this owner's.
    ///
    /// # Errors
    /// [`Error::NoSuchMap`](crate::Error::NoSuchMap) for whatever this store does not know,
    /// [`Error::StoreAway`](crate::Error::StoreAway) when it cannot be asked.
    pub async fn find(&self, id: &str, owner: Owner) -> Result<Found> {
        match self {
            Self::Memory(store) => store.find(id, owner),
            Self::Signed(store) => store.find(id, owner, now()),
            Self::Redis(store) => store.find(id, owner, now()).await,
        }
    }

    /// Forgets a map; the key of the kept result that it was made of.
    ///
    /// # Errors
    /// As [`find`](Self::find); [`Error::NotForgettable`](crate::Error::NotForgettable) where the
    /// id is the only place that the map is in.
    pub async fn forget(&self, id: &str, owner: Owner) -> Result<Option<[u8; 32]>> {
        match self {
            Self::Memory(store) => store.forget(id, owner),
            Self::Signed(store) => store.forget(id, owner, now()),
            Self::Redis(store) => store.forget(id, owner, now()).await,
        }
    }

    /// Whether pictures are worth making for it.
    pub fn takes_pictures(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Signed(_) => false,
            Self::Redis(store) => store.takes_pictures(),
        }
    }

    /// How many maps are in this process's memory.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(store) => store.len(),
            Self::Signed(_) | Self::Redis(_) => 0,
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
