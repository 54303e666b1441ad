//! Which flags were set elsewhere than on the command line, for messages.

use std::collections::BTreeMap;

/// Where settings come from that were not typed, and what is wrong with the file as a whole.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// What to call a flag's value in messages, by flag.
    pub(super) origins: BTreeMap<String, String>,
    /// What cannot be said of a flag.
    pub(crate) faults: Vec<String>,
}

impl Layers {
    /// What to call this flag in a message: the file and key or the variable that set it.
    pub(crate) fn origin<'a>(&'a self, flag: &'a str) -> &'a str {
        self.origins.get(flag).map_or(flag, String::as_str)
    }
}
