//! The HTTP client of `object_store`, which is ours: the same certificates, proxies and timeouts as
//! for everything else, and no second TLS.

use std::{
    io::Read,
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use tokio::{sync::mpsc, task};
use ureq::{
    Agent,
    http::{Request, Response},
};

use crate::http::Http;

/// Bytes that are read at once, and how many of such pieces wait to be taken.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// Makes clients of our own.
#[derive(Debug)]
pub(super) struct Connector(Client);

impl Connector {
    pub(super) fn new(http: &Http) -> Self {
        Self(Client {
            agent: http.agent().clone(),
            direct: http.direct().clone(),
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

#[derive(Clone, Debug)]
struct Client {
    agent: Agent,
    /// For servers of the machine itself, which no proxy leads to.
    direct: Agent,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let host = parts.uri.host().unwrap_or_default();
        let agent = match is_metadata_service(host) {
            true => self.direct.clone(),
            false => self.agent.clone(),
        };
        let send = move || match body.is_empty() {
            true => agent.run(Request::from_parts(parts, ())),
            false => agent.run(Request::from_parts(parts, &body[..])),
        };
        let answer = task::spawn_blocking(send)
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?
            .map_err(|error| HttpError::new(kind(&error), error))?;
        let (parts, body) = answer.into_parts();
        let body = HttpResponseBody::new(Pieces::of(body));
        Ok(Response::from_parts(parts, body))
    }
}

/// What a cloud's machines ask for their own credentials: link-local addresses, and Google's name.
fn is_metadata_service(host: &str) -> bool {
    host.starts_with("169.254.") || host == "metadata" || host == "metadata.google.internal"
}

fn kind(error: &ureq::Error) -> HttpErrorKind {
    match error {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Rustls(_)
        | ureq::Error::Tls(_) => HttpErrorKind::Connect,
        ureq::Error::Io(_) => HttpErrorKind::Interrupted,
        ureq::Error::Protocol(_) => HttpErrorKind::Decode,
        _ => HttpErrorKind::Unknown,
    }
}

/// A body that a thread reads, piece by piece, as far as it is taken.
struct Pieces(mpsc::Receiver<Result<Bytes, HttpError>>);

impl Pieces {
    fn of(body: ureq::Body) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        task::spawn_blocking(move || {
            let mut body = body.into_with_config().limit(u64::MAX).reader();
            loop {
                let mut piece = vec![0; PIECE];
                let read = match body.read(&mut piece) {
                    Ok(0) => return,
                    Ok(count) => {
                        piece.truncate(count);
                        Ok(piece.into())
                    }
                    Err(error) => Err(HttpError::new(HttpErrorKind::Interrupted, error)),
                };
                let ends = read.is_err();
                if sender.blocking_send(read).is_err() || ends {
                    return;
                }
            }
        });
        Self(receiver)
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
