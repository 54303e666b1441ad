//! Where events about answered requests go.

use super::ConfigErrors;
use crate::{
    args::RequestLogArgs,
    request_log::{EventMode, RequestLogSettings, Target},
};

/// The inner `None` when no events are wanted, the outer one when something is wrong and was noted.
pub(super) fn read(
    args: &RequestLogArgs,
    errors: &mut ConfigErrors,
) -> Option<Option<RequestLogSettings>> {
    let sample = args.request_log_sample.parse::<f64>().ok();
    let sample = sample.filter(|sample| (0.0..=1.0).contains(sample));
    if sample.is_none() {
        let error = format!("`{}` is not a share from 0 to 1", args.request_log_sample);
        errors.add("--request-log-sample", error);
    }
    let mode = errors.one_of(
        "--request-log-mode",
        &args.request_log_mode,
        &[("binary", EventMode::Binary), ("batch", EventMode::Batch)],
    );
    let max_bytes = errors.size("--request-log-max-size", &args.request_log_max_size);
    let kept = errors.count("--request-log-files", &args.request_log_files);
    let Some(text) = &args.request_log else {
        return Some(None);
    };
    let (sample, mode, max_bytes, kept) = (sample?, mode?, max_bytes?, kept?);
    let target = match is_url(text) {
        true => Target::Endpoint {
            url: errors.take("--request-log", endpoint(text))?,
            mode,
        },
        false => Target::File {
            path: text.into(),
            max_bytes,
            kept: kept.get(),
        },
    };
    Some(Some(RequestLogSettings {
        target,
        sample,
        images: args.request_log_images,
    }))
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

fn endpoint(text: &str) -> Result<String, String> {
    let expected = || {
        format!(
            "`{text}` is neither a file nor an address such as http://broker.default.svc/events"
        )
    };
    let uri: hyper::Uri = text.parse().map_err(|_| expected())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{args::Cli, config::Config};

    fn settings(flags: &[&str]) -> Result<Option<RequestLogSettings>, String> {
        let typed = ["patchlight", "--model", "somewhere"].iter().chain(flags);
        let config = Config::from_args(&Cli::try_parse_from(typed).unwrap().serve);
        config
            .map(|config| config.request_log)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_has_a_scheme_and_all_else_is_a_file() {
        let to = |target: &str| {
            settings(&["--request-log", target])
                .unwrap()
                .unwrap()
                .target
        };
        assert!(matches!(to("http://a/b"), Target::Endpoint { .. }));
        assert!(matches!(to("https://a"), Target::Endpoint { .. }));
        assert!(matches!(to("/var/log/a.jsonl"), Target::File { .. }));
        assert!(matches!(to("a:b"), Target::File { .. }));
        for wrong in ["kafka://a/b", "http://", "http:///a"] {
            let said = settings(&["--request-log", wrong]).unwrap_err();
            assert!(said.contains("--request-log"), "{said}");
        }
    }

    #[test]
    fn without_a_target_there_is_no_log() {
        assert_eq!(settings(&[]).unwrap(), None);
    }

    #[test]
    fn every_fault_is_noted() {
        let wrong = [
            "--request-log-sample=1.5",
            "--request-log-mode=structured",
            "--request-log-max-size=big",
            "--request-log-files=0",
        ];
        let said = settings(&wrong).unwrap_err();
        assert_eq!(said.lines().count(), wrong.len(), "{said}");
    }
}
