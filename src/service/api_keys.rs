//! API keys: authentication, rate limits, and ownership of maps.
//!
//! With `--api-key-file`, whatever costs something or shows a client's image wants a key. The file
//! holds a key a line, with a name and a quota where wanted ([`key_file`]); empty lines and lines
//! that begin with `#` are skipped. It is polled every few seconds, so that keys can be added and
//! withdrawn while the server runs; a file that became unreadable or empty leaves the old keys in
//! force and is reported in the log.
//!
//! Only SHA-256 digests of the keys stay in memory. A presented key's digest is compared with all
//! of them in constant time.

mod key_file;
mod token_bucket;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use self::{key_file::KeyEntry, token_bucket::TokenBucket};
use crate::{
    Error,
    file_watcher::Watched,
    metrics::Metrics,
    secret_file::{SecretFile, SecretFileError},
    store::Owner,
};

type KeyDigest = [u8; 32];

/// The keys in force. A handle; clones share them.
#[derive(Clone, Debug)]
pub struct KeyRing(Watched<Vec<ApiKey>>);

#[derive(Clone, Debug)]
struct ApiKey {
    entry: KeyEntry,
    rate_limit: RateLimit,
}

/// The rate limit of a key. A handle; without a quota there is no limit.
#[derive(Clone, Debug, Default)]
pub(super) struct RateLimit(Option<Arc<Mutex<TokenBucket>>>);

/// The caller of a request; [`Service::authenticate`](super::Service::authenticate) makes it.
#[derive(Clone, Debug)]
pub struct Caller {
    owner: Owner,
    name: Option<String>,
    rate_limit: RateLimit,
}

impl Caller {
    /// Any caller, where no keys are configured.
    pub(crate) fn anyone() -> Self {
        Self {
            owner: Owner::ANYONE,
            name: None,
            rate_limit: RateLimit::default(),
        }
    }

    /// The owner of what it makes.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// What its key is called, for the log.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What it may still ask for.
    pub(super) fn rate_limit(&self) -> &RateLimit {
        &self.rate_limit
    }
}

impl KeyRing {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, holds no key, or has a line that cannot be understood.
    pub fn load(path: &Path) -> Result<Self, SecretFileError> {
        let path = path.to_owned();
        Watched::load("API keys", move |current: Option<&Vec<ApiKey>>| {
            let current = current.map_or(&[][..], Vec::as_slice);
            Ok(keys(current, read(&path)?))
        })
        .map(Self)
    }

    /// Follows changes of the file for ever. Needs a tokio runtime.
    pub async fn watch(self) {
        self.0.follow().await;
    }

    /// Whose key this is.
    pub(super) fn caller(&self, key: &[u8]) -> Option<Caller> {
        let presented: KeyDigest = Sha256::digest(key).into();
        let keys = self.0.get();
        // All are compared, whichever matches, so that the time says nothing.
        let (mut known, mut which) = (Choice::from(0), 0);
        for (number, key) in (0_u64..).zip(keys.iter()) {
            let same = presented.ct_eq(&key.entry.digest);
            which.conditional_assign(&number, same);
            known |= same;
        }
        let owner = u64::from_le_bytes(first_eight(&presented));
        // 0 stands for no key and is no key's digest but for one chance in 2⁶⁴.
        let owner = u64::conditional_select(&0, &owner, known);
        let key = keys.get(usize::try_from(which).ok()?)?;
        (owner != 0).then(|| Caller {
            owner: Owner::of_key(owner),
            name: key.entry.name.clone(),
            rate_limit: key.rate_limit.clone(),
        })
    }
}

/// By what its line says; what is left of its quota changes all the time.
impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
    }
}

impl ApiKey {
    fn new(entry: KeyEntry) -> Self {
        let bucket = entry
            .quota
            .map(|quota| TokenBucket::new(quota, Instant::now()));
        Self {
            entry,
            rate_limit: RateLimit(bucket.map(|bucket| Arc::new(Mutex::new(bucket)))),
        }
    }
}

impl RateLimit {
    /// Lets in a request that is to bring at least one image, and takes one image's worth.
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

    /// A request that was let in brings so many images. The first was paid for then.
    pub(super) fn charge_images(&self, count: usize) {
        if let Some(bucket) = &self.0 {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.charge(count.saturating_sub(1), Instant::now());
        }
    }
}

/// A key whose line did not change keeps what is left of its quota.
fn keys(current: &[ApiKey], entries: Vec<KeyEntry>) -> Vec<ApiKey> {
    let keep = |entry: KeyEntry| {
        let same = current.iter().find(|key| key.entry == entry);
        same.cloned().unwrap_or_else(|| ApiKey::new(entry))
    };
    entries.into_iter().map(keep).collect()
}

fn read(path: &Path) -> Result<Vec<KeyEntry>, SecretFileError> {
    let file = SecretFile::read(path)?;
    KeyEntry::read_all(file.text()?).map_err(|flaw| file.error(flaw))
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
    use crate::file_watcher::POLL_INTERVAL;

    const FIRST: &str = "0123456789abcdef";
    const SECOND: &str = "fedcba9876543210";

    fn ring(text: &str) -> (tempfile::NamedTempFile, Result<KeyRing, SecretFileError>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let ring = KeyRing::load(file.path());
        (file, ring)
    }

    fn owner(ring: &KeyRing, key: &str) -> Option<Owner> {
        ring.caller(key.as_bytes()).map(|caller| caller.owner)
    }

    #[test]
    fn each_key_has_its_own_owner() {
        let (_file, ring) = ring(&format!("# team a\n{FIRST}\n\n  {SECOND}  \n"));
        let ring = ring.unwrap();
        let first = owner(&ring, FIRST).unwrap();
        let second = owner(&ring, SECOND).unwrap();
        assert_ne!(first, second);
        assert_ne!(first, Owner::ANYONE);
    }

    #[test]
    fn other_keys_have_none() {
        let (_file, ring) = ring(FIRST);
        let ring = ring.unwrap();
        for wrong in ["0123456789abcdeg", "0123456789abcde", ""] {
            assert_eq!(owner(&ring, wrong), None, "{wrong}");
        }
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
        assert!(owner(&ring, FIRST).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_follow_their_file_and_survive_a_broken_one() {
        let (file, ring) = ring(FIRST);
        let ring = ring.unwrap();
        let watching = tokio::spawn(ring.clone().watch());
        fs::write(file.path(), SECOND).unwrap();
        tokio::time::sleep(2 * POLL_INTERVAL).await;
        assert_eq!(owner(&ring, FIRST), None);
        assert!(owner(&ring, SECOND).is_some());
        fs::write(file.path(), "").unwrap();
        tokio::time::sleep(2 * POLL_INTERVAL).await;
        assert!(owner(&ring, SECOND).is_some());
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_outlives_changes_of_other_lines() {
        let limited = format!("a {FIRST} rate=1/h");
        let (file, ring) = ring(&limited);
        let ring = ring.unwrap();
        let ask = || ring.caller(FIRST.as_bytes()).unwrap().rate_limit.take();
        ask().unwrap();
        assert!(matches!(ask(), Err(Error::QuotaExceeded { .. })));

        let watching = tokio::spawn(ring.clone().watch());
        fs::write(file.path(), format!("{SECOND}\n{limited}\n")).unwrap();
        tokio::time::sleep(2 * POLL_INTERVAL).await;
        assert!(owner(&ring, SECOND).is_some());
        assert!(matches!(ask(), Err(Error::QuotaExceeded { .. })));
        watching.abort();
    }
}
