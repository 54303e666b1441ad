//! API keys: who may ask, how much, and whose map is whose.
//!
//! With `--api-key-file`, `/classify` and `/attention` want `Authorization: Bearer KEY`. The file
//! holds a key a line, with a name and a quota where wanted ([`entry`]); empty lines and lines that
//! begin with `#` are skipped. It is looked at every few seconds, so that keys can be added and
//! withdrawn while the server runs; a file that became unreadable or empty leaves the old keys in
//! force and is complained about in the log.
//!
//! Only SHA-256 digests of the keys stay in memory. A presented key's digest is compared with all
//! of them in constant time.

mod entry;
mod quota;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Instant,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use self::{entry::Entry, quota::Bucket};
use super::{AppState, Problem, request_id};
use crate::{
    Error,
    metrics::Metrics,
    secret_file::{SecretFile, SecretFileError},
    store::Owner,
    watched::LOOK_EVERY,
};

type KeyDigest = [u8; 32];

/// The keys in force. A handle; clones share them.
#[derive(Clone, Debug)]
pub struct KeyRing(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    path: PathBuf,
    in_force: RwLock<Arc<[Key]>>,
}

#[derive(Clone, Debug)]
struct Key {
    entry: Entry,
    allowance: Allowance,
}

/// What a key may still ask for. A handle; without a quota it is endless.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance(Option<Arc<Mutex<Bucket>>>);

/// Who asks.
struct Caller {
    owner: Owner,
    name: Option<String>,
    allowance: Allowance,
}

impl KeyRing {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, holds no key, or has a line that cannot be understood.
    pub fn load(path: &Path) -> Result<Self, SecretFileError> {
        let keys: Vec<Key> = read(path)?.into_iter().map(Key::new).collect();
        Ok(Self(Arc::new(Keys {
            path: path.to_owned(),
            in_force: RwLock::new(keys.into()),
        })))
    }

