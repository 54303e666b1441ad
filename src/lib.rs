//! patchlight serves a Vision Transformer over HTTP and shows which patches it looked at.
//!
//! # The way of a picture
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
//! Data goes forward; no module reaches back. In the order of the way:
//!
//! | module | one sentence |
//! |---|---|
//! | [`args`], [`config`] | what was typed; what it means, validated, every fault reported at once |
//! | [`server`] | sockets: accepting, header deadlines, draining |
//! | [`http`] | routes, limits, and the one file that turns an [`Error`] into problem+json |
//! | [`decode`] | bytes → upright RGB8, under limits, fenced against panics |
//! | [`preprocess`] | RGB8 → the input tensor, with Pillow's arithmetic |
//! | [`batch`] | the queue, the rule that closes a batch, the thread that runs it |
//! | [`engine`] | one ONNX Runtime session behind a small trait |
//! | [`model`] | a model directory: manifest, labels, digests |
//! | [`registry`] | the models being served: by name, loaded and swapped while running |
//! | [`classify`] | the stages above in order, for one picture |
//! | [`explain`] | a rollout → map, colours, picture |
//! | [`store`] | keeps maps for `GET /attention/{id}`, in memory, in Redis or in their own ids |
//! | [`metrics`], [`telemetry`] | Prometheus; logs and spans |
//! | [`perturb`] | does a label's score hang on the patches that a map is strong on? |
//! | [`verify`] | that for one kept map, as a job with low priority |
//! | [`evaluate`] | that, and where maps point, over pictures whose object's place is known |
//! | [`watched`] | files that may change while the program runs |
//! | [`secret_file`] | files whose content nothing may repeat |
//! | [`escape`], [`bom`] | text from outside: made fit to be shown; the mark before it |
//! | [`import`] | a checkpoint → a model directory |
//! | [`oip`] | the frames of the Open Inference Protocol, apart from HTTP |
//! | [`onnx`] | the ONNX file format and the ViT graph, written by us |
//! | [`splitmix`] | random numbers that a seed fixes |
//!
//! # Threads
//!
//! * **tokio workers** — sockets, HTTP, waiting; nothing on them computes for long.
//! * **decode** (tokio's blocking threads, at most one per core at work) — decode, resize,
//!   normalise, draw maps; entered under a budget of decoded bytes.
//! * **batch worker**, one per session — owns the [`engine`]; takes batches from the queue, runs
//!   them, answers each request through its oneshot. ONNX Runtime's own threads compute below it.
//!
//! Nothing is global: environment, metrics, store and model are built in [`app`] and passed on.

pub mod app;
pub mod args;
pub mod batch;
pub mod bom;
pub mod classify;
pub mod commands;
pub mod config;
pub mod decode;
pub mod engine;
pub mod error;
pub mod escape;
pub mod evaluate;
pub mod explain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod import;
pub mod metrics;
pub mod model;
pub mod oip;
pub mod onnx;
pub mod perturb;
pub mod preprocess;
pub mod registry;
pub mod secret_file;
pub mod server;
pub mod splitmix;
pub mod store;
pub mod telemetry;
pub mod verify;
pub mod watched;

pub use error::{Error, Result};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("PATCHLIGHT_COMMIT");
