//! Maps in their own ids: sealed, so that only a holder of the key can make or read one.
//!
//! Nothing is kept anywhere: any replica with the key answers, after any restart, and no load fills
//! a memory. The price is that an id has a few hundred characters, carries the whole rollout and
//! nothing else, and cannot be forgotten before it expires.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    AttentionMap, FoundMap, MapKind, Owner, SealingKeys, StoreError, StoredMap, codec,
    sealing_keys::Purpose,
};
use crate::{Error, Result};

/// A store without state. A handle; clones share the keys.
#[derive(Clone, Debug)]
pub struct SealedTokenStore {
    keys: SealingKeys,
    ttl: Duration,
}

impl SealedTokenStore {
    /// The longest id: proxies commonly take request lines of 8 KiB. Patches are two bytes each,
    /// so that this is enough for grids of 48 × 48.
    const MAX_TOKEN_LENGTH: usize = 6500;

    /// Ids under these keys.
    pub fn new(keys: SealingKeys, ttl: Duration) -> Self {
        Self { keys, ttl }
    }

    pub(super) fn put(
        &self,
        map: &AttentionMap,
        now: u64,
    ) -> std::result::Result<StoredMap, StoreError> {
        if map.rollout.is_empty() {
            return Err(StoreError::NoRollout);
        }
        let record = codec::encode_abridged(map, now.saturating_add(self.ttl.as_secs()));
        let id = URL_SAFE_NO_PAD.encode(self.keys.seal(Purpose::Id, &record)?);
        if id.len() > Self::MAX_TOKEN_LENGTH {
            return Err(StoreError::TooLarge);
        }
        Ok(StoredMap {
            id,
            maps: vec![MapKind::Rollout],
            expires_in: self.ttl,
        })
    }

    pub(crate) fn get(&self, id: &str, owner: Owner, now: u64) -> Result<FoundMap> {
        let (map, expires_in_s) = self.open(id, now).ok_or(Error::NoSuchMap)?;
        if map.owner != owner {
            return Err(Error::NoSuchMap);
        }
        Ok(FoundMap {
            map,
            preview: None,
            expires_in_s,
        })
    }

    pub(super) fn delete(&self, id: &str, owner: Owner, now: u64) -> Result<Option<[u8; 32]>> {
        let found = self.get(id, owner, now)?;
        Err(Error::NotDeletable {
            expires_in_s: found.expires_in_s,
        })
    }

    fn open(&self, id: &str, now: u64) -> Option<(AttentionMap, u64)> {
        if id.len() > Self::MAX_TOKEN_LENGTH {
            return None;
        }
        // The decoder refuses spare bits, so that one id has one spelling.
        let sealed = URL_SAFE_NO_PAD.decode(id).ok()?;
        codec::decode(&self.keys.open(Purpose::Id, &sealed)?, now)
    }
}

#[cfg(test)]
mod tests;
