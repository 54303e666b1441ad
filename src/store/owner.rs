//! The owner of a map.

/// The API key that a map was made with. Another key finds nothing under the map's id.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Owner(u64);

impl Owner {
    /// Any caller, where no API keys are configured.
    pub const ANYONE: Self = Self(0);

    /// The holder of a key, by a number that stands for the key and does not give it away.
    pub fn of_key(number: u64) -> Self {
        Self(number)
    }

    /// The number that stands for the key, 0 for everyone.
    pub fn number(self) -> u64 {
        self.0
    }

    /// A short text that tells keys apart in logs and does not give them away.
    pub fn fingerprint(self) -> String {
        format!("{:08x}", self.0 >> 32)
    }
}
