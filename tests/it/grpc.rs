//! gRPC: stock clients, and by hand what they do not show.

use std::{convert::Infallible, fs, path::Path, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchlight::oip::proto::{
    ModelInferRequest, ModelInferResponse, ModelRequest, ModelStreamInferResponse, ReadyResponse,
};
use prost::Message;
use tokio::{net::TcpStream, sync::mpsc};

use crate::{
    client::get,
    client_examples::{python, run},
    process::{Server, models},
    tls::certify,
};

const SERVICE: &str = "/inference.GRPCInferenceService";

type Body = BoxBody<Bytes, Infallible>;

#[test]
fn triton_s_own_client_finds_the_same_on_the_shared_port_and_on_one_of_its_own() {
    let Some(python) = python() else { return };
    let server = Server::start(&["--grpc-listen", "127.0.0.1:0", "--drain-delay", "200ms"]);
    let samples = models("samples");
    let samples = samples.to_str().unwrap();
    for address in [&server.address, &server.grpc()] {
        let arguments = [address.as_str(), "demo", samples, &server.address];
        run(&python, "oip_grpc.py", &arguments);
    }
}

#[test]
fn kserve_s_own_client_finds_what_it_expects() {
    let Some(python) = python() else { return };
    let server = Server::demo();
    let samples = models("samples");
    let address = server.address.as_str();
    let arguments = [address, address, "demo", samples.to_str().unwrap()];
    run(&python, "oip_kserve.py", &arguments);
}

#[test]
fn tls_and_keys_in_metadata_guard_calls_as_they_do_requests() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let key = "first-key-0123456789";
    fs::write(path("keys"), format!("{key}\n")).unwrap();
    let server = Server::start(&[
        "--tls-cert",
        &path("tls.crt"),
        "--tls-key",
        &path("tls.key"),
        "--api-key-file",
        &path("keys"),
    ]);
    let (_, port) = server.address.rsplit_once(':').unwrap();
    let address = format!("localhost:{port}");
    let samples = models("samples");
    let arguments = [&address, &path("tls.crt"), key, samples.to_str().unwrap()];
    run(&python, "oip_grpc_secured.py", &arguments);
}

async fn connect(address: &str) -> SendRequest<Body> {
    let socket = TcpStream::connect(address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A message behind its length.
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], &message].concat().into()
}

fn once(bytes: Bytes) -> Body {
    StreamBody::new(stream::iter([Ok(Frame::data(bytes))])).boxed()
}

