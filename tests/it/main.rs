//! Integration tests, one binary.

mod graph;
mod support;
