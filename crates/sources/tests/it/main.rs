//! Sources from outside, one binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails on the spot"
)]

mod buckets;
mod clouds;
mod downloads;
mod models;
mod python;
mod refusals;
mod stand_in;
mod support;
mod web;
