//! Maps in their own ids: sealed, so that only a holder of the key can make or read one.
//!
//! Nothing is kept anywhere: any replica with the key answers, after any restart, and no load fills
//! a memory. The price is that an id has a few hundred characters, carries the whole rollout and
//! nothing else, and cannot be forgotten before it expires.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Found, KeptMap, MapKind, NotKept, Owner, Receipt, SigningKeys, entry, keys::Purpose};
use crate::{Error, Result};

/// Ids that are not there. A handle; clones share the keys.
#[derive(Clone, Debug)]
pub struct SignedStore {
    keys: SigningKeys,
    ttl: Duration,
}

impl SignedStore {
    /// The longest id: proxies commonly take request lines of 8 KiB. Patches are two bytes each,
    /// so that this is enough for grids of 48 × 48.
    const LONGEST: usize = 6500;

    /// Ids under these keys.
    pub fn new(keys: SigningKeys, ttl: Duration) -> Self {
        Self { keys, ttl }
    }

    pub(super) fn keep(&self, map: &KeptMap, now: u64) -> std::result::Result<Receipt, NotKept> {
        let entry = entry::abridge(map, now.saturating_add(self.ttl.as_secs()));
        let id = URL_SAFE_NO_PAD.encode(self.keys.seal(Purpose::Id, &entry)?);
        if id.len() > Self::LONGEST {
            return Err(NotKept::TooLarge);
        }
        Ok(Receipt {
            id,
            maps: vec![MapKind::Rollout],
            expires_in: self.ttl,
        })
    }

    pub(crate) fn find(&self, id: &str, owner: Owner, now: u64) -> Result<Found> {
        let (map, expires_in_s) = self.open(id, now).ok_or(Error::NoSuchMap)?;
        if map.owner != owner {
            return Err(Error::NoSuchMap);
        }
        Ok(Found {
            map,
            picture: None,
            expires_in_s,
        })
    }

    pub(super) fn forget(&self, id: &str, owner: Owner, now: u64) -> Result<Option<[u8; 32]>> {
        let found = self.find(id, owner, now)?;
        Err(Error::NotForgettable {
            expires_in_s: found.expires_in_s,
        })
    }

    fn open(&self, id: &str, now: u64) -> Option<(KeptMap, u64)> {
        if id.len() > Self::LONGEST {
            return None;
        }
        // The decoder refuses spare bits, so that one id has one spelling.
        let sealed = URL_SAFE_NO_PAD.decode(id).ok()?;
        entry::read(&self.keys.open(Purpose::Id, &sealed)?, now)
    }
}

#[cfg(test)]
mod tests;
