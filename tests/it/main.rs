//! Integration tests, one binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails on the spot"
)]

mod client;
mod clients;
mod commands;
#[cfg(target_os = "linux")]
mod cores;
mod docs;
mod encodings;
mod evaluate;
mod evidence;
mod exported;
mod faults;
mod graph;
mod hostile;
mod hosts;
mod importers;
mod keys;
mod life;
mod models;
mod monitoring;
mod neighbours;
mod oip;
mod page;
mod pictures;
mod precision;
mod process;
mod renderings;
mod replicas;
mod results;
mod rollout;
mod service;
mod stores;
mod support;
mod tls;
mod traces;
mod verify;
mod wire;
