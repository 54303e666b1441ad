//! One ONNX Runtime session behind a small trait.
//!
//! The batch worker owns an [`Engine`] and is the only one that calls it; nothing here locks.
//! [`OrtEngine`] is the real one. The trait exists so that the batcher can be tested for its rules
//! without a model.

pub mod device;
pub mod runtime;
mod session;
pub mod threads;

pub use self::{
    device::Device,
    runtime::Runtime,
    session::{OrtEngine, SessionOptions},
};

/// What runs a batch.
pub trait Engine: Send + 'static {
    /// Runs a batch of input tensors, each `3·height·width` values in NCHW order, and answers one
    /// output for each, in their order.
    ///
    /// # Errors
    /// A failed run says nothing about single inputs: the caller may try them one by one.
    fn run(&mut self, inputs: &[&[f32]]) -> Result<Vec<Output>, EngineError>;
}

/// What the model says of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// One value per class.
    pub logits: Vec<f32>,
    /// The rollout's row vectors: `layers × tokens`, row `k` for a product that starts at block
    /// `k`, prefix tokens first.
    pub rollout: Vec<f32>,
}

/// Why the runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The shared library is missing or unsuitable.
    #[error(
        "the ONNX Runtime library could not be loaded: {why}. Set ORT_DYLIB_PATH to the full path \
         of libonnxruntime (version 1.{}.0 or newer), or put it beside the program or into ../lib; \
         looked at: {}",
        runtime::MINIMUM_MINOR,
        .looked_at.join(", ")
    )]
    Library {
        /// What the loader said.
        why: String,
        /// Candidate paths, in the order in which they were tried.
        looked_at: Vec<String>,
    },

    /// The device that was asked for cannot be used.
    #[error("device `{device}` cannot be used: {why}")]
    Device {
        /// As it was asked for.
        device: Device,
        /// What the runtime said.
        why: String,
    },

    /// The graph does not have the tensors that the manifest names.
    #[error("the graph does not match its manifest: {0}")]
    Graph(String),

    /// Anything that ONNX Runtime itself reports.
    #[error("ONNX Runtime: {0}")]
    Ort(#[from] ort::Error),
}
