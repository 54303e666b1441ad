//! Integration tests, one binary.

mod client;
mod graph;
mod life;
mod process;
mod service;
mod support;