async fn call(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Response<Incoming> {
    let mut sender = connect(address).await;
    let mut request = Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender
        .send_request(request.body(body).unwrap())
        .await
        .unwrap()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// The messages and the trailers of an answer.
async fn answered(response: Response<Incoming>) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (headers, body.to_bytes(), trailers)
}

#[tokio::test]
async fn an_answer_has_its_status_in_trailers_and_an_error_in_headers() {
    let server = Server::demo();
    let path = format!("{SERVICE}/ModelReady");
    let ask = |name: &str| {
        once(framed(&ModelRequest {
            name: name.to_owned(),
            version: String::new(),
        }))
    };
    let response = call(&server.address, &path, &[GRPC], ask("demo")).await;
    assert_eq!(response.status(), 200);
    let (headers, body, trailers) = answered(response).await;
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    assert!(ReadyResponse::decode(&body[5..]).unwrap().ready);

    let response = call(&server.address, &path, &[GRPC], ask("another")).await;
    assert_eq!(response.status(), 200);
    let (headers, body, trailers) = answered(response).await;
    // NOT_FOUND.
    assert_eq!(headers["grpc-status"], "5");
    assert_eq!(headers["patchlight-code"], "no_such_model");
    assert!(headers.contains_key("x-request-id"));
    assert!(body.is_empty() && trailers.is_none());
}

#[tokio::test]
async fn what_is_no_call_and_what_no_service_has_is_refused() {
    let server = Server::demo();
    let json = [("content-type", "application/json")];
    let path = format!("{SERVICE}/ServerLive");
    let response = call(&server.address, &path, &json, once("{}".into())).await;
    assert_eq!(response.status(), 415);
    for path in [
        "/inference.GRPCInferenceService/Nothing",
        "/another.Service/Method",
    ] {
        let response = call(&server.address, path, &[GRPC], once(Bytes::new())).await;
        let (headers, ..) = answered(response).await;
        // UNIMPLEMENTED.
        assert_eq!(headers["grpc-status"], "12", "{path}");
    }
    let timeout = [GRPC, ("grpc-timeout", "soon")];
    let path = format!("{SERVICE}/ModelInfer");
    let (headers, ..) =
        answered(call(&server.address, &path, &timeout, once(Bytes::new())).await).await;
    // INVALID_ARGUMENT.
    assert_eq!(headers["grpc-status"], "3");
    // A call without a message, one that ends within it, and one that is no message.
    for body in [
        &b""[..],
        b"\0\0\0\0\x05ab",
        b"\0\0\0\0\x01\xff",
        b"\x01\0\0\0\0",
    ] {
        let body = once(Bytes::copy_from_slice(body));
        let (headers, ..) = answered(call(&server.address, &path, &[GRPC], body).await).await;
        assert_eq!(headers["grpc-status"], "3");
        assert_eq!(headers["patchlight-code"], "malformed_request");
    }
    // Its length alone is enough to refuse it: nothing of the message has come.
    let announced = once(Bytes::from_static(b"\0\x40\0\0\0"));
    let (headers, ..) = answered(call(&server.address, &path, &[GRPC], announced).await).await;
    // RESOURCE_EXHAUSTED.
    assert_eq!(headers["grpc-status"], "8");
    assert_eq!(get(&server.address, "/readyz").await.status, 200);
}

fn image() -> ModelInferRequest {
    let file = fs::read(models("samples/rocket.jpg")).unwrap();
    let length = u32::try_from(file.len()).unwrap();
    ModelInferRequest {
        model_name: "demo_image".to_owned(),
        inputs: vec![patchlight::oip::proto::InferTensor {
            name: "image".to_owned(),
            datatype: "BYTES".to_owned(),
            shape: vec![1],
            ..Default::default()
        }],
        raw_input_contents: vec![[&length.to_le_bytes()[..], &file].concat().into()],
        ..ModelInferRequest::default()
    }
}

#[tokio::test]
async fn metrics_count_calls_by_what_became_of_them() {
    let server = Server::demo();
    let path = format!("{SERVICE}/ModelInfer");
    let response = call(&server.address, &path, &[GRPC], once(framed(&image()))).await;
    let (_, body, trailers) = answered(response).await;
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    let said = ModelInferResponse::decode(&body[5..]).unwrap();
    assert_eq!(said.outputs.len(), said.raw_output_contents.len());
    let mut other = image();
    other.model_name = "another".to_owned();
    answered(call(&server.address, &path, &[GRPC], once(framed(&other))).await).await;
    let metrics = get(&server.address, "/metrics").await;
    let metrics = metrics.text();
    for code in [200, 404] {
        let line = format!("patchlight_requests_total{{code=\"{code}\",endpoint=\"{path}\"}} 1");
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
}

/// On threads of its own, since the connection goes on while this one waits for the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_open_ends_when_the_server_drains() {
    let mut server = Server::demo();
    let mut sender = connect(&server.address).await;
    let (send, mut pieces) = mpsc::unbounded_channel::<Bytes>();
    let body = stream::poll_fn(move |context| pieces.poll_recv(context));
    let body = futures_util::StreamExt::map(body, |bytes| Ok(Frame::data(bytes)));
    let request = Request::post(format!(
        "http://{}{SERVICE}/ModelStreamInfer",
        server.address
    ));
    let request = request.header(GRPC.0, GRPC.1);
    let request = request.body(StreamBody::new(body).boxed()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let mut body = response.into_body();
    send.send(framed(&image())).unwrap();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first[0], 0);
    server.signal("TERM");
    let mut rest = Vec::from(&first[5..]);
    let trailers = loop {
        let frame = body.frame().await.expect("trailers come").unwrap();
        match frame.into_data() {
            Ok(data) => rest.extend_from_slice(&data),
            Err(frame) => break frame.into_trailers().unwrap(),
        }
    };
    let answer = ModelStreamInferResponse::decode(&*rest).unwrap();
    assert!(answer.error_message.is_empty() && answer.infer_response.is_some());
    // UNAVAILABLE: there is another server to ask.
    assert_eq!(trailers["grpc-status"], "14");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn messages_of_triton_s_own_classes_are_read_as_they_were_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/grpc");
    let read = |name: &str| {
        let bytes = fs::read(folder.join(name)).unwrap();
        ModelInferRequest::read(bytes.into()).unwrap()
    };
    let raw = read("request_raw.binpb");
    assert_eq!(
        (raw.model_name.as_str(), raw.model_version.as_str()),
        ("vit_image", "1")
    );
    assert_eq!(
        raw.raw_input_contents,
        [&b"\x03\0\0\0GIF\x04\0\0\0PNG!"[..]]
    );
    let request = raw.into_request().unwrap();
    assert_eq!(request.id.as_deref(), Some("a-7"));
    assert_eq!(request.timeout, Some(Duration::from_secs(2)));
    let outputs = request.outputs.unwrap();
    assert_eq!(
        (outputs[0].name.as_str(), outputs[0].classification),
        ("logits", Some(3))
    );
    assert_eq!(
        (outputs[1].name.as_str(), outputs[1].classification),
        ("rollout", None)
    );
    assert_eq!(
        request.inputs[0].bytes(2, |_| unreachable!()).unwrap(),
        ["GIF", "PNG!"]
    );
    let typed = read("request_typed.binpb").into_request().unwrap();
    assert_eq!(typed.inputs[0].shape, [1, 3, 1, 1]);
    assert_eq!(typed.inputs[0].fp32(3).unwrap(), [0.5, -1.0, 2.0]);
}
