//! Integration tests, one binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails on the spot"
)]

mod client;
mod evidence;
mod graph;
mod importers;
mod keys;
mod life;
mod models;
mod neighbours;
mod page;
mod process;
mod replicas;
mod service;
mod stores;
mod support;
