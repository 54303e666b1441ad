//! What a session is made of.

use std::path::PathBuf;

use super::{Device, TensorRtOptions};

/// Options of a session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The device that is asked for.
    pub device: Device,
    /// Threads that compute; set explicitly because ONNX Runtime does not know of cgroups.
    pub threads: usize,
    /// Sessions that divide these threads, or share them where the encoder is ours.
    pub sessions: usize,
    /// Whether those threads may spin for a moment before they sleep.
    pub spin: bool,
    /// Whether operators of our own may take the place of the runtime's.
    pub kernels: Kernels,
    /// Whether a card's launches for small batches are recorded once and replayed.
    pub replay: bool,
    /// How TensorRT builds its engines.
    pub tensorrt: TensorRtOptions,
    /// The ONNX file; external data lies beside it.
    pub graph: PathBuf,
}

/// Which operators a session runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Kernels {
    /// Those of this program where they are quicker, otherwise the runtime's.
    #[default]
    Auto,
    /// The runtime's alone.
    Stock,
}
