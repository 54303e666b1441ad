//! One ONNX Runtime session behind a small trait.
//!
//! The batch worker owns an [`Engine`] and is the only one that calls it; nothing here locks.
//! [`OrtEngine`] is the real one. The trait exists so that the batcher can be tested for its rules
//! without a model.

mod batch_input;
#[cfg(feature = "cuda")]
mod card;
mod cpu;
pub mod device;
mod devices;
mod encoder;
#[cfg(feature = "cuda")]
mod fused;
mod graph_check;
mod graph_file;
mod opened;
mod options;
mod out_of_memory;
mod outputs;
mod own_session;
mod raw_session;
pub mod runtime;
mod session;
mod tensorrt;
pub mod threads;

pub use self::{
    device::{CardMemory, Device},
    devices::Devices,
    options::{Kernels, SessionOptions},
    raw_session::{BareSession, Values},
    runtime::Runtime,
    session::OrtEngine,
    tensorrt::TensorRtOptions,
};

use patchlight_imaging::preprocess::ImageTensorRef;

/// What runs a batch.
pub trait Engine: Send + 'static {
    /// Runs a batch and answers one output for each input, in their order.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`] when the batch is too large for the device: the caller may try
    /// smaller ones. Any other failed run says nothing about single inputs: the caller may try them
    /// one by one.
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError>;

    /// What computes.
    fn device(&self) -> Device;

    /// Whether its runs stand in line behind those of the other engines of its model on its
    /// [`device`](Self::device).
    fn shares_device(&self) -> bool {
        false
    }

    /// Rebuilds everything below it, after run upon run has failed.
    ///
    /// # Errors
    /// When that fails, too; it then stays as it was.
    fn rebuild(&mut self) -> Result<(), EngineError>;
}

/// One image for the model.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Its values. Every engine takes every form.
    pub tensor: ImageTensorRef<'a>,
    /// Whether the class token's attention is wanted, which is by far the largest output: 300 kB
    /// for ViT-L/16.
    pub class_attention: bool,
    /// Whether anything but the logits is wanted.
    pub maps: bool,
}

impl<'a> Input<'a> {
    /// With all outputs that the graph has.
    pub fn in_full(tensor: impl Into<ImageTensorRef<'a>>) -> Self {
        Self {
            tensor: tensor.into(),
            class_attention: true,
            maps: true,
        }
    }
}

/// What the model says of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// One value per class.
    pub logits: Vec<f32>,
    /// The rollout's row vectors: `layers × tokens`, row `k` for a product that starts at block
    /// `k`, prefix tokens first. Empty if the graph makes no map, or none is wanted.
    pub rollout: Vec<f32>,
    /// Per-label attribution, if the graph makes it.
    pub attribution: Option<Attribution>,
    /// The class token's attention, `layers × heads × tokens`, if it is wanted and the graph hands
    /// it out.
    pub class_attention: Option<Vec<f32>>,
}

/// How much every patch wrote into the logits of the best classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// The classes, best first.
    pub classes: Vec<usize>,
    /// `(classes + 1) × patches`, in logits; the last row is of the mean over all classes.
    pub patches: Vec<f32>,
    /// `classes + 1`: everything else in these logits.
    pub rest: Vec<f32>,
}

impl Output {
    /// Every number in it.
    pub fn values(&self) -> impl Iterator<Item = f32> {
        let attribution = self.attribution.iter();
        let attribution =
            attribution.flat_map(|attribution| attribution.patches.iter().chain(&attribution.rest));
        let attention = self.class_attention.iter().flatten();
        let values = self.logits.iter().chain(&self.rollout);
        values.chain(attribution).chain(attention).copied()
    }
}

/// Why the runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The shared library is missing or unsuitable.
    #[error(
        "the ONNX Runtime library could not be loaded: {error}. Set ORT_DYLIB_PATH to the full path \
         of libonnxruntime (version 1.{}.0 or newer), or put it beside the program or into ../lib; \
         looked at: {}",
        runtime::MINIMUM_MINOR,
        .looked_at.join(", ")
    )]
    Library {
        /// What the loader said.
        error: String,
        /// Candidate paths, in the order in which they were tried.
        looked_at: Vec<String>,
    },

    /// The device that was asked for cannot be used.
    #[error("device `{device}` cannot be used: {error}")]
    Device {
        /// As it was asked for.
        device: Device,
        /// What the runtime said.
        error: String,
    },

    /// The graph does not have the tensors that the manifest names.
    #[error("the graph does not match its manifest: {0}")]
    Graph(String),

    /// The device has no memory for a batch of this size; a smaller one may fit.
    #[error("the device has no memory for a batch of {size}: {error}")]
    OutOfMemory {
        /// Images of the batch.
        size: usize,
        /// What the runtime or the driver said.
        error: String,
    },

    /// A run on a card of our own making failed.
    #[cfg(feature = "cuda")]
    #[error("{0}")]
    Card(#[from] patchlight_kernels::cuda::KernelError),

    /// Anything that ONNX Runtime itself reports.
    #[error("ONNX Runtime: {0}")]
    Ort(#[from] ort::Error),
}
