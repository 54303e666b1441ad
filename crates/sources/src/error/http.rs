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
            Self::Answer { .. } => false,
        }
    }

    /// Whether it says nothing of what was asked for: the network is away, or the server is.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => status.is_server_error(),
            Self::Answer { .. } => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
