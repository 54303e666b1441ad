//! Images as the network reads them.

use std::sync::Arc;

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use super::{FLOAT, HALF, PROVIDER, batch_of, failure, input, input_of, output, stream};
use crate::cuda::CudaKernels;

/// `(images in bytes, normalised images, scale, mean, deviation) → planes of all of them`.
pub(super) struct Normalize(pub(super) Arc<CudaKernels>);

pub(super) struct NormalizeKernel(Arc<CudaKernels>);

impl Operator for Normalize {
    type Kernel<'attr> = NormalizeKernel;

    fn name(&self) -> &str {
        "Normalize"
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some(PROVIDER)
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let bytes = OperatorInput::required(TensorElementType::Uint8);
        let float = || OperatorInput::required(FLOAT);
        [bytes, float(), float(), float(), float()]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(HALF)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<NormalizeKernel> {
        Ok(NormalizeKernel(Arc::clone(&self.0)))
    }
}

impl Kernel for NormalizeKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (bytes, dims) = input(context, 0)?;
        let &[byte_images, height, width, 3] = dims.as_slice() else {
            return Err(failure(format!("images in bytes have shape {dims:?}")));
        };
        let (values, dims) = input(context, 1)?;
        let batch = byte_images + batch_of(&dims, &[3, height, width])?;
        let tensors = [
            bytes,
            values,
            input_of(context, 2, &[1])?,
            input_of(context, 3, &[3])?,
            input_of(context, 4, &[3])?,
            output(context, 0, &[batch, 3, height, width])?,
        ];
        if batch == 0 {
            return Ok(());
        }
        let (stream, pixels) = (stream(context)?, height * width);
        // SAFETY: as in `super::AttentionKernel`.
        unsafe {
            self.0
                .launch_normalize(stream, &tensors, batch, byte_images, pixels)
        }
        .map_err(failure)
    }
}
