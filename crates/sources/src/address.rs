//! What a model is named by: a directory, or an address.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Where a model or a checkpoint is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// A directory or file of this machine.
    Local(PathBuf),
    /// A model of the Hugging Face Hub, or of a server that speaks its protocol.
    Hub(HubAddress),
}

impl Source {
    /// Reads what was typed. `ORG/NAME` is a directory if there is one, and otherwise a name on the
    /// hub; everything else without a scheme is a path.
    ///
    /// # Errors
    /// If the scheme is unknown, or what follows is not as it has to be.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(rest) = text.strip_prefix("hf://") {
            return HubAddress::parse(text, rest).map(Self::Hub);
        }
        if let Some((scheme, _)) = text.split_once("://")
            && is_scheme(scheme)
        {
            return Err(AddressError {
                address: text.to_owned(),
                detail: format!("`{scheme}://` is not a scheme that is known; hf:// is"),
            });
        }
        if !Path::new(text).exists()
            && let Ok(address) = HubAddress::parse(text, text)
        {
            return Ok(Self::Hub(address));
        }
        Ok(Self::Local(text.into()))
    }

    /// The same without saying which state of it is meant.
    pub(crate) fn without_revision(&self) -> Self {
        match self {
            Self::Local(_) => self.clone(),
            Self::Hub(address) => Self::Hub(HubAddress {
                revision: Revision(Revision::MAIN.to_owned()),
                ..address.clone()
            }),
        }
    }

    /// What clients call a model from here, if nothing else is said: the last part of its name.
    pub fn model_name(&self) -> String {
        match self {
            Self::Local(path) => patchlight_model::name_of(path),
            Self::Hub(address) => address.name.clone(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Hub(address) => write!(f, "{address}"),
        }
    }
}

/// A scheme as RFC 3986 has it, of more than one letter: `C:` is a drive.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A model on the hub: `hf://ORG/NAME`, with `@REVISION` where one is meant.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HubAddress {
    /// The user or organization.
    pub org: String,
    /// The model's name there.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: Revision,
}

/// Branch, tag or commit.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Revision(String);

impl Revision {
    /// What is meant where nothing is said.
    pub const MAIN: &str = "main";

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a commit, which never changes.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }
}

/// Whether text is a whole commit hash, as the hub writes one.
pub(crate) fn is_commit(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 40 && text.bytes().all(hex)
}

/// The longest name of an organization or a model.
const MAX_NAME: usize = 96;

impl HubAddress {
    /// `text` is the whole for messages, `rest` what follows the scheme.
    fn parse(text: &str, rest: &str) -> Result<Self, AddressError> {
        let fail = |detail: &str| AddressError {
            address: text.to_owned(),
            detail: detail.to_owned(),
        };
        let (id, revision) = match rest.split_once('@') {
            Some((id, revision)) => (id, revision),
            None => (rest, Revision::MAIN),
        };
        let Some((org, name)) = id.split_once('/') else {
            return Err(fail("hf://ORG/NAME or hf://ORG/NAME@REVISION is expected"));
        };
        if !is_name(org) || !is_name(name) {
            return Err(fail(
                "hf://ORG/NAME is expected, both of letters, digits, `-`, `_` and `.`",
            ));
        }
        if !is_revision(revision) {
            return Err(fail(
                "after `@` a branch, a tag or a commit is expected, such as main, v1.0 or refs/pr/1",
            ));
        }
        Ok(Self {
            org: org.to_owned(),
            name: name.to_owned(),
            revision: Revision(revision.to_owned()),
        })
    }

    /// `ORG/NAME`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }
}

impl FromStr for HubAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text, text.strip_prefix("hf://").unwrap_or(text))
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf://{}/{}", self.org, self.name)?;
        match self.revision.as_str() {
            Revision::MAIN => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// The hub's rule for names.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
}

/// What can be a reference of git, and a relative path in the hub's cache.
fn is_revision(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let component =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
    text.len() <= 255 && text.split('/').all(component)
}

/// Why text names no source.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{address}: {detail}")]
pub struct AddressError {
    /// What was typed.
    pub address: String,
    /// What was expected.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> (String, String) {
        match Source::parse(text).unwrap() {
            Source::Hub(address) => (address.id(), address.revision.as_str().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_with_and_without_a_revision() {
        let id = |id: &str, revision: &str| (id.to_owned(), revision.to_owned());
        assert_eq!(hub("hf://google/vit-base"), id("google/vit-base", "main"));
        assert_eq!(hub("google/vit-base"), id("google/vit-base", "main"));
        assert_eq!(hub("hf://a/b@refs/pr/1"), id("a/b", "refs/pr/1"));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(hub(&format!("a/b@{commit}")), id("a/b", commit));
    }

    #[test]
    fn a_directory_that_is_there_goes_before_a_name_on_the_hub() {
        assert_eq!(
            Source::parse("src/hub").unwrap(),
            Source::Local("src/hub".into())
        );
    }

    #[test]
    fn paths_stay_paths_where_nothing_is_there() {
        for path in [
            "/models/vit",
            "./a/b",
            "../a/b",
            "a/b/c",
            "weights.pth",
            "a/b/",
            "~/a",
            "C:\\a",
        ] {
            assert_eq!(
                Source::parse(path).unwrap(),
                Source::Local(path.into()),
                "{path}"
            );
        }
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for text in [
            "hf://",
            "hf://a",
            "hf://a/b/c",
            "hf://../b",
            "hf://a/..",
            "hf://a/b@",
            "hf://a/b@../../c",
            "hf://a/b@x//y",
            "hf://a/b@.hidden",
            "hf://a/b c",
            "hf://a/b?x=1",
            "hf://a--x/b",
        ] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_named() {
        let error = Source::parse("ftp://host/model").unwrap_err().to_string();
        assert!(error.contains("`ftp://`"), "{error}");
    }

    #[test]
    fn display_is_what_was_typed() {
        for text in ["hf://a/b", "hf://a/b@v1.0"] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
    }
}
