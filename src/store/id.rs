//! The name of a kept map: 128 random bits, unguessable, meaningless.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::StoreError;
use crate::Error;

/// The id of a kept map. It is a secret shared with the client: never logged, hence no `Debug` of
/// its content.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(crate) struct MapId([u8; 16]);

impl MapId {
    /// A new id from the operating system's random source.
    ///
    /// # Errors
    /// When there is no random source.
    pub(super) fn random() -> Result<Self, StoreError> {
        random().map(Self)
    }

    /// The bytes, for what is derived from them.
    pub(super) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for MapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for MapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MapId(…)")
    }
}

/// Random bytes from the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        StoreError::Internal
    })?;
    Ok(bytes)
}

impl FromStr for MapId {
    /// A text that is not an id gets the same answer as an id that is not known.
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The decoder refuses spare bits, so that one id has one spelling.
        let mut bytes = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            _ => Err(Error::NoSuchMap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_is_written() {
        let id = MapId::random().unwrap();
        assert_eq!(id.to_string().len(), 22);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_spellings_are_refused() {
        let text = MapId([0; 16]).to_string();
        for wrong in [
            "",
            "short",
            &format!("{text}A"),
            &format!("{}B", &text[..21]),
            &text.replace('A', "+"),
        ] {
            assert_eq!(wrong.parse::<MapId>(), Err(Error::NoSuchMap), "{wrong}");
        }
    }

    #[test]
    fn debug_output_does_not_give_it_away() {
        assert_eq!(format!("{:?}", MapId([7; 16])), "MapId(…)");
    }
}
