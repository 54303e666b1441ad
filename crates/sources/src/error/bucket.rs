//! Why a bucket gives no files.

use std::error::Error;

use patchlight_escape::Excerpt;

use crate::{BucketAddress, Cloud};

/// Why a bucket gives no files.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// What was configured cannot be used.
    #[error("{address}: {detail}")]
    Settings {
        /// What was asked for.
        address: String,
        /// What is wrong.
        detail: String,
    },

    /// There is no such bucket or folder.
    #[error("there is nothing at {address}: check the names of bucket and folder{detail}")]
    Nothing {
        /// What was asked for.
        address: String,
        /// What the server says.
        detail: String,
    },

    /// Whoever asks may not.
    #[error("{address} may not be read: {advice} ({detail})")]
    Forbidden {
        /// What was asked for.
        address: String,
        /// What to do.
        advice: &'static str,
        /// What the server says.
        detail: String,
    },

    /// Anything else.
    #[error("{address}: {detail}")]
    Failed {
        /// What was asked for.
        address: String,
        /// What happened.
        detail: String,
    },
}

impl BucketError {
    pub(crate) fn settings(address: &BucketAddress, detail: impl ToString) -> Self {
        Self::Settings {
            address: address.to_string(),
            detail: detail.to_string(),
        }
    }

    pub(crate) fn nothing(address: &BucketAddress) -> Self {
        Self::Nothing {
            address: address.to_string(),
            detail: String::new(),
        }
    }

    /// What a request failed with.
    pub(crate) fn of(address: &BucketAddress, error: &object_store::Error) -> Self {
        let said = innermost(error);
        let address_text = address.to_string();
        match error {
            object_store::Error::NotFound { .. } => Self::Nothing {
                address: address_text,
                detail: format!(" ({said})"),
            },
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => Self::Forbidden {
                address: address_text,
                advice: advice(address.cloud),
                detail: said,
            },
            // Listing a bucket that is not there is an error of no kind.
            _ if said.contains("404 Not Found") => Self::Nothing {
                address: address_text,
                detail: format!(" ({said})"),
            },
            _ if said.contains("169.254.169.254") || said.contains("metadata.google.internal") => {
                // The last resort of those who look for credentials.
                Self::Forbidden {
                    address: address_text,
                    advice: advice(address.cloud),
                    detail: format!("no credentials were found: {said}"),
                }
            }
            _ if said.contains("invalid peer certificate") => Self::Failed {
                address: address_text,
                detail: format!(
                    "{said}; if the server is the right one, name a file with the certificate of the \
                     authority that signed it in SSL_CERT_FILE"
                ),
            },
            _ => Self::Failed {
                address: address_text,
                detail: said,
            },
        }
    }
}

fn advice(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE (AWS_REGION, \
             AWS_ENDPOINT_URL), or AWS_SKIP_SIGNATURE=true for a public bucket"
        }
        Cloud::Gcs => {
            "name a service account's key in GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth \
             application-default login`, or set GOOGLE_SKIP_SIGNATURE=true for a public bucket"
        }
        Cloud::Azure => {
            "set AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID with \
             AZURE_TENANT_ID and AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE; or \
             AZURE_SKIP_SIGNATURE=true for a public container"
        }
    }
}

/// The whole of an error says everything twice; what was first is enough.
fn innermost(error: &object_store::Error) -> String {
    let mut inner: &dyn Error = error;
    let mut text = inner.to_string();
    while let Some(next) = inner.source() {
        inner = next;
        let next = inner.to_string();
        // Where the request went is said once, further out.
        if next.contains("performing") || next.len() * 2 > text.len() {
            text = next;
        }
    }
    Excerpt(without_xml(&text)).to_string()
}

/// Errors of S3 and its like are XML, of which people want the code and the sentence.
fn without_xml(text: &str) -> String {
    let Some((before, xml)) = text.split_once("<?xml") else {
        return text.to_owned();
    };
    let of = |tag: &str| {
        let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once("</")?.0)
    };
    match (of("Code"), of("Message")) {
        (Some(code), Some(message)) => format!("{before}{code}: {message}"),
        _ => before.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_xml_the_code_and_the_sentence_are_shown() {
        let text = "status code: 404 Not Found: <?xml version=\"1.0\"?><Error><Code>NoSuchBucket\
                    </Code><Message>The specified bucket does not exist</Message></Error>";
        let expected =
            "status code: 404 Not Found: NoSuchBucket: The specified bucket does not exist";
        assert_eq!(without_xml(text), expected);
        assert_eq!(without_xml("plain"), "plain");
    }
}
