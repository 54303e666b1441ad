//! Why a server gives no answer.

use std::time::Duration;

use ureq::http::StatusCode;

/// Why a server gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// It cannot be reached, or the connection broke.
    #[error("{host} cannot be reached: {error}")]
    Unreachable {
        /// Where to.
        host: String,
        /// What happened.
        error: ureq::Error,
    },

    /// Its certificate is signed by nobody whom this machine trusts.
    #[error(
        "{host} is not trusted: {detail}; if it is right, as a company's proxy may be, name a file \
         with the certificate of the authority that signed it in SSL_CERT_FILE"
    )]
    Untrusted {
        /// Who.
        host: String,
        /// What is wrong with its certificate.
        detail: String,
    },

    /// It answers with an error.
    #[error("{host} answers {status}{detail}")]
    Status {
        /// Who.
        host: String,
        /// The status.
        status: StatusCode,
        /// What it says of it, shortened.
        detail: String,
        /// How long to wait, where it says so.
        retry_after: Option<Duration>,
    },

    /// Its answer cannot be used.
    #[error("{host}: {detail}")]
    Answer {
        /// Who.
        host: String,
        /// What is wrong with the answer.
        detail: String,
    },
}

impl HttpError {
    /// That a request got no answer.
    pub(crate) fn unanswered(host: String, error: ureq::Error) -> Self {
        match certificate_error(&error) {
            Some(detail) => Self::Untrusted { host, detail },
            None => Self::Unreachable { host, error },
        }
    }

    /// Whether the same request may be answered a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { error, .. } => !matches!(
                error,
                ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl
            ),
            Self::Status { status, .. } => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Answer { .. } | Self::Untrusted { .. } => false,
        }
    }

    /// Whether it says nothing of what was asked for: the network is away, or the server is.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => status.is_server_error(),
            Self::Answer { .. } | Self::Untrusted { .. } => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What is wrong with a certificate, if that is what went wrong.
fn certificate_error(error: &ureq::Error) -> Option<String> {
    let found = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    matches!(found, rustls::Error::InvalidCertificate(_)).then(|| found.to_string())
}
