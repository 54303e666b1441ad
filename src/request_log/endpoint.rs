//! Events to an HTTP endpoint.

use std::{fmt, thread, time::Duration};

use patchlight_sources::machine_tls;
use ureq::{Agent, Proxy, http::StatusCode};

use super::{EventMode, event::Event};

/// How long the endpoint may take over one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Waits before a request is sent once more.
const RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// The media type of a batch (CloudEvents JSON format, section 4).
const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";

/// Sends over connections that it keeps. Proxies are those of the environment, certificates those
/// that the machine trusts.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: String,
    mode: EventMode,
    agent: Agent,
}

/// Why the endpoint did not take an event.
#[derive(Debug)]
enum SendError {
    /// It answered, and the same would be answered again.
    Refused(StatusCode),
    /// It is away or overloaded.
    Unavailable(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "it answered {status}"),
            Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

impl Endpoint {
    pub(super) fn new(url: &str, mode: EventMode) -> Self {
        let agent = Agent::config_builder()
            .tls_config(machine_tls())
            .proxy(Proxy::try_from_env())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("patchlight/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            url: url.to_owned(),
            mode,
            agent: agent.into(),
        }
    }

    /// How many of the events the endpoint took. When it is away the rest is not tried.
    pub(super) fn send(&self, events: &[Event]) -> usize {
        match self.mode {
            EventMode::Batch => {
                let body = serde_json::to_vec(events).unwrap_or_default();
                match self.with_retries(|| self.post(&body, &[("content-type", BATCH)])) {
                    Ok(()) => events.len(),
                    Err(error) => {
                        warn(&error);
                        0
                    }
                }
            }
            EventMode::Binary => {
                let mut taken = 0;
                for event in events {
                    match self.with_retries(|| self.post_binary(event)) {
                        Ok(()) => taken += 1,
                        Err(error) => {
                            warn(&error);
                            if let SendError::Unavailable(_) = error {
                                break;
                            }
                        }
                    }
                }
                taken
            }
        }
    }

    /// The data is the body, the attributes are headers.
    fn post_binary(&self, event: &Event) -> Result<(), SendError> {
        let body = serde_json::to_vec(&event.data).unwrap_or_default();
        let headers = [
            ("content-type", event.datacontenttype),
            ("ce-specversion", event.specversion),
            ("ce-id", &event.id),
            ("ce-source", &event.source),
            ("ce-type", event.kind),
            ("ce-time", &event.time),
        ];
        self.post(&body, &headers)
    }

    fn post(&self, body: &[u8], headers: &[(&str, &str)]) -> Result<(), SendError> {
        let request = headers
            .iter()
            .fold(self.agent.post(&self.url), |request, (name, value)| {
                request.header(*name, *value)
            });
        let mut answer = request
            .send(body)
            .map_err(|error| SendError::Unavailable(error.to_string()))?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again.
        let _ = answer
            .body_mut()
            .with_config()
            .limit(64 << 10)
            .read_to_vec();
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Err(SendError::Unavailable(format!("it answered {status}")))
            }
            status if status.is_server_error() => {
                Err(SendError::Unavailable(format!("it answered {status}")))
            }
            status => Err(SendError::Refused(status)),
        }
    }

    fn with_retries(&self, send: impl Fn() -> Result<(), SendError>) -> Result<(), SendError> {
        let mut outcome = send();
        for wait in RETRIES {
            match outcome {
                Err(SendError::Unavailable(_)) => {
                    thread::sleep(wait);
                    outcome = send();
                }
                _ => break,
            }
        }
        outcome
    }
}

fn warn(error: &SendError) {
    tracing::warn!(%error, "the receiver of the request log did not take an event");
}
