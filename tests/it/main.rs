//! Integration tests, one binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails on the spot"
)]

mod api_keys;
mod attribution;
mod calibrate;
mod client;
mod client_examples;
mod commands;
#[cfg(target_os = "linux")]
mod cpu_quota;
mod docs;
mod encoder;
mod encodings;
mod evaluate;
mod exported;
mod external_services;
mod fault_injection;
mod fused;
mod graph;
mod grpc;
mod hostile;
mod hosts;
mod hub;
mod image_bytes;
mod image_urls;
mod images;
mod importers;
mod kserve;
mod lifecycle;
mod models;
mod monitoring;
mod offline;
mod oip;
mod page;
mod precision;
mod process;
mod rendering;
mod replicas;
mod request_log;
mod result_cache;
mod rollout;
mod service;
mod stores;
mod support;
mod tls;
mod traces;
mod verify;
mod wire;
