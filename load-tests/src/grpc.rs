//! Images as inference requests over gRPC: `ModelInfer` of the Open Inference Protocol, all on one
//! HTTP/2 connection as gRPC's own clients do it.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Uri, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message;

use crate::Result;

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The part of a request that is sent, by the protocol's numbers.
#[derive(Clone, PartialEq, Message)]
struct InferRequest {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "6")]
    outputs: Vec<Output>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    raw: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Output {
    #[prost(string, tag = "1")]
    name: String,
}

pub(crate) struct Grpc {
    pool: Pool<HttpConnector, Full<Bytes>>,
    url: Uri,
    /// One for each image, behind its length.
    messages: Vec<Bytes>,
}

impl Grpc {
    /// Asks the model `NAME_image` on the host and port of an address for logits.
    ///
    /// # Errors
    /// When the address has no host.
    pub(crate) fn new(url: &Uri, model: &str, images: &[Bytes]) -> Result<Self> {
        let mut parts = url.clone().into_parts();
        parts.path_and_query = Some(PATH.parse()?);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            pool: Pool::builder(TokioExecutor::new())
                .http2_only(true)
                .build(connector),
            url: Uri::from_parts(parts)?,
            messages: images.iter().map(|image| message(model, image)).collect(),
        })
    }

    /// Sends an image and reads the whole answer: the HTTP status that its gRPC status corresponds to.
    ///
    /// # Errors
    /// When the connection fails, or an answer has no status.
    pub(crate) async fn infer(&self, turn: usize) -> Result<u16> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(Full::new(self.messages[turn].clone()))?;
        let response = self.pool.request(request).await?;
        if response.status() != 200 {
            return Ok(response.status().as_u16());
        }
        if let Some(status) = status(response.headers()) {
            return Ok(status);
        }
        let answer = response.into_body().collect().await?;
        let status = answer.trailers().and_then(status);
        status.ok_or_else(|| "the answer has no grpc-status".into())
    }
}

fn message(model: &str, image: &[u8]) -> Bytes {
    // An element of BYTES has its length before it.
    let mut element = BytesMut::new();
    element.put_u32_le(u32::try_from(image.len()).unwrap_or(u32::MAX));
    element.put_slice(image);
    let request = InferRequest {
        model_name: format!("{model}_image"),
        inputs: vec![Tensor {
            name: "image".to_owned(),
            datatype: "BYTES".to_owned(),
            shape: vec![1],
        }],
        outputs: ["logits", "rollout"]
            .map(|name| Output {
                name: name.to_owned(),
            })
            .to_vec(),
        raw: vec![element.freeze()],
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(request.encoded_len()).unwrap_or(u32::MAX));
    message.put_slice(&request.encode_to_vec());
    message.freeze()
}

/// The HTTP status for the gRPC status in headers or trailers (google/rpc/code.proto has the
/// mapping).
fn status(headers: &HeaderMap) -> Option<u16> {
    let status = headers.get("grpc-status")?;
    Some(match status.as_bytes() {
        b"0" => 200,
        b"3" | b"9" | b"11" => 400,
        b"4" => 504,
        b"5" => 404,
        b"7" => 403,
        b"8" => 429,
        b"12" => 501,
        b"14" => 503,
        b"16" => 401,
        _ => 500,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{
        Response, body::Incoming, header::HeaderValue, server::conn::http2, service::service_fn,
    };
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers a message that ends with "busy" with 14 in its headers, any other with 0 in trailers.
    async fn answer(
        request: Request<Incoming>,
    ) -> std::result::Result<
        Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>,
        Infallible,
    > {
        assert_eq!(request.uri().path(), PATH);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let read = InferRequest::decode(&body[5..]).unwrap();
        assert_eq!(read.model_name, "demo_image");
        let mut response = Response::builder();
        if body.ends_with(b"busy") {
            response = response.header("grpc-status", "14");
            return Ok(response.body(Full::new(Bytes::new()).boxed()).unwrap());
        }
        let trailers = HeaderMap::from_iter([(
            "grpc-status".parse().unwrap(),
            HeaderValue::from_static("0"),
        )]);
        let body = Full::new(Bytes::from_static(b"\0\0\0\0\0"));
        let body = body.with_trailers(async move { Some(Ok(trailers)) });
        Ok(response.body(body.boxed()).unwrap())
    }

    #[tokio::test]
    async fn statuses_are_found_in_headers_and_in_trailers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/classify?top_k=1", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let server = http2::Builder::new(TokioExecutor::new());
            let serving = server.serve_connection(TokioIo::new(socket), service_fn(answer));
            serving.await.unwrap();
        });
        let images = [Bytes::from("one"), Bytes::from("busy")];
        let grpc = Grpc::new(&url.parse().unwrap(), "demo", &images).unwrap();
        assert_eq!(grpc.infer(0).await.unwrap(), 200);
        assert_eq!(grpc.infer(1).await.unwrap(), 503);
    }
}
