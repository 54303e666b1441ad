//! The keys that seal what leaves this process: ids that carry their maps, and pictures in Redis.
//!
//! Sealing is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): encrypted, and refused when a single
//! bit was changed. Its nonces are long enough to be drawn at random for ever under one key, which
//! the 96 bits of plain ChaCha20-Poly1305 or AES-GCM are not.
//!
//! The file holds a key a line: 32 bytes in base64, such as `head -c 32 /dev/urandom | base64`
//! prints. The first one seals and all of them open, so keys are changed without a break: append
//! the new one everywhere, then move it to the top everywhere, then drop the old one once the last
//! map that it sealed has expired.

use std::{fmt, path::Path, sync::Arc};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use super::{NotKept, id::random};
use crate::{
    secret_file::{Flaw, SecretFile, SecretFileError},
    watched::Watched,
};

/// Base64 as `base64` prints it, or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a key.
const KEY: usize = 32;

/// Bytes that say which key sealed something.
const NAME: usize = 4;

/// Bytes of a nonce.
const NONCE: usize = 24;

/// The keys in force. A handle; clones share them.
#[derive(Clone, Debug)]
pub struct SigningKeys(Arc<Watched<Vec<Key>>>);

/// What something was sealed as. It opens as nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose<'a> {
    /// An id that carries its map.
    Id,
    /// The picture of the map with this id.
    Picture(&'a [u8; 16]),
}

#[derive(Clone, Eq, PartialEq)]
struct Key {
    /// Says which key it is and nothing about it.
    name: [u8; NAME],
    bytes: [u8; KEY],
}

impl SigningKeys {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, holds no key, or something else than keys.
    pub fn load(path: &Path) -> Result<Self, SecretFileError> {
        let watched = Watched::load("signing keys", path, read)?;
        Ok(Self(Arc::new(watched)))
    }

    /// Follows changes of the file for ever. Needs a tokio runtime.
    pub async fn watch(self) {
        self.0.follow().await;
    }

    /// `plain` under the first key: the key's name, a nonce, the ciphertext with its tag.
    pub(super) fn seal(&self, purpose: Purpose<'_>, plain: &[u8]) -> Result<Vec<u8>, NotKept> {
        let keys = self.0.get();
        // A file without a key is not taken.
        let key = keys.first().ok_or(NotKept::Internal)?;
        let nonce: [u8; NONCE] = random()?;
        let mut text = plain.to_vec();
        key.cipher()
            .encrypt_in_place(&XNonce::from(nonce), &purpose.bytes(), &mut text)
            // Only for texts of 2³⁸ bytes.
            .map_err(|_| NotKept::TooLarge)?;
        Ok([&key.name[..], &nonce, &text].concat())
    }

    /// What was sealed for this purpose under a key that is in force.
    pub(super) fn open(&self, purpose: Purpose<'_>, sealed: &[u8]) -> Option<Vec<u8>> {
        let (name, sealed) = sealed.split_first_chunk::<NAME>()?;
        let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
        let keys = self.0.get();
        let aad = purpose.bytes();
        // Two keys may share a name by chance.
        keys.iter().filter(|key| key.name == *name).find_map(|key| {
            let mut text = text.to_vec();
            key.cipher()
                .decrypt_in_place(&XNonce::from(*nonce), &aad, &mut text)
                .ok()?;
            Some(text)
        })
    }
}

impl Purpose<'_> {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Id => b"patchlight id 1".to_vec(),
            Self::Picture(id) => [b"patchlight picture 1", &id[..]].concat(),
        }
    }
}

impl Key {
    fn new(bytes: [u8; KEY]) -> Self {
        let digest = Sha256::new()
            .chain_update(b"patchlight key name")
            .chain_update(bytes)
            .finalize();
        let mut name = [0; NAME];
        name.copy_from_slice(&digest[..NAME]);
        Self { name, bytes }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.bytes.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

fn read(path: &Path) -> Result<Vec<Key>, SecretFileError> {
    let file = SecretFile::read(path)?;
    let lines = file
        .text()?
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut keys = Vec::new();
    for (number, line) in lines {
        let bytes: Option<[u8; KEY]> = BASE64
            .decode(line)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| {
            file.error(Flaw {
                line: Some(number),
                what: "it is not a key: 32 bytes in base64, as \
                       `head -c 32 /dev/urandom | base64` prints them",
            })
        })?;
        keys.push(Key::new(bytes));
    }
    if keys.is_empty() {
        return Err(
            file.error("there is no key in it; `head -c 32 /dev/urandom | base64` makes one")
        );
    }
    Ok(keys)
}

#[cfg(test)]
pub(super) mod tests;
