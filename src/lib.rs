//! patchlight serves a Vision Transformer over HTTP and shows which patches it looked at.
//!
//! # The path of a request
//!
//! ```text
//!  socket ──► server ──► http ──► upload ──► decode ──► preprocess ──► batch ──► engine
//!             accept,    routes,  body with  upright    input tensor   queue,    ONNX Runtime
//!             deadlines  limits   limits     RGB8       of one image   batches   session
//!                          ▲                                                        │
//!                          │                                            logits, rollout
//!                          │                                                        ▼
//!                          └──────────── store ◄──────── answer ◄──────────── model (labels)
//!                             GET /attention/{id}:        top-k scores,
//!                             explain draws the map       the map's id
//! ```
//!
//! Data goes forward; no module reaches back (`.ci/layers.py` sees to it). What computes is in
//! crates below the server (`crates/`). In the order of the way:
//!
//! | module | one sentence |
//! |---|---|
//! | [`args`], [`config`] | command line, environment and settings file; validated settings, every error reported at once |
//! | [`server`] | sockets: accept loop, timeouts, connection limit, TLS, graceful shutdown |
//! | [`readiness`] | whether new work should be sent here |
//! | [`service`] | what all front ends share: callers and quotas, admission, upload memory, running images |
//! | [`http`] | routes, limits, and the one file that turns an [`Error`] into problem+json |
//! | [`patchlight_imaging::decode`] | bytes → upright RGB8, under limits, with decoder panics caught |
//! | [`decode_budget`] | how many images, and how many bytes of them, are decoded at once |
//! | [`patchlight_imaging::preprocess`] | RGB8 → the input tensor, with Pillow's arithmetic |
//! | [`batch`] | the queue, the rule that closes a batch, the thread that runs it |
//! | [`patchlight_engine`] | one ONNX Runtime session behind a small trait |
//! | [`patchlight_model`] | a model directory: manifest, labels, digests |
//! | [`registry`] | the models being served: by name, loaded and swapped while running |
//! | [`classify`] | the stages above in order, for one image; single-flight result cache |
//! | [`explain`] | a rollout → map, colors, PNG |
//! | [`store`] | stores maps for `GET /attention/{id}`: in memory, in Redis, or sealed in their ids |
//! | [`request_log`] | events about answered requests, to a file or as CloudEvents |
//! | [`metrics`], [`telemetry`] | Prometheus; logs and spans |
//! | [`perturb`] | deletion and insertion: does a label's score depend on a map's strongest patches? |
//! | [`verify`] | perturbation tests of one stored map, as background jobs |
//! | [`evaluate`] | map metrics over a data set with known object boxes |
//! | [`file_watcher`] | files that may change while the program runs |
//! | [`secret_file`] | files whose content nothing may repeat |
//! | [`bom`] | the mark before text from outside |
//! | [`sources`], [`patchlight_sources`] | a model's name on a hub → a model directory, kept for the next start |
//! | [`patchlight_import`] | a checkpoint → a model directory |
//! | [`oip`] | the frames of the Open Inference Protocol, apart from HTTP |
//! | [`patchlight_onnx`] | the ONNX file format and the ViT graph with its rollout |
//! | [`patchlight_splitmix`] | random numbers that a seed fixes |
//! | [`patchlight_escape`] | text from outside, safe to show and bounded in length |
//!
//! # Threads
//!
//! * **tokio workers** — sockets, HTTP, waiting; nothing on them computes for long.
//! * **decode** (tokio's blocking threads, at most one per core at work) — decode, resize,
//!   normalise, draw maps; entered under a budget of decoded bytes.
//! * **batch worker**, one per session — owns a session of the engine; takes batches from the
//!   queue, runs them, answers each request through its oneshot. ONNX Runtime's own threads compute
//!   below it.
//!
//! Locks are those of std. Where a panic may poison one, what it guards is whole after every
//! statement, so the holder's `PoisonError::into_inner` goes on with it. `parking_lot` would save
//! that call at twenty places, and nothing else.
//!
//! Nothing is global: environment, metrics, store and model are built in [`app`] and passed on.

pub mod app;
pub mod args;
pub mod batch;
pub mod bom;
pub mod calibrate;
pub mod classify;
pub mod commands;
pub mod config;
pub mod decode_budget;
pub mod error;
pub mod evaluate;
pub mod explain;
pub mod file_watcher;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod image_fetch;
mod images;
pub mod metrics;
pub mod oip;
pub mod perturb;
pub mod readiness;
pub mod registry;
pub mod request_log;
pub mod secret_file;
pub mod server;
pub mod service;
pub mod sources;
pub mod store;
pub mod telemetry;
pub mod verify;

pub use error::{Error, Result};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("PATCHLIGHT_COMMIT");
