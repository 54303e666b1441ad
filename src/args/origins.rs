//! Which flags were set elsewhere than on the command line, for messages.

use std::collections::BTreeMap;

/// Which settings come from the environment or a file, and the errors of that file.
#[derive(Clone, Debug, Default)]
pub struct SettingSources {
    /// How messages name the source of a flag's value, by flag.
    pub(super) origins: BTreeMap<String, String>,
    /// Errors of the file that belong to no flag.
    pub(crate) errors: Vec<String>,
}

impl SettingSources {
    /// What to call this flag in a message: the file and key or the variable that set it.
    pub(crate) fn origin<'a>(&'a self, flag: &'a str) -> &'a str {
        self.origins.get(flag).map_or(flag, String::as_str)
    }
}
