//! Images that clients name by their URL, where the operator allows it ([`FetchFrom`]).
//!
//! A host's name is resolved once for each request that is sent, and only the addresses that came
//! of it are connected to: a name that leads elsewhere the next time it is asked (DNS rebinding)
//! gains nothing. Redirects are followed a few times, and each is looked at like the first URL.
//! There is no proxy, nothing is cached, and nothing of the client's request goes along.

mod connection;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Response, StatusCode, body::Incoming, header};
use patchlight_escape::Excerpt;
use tokio::{net, time};
use url::Url;

use self::connection::{Connection, Tls};
use crate::{Error, Result, config::FetchFrom, metrics::Metrics};

/// Redirects of one image.
const MAX_REDIRECTS: usize = 3;

/// How long an image may take, if the request's own deadline is not sooner.
const LONGEST: Duration = Duration::from_secs(30);

/// Fetches images. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct ImageFetcher {
    from: Arc<FetchFrom>,
    tls: Tls,
    /// Bytes of an image.
    limit: u64,
    metrics: Arc<Metrics>,
}

impl ImageFetcher {
    /// From these hosts, images of at most `limit` bytes. Reads the certificates that the machine
    /// trusts, if there is any host.
    pub fn new(from: FetchFrom, limit: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            tls: match from.is_empty() {
                true => Tls::without_authorities(),
                false => Tls::of_machine(),
            },
            from: Arc::new(from),
            limit,
            metrics,
        }
    }

    /// The bytes of an image, within a time; `hold` takes memory for so many more of them.
    ///
    /// # Errors
    /// [`Error::FetchNotAllowed`]; [`Error::ImageNotFetched`] if the server does not give it;
    /// [`Error::BodyTooLarge`]; and what `hold` says.
    pub async fn fetch(
        &self,
        url: &str,
        within: Duration,
        hold: &mut (dyn FnMut(u64) -> Result<()> + Send),
    ) -> Result<Bytes> {
        let guard = self.metrics.abandon_guard("fetch");
        let limit = within.min(LONGEST);
        let outcome = match time::timeout(limit, self.follow(url, hold)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(not_fetched(format_args!(
                "it had not come after {} s",
                limit.as_secs_f32()
            ))),
        };
        guard.disarm();
        self.metrics.image_fetched(match &outcome {
            Ok(_) => "fetched",
            Err(Error::FetchNotAllowed(_)) => "refused",
            Err(_) => "failed",
        });
        outcome
    }

    async fn follow(
        &self,
        url: &str,
        hold: &mut (dyn FnMut(u64) -> Result<()> + Send),
    ) -> Result<Bytes> {
        if self.from.is_empty() {
            return Err(Error::FetchNotAllowed(
                "this server fetches no images; send the image itself, or ask its operator to name \
                 hosts with --fetch-from"
                    .into(),
            ));
        }
        let mut url: Url = url.parse().map_err(|error| {
            let error = Excerpt(error);
            Error::MalformedRequest(format_args!("the image's URL: {error}").into())
        })?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask(&url).await?;
            if !response.status().is_redirection() {
                return self.body(response, hold).await;
            }
            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok());
            url = location
                .and_then(|location| url.join(location).ok())
                .ok_or_else(|| not_fetched("it is redirected to nowhere"))?;
        }
        Err(not_fetched(format_args!(
            "it is redirected more than {MAX_REDIRECTS} times"
        )))
    }

    /// Sends one request, to an address that may be connected to.
    async fn ask(&self, url: &Url) -> Result<Response<Incoming>> {
        let refused = |detail: String| Error::FetchNotAllowed(Excerpt(detail).to_string().into());
        self.from.check(url).map_err(|error| refused(error.0))?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let found = net::lookup_host((name, port))
            .await
            .map_err(|_| not_fetched(format_args!("{} is not known", Excerpt(host))))?;
        let addresses = self.allowed(host, found);
        if addresses.is_empty() {
            return Err(refused(format!(
                "{host} is at an address that this server does not fetch from"
            )));
        }
        Connection::get(url, &addresses, &self.tls)
            .await
            .map_err(|error| {
                tracing::debug!(%error, host, "an image was not fetched");
                not_fetched(format_args!("{} cannot be reached", Excerpt(host)))
            })
    }

    /// Those of a host's addresses that may be connected to.
    fn allowed(&self, host: &str, found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        found
            .filter(|address| self.from.allows(host, address.ip()))
            .collect()
    }

    async fn body(
        &self,
        response: Response<Incoming>,
        hold: &mut (dyn FnMut(u64) -> Result<()> + Send),
    ) -> Result<Bytes> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(not_fetched(format_args!("the server answers {status}")));
        }
        let limit = self.limit;
        let announced = response.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(Error::BodyTooLarge { limit });
        }
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| not_fetched("the connection broke"))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(Error::BodyTooLarge { limit });
            }
            hold(data.len() as u64)?;
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    }
}

fn not_fetched(detail: impl std::fmt::Display) -> Error {
    Error::ImageNotFetched(format_args!("{detail}").into())
}

#[cfg(test)]
mod tests;
