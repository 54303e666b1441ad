//! Recognises the errors that say a device had no memory.
//!
//! ONNX Runtime has no code of its own for it (onnxruntime issue 16307): the text tells. Sources:
//! `onnxruntime/core/framework/bfc_arena.cc` (the arena of every device) and
//! `onnxruntime/core/providers/cuda/cuda_call.cc` (calls of CUDA and its libraries, with their
//! codes); for the codes `cudaError_t`, `cublasStatus_t` and `cudnnStatus_t` in NVIDIA's
//! references, for TensorRT its `ErrorCode`.

use super::EngineError;

/// What errors of exhausted memory contain, in lower case.
const TEXTS: [&str; 10] = [
    // The arena, when its device gives no more; and when it has reached a limit of its own.
    "failed to allocate memory for requested buffer",
    "is smaller than requested bytes of",
    // `cudaErrorMemoryAllocation` and `CUDA_ERROR_OUT_OF_MEMORY` as text and by name.
    "out of memory",
    "cudaerrormemoryallocation",
    "out_of_memory",
    // Libraries that bring their own workspace: the last is cuDNN 9's.
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",
    // Memory of the host, as C++ says it.
    "std::bad_alloc",
    // TensorRT's allocator.
    "could not be allocated",
];

impl EngineError {
    /// [`EngineError::OutOfMemory`] for a batch of `size` if that is what it says, otherwise the
    /// error as it is.
    pub(super) fn of_batch(self, size: usize) -> Self {
        let out_of_memory = match &self {
            Self::Ort(error) => says_so(error.message()),
            #[cfg(feature = "cuda")]
            Self::Card(error) => error.is_out_of_memory() || says_so(&error.to_string()),
            _ => false,
        };
        match out_of_memory {
            true => Self::OutOfMemory {
                size,
                error: self.to_string(),
            },
            false => self,
        }
    }
}

fn says_so(message: &str) -> bool {
    let message = message.to_lowercase();
    TEXTS.iter().any(|text| message.contains(text))
}

#[cfg(test)]
mod tests;
