//! gRPC on the routes of its services: the Open Inference Protocol's `GRPCInferenceService`, health and
//! reflection.
//!
//! A call is a POST of HTTP/2 with `Content-Type: application/grpc`; everything that requests pass
//! ([`super::observed`]) it passes as well. Its messages are read ([`messages`]) under the same
//! admission as bodies: how long they are is known before they come, and memory, pace and deadline
//! are the service's. That is why they are not read by tonic's server, which buffers a message
//! before anyone can refuse it; codes and the form of a status are tonic's ([`status`]).

mod answer;
mod call;
mod health;
mod inference;
mod messages;
mod metadata;
mod reflection;
mod status;
mod stream;
mod timeout;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use prost::Message;

use self::messages::MessageReader;
pub(super) use self::status::{as_status, status_of};
use super::{AppState, Problem, RequestId, auth_layer, client_address, not_found};
use crate::{Error, Result, oip::proto::descriptors::Descriptors, service::Caller};

/// Bytes of a message that brings no tensors.
const MAX_SMALL_MESSAGE: u64 = 64 << 10;

/// How long calls may rest and last; and what reflection says. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// Between two messages of a stream.
    rest: Duration,
    /// Streams are served so long after the server has said that it is not ready.
    drain_delay: Duration,
    descriptors: Arc<Descriptors>,
}

impl Grpc {
    /// A stream may rest between messages like a connection between requests, and lasts into a
    /// shutdown as long as new requests are served.
    pub fn new(rest: Duration, drain_delay: Duration) -> Self {
        Self {
            rest,
            drain_delay,
            descriptors: Arc::default(),
        }
    }
}

/// The routes of all services.
pub(super) fn routes(state: &AppState) -> Router<AppState> {
    let require_key = middleware::from_fn_with_state(state.clone(), auth_layer::require_key);
    let keyed = inference::routes()
        .merge(stream::routes())
        .merge(metadata::keyed_routes());
    metadata::public_routes()
        .merge(keyed.route_layer(require_key))
        .merge(health::routes())
        .merge(reflection::routes())
        .route_layer(middleware::from_fn(require_grpc))
}

/// The routes of a listener for gRPC alone.
pub(super) fn router(state: AppState) -> Router {
    let routes = routes(&state).fallback(not_found).with_state(state.clone());
    super::observed(routes, state)
}

/// Whether a request is a call: also one that no service has.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        // Not application/grpc-web, which has frames of its own.
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Middleware: lets a call through, or answers 415 as gRPC's mapping to HTTP wants it.
async fn require_grpc(request: Request, next: Next) -> Response {
    if is_call(request.headers()) {
        return next.run(request).await;
    }
    let error = Error::NotGrpc;
    Problem::new(&error, &super::request_id(&request)).into_response()
}

/// A call with one small message each way.
async fn unary<M: Message + Default, R: Message>(
    state: &AppState,
    caller: Option<&Caller>,
    request: Request,
    answer: impl FnOnce(M) -> Result<R>,
) -> Response {
    let (parts, body) = request.into_parts();
    let reading = async {
        let mut messages = MessageReader::new(&parts.headers, body)?;
        small(
            state,
            caller,
            client_address::address(&parts.extensions),
            &mut messages,
        )
        .await?
        .ok_or_else(|| Error::MalformedRequest("the call has no message".into()))
    };
    match reading.await.and_then(answer) {
        Ok(message) => answer::unary(&message),
        Err(error) => Problem::new(&error, &RequestId::given(&parts)).into_response(),
    }
}

/// The next small message, if one comes.
async fn small<M: Message + Default>(
    state: &AppState,
    caller: Option<&Caller>,
    address: Option<std::net::IpAddr>,
    messages: &mut MessageReader,
) -> Result<Option<M>> {
    let Some(head) = messages.head(state.grpc.rest).await? else {
        return Ok(None);
    };
    if head.length > MAX_SMALL_MESSAGE {
        return Err(Error::BodyTooLarge {
            limit: MAX_SMALL_MESSAGE,
        });
    }
    let anyone = Caller::anyone();
    let mut upload =
        state
            .service
            .admit_upload(caller.unwrap_or(&anyone), address, Some(head.length))?;
    let message = upload.receive(messages.content(head), false).await?;
    let message = head.unpack(message, MAX_SMALL_MESSAGE)?;
    let message = M::decode(message).map_err(|error| {
        let error = patchlight_escape::Excerpt(error);
        Error::MalformedRequest(format_args!("the message: {error}").into())
    })?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_call_is_known_by_its_content_type() {
        let is = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            is_call(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        for call in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert!(is(call), "{call}");
        }
        for other in [
            "application/grpc-web",
            "application/json",
            "application/grpcx",
        ] {
            assert!(!is(other), "{other}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }
}
