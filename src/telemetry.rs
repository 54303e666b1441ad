//! Logs to standard error, as text for people or JSON for machines; traces.
//!
//! What comes from outside is escaped in every line ([`lines`]).
//!
//! Every request has a place in a trace, its caller's or one of its own, whose id its log lines and
//! its answer carry. With the feature `otlp` and `--otlp-endpoint`, the spans of requests and their
//! stages are sent to a collector.

mod context;
mod lines;
#[cfg(feature = "otlp")]
mod otlp;

use std::io::{self, IsTerminal};

use hyper::Uri;
use tracing::Span;
#[cfg(feature = "otlp")]
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use self::context::TraceContext;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceExport {
    /// The collector's `http://` address for traces, path included.
    pub endpoint: Uri,
    /// The share of traces that are recorded, of those that begin here: 0 to 1.
    pub sample: f64,
}

/// What has to live until the last line is written; sends the last spans when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Installed {
    #[cfg(feature = "otlp")]
    _exporter: Option<otlp::Exporter>,
}

/// Installs the subscriber of this process. `filter`, for the log, has the syntax of `RUST_LOG`.
///
/// # Errors
/// When the filter cannot be parsed, the export cannot be set up, or a subscriber is installed
/// already.
pub fn install(
    format: LogFormat,
    filter: &str,
    export: Option<&TraceExport>,
) -> Result<Installed, String> {
    let filter =
        EnvFilter::try_new(filter).map_err(|why| format!("log filter `{filter}`: {why}"))?;
    let lines = lines::layer(format, io::stderr().is_terminal(), io::stderr);
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    #[cfg(feature = "otlp")]
    if let Some(export) = export {
        let (spans, exporter) = otlp::layer(export)?;
        // The log's filter is not asked: stages are of interest here, whatever is logged.
        let ours = Targets::new().with_target(env!("CARGO_PKG_NAME"), LevelFilter::DEBUG);
        registry
            .with(spans.with_filter(ours))
            .try_init()
            .map_err(|why| why.to_string())?;
        return Ok(Installed {
            _exporter: Some(exporter),
        });
    }
    #[cfg(not(feature = "otlp"))]
    if export.is_some() {
        return Err("this program was built without the feature otlp".to_owned());
    }
    registry.try_init().map_err(|why| why.to_string())?;
    Ok(Installed::default())
}

/// The place of a request's span in its caller's trace, or in a new one.
pub fn join(span: &Span, parent: Option<TraceContext>) -> TraceContext {
    #[cfg(feature = "otlp")]
    if let Some(exported) = otlp::join(span, parent) {
        return exported;
    }
    #[cfg(not(feature = "otlp"))]
    let _ = span;
    TraceContext::below(parent)
}
