//! What was typed, and the rule that only this machine is loaded unless asked otherwise.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Parser};
use hyper::Uri;

use crate::{
    Result,
    arrivals::Arrivals,
    drive::{Load, Plan},
};

/// Put a running patchlight under load and report throughput, latency and batch sizes
#[derive(Debug, Parser)]
#[command(name = "patchlight-load", version, group = ArgGroup::new("load").required(true))]
pub(crate) struct Args {
    /// Images to send in turn: files, or folders whose images are taken in order of name
    #[arg(required = true, value_name = "PICTURE")]
    pub(crate) images: Vec<PathBuf>,

    /// Where to post the images, query included
    #[arg(long, default_value = "http://127.0.0.1:8080/classify")]
    pub(crate) url: Uri,

    /// Send the images over gRPC to the model of this name, at the host and port of --url
    #[arg(long, value_name = "MODEL")]
    pub(crate) grpc: Option<String>,

    /// Where to read metrics, if not at /metrics of the same host and port
    #[arg(long, value_name = "URL")]
    pub(crate) metrics_url: Option<Uri>,

    /// Load another machine than this one: only ever one of your own
    #[arg(long)]
    pub(crate) allow_remote: bool,

    /// Closed loop: keep N requests in flight
    #[arg(long, group = "load", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) clients: Option<u32>,

    /// Open loop: R requests a second, however long the answers take
    #[arg(long, group = "load", value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,

    /// Open loop: how requests are spread in time
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub(crate) arrivals: Arrivals,

    /// Open loop: makes the Poisson arrivals repeatable
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Open loop: at most N requests on their way; the wait for a free place counts as latency
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_in_flight: u32,

    /// Measured time
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,

    /// The same load before it, not measured
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) warmup: Duration,

    /// Stop after N requests, if that comes first
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(crate) max_requests: u64,

    /// Give a request up after this time
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,

    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The addresses that a run talks to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: Uri,
    pub(crate) metrics: Uri,
}

impl Args {
    /// Checks both addresses.
    ///
    /// # Errors
    /// When one is not plain HTTP, or not on this machine without `--allow-remote`.
    pub(crate) fn target(&self) -> Result<Target> {
        let metrics = match &self.metrics_url {
            Some(url) => url.clone(),
            None => {
                let mut parts = self.url.clone().into_parts();
                parts.path_and_query = Some("/metrics".parse()?);
                Uri::from_parts(parts)?
            }
        };
        for url in [&self.url, &metrics] {
            self.check(url)?;
        }
        Ok(Target {
            url: self.url.clone(),
            metrics,
        })
    }

    fn check(&self, url: &Uri) -> Result<()> {
        if url.scheme_str() != Some("http") {
            return Err(format!("{url}: only http:// addresses are served by this tool").into());
        }
        let host = url
            .host()
            .ok_or_else(|| format!("{url}: the address names no host"))?;
        if self.allow_remote || is_loopback(host) {
            return Ok(());
        }
        Err(format!(
            "{host} is not this machine; --allow-remote loads it all the same, if it is yours"
        )
        .into())
    }
}

impl From<&Args> for Plan {
    fn from(args: &Args) -> Self {
        let load = match args.rate {
            Some(rate) => Load::Open {
                rate,
                arrivals: args.arrivals,
                seed: args.seed,
                max_in_flight: args.max_in_flight,
                give_up_after: args.timeout,
            },
            // clap demands one of the two.
            None => Load::Closed {
                clients: args.clients.unwrap_or(1),
            },
        };
        Self {
            load,
            duration: args.duration,
            max_requests: args.max_requests,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err("expected requests a second, above 0 and at most 1000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[&str]) -> std::result::Result<Args, clap::Error> {
        Args::try_parse_from(["patchlight-load", "a.jpg"].iter().chain(extra))
    }

    #[test]
    fn one_loop_and_only_one_has_to_be_chosen() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--clients", "2", "--rate", "5"]).is_err());
        assert!(parse(&["--clients", "2"]).is_ok());
        assert!(parse(&["--rate", "0.5"]).is_ok());
    }

    #[test]
    fn rates_that_make_no_schedule_are_refused() {
        for rate in ["0", "-1", "NaN", "inf", "1e7", "many"] {
            assert!(parse(&["--rate", rate]).is_err(), "{rate} was accepted");
        }
    }

    #[test]
    fn loopback_in_every_spelling_is_this_machine() {
        for url in [
            "http://127.0.0.1:1/x",
            "http://127.9.9.9/",
            "http://LocalHost:8080/",
            "http://[::1]:8080/classify",
        ] {
            let args = parse(&["--clients", "1", "--url", url]).unwrap();
            args.target().unwrap();
        }
    }

    #[test]
    fn another_machine_needs_permission_for_each_of_the_two_addresses() {
        let remote = ["--clients", "1", "--url", "http://192.0.2.1:8080/classify"];
        assert!(
            parse(&remote)
                .unwrap()
                .target()
                .unwrap_err()
                .to_string()
                .contains("--allow-remote")
        );
        assert!(
            parse(&[
                "--clients",
                "1",
                "--metrics-url",
                "http://192.0.2.1/metrics"
            ])
            .unwrap()
            .target()
            .is_err()
        );
        assert!(
            parse(&["--allow-remote", "--clients", "1", "--url", remote[3]])
                .unwrap()
                .target()
                .is_ok()
        );
    }

    #[test]
    fn a_name_that_only_begins_like_loopback_is_remote() {
        let args = parse(&["--clients", "1", "--url", "http://localhost.example:8080/"]).unwrap();
        assert!(args.target().is_err());
    }

    #[test]
    fn metrics_are_looked_for_beside_the_endpoint_without_its_query() {
        let args = parse(&[
            "--clients",
            "1",
            "--url",
            "http://127.0.0.1:9000/classify?top_k=1",
        ])
        .unwrap();
        assert_eq!(
            args.target().unwrap().metrics,
            "http://127.0.0.1:9000/metrics"
        );
    }
}