    /// Follows changes of the file for ever. Needs a tokio runtime.
    pub async fn watch(self) {
        let mut complained = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match read(&self.0.path) {
                Ok(entries) => {
                    complained = false;
                    self.replace(entries);
                }
                Err(why) if !complained => {
                    complained = true;
                    tracing::error!(%why, "the API keys stay as they were");
                }
                Err(_) => {}
            }
        }
    }

    /// A key whose line did not change keeps what is left of its quota.
    fn replace(&self, entries: Vec<Entry>) {
        let current = self.in_force();
        if current.iter().map(|key| &key.entry).eq(&entries) {
            return;
        }
        tracing::info!(keys = entries.len(), "API keys changed");
        let keep = |entry: Entry| {
            let same = current.iter().find(|key| key.entry == entry);
            same.cloned().unwrap_or_else(|| Key::new(entry))
        };
        let keys: Vec<Key> = entries.into_iter().map(keep).collect();
        let in_force = &self.0.in_force;
        *in_force.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    fn in_force(&self) -> Arc<[Key]> {
        let in_force = &self.0.in_force;
        Arc::clone(&in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose key the request brings.
    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, key) = value.split_at_checked(b"Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let presented: KeyDigest = Sha256::digest(key.trim_ascii()).into();
        let keys = self.in_force();
        // All are compared, whichever matches, so that the time says nothing.
        let (mut known, mut which) = (Choice::from(0), 0);
        for (number, key) in (0_u64..).zip(keys.iter()) {
            let same = presented.ct_eq(&key.entry.digest);
            which.conditional_assign(&number, same);
            known |= same;
        }
        let owner = u64::from_le_bytes(first_eight(&presented));
        // 0 stands for nobody and is no key's digest but for one chance in 2⁶⁴.
        let owner = u64::conditional_select(&0, &owner, known);
        let key = keys.get(usize::try_from(which).ok()?)?;
        (owner != 0).then(|| Caller {
            owner: Owner::of_key(owner),
            name: key.entry.name.clone(),
            allowance: key.allowance.clone(),
        })
    }
}

impl Key {
    fn new(entry: Entry) -> Self {
        let bucket = entry.quota.map(|quota| Bucket::new(quota, Instant::now()));
        Self {
            entry,
            allowance: Allowance(bucket.map(|bucket| Arc::new(Mutex::new(bucket)))),
        }
    }
}

impl Allowance {
    /// Lets in a request that is to bring at least one picture, and takes one picture's worth.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`], counted, with the time until there is one.
    pub(super) fn admit(&self, metrics: &Metrics) -> Result<(), Error> {
        self.take().inspect_err(|_| metrics.quota_exceeded())
    }

    fn take(&self) -> Result<(), Error> {
        let Some(bucket) = &self.0 else {
            return Ok(());
        };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket
            .take(Instant::now())
            .map_err(|retry_after| Error::QuotaExceeded { retry_after })
    }

    /// A request that was let in brings so many pictures. The first was paid for then.
    pub(super) fn pictures(&self, count: usize) {
        if let Some(bucket) = &self.0 {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.owe(count.saturating_sub(1), Instant::now());
        }
    }
}

/// Lets a request through with its owner and what that may still ask for, or answers 401. Routes
/// that take pictures ask the [`Allowance`]; to all others it does not matter.
pub(super) async fn require_key(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match &state.keys {
        None => Some(Caller {
            owner: Owner::ANYONE,
            name: None,
            allowance: Allowance::default(),
        }),
        Some(keys) => keys.caller(request.headers()),
    };
    let Some(caller) = caller else {
        let mut response =
            Problem::new(&Error::Unauthorized, &request_id(&request)).into_response();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    };
    if let Some(name) = caller.name {
        tracing::Span::current().record("key", name);
    }
    request.extensions_mut().insert(caller.owner);
    request.extensions_mut().insert(caller.allowance);
    next.run(request).await
}

fn read(path: &Path) -> Result<Vec<Entry>, SecretFileError> {
    let file = SecretFile::read(path)?;
    Entry::read_all(file.text()?).map_err(|flaw| file.error(flaw))
}

fn first_eight(digest: &KeyDigest) -> [u8; 8] {
    let mut eight = [0; 8];
    eight.copy_from_slice(&digest[..8]);
    eight
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FIRST: &str = "0123456789abcdef";
    const SECOND: &str = "fedcba9876543210";

    fn ring(text: &str) -> (tempfile::NamedTempFile, Result<KeyRing, SecretFileError>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let ring = KeyRing::load(file.path());
        (file, ring)
    }

    fn owner(ring: &KeyRing, authorization: &str) -> Option<Owner> {
        let value = HeaderValue::from_str(authorization).unwrap();
        caller(ring, value).map(|caller| caller.owner)
    }

    fn caller(ring: &KeyRing, value: HeaderValue) -> Option<Caller> {
        ring.caller(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
    }

    #[test]
    fn each_key_has_its_own_owner() {
        let (_file, ring) = ring(&format!("# team a\n{FIRST}\n\n  {SECOND}  \n"));
        let ring = ring.unwrap();
        let first = owner(&ring, &format!("Bearer {FIRST}")).unwrap();
        let second = owner(&ring, &format!("bearer {SECOND}")).unwrap();
        assert_ne!(first, second);
        assert_ne!(first, Owner::ANYONE);
    }

    #[test]
    fn other_keys_and_other_schemes_have_none() {
        let (_file, ring) = ring(FIRST);
        let ring = ring.unwrap();
        for wrong in [
            "Bearer 0123456789abcdeg",
            "Bearer ",
            "Basic 0123456789abcdef",
            FIRST,
            "Bear",
        ] {
            assert_eq!(owner(&ring, wrong), None, "{wrong}");
        }
        assert!(ring.caller(&HeaderMap::new()).is_none());
    }

    #[test]
    fn an_empty_file_and_a_short_key_are_refused() {
        for text in ["", "# only a comment\n", "short\n"] {
            assert!(ring(text).1.is_err(), "{text:?}");
        }
        assert!(KeyRing::load(Path::new("/no/such/file")).is_err());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_key() {
        let (_file, ring) = ring(&format!("\u{feff}{FIRST}\n"));
        let ring = ring.unwrap();
        assert!(owner(&ring, &format!("Bearer {FIRST}")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_follow_their_file_and_survive_a_broken_one() {
        let (file, ring) = ring(FIRST);
        let ring = ring.unwrap();
        let watching = tokio::spawn(ring.clone().watch());
        fs::write(file.path(), SECOND).unwrap();
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert_eq!(owner(&ring, &format!("Bearer {FIRST}")), None);
        assert!(owner(&ring, &format!("Bearer {SECOND}")).is_some());
        fs::write(file.path(), "").unwrap();
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert!(owner(&ring, &format!("Bearer {SECOND}")).is_some());
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_outlives_changes_of_other_lines() {
        let limited = format!("a {FIRST} rate=1/h");
        let (file, ring) = ring(&limited);
        let ring = ring.unwrap();
        let authorization = HeaderValue::from_str(&format!("Bearer {FIRST}")).unwrap();
        let ask = || {
            caller(&ring, authorization.clone())
                .unwrap()
                .allowance
                .take()
        };
        ask().unwrap();
        assert!(matches!(ask(), Err(Error::QuotaExceeded { .. })));

        let watching = tokio::spawn(ring.clone().watch());
        fs::write(file.path(), format!("{SECOND}\n{limited}\n")).unwrap();
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert!(owner(&ring, &format!("Bearer {SECOND}")).is_some());
        assert!(matches!(ask(), Err(Error::QuotaExceeded { .. })));
        watching.abort();
    }
}
