//! What the environment says, read in one place.

use std::{env, path::PathBuf};

/// Environment variables, asked by name. A variable that is empty counts as unset.
pub struct Environment<'a>(Box<Lookup<'a>>);

/// The value of a variable, if it is set.
type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Environment<'static> {
    /// That of this process.
    pub fn of_process() -> Self {
        Self(Box::new(|name| env::var(name).ok()))
    }
}

impl<'a> Environment<'a> {
    /// Any other, as tests have it.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self(Box::new(lookup))
    }

    /// A variable's value, if it has one.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable is one of the values that the hub's own client takes for yes.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().to_ascii_uppercase();
        ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
    }

    /// A variable's value as a path, `~` being the home directory.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(|text| self.expand(&text))
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    fn expand(&self, text: &str) -> PathBuf {
        match (text.strip_prefix('~'), self.home()) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                home.join(rest.trim_start_matches('/'))
            }
            _ => PathBuf::from(text),
        }
    }
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Variables hold secrets.
        f.write_str("Environment")
    }
}

/// Where imported models are kept unless something else is said: below the platform's directory for
/// caches. `None` if the environment names neither that nor a home directory.
pub fn default_cache_dir(environment: &Environment<'_>) -> Option<PathBuf> {
    if let Some(caches) = environment.path("XDG_CACHE_HOME") {
        return Some(caches.join("patchlight"));
    }
    let home = environment.home()?;
    let caches = match cfg!(target_os = "macos") {
        true => home.join("Library/Caches"),
        false => home.join(".cache"),
    };
    Some(caches.join("patchlight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_none_and_the_tilde_is_home() {
        let environment = Environment::new(|name| match name {
            "HOME" => Some("/home/u".to_owned()),
            "EMPTY" => Some(String::new()),
            "TILDE" => Some("~/x".to_owned()),
            "OTHER" => Some("~v/x".to_owned()),
            _ => None,
        });
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.path("TILDE"), Some("/home/u/x".into()));
        assert_eq!(environment.path("OTHER"), Some("~v/x".into()));
    }

    #[test]
    fn yes_is_what_python_takes_for_yes() {
        for (value, expected) in [
            ("1", true),
            ("yes", true),
            ("True", true),
            ("0", false),
            ("y", false),
        ] {
            let environment = Environment::new(|_| Some(value.to_owned()));
            assert_eq!(environment.is_true("HF_HUB_OFFLINE"), expected, "{value}");
        }
    }
}
