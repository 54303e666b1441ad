//! `hf://ORG/NAME[@REVISION]`.

use std::{fmt, str::FromStr};

use super::AddressError;

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
pub struct Revision(pub(super) String);

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
    pub(super) fn parse(text: &str, rest: &str) -> Result<Self, AddressError> {
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
