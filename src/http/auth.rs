//! API keys: who may ask, and whose map is whose.
//!
//! With `--api-key-file`, `/classify` and `/attention` want `Authorization: Bearer KEY`. The file
//! holds a key a line; empty lines and lines that begin with `#` are skipped. It is looked at
//! every few seconds, so that keys can be added and withdrawn while the server runs; a file that
//! became unreadable or empty leaves the old keys in force and is complained about in the log.
//!
//! Only SHA-256 digests of the keys stay in memory. A presented key's digest is compared with all
//! of them in constant time.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::{AppState, Problem, request_id};
use crate::{Error, store::Owner};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The shortest key that is taken: 16 characters are 64 bits even in hexadecimal.
const SHORTEST: usize = 16;

type KeyDigest = [u8; 32];

/// The keys in force. A handle; clones share them.
#[derive(Clone, Debug)]
pub struct KeyRing(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    path: PathBuf,
    digests: RwLock<Arc<[KeyDigest]>>,
}

impl KeyRing {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, holds no key, or holds one that is too short.
    pub fn load(path: &Path) -> Result<Self, String> {
        let digests = RwLock::new(read(path)?);
        Ok(Self(Arc::new(Keys {
            path: path.to_owned(),
            digests,
        })))
    }

    /// Follows changes of the file for ever. Needs a tokio runtime.
    pub async fn watch(self) {
        let mut complained = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match read(&self.0.path) {
                Ok(digests) => {
                    complained = false;
                    self.replace(digests);
                }
                Err(why) if !complained => {
                    complained = true;
                    tracing::error!(why, "the API keys stay as they were");
                }
                Err(_) => {}
            }
        }
    }

    fn replace(&self, digests: Arc<[KeyDigest]>) {
        let mut current = self
            .0
            .digests
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if *current != digests {
            tracing::info!(keys = digests.len(), "API keys changed");
            *current = digests;
        }
    }

    /// Whose key the request brings.
    fn owner(&self, headers: &HeaderMap) -> Option<Owner> {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, key) = value.split_at_checked(b"Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let presented: KeyDigest = Sha256::digest(key.trim_ascii()).into();
        let digests = Arc::clone(
            &self
                .0
                .digests
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        );
        // All are compared, whichever matches, so that the time says nothing.
        let mut known = Choice::from(0);
        for digest in digests.iter() {
            known |= presented.ct_eq(digest);
        }
        let owner = u64::from_le_bytes(first_eight(&presented));
        // 0 stands for nobody and is no key's digest but for one chance in 2⁶⁴.
        let owner = u64::conditional_select(&0, &owner, known);
        (owner != 0).then(|| Owner::of_key(owner))
    }
}

/// Lets a request through with its owner, or answers 401.
pub(super) async fn require_key(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let owner = match &state.keys {
        None => Some(Owner::ANYONE),
        Some(keys) => keys.owner(request.headers()),
    };
    let Some(owner) = owner else {
        let mut response =
            Problem::new(&Error::Unauthorized, &request_id(&request)).into_response();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    };
    request.extensions_mut().insert(owner);
    next.run(request).await
}

fn read(path: &Path) -> Result<Arc<[KeyDigest]>, String> {
    let text = fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let keys = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut digests = Vec::new();
    for (number, key) in keys.enumerate() {
        if key.len() < SHORTEST {
            return Err(format!(
                "{}: key {} is shorter than {SHORTEST} characters",
                path.display(),
                number + 1
            ));
        }
        digests.push(Sha256::digest(key).into());
    }
    if digests.is_empty() {
        return Err(format!("{}: there is no key in it", path.display()));
    }
    Ok(digests.into())
}

fn first_eight(digest: &KeyDigest) -> [u8; 8] {
    let mut eight = [0; 8];
    eight.copy_from_slice(&digest[..8]);
    eight
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "0123456789abcdef";
    const SECOND: &str = "fedcba9876543210";

    fn ring(text: &str) -> (tempfile::NamedTempFile, Result<KeyRing, String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let ring = KeyRing::load(file.path());
        (file, ring)
    }

    fn owner(ring: &KeyRing, authorization: &str) -> Option<Owner> {
        let value = HeaderValue::from_str(authorization).unwrap();
        ring.owner(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
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
        assert_eq!(ring.owner(&HeaderMap::new()), None);
    }

    #[test]
    fn an_empty_file_and_a_short_key_are_refused() {
        for text in ["", "# only a comment\n", "short\n"] {
            assert!(ring(text).1.is_err(), "{text:?}");
        }
        assert!(KeyRing::load(Path::new("/no/such/file")).is_err());
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
}
