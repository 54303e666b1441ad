//! `grpc.reflection.v1.ServerReflection`, and the same under its older name: which services there
//! are and what their messages look like, for tools such as grpcurl. No key is needed, as for
//! `/openapi.json`.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::{Message, Oneof};
use tonic::{Code, Status};

use super::{answer, client_address, messages::MessageReader, small, status::status};
use crate::{
    http::{AppState, Problem, RequestId},
    oip::proto::{SERVICE, descriptors::Descriptors},
};

/// What is offered here.
const SERVICES: [&str; 4] = [
    SERVICE,
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

#[derive(Clone, PartialEq, Eq, Message)]
struct ReflectionRequest {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum Question {
    #[prost(string, tag = "3")]
    FileByFilename(String),
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    #[prost(message, tag = "5")]
    FileContainingExtension(ExtensionRequest),
    #[prost(string, tag = "6")]
    ExtensionNumbersOfType(String),
    #[prost(string, tag = "7")]
    ListServices(String),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ExtensionRequest {
    #[prost(string, tag = "1")]
    containing_type: String,
    #[prost(int32, tag = "2")]
    number: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ReflectionResponse {
    #[prost(string, tag = "1")]
    valid_host: String,
    #[prost(message, optional, tag = "2")]
    original_request: Option<ReflectionRequest>,
    #[prost(oneof = "Reply", tags = "4, 6, 7")]
    reply: Option<Reply>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum Reply {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Error(ReplyError),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file_descriptor_proto: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    service: Vec<Service>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ReplyError {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            post(info),
        )
        .route(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            post(info),
        )
}

/// Answers one question after the other, until the client has no more or rests for too long.
async fn info(State(state): State<AppState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let messages = match MessageReader::new(&parts.headers, body) {
        Ok(messages) => messages,
        Err(error) => return Problem::new(&error, &RequestId::given(&parts)).into_response(),
    };
    let address = client_address::address(&parts.extensions);
    let descriptors = Arc::clone(&state.grpc.descriptors);
    let frames = stream::unfold(Some(messages), move |messages| {
        let (state, descriptors) = (state.clone(), Arc::clone(&descriptors));
        async move {
            let mut messages = messages?;
            let asked = tokio::select! {
                asked = small::<ReflectionRequest>(&state, None, address, &mut messages) => asked,
                () = state.readiness.becomes(false) => Ok(None),
            };
            let ended = match asked {
                Ok(Some(request)) => {
                    let frame = answer::frame(&reply(&descriptors, request));
                    return Some((Frame::data(frame), Some(messages)));
                }
                Ok(None) => Status::ok(""),
                Err(error) => status(&error),
            };
            Some((Frame::trailers(answer::trailers(&ended)), None))
        }
    });
    let frames = futures_util::StreamExt::map(frames, Ok::<_, Infallible>);
    answer::response(Body::new(StreamBody::new(frames)))
}

fn reply(descriptors: &Descriptors, request: ReflectionRequest) -> ReflectionResponse {
    let file = |found: Option<&[u8]>| {
        found.map(|file| {
            Reply::Files(Files {
                file_descriptor_proto: vec![file.to_vec()],
            })
        })
    };
    let reply = match &request.question {
        Some(Question::FileByFilename(name)) => file(descriptors.file(name)),
        Some(Question::FileContainingSymbol(symbol)) => file(descriptors.defining(symbol)),
        Some(Question::ListServices(_)) => {
            let service = SERVICES.map(|name| Service {
                name: name.to_owned(),
            });
            Some(Reply::Services(Services {
                service: service.to_vec(),
            }))
        }
        // No message here has extensions.
        Some(Question::FileContainingExtension(_) | Question::ExtensionNumbersOfType(_)) | None => {
            None
        }
    };
    let nothing = || {
        Reply::Error(ReplyError {
            code: Code::NotFound.into(),
            message: "nothing here has this name".to_owned(),
        })
    };
    ReflectionResponse {
        valid_host: request.host.clone(),
        reply: Some(reply.unwrap_or_else(nothing)),
        original_request: Some(request),
    }
}
