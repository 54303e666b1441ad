//! Where traces go.

use hyper::Uri;

use super::ConfigErrors;
use crate::{args::TracingArgs, telemetry::TraceExport};

/// Where collectors listen for traces, unless the address has a path of its own.
const PATH: &str = "/v1/traces";

/// `None` when nothing is exported, or something is wrong and was noted.
pub(super) fn read(args: &TracingArgs, errors: &mut ConfigErrors) -> Option<TraceExport> {
    let sample: Option<f64> = errors.parse(
        "--trace-sample",
        &args.trace_sample,
        "a number between 0 and 1",
    );
    let sample = sample.filter(|sample| {
        let is_share = (0.0..=1.0).contains(sample);
        if !is_share {
            errors.add("--trace-sample", "it must be between 0 and 1");
        }
        is_share
    });
    let text = args.otlp_endpoint.as_ref()?;
    let endpoint = errors.take("--otlp-endpoint", endpoint(text));
    if !cfg!(feature = "otlp") {
        errors.add(
            "--otlp-endpoint",
            "this program cannot export traces: build it with `--features otlp`",
        );
    }
    Some(TraceExport {
        endpoint: endpoint?,
        sample: sample?,
    })
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let expected = || {
        format!("`{text}` is not the http:// address of a collector, such as http://127.0.0.1:4318")
    };
    let uri: Uri = text.parse().map_err(|_| expected())?;
    match (uri.scheme_str(), uri.authority()) {
        // A collector beside the server or in its cluster speaks TLS to the outside.
        (Some("https"), _) => Err(format!(
            "`{text}`: only http:// is spoken; put a collector beside the server"
        )),
        (Some("http"), Some(authority)) if uri.path() == "/" => format!("http://{authority}{PATH}")
            .parse()
            .map_err(|_| expected()),
        (Some("http"), Some(_)) => Ok(uri),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_s_address_gets_the_usual_path_unless_it_has_one() {
        assert_eq!(
            endpoint("http://otel:4318").unwrap(),
            "http://otel:4318/v1/traces"
        );
        assert_eq!(endpoint("http://otel/in").unwrap(), "http://otel/in");
    }

    #[test]
    fn what_cannot_be_spoken_to_is_refused() {
        for text in ["", "otel:4318", "https://otel", "grpc://otel", "http://"] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_fault_is_noted() {
        let mut errors = ConfigErrors::default();
        let args = TracingArgs {
            otlp_endpoint: Some("nowhere".to_owned()),
            trace_sample: "2".to_owned(),
        };
        assert_eq!(read(&args, &mut errors), None);
        let message = errors.into_result(Some(())).unwrap_err().to_string();
        assert!(message.contains("--trace-sample") && message.contains("--otlp-endpoint"));
    }
}
