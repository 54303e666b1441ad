//! What a model is named by: a directory, or an address.

mod bucket;
mod hub;
mod place;
mod web;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use self::{
    bucket::{BucketAddress, Cloud},
    hub::{HubAddress, Revision},
    web::WebAddress,
};
pub(crate) use self::{
    hub::is_commit,
    place::{ArchiveFormat, Place, Target},
};

/// Where a model or a checkpoint is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// A directory or file of this machine.
    Local(PathBuf),
    /// A model of the Hugging Face Hub, or of a server that speaks its protocol.
    Hub(HubAddress),
    /// A folder or file in a bucket of S3, Google Cloud Storage or Azure Blob Storage.
    Bucket(BucketAddress),
    /// A folder or file of a web server.
    Web(WebAddress),
}

/// What an address may begin with.
const SCHEMES: &str = "hf://, s3://, gs://, az:// and https://";

impl Source {
    /// Reads what was typed. `ORG/NAME` is a directory if there is one, and otherwise a name on the
    /// hub; everything else without a scheme is a path.
    ///
    /// # Errors
    /// If the scheme is unknown, or what follows is not as it has to be.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some((scheme, rest)) = text.split_once("://")
            && is_scheme(scheme)
        {
            return Self::of_scheme(text, scheme, rest);
        }
        if !Path::new(text).exists()
            && let Ok(address) = HubAddress::parse(text, text)
        {
            return Ok(Self::Hub(address));
        }
        Ok(Self::Local(text.into()))
    }

    fn of_scheme(text: &str, scheme: &str, rest: &str) -> Result<Self, AddressError> {
        let fail = |detail: String| AddressError {
            address: text.to_owned(),
            detail,
        };
        if scheme == "hf" {
            return HubAddress::parse(text, rest).map(Self::Hub);
        }
        if let Some(cloud) = Cloud::of_scheme(scheme) {
            let address = BucketAddress::parse(cloud, rest).map_err(fail)?;
            return Ok(Self::Bucket(address));
        }
        match scheme {
            "https" | "http" => {
                if let Some(address) = WebAddress::page_of_hub(rest) {
                    return HubAddress::parse(text, &address).map(Self::Hub);
                }
                let web = WebAddress::parse(scheme, rest);
                // What follows `?` may be a secret.
                web.map(Self::Web).map_err(|detail| AddressError {
                    address: text.split(['?', '#']).next().unwrap_or_default().to_owned(),
                    detail,
                })
            }
            "oci" => Err(fail(
                "images are not fetched: mount this one as a volume, or copy the model out of it \
                 (oras pull), and name the directory"
                    .to_owned(),
            )),
            _ => Err(fail(format!(
                "`{scheme}://` is not a scheme that is known; {SCHEMES} are"
            ))),
        }
    }

    /// The same without saying which state of it is meant.
    pub(crate) fn without_revision(&self) -> Self {
        match self {
            Self::Local(_) | Self::Bucket(_) => self.clone(),
            Self::Hub(address) => Self::Hub(HubAddress {
                revision: Revision(Revision::MAIN.to_owned()),
                ..address.clone()
            }),
            Self::Web(address) => Self::Web(address.without_query()),
        }
    }

    /// What tells a source from all others, which may hold a secret: only its digest is kept.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Web(address) => address.url(),
            _ => self.to_string(),
        }
    }

    /// What clients call a model from here, if nothing else is said: the last part of its name.
    pub fn model_name(&self) -> String {
        match self {
            Self::Local(path) => patchlight_model::name_of(path),
            Self::Hub(address) => address.name.clone(),
            Self::Bucket(address) => address.place.model_name(&address.bucket),
            Self::Web(address) => address.place.model_name(address.host()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Hub(address) => write!(f, "{address}"),
            Self::Bucket(address) => write!(f, "{address}"),
            Self::Web(address) => write!(f, "{address}"),
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
mod tests;
