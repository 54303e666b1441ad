//! `ModelInfer`: a call with one inference request.

use std::time::Duration;

use axum::{
    Router,
    extract::{Extension, Request, State},
    response::{IntoResponse, Response},
    routing::post,
};

use super::{answer, call::Call, messages::MessageReader, timeout::requested_timeout};
use crate::{
    Error,
    http::{AppState, Problem, RequestId, client_address},
    oip::{InferResponse, proto::ModelInferResponse},
    service::Caller,
};

/// How long the message of a call may keep us waiting.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/inference.GRPCInferenceService/ModelInfer", post(infer))
}

async fn infer(
    State(state): State<AppState>,
    Extension(id): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let call = Call {
        state,
        caller,
        address: client_address::address(&parts.extensions),
    };
    let outcome = async {
        let timeout = requested_timeout(&parts.headers)?;
        let mut messages = MessageReader::new(&parts.headers, body)?;
        let received = call.receive(&mut messages, timeout, FIRST_MESSAGE).await?;
        let received =
            received.ok_or_else(|| Error::MalformedRequest("the call has no message".into()))?;
        let request = call.read(received).await?;
        let write =
            |response: InferResponse| Ok(answer::frame(&ModelInferResponse::from(response)));
        call.run(request, write).await
    };
    match outcome.await {
        Ok((frame, _)) => answer::framed(frame),
        Err(error) => Problem::new(&error, &id).into_response(),
    }
}
