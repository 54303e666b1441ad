//! Spans to a collector: OTLP over HTTP, as protobuf.
//!
//! Spans are gathered and sent by a thread of the SDK's own. It has a small runtime of its own,
//! too, so that what is left can still be sent when the server's has ended.

use std::{fmt, future, pin::Pin, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt, TraceState, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tokio::{
    net::TcpStream,
    runtime::{self, Runtime},
    time::timeout,
};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, registry::LookupSpan};

use super::{TraceContext, TraceExport};

/// How long the collector may take over one batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// A collector has little to say.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub(super) struct Exporter(SdkTracerProvider);

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// The layer that turns spans into OpenTelemetry's.
pub(super) fn layer<S>(export: &TraceExport) -> Result<(impl Layer<S> + use<S>, Exporter), String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let collector = Collector::new().map_err(|error| format!("trace export: {error}"))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(collector)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(export.endpoint.to_string())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| format!("trace export: {error}"))?;
    let resource = Resource::builder()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", crate::VERSION))
        .build();
    // The caller decides for its traces; we decide for those that begin here.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(export.sample)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_location(false)
        .with_threads(false);
    Ok((layer, Exporter(provider)))
}

/// Makes `span` a child of its caller's and returns its own context; `None` when nothing is
/// exported.
pub(super) fn join(span: &Span, parent: Option<TraceContext>) -> Option<TraceContext> {
    if let Some(parent) = parent {
        let flags = match parent.sampled {
            true => TraceFlags::SAMPLED,
            false => TraceFlags::default(),
        };
        let remote = SpanContext::new(
            TraceId::from_bytes(parent.trace.to_be_bytes()),
            SpanId::from_bytes(parent.span.to_be_bytes()),
            flags,
            true,
            TraceState::default(),
        );
        span.set_parent(Context::new().with_remote_span_context(remote))
            .ok()?;
    }
    span.record("otel.kind", "server");
    let context = span.context();
    let span_context = context.span().span_context().clone();
    span_context.is_valid().then(|| TraceContext {
        trace: u128::from_be_bytes(span_context.trace_id().to_bytes()),
        span: u64::from_be_bytes(span_context.span_id().to_bytes()),
        sampled: span_context.is_sampled(),
    })
}

/// Where spans are sent, one connection a batch.
struct Collector(Runtime);

impl Collector {
    fn new() -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self(runtime))
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl HttpClient for Collector {
    /// Blocks, which only the exporting thread feels.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let sent = self.0.block_on(async {
            timeout(EXPORT_TIMEOUT, send(request))
                .await
                .map_err(|_| HttpError::from("no answer in time"))?
        });
        match &sent {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => tracing::warn!(status = %answer.status(), "the collector refused spans"),
            Err(error) => tracing::warn!(%error, "spans could not be exported"),
        }
        Box::pin(future::ready(sent))
    }
}

async fn send(mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri().clone();
    let authority = uri.authority().ok_or("the endpoint has no host")?;
    let address = (authority.host(), authority.port_u16().unwrap_or(80));
    request
        .headers_mut()
        .insert(header::HOST, authority.as_str().parse()?);
    *request.uri_mut() = uri
        .path_and_query()
        .map_or("/", |it| it.as_str())
        .parse::<Uri>()?;

    let socket = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = sender
        .send_request(request.map(Full::new))
        .await?
        .into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES)
        .collect()
        .await?
        .to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}
