//! Operators for NVIDIA GPUs: the kernels of `cuda/*.cu`, compiled for the card that is there.
//!
//! [`CudaKernels::compile`] runs when a model is loaded: NVRTC compiles for one network and one
//! card, the results are compared with the [reference](crate::reference) on random input, and
//! [`CudaKernels::operators`] hands them to a session. Launches go to the runtime's own stream, so
//! that nothing waits for anything that it does not read. Where any of that fails the caller
//! registers nothing, and the graph's functions run.

mod card_session;
mod check;
mod compile;
mod launch;
mod memory;
mod operators;
mod output_layout;
mod plan;
mod replay;

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, DriverError,
    sys::{CUdevice_attribute, CUresult},
};
use ort::operator::OperatorDomain;

use self::compile::Source;
pub use self::{
    card_session::{Batch, CardSession, ComputeStream, HostBatch, SessionTensors},
    output_layout::{OutputElement, OutputSpec},
    plan::Tiling,
};
use crate::reference::AttentionShape;

/// Domain of the operators.
pub const DOMAIN: &str = "patchlight";

/// A network as the kernels are compiled for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    /// Of one block.
    pub attention: AttentionShape,
    /// Number of blocks.
    pub layers: usize,
    /// Tokens that the classifier reads, from the first on.
    pub read: usize,
    /// Directions of an image that attributions are made for; none if the graph makes no
    /// attributions.
    pub directions: Option<usize>,
}

/// Why the kernels cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A library is not there.
    #[error("{0} cannot be loaded")]
    Library(&'static str),
    /// The network is not one that the kernels are written for.
    #[error("{0}")]
    Network(String),
    /// NVRTC does not take the source.
    #[error("NVRTC: {0}")]
    Compiler(String),
    /// What the driver reports.
    #[error("CUDA: {0}")]
    Driver(#[from] DriverError),
    /// Results differ from the reference's by more than float16 explains.
    #[error(
        "{kernel} differs from the reference by {difference:.1e} where {allowed:.0e} is allowed"
    )]
    Differs {
        /// Which kernel.
        kernel: &'static str,
        /// Euclidean norm of the difference over that of the reference.
        difference: f64,
        /// What would do.
        allowed: f64,
    },
    /// A run cannot be recorded and replayed.
    #[error("the run cannot be repeated: {0}")]
    Recording(String),
    /// What the runtime reports.
    #[error("ONNX Runtime: {0}")]
    Runtime(#[from] ort::Error),
}

/// Name and compute capability of a card, by its index.
///
/// # Errors
/// If there is no driver or no such card.
pub fn card_name(card: usize) -> Result<(String, (i32, i32)), KernelError> {
    compile::check_driver()?;
    let context = CudaContext::new(card)?;
    Ok((context.name()?, context.compute_capability()?))
}

impl KernelError {
    /// Whether the driver had no memory, on the card or page-locked on the host.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(
            self,
            Self::Driver(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY))
        )
    }
}

/// The kernels of one network on one card.
#[derive(Debug)]
pub struct CudaKernels {
    context: Arc<CudaContext>,
    network: Network,
    tiling: Tiling,
    multiprocessors: usize,
    normalize: CudaFunction,
    attention: CudaFunction,
    rollout: CudaFunction,
    attribution: Option<AttributionKernels>,
}

#[derive(Debug)]
struct AttributionKernels {
    class_token_sum: CudaFunction,
    project_directions: CudaFunction,
    attribute_tokens: CudaFunction,
}

/// Free and all memory of a card, by its index, in bytes.
///
/// # Errors
/// If there is no driver or no such card.
pub fn card_memory(card: usize) -> Result<(usize, usize), KernelError> {
    compile::check_driver()?;
    CudaContext::new(card)?.bind_to_thread()?;
    Ok(cudarc::driver::result::mem_get_info()?)
}

impl CudaKernels {
    /// Compiles the kernels for a card, by its index, and compares them with the reference.
    ///
    /// # Errors
    /// Why they cannot be used there.
    pub fn compile(device: usize, network: Network) -> Result<Arc<Self>, KernelError> {
        plan::check_network(&network).map_err(KernelError::Network)?;
        compile::check_driver()?;
        compile::check_compiler()?;
        let context = CudaContext::new(device)?;
        let attribute = |attribute| {
            context
                .attribute(attribute)
                .map(|value| value.max(0) as usize)
        };
        use CUdevice_attribute as A;
        let shared = attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let multiprocessors = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let tiling = Tiling::choose(&network.attention, shared).ok_or_else(|| {
            KernelError::Network(format!(
                "{} tokens in heads of {} do not fit into {shared} bytes of shared memory",
                network.attention.tokens, network.attention.head_size
            ))
        })?;
        let mut sources = vec![Source::Normalize, Source::Attention, Source::Rollout];
        if network.directions.is_some() {
            sources.extend([Source::Attribution, Source::ClassToken]);
        }
        let binaries = compile::all(&sources, context.compute_capability()?, &network, tiling)?;
        let module = |source| -> Result<Arc<CudaModule>, KernelError> {
            let at = sources.iter().position(|&one| one == source);
            let binary = at.map(|at| binaries[at].clone()).unwrap_or_default();
            Ok(context.load_module(cudarc::nvrtc::Ptx::from_binary(binary))?)
        };
        let attention = module(Source::Attention)?.load_function("attention")?;
        attention.set_attribute(
            cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            tiling.shared_bytes(&network.attention) as i32,
        )?;
        let attribution = match network.directions {
            None => None,
            Some(_) => {
                let attribution = module(Source::Attribution)?;
                let class_token = module(Source::ClassToken)?;
                Some(AttributionKernels {
                    class_token_sum: class_token.load_function("class_token_sum")?,
                    project_directions: attribution.load_function("project_directions")?,
                    attribute_tokens: attribution.load_function("attribute_tokens")?,
                })
            }
        };
        let kernels = Self {
            normalize: module(Source::Normalize)?.load_function("normalize")?,
            attention,
            rollout: module(Source::Rollout)?.load_function("rollout")?,
            attribution,
            context,
            network,
            tiling,
            multiprocessors,
        };
        check::check(&kernels)?;
        Ok(Arc::new(kernels))
    }

    /// The operators, to be registered with a session on the same card.
    ///
    /// # Errors
    /// What the runtime reports.
    pub fn operators(self: &Arc<Self>) -> ort::Result<OperatorDomain> {
        operators::domain(self)
    }

    /// A stream of the card, for one session.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn stream(&self) -> Result<ComputeStream, KernelError> {
        ComputeStream::new(&self.context)
    }

    /// How attention is divided on this card.
    pub fn tiling(&self) -> Tiling {
        self.tiling
    }
}
