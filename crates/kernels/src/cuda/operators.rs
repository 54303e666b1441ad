//! The kernels as ONNX Runtime's operators of the CUDA provider.

mod normalize;

use std::sync::Arc;

use cudarc::driver::sys::CUstream;
use ort::{
    memory::MemoryType,
    operator::{
        ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput,
        OperatorOutput,
    },
    value::{DynTensorValueType, TensorElementType},
};

use self::normalize::Normalize;
use super::{
    CudaKernels, DOMAIN,
    launch::{AttentionTensors, Pointer},
};

const PROVIDER: &str = "CUDAExecutionProvider";
const HALF: TensorElementType = TensorElementType::Float16;
const FLOAT: TensorElementType = TensorElementType::Float32;

/// Whether anything but the logits is wanted: one int64 in the host's memory.
const MAPS: OperatorInput =
    OperatorInput::required(TensorElementType::Int64).memory_type(MemoryType::CPUInput);

pub(super) fn domain(kernels: &Arc<CudaKernels>) -> ort::Result<OperatorDomain> {
    let domain = OperatorDomain::new(DOMAIN)?
        .add(Normalize(Arc::clone(kernels)))?
        .add(Attention(Arc::clone(kernels)))?
        .add(Rollout(Arc::clone(kernels)))?;
    if kernels.attribution.is_none() {
        return Ok(domain);
    }
    domain
        .add(ClassTokenSum(Arc::clone(kernels)))?
        .add(Attribution(Arc::clone(kernels)))
}

/// `(queries and keys, values, query bias, value bias, maps) → (mixed, mean, class token's rows)`.
struct Attention(Arc<CudaKernels>);

struct AttentionKernel {
    kernels: Arc<CudaKernels>,
    queries: usize,
}

impl Operator for Attention {
    type Kernel<'attr> = AttentionKernel;

    fn name(&self) -> &str {
        "Attention"
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some(PROVIDER)
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let half = || OperatorInput::required(HALF);
        [half(), half(), half(), half(), MAPS]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [HALF, HALF, FLOAT].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<AttentionKernel> {
        let queries = context.get::<i64>("queries");
        let queries = queries.and_then(|queries| usize::try_from(queries).ok());
        let tokens = self.0.network.attention.tokens;
        let queries = queries.filter(|queries| (1..=tokens).contains(queries));
        Ok(AttentionKernel {
            kernels: Arc::clone(&self.0),
            queries: queries
                .ok_or_else(|| failure(format!("`queries` must be from 1 to {tokens}")))?,
        })
    }
}

impl Kernel for AttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let shape = self.kernels.network.attention;
        let (tokens, width, queries) = (shape.tokens, shape.width(), self.queries);
        let (queries_and_keys, dims) = input(context, 0)?;
        let batch = batch_of(&dims, &[tokens, 2 * width])?;
        let values = input_of(context, 1, &[batch, tokens, width])?;
        let query_bias = input_of(context, 2, &[width])?;
        let value_bias = input_of(context, 3, &[width])?;
        let maps = maps(context, 4)?;
        let groups = self.kernels.head_groups(batch, queries);
        let tensors = AttentionTensors {
            queries_and_keys,
            values,
            query_bias,
            value_bias,
            mixed: output(context, 0, &[batch, queries, width])?,
            mean: output(context, 1, &[batch, groups, queries, shape.mean_stride()])?,
            class_rows: output(context, 2, &[batch, 1, shape.heads, tokens])?,
        };
        if batch == 0 {
            return Ok(());
        }
        let stream = stream(context)?;
        // SAFETY: the shapes were checked or asked for above. ONNX Runtime frees a tensor of this
        // stream only for what the stream does later.
        unsafe {
            self.kernels
                .launch_attention(stream, &tensors, batch, queries, maps)
        }
        .map_err(failure)
    }
}

/// `(maps, head mean of each block) → rollout by start`.
struct Rollout(Arc<CudaKernels>);

struct RolloutKernel(Arc<CudaKernels>);

impl Operator for Rollout {
    type Kernel<'attr> = RolloutKernel;

