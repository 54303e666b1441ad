//! What metrics, spans and the log line of one `POST /classify` cost: nanoseconds a request.
//!
//! `load-tests/compare.py` divides it by the processor time that the server takes for a request.
//! The log goes to standard error, as the server's; send that to a file or to `/dev/null`.

use std::{
    error::Error,
    hint::black_box,
    io::{self, Write},
    time::{Duration, Instant},
};

use patchlight::{
    metrics::{Metrics, Stage},
    telemetry::{self, LogFormat},
};
use tracing::field::Empty;

const REQUESTS: u32 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let _installed = telemetry::install(LogFormat::Text, "info", None)?;
    let metrics = Metrics::new()?;
    let started = Instant::now();
    for number in 0..REQUESTS {
        request(&metrics, number);
    }
    let each = started.elapsed() / REQUESTS;
    writeln!(io::stdout(), "{}", each.as_nanos())?;
    Ok(())
}

/// The calls that `http::observe`, the classifier and the batch worker make for one image that runs
/// in a batch of its own.
fn request(metrics: &Metrics, number: u32) {
    let took = black_box(Duration::from_millis(20));
    let _in_flight = metrics.in_flight();
    let route = black_box("/classify");
    let span = tracing::info_span!(
        "request",
        request_id = number,
        trace_id = Empty,
        method = "POST",
        route,
        key = Empty,
        otel.kind = Empty
    );
    let place = telemetry::join(&span, None);
    span.record("trace_id", format_args!("{:032x}", place.trace));
    span.in_scope(|| {
        let guard = metrics.abandon_guard("decode");
        drop(tracing::debug_span!("decode", bytes = number).entered());
        metrics.stage(Stage::Decode, took);
        drop(tracing::debug_span!("preprocess").entered());
        metrics.stage(Stage::Preprocess, took);
        guard.disarm();
        let queue = tracing::debug_span!("queue");
        drop(queue);
        drop(tracing::debug_span!(parent: &span, "inference", size = 1));
        metrics.batch(1, took);
        metrics.stage(Stage::Queue, took);
        metrics.count_image("demo");
    });
    metrics.request(route, 200, took);
    span.in_scope(|| tracing::info!(status = 200, ms = took.as_secs_f64() * 1000.0, "answered"));
}
