//! Operators of a Vision Transformer for ONNX Runtime, fused for the processor that is there.
//!
//! A graph that uses them has a model-local function of each operator's name, so that it runs
//! without them, too: registering an operator only makes it faster. Each has a reference in plain
//! Rust ([`reference`]) that tests and the check at load compare with.
//!
//! This is the only crate with `unsafe`. It knows nothing of servers or model files.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod reference;