    fn name(&self) -> &str {
        "Rollout"
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some(PROVIDER)
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [MAPS, OperatorInput::variadic(1).homogenous(HALF)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(FLOAT)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<RolloutKernel> {
        Ok(RolloutKernel(Arc::clone(&self.0)))
    }
}

impl Kernel for RolloutKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let network = self.0.network;
        let (tokens, stride) = (network.attention.tokens, network.attention.mean_stride());
        expect_inputs(context, 1 + network.layers)?;
        let mut means = Vec::with_capacity(network.layers);
        let mut groups = [1, 1];
        let mut batch = 0;
        for block in 0..network.layers {
            let last = block + 1 == network.layers;
            let (mean, dims) = input(context, 1 + block)?;
            let rows = if last { network.read } else { tokens };
            let &[images, of_block, queries, columns] = dims.as_slice() else {
                return Err(failure(format!("a head mean has shape {dims:?}")));
            };
            let first = block == 0;
            let same = (first || images == batch) && (first || last || of_block == groups[0]);
            if !same || [queries, columns] != [rows, stride] {
                return Err(failure(format!("a head mean has shape {dims:?}")));
            }
            batch = images;
            if first || !last {
                groups[0] = of_block;
            }
            if last {
                groups[1] = of_block;
            }
            means.push(mean);
        }
        let by_start = output(context, 0, &[batch, network.layers, tokens])?;
        if !maps(context, 0)? || batch == 0 {
            return Ok(());
        }
        let stream = stream(context)?;
        // SAFETY: as in `AttentionKernel`.
        unsafe {
            self.0
                .launch_rollout(stream, &means, by_start, batch, groups)
        }
        .map_err(failure)
    }
}

/// `(sum so far, MLP's result, MLP's bias, attention output's bias, maps) → sum`.
struct ClassTokenSum(Arc<CudaKernels>);

struct ClassTokenSumKernel(Arc<CudaKernels>);

impl Operator for ClassTokenSum {
    type Kernel<'attr> = ClassTokenSumKernel;

    fn name(&self) -> &str {
        "ClassTokenSum"
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some(PROVIDER)
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let half = || OperatorInput::required(HALF);
        [OperatorInput::required(FLOAT), half(), half(), half(), MAPS]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(FLOAT)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<ClassTokenSumKernel> {
        Ok(ClassTokenSumKernel(Arc::clone(&self.0)))
    }
}

impl Kernel for ClassTokenSumKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let width = self.0.network.attention.width();
        let (written, dims) = input(context, 1)?;
        let &[batch, rows, columns] = dims.as_slice() else {
            return Err(failure(format!("the MLP's result has shape {dims:?}")));
        };
        if columns != width || rows == 0 {
            return Err(failure(format!("the MLP's result has shape {dims:?}")));
        }
        let tensors = [
            input_of(context, 0, &[batch, width])?,
            written,
            input_of(context, 2, &[width])?,
            input_of(context, 3, &[width])?,
            output(context, 0, &[batch, width])?,
        ];
        let (true, Some(kernels)) = (maps(context, 4)? && batch > 0, &self.0.attribution) else {
            return Ok(());
        };
        let stream = stream(context)?;
        // SAFETY: as in `AttentionKernel`.
        unsafe { kernels.launch_class_token_sum(stream, &tensors, [batch, rows, width]) }
            .map_err(failure)
    }
}

/// `(maps, directions, output kernels, values, value biases, class token's rows) → (by token,
/// scratch)`.
struct Attribution(Arc<CudaKernels>);

struct AttributionKernel(Arc<CudaKernels>);

impl Operator for Attribution {
    type Kernel<'attr> = AttributionKernel;

