//! `ModelStreamInfer`: requests one after the other on one call, answered in their order, one answer
//! each (what Triton calls decoupled is off).
//!
//! What is wrong with one request is said in its answer, and the stream goes on; what is wrong with
//! the stream ends it. A few requests of a stream run at a time; more are read when one is answered,
//! so that a stream has no more than its share and its client is not ahead of its answers. It ends
//! after a rest, and soon after the server has begun to drain.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::sleep;
use tonic::Status;
use tracing::Instrument;

use super::{
    Grpc, answer,
    call::{Call, Received},
    messages::MessageReader,
    status::status,
    timeout::requested_timeout,
};
use crate::{
    Error, Result,
    http::{AppState, Problem, RequestId, client_address},
    oip::{
        InferResponse,
        proto::{ModelInferResponse, ModelStreamInferResponse},
    },
    readiness::Readiness,
    service::{Admitted, Caller},
};

/// Requests of one stream that run at a time.
const MAX_CONCURRENT: usize = 4;

pub(super) fn routes() -> Router<AppState> {
    let path = "/inference.GRPCInferenceService/ModelStreamInfer";
    Router::new().route(path, post(infer))
}

async fn infer(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let address = client_address::address(&parts.extensions);
    let opened = requested_timeout(&parts.headers)
        .and_then(|timeout| Ok((timeout, MessageReader::new(&parts.headers, body)?)));
    let (timeout, messages) = match opened {
        Ok(opened) => opened,
        Err(error) => return Problem::new(&error, &id).into_response(),
    };
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let grpc = state.grpc.clone();
    let draining = Box::pin(draining(state.readiness.clone(), grpc.clone()));
    let call = Call {
        state,
        caller,
        address,
    };
    let span = tracing::Span::current();
    let reading = (messages, draining, call.clone());
    let requests = stream::unfold(Some(reading), move |reading| {
        let rest = grpc.rest;
        async move {
            let (mut messages, mut draining, call) = reading?;
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let next = tokio::select! {
                biased;
                next = call.receive(&mut messages, left, rest) => next,
                () = &mut draining => Err(Error::Draining),
            };
            match next {
                Ok(Some(received)) => Some((Ok(received), Some((messages, draining, call)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    let answers = requests.map(move |received| {
        let call = call.clone();
        async move { answer(&call, received?).await }.instrument(span.clone())
    });
    answer::response(Body::new(StreamBody {
        answers: Box::pin(answers.buffered(MAX_CONCURRENT)),
        held: None,
        is_ended: false,
    }))
}

/// Ends when streams have to.
async fn draining(readiness: Readiness, grpc: Grpc) {
    readiness.becomes(false).await;
    sleep(grpc.drain_delay).await;
}

/// What is sent for one request, and what is held until it is sent.
type Answer = (Bytes, Option<Admitted>);

/// The answer to one request, whatever became of it; an error ends the stream.
async fn answer(call: &Call, received: Received) -> Result<Answer> {
    let read = call.read(received).await;
    let id = read.as_ref().map(|(_, message)| message.id.clone());
    let id = id.unwrap_or_default();
    let write = |response: InferResponse| {
        Ok(answer::frame(&ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(response.into()),
        }))
    };
    let outcome = async {
        let (frame, mut admitted) = call.run(read?, write).await?;
        admitted.hold(frame.len() as u64)?;
        Ok::<Answer, Error>((frame, Some(admitted)))
    };
    match outcome.await {
        Ok(answer) => Ok(answer),
        Err(error) => {
            let message = ModelStreamInferResponse {
                error_message: error.to_string(),
                infer_response: Some(ModelInferResponse {
                    id,
                    ..ModelInferResponse::default()
                }),
            };
            Ok((answer::frame(&message), None))
        }
    }
}

/// The answers of a stream, and the status at its end.
struct StreamBody<S> {
    answers: Pin<Box<S>>,
    /// Memory of the answer that is being sent.
    held: Option<Admitted>,
    is_ended: bool,
}

impl<S: Stream<Item = Result<Answer>>> HttpBody for StreamBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        // What was handed over before has been taken.
        self.held = None;
        let ended = match ready!(self.answers.as_mut().poll_next(context)) {
            Some(Ok((frame, held))) => {
                self.held = held;
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            Some(Err(error)) => status(&error),
            None => Status::ok(""),
        };
        self.is_ended = true;
        Poll::Ready(Some(Ok(Frame::trailers(answer::trailers(&ended)))))
    }
}
