use clap::Parser;

use super::*;
use crate::args::Cli;

fn config(flags: &[&str]) -> Result<Config, ConfigError> {
    let typed = ["patchlight", "--model", "somewhere"].iter().chain(flags);
    Config::from_args(&Cli::try_parse_from(typed).unwrap().serve)
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = config(&[]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.devices, Device::Auto.into());
    assert_eq!(config.limits.request_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.max_body, 10 << 20);
    assert_eq!(config.drain.delay, Duration::from_secs(5));
    assert_eq!(config.drain.timeout, Duration::from_secs(20));
    assert_eq!(config.max_pixels, 40_000_000);
    assert_eq!(config.max_side, 16_384);
    assert_eq!(config.decode_memory, 512 << 20);
    assert_eq!(config.store.ttl, Duration::from_secs(3600));
    assert_eq!(config.store.bytes, 128 << 20);
    assert_eq!(config.keep_alive, Duration::from_secs(75));
    assert!(config.keep_previews);
    assert!(config.threads >= 1);
    assert_eq!(config.allowed_hosts, AllowedHosts::LoopbackAnd(Vec::new()));
}

#[test]
fn every_fault_is_reported_at_once() {
    let wrong = [
        "--listen=nowhere",
        "--device=gpu",
        "--threads=0",
        "--sessions=0",
        "--max-batch=many",
        "--batching=lazy",
        "--request-timeout=soon",
        "--max-body=10 apples",
        "--keep-alive=999ms",
        "--keep-pictures=maybe",
        "--attention-ttl=-1s",
        "--log-format=xml",
        "--allowed-hosts=http://a",
    ];
    let said = config(&wrong).unwrap_err().to_string();
    assert_eq!(said.lines().count(), wrong.len(), "{said}");
    for flag in wrong {
        let name = flag.split('=').next().unwrap();
        assert!(said.contains(name), "{name} is missing in\n{said}");
    }
}

#[test]
fn there_are_no_more_sessions_than_threads_on_a_cpu() {
    let with = |flags: &[&str]| config(flags).map(|config| config.sessions.map(NonZeroUsize::get));
    assert_eq!(with(&["--threads=4", "--sessions=4"]).unwrap(), Some(4));
    let said = with(&["--threads=2", "--sessions=3"]).unwrap_err();
    assert!(said.to_string().contains("--sessions"), "{said}");
    let gpu = ["--device=cuda", "--threads=1", "--sessions=2"];
    assert_eq!(with(&gpu).unwrap(), Some(2));
    assert_eq!(with(&["--threads=1"]).unwrap(), None);
}

#[test]
fn no_time_at_all_is_refused() {
    assert!(config(&["--request-timeout=0s"]).is_err());
}

#[test]
fn sizes_and_durations_read_as_documented() {
    let config = config(&[
        "--max-body=1MiB",
        "--request-timeout=500ms",
        "--attention-ttl=2h",
    ])
    .unwrap();
    assert_eq!(config.limits.max_body, 1 << 20);
    assert_eq!(config.limits.request_timeout, Duration::from_millis(500));
    assert_eq!(config.store.ttl, Duration::from_secs(7200));
}

#[test]
fn several_cards_are_named_in_one_flag_or_in_several() {
    for typed in [
        &["--device=cuda:0,1"][..],
        &["--device=cuda:0,cuda:1"],
        &["--device=cuda:0", "--device=cuda:1"],
    ] {
        let read = config(typed).unwrap();
        assert_eq!(read.devices.to_string(), "cuda:0,cuda:1", "{typed:?}");
    }
    let refused = config(&["--device=cpu,cuda:0"]).unwrap_err().to_string();
    assert!(refused.contains("cannot serve together"), "{refused}");
}