    fn name(&self) -> &str {
        "Attribution"
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some(PROVIDER)
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [
            MAPS,
            OperatorInput::required(HALF),
            OperatorInput::variadic(4),
        ]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        // The second is room for the projected directions, which the runtime's allocator gives and
        // takes back.
        [
            OperatorOutput::required(FLOAT),
            OperatorOutput::required(HALF),
        ]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<AttributionKernel> {
        Ok(AttributionKernel(Arc::clone(&self.0)))
    }
}

impl Kernel for AttributionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let network = self.0.network;
        let shape = network.attention;
        let (tokens, width, layers) = (shape.tokens, shape.width(), network.layers);
        let of_image = network.directions.unwrap_or(1);
        expect_inputs(context, 2 + 4 * layers)?;
        let (directions, dims) = input(context, 1)?;
        let rows = batch_of(&dims, &[width])?;
        let batch = rows / of_image;
        let mut blocks = Vec::with_capacity(4 * layers);
        let expected: [&[usize]; 4] = [
            &[width, width],
            &[batch, tokens, width],
            &[width],
            &[batch, 1, shape.heads, tokens],
        ];
        for (part, dims) in expected.into_iter().enumerate() {
            for block in 0..layers {
                blocks.push(input_of(context, 2 + part * layers + block, dims)?);
            }
        }
        let by_token = output(context, 0, &[batch, tokens, of_image])?;
        let projected = output(context, 1, &[layers, rows, width])?;
        let (true, Some(kernels)) = (maps(context, 0)? && batch > 0, &self.0.attribution) else {
            return Ok(());
        };
        let stream = stream(context)?;
        let tensors = [directions, projected, by_token];
        // SAFETY: as in `AttentionKernel`.
        unsafe { kernels.launch_attribution(stream, &network, &blocks, &tensors, batch) }
            .map_err(failure)
    }
}

fn failure(error: impl ToString) -> ort::Error {
    ort::Error::new(error.to_string())
}

fn stream(context: &ComputeContext) -> ort::Result<CUstream> {
    // A null stream is the default one.
    Ok(context
        .stream()?
        .map_or(std::ptr::null_mut(), |stream| stream.as_ptr().cast()))
}

/// Device memory of an input, and its lengths.
fn input(context: &ComputeContext, at: usize) -> ort::Result<(Pointer, Vec<usize>)> {
    let value = context
        .input(at)?
        .ok_or_else(|| failure(format!("input {at} is missing")))?;
    let tensor = value.downcast::<DynTensorValueType>()?;
    let dims = tensor
        .shape()
        .iter()
        .map(|&length| usize::try_from(length).unwrap_or(0))
        .collect();
    Ok((tensor.data_ptr().cast_mut().cast(), dims))
}

/// The same of an input whose lengths are known.
fn input_of(context: &ComputeContext, at: usize, expected: &[usize]) -> ort::Result<Pointer> {
    let (pointer, dims) = input(context, at)?;
    if dims != expected {
        return Err(failure(format!(
            "input {at} has shape {dims:?}, expected {expected:?}"
        )));
    }
    Ok(pointer)
}

fn output(context: &ComputeContext, at: usize, dims: &[usize]) -> ort::Result<Pointer> {
    let dims: Vec<i64> = dims.iter().map(|&length| length as i64).collect();
    let value = context
        .output(at, dims)?
        .ok_or_else(|| failure(format!("output {at} is missing")))?;
    let tensor = value.downcast::<DynTensorValueType>()?;
    Ok(tensor.data_ptr().cast_mut().cast())
}

/// Length of the first axis, if the others are as they should be.
fn batch_of(dims: &[usize], rest: &[usize]) -> ort::Result<usize> {
    match dims {
        [batch, others @ ..] if others == rest => Ok(*batch),
        _ => Err(failure(format!(
            "an input has shape {dims:?}, expected [batch, {rest:?}]"
        ))),
    }
}

fn expect_inputs(context: &ComputeContext, expected: usize) -> ort::Result<()> {
    match context.num_inputs()? {
        found if found == expected => Ok(()),
        found => Err(failure(format!("{found} inputs, expected {expected}"))),
    }
}

fn maps(context: &ComputeContext, at: usize) -> ort::Result<bool> {
    let value = context
        .input(at)?
        .ok_or_else(|| failure("the input `maps` is missing"))?;
    let (_, values) = value.try_extract_tensor::<i64>()?;
    Ok(values.first() != Some(&0))
}
