//! The encoder as ONNX Runtime's operators of the CPU.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ort::{
    operator::{
        ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput,
        OperatorOutput,
    },
    value::TensorElementType,
};
use rayon::ThreadPool;

use super::{AttributionInputs, BatchMaps, BatchOutputs, ClassTokenOutputs, Encoder};

/// Domain of the operators.
pub const DOMAIN: &str = "patchlight";
/// `(pixels float32 [batch, 3, height, width], maps int64 [1]) →` states `[batch · read, hidden]`,
/// rollout by start `[batch, layers, tokens]`, and where the graph makes attributions the class
/// token's attention `[batch, layers, heads, tokens]`, the values it reads `[batch, layers, heads,
/// tokens · head size]`, rounding errors `[batch, layers, hidden]` and what else was added to it
/// `[batch, hidden]`. With `maps` 0 all but the states are zero, and the values read are empty.
pub const ENCODER: &str = "Encoder";
/// `(directions [batch · labels, hidden], the values read, rounding errors) →` the tokens' part of
/// each label's logit `[batch, tokens, labels]`, and what rounding changed in it `[batch, labels]`.
pub const ATTRIBUTION: &str = "EncoderAttribution";

const FLOAT: TensorElementType = TensorElementType::Float32;

/// What the operators of one session share.
#[derive(Debug)]
pub struct EncoderOperators {
    encoder: Arc<Encoder>,
    pool: Arc<ThreadPool>,
    /// Labels of an image, and the mean over all classes, that attributions are made for; none if
    /// the graph makes none.
    labels: Option<usize>,
}

impl EncoderOperators {
    /// For a session that computes on the threads of `pool`.
    pub fn new(encoder: Arc<Encoder>, pool: Arc<ThreadPool>, labels: Option<usize>) -> Self {
        Self {
            encoder,
            pool,
            labels,
        }
    }

    /// The operators, to be registered with a session.
    ///
    /// # Errors
    /// What the runtime reports.
    pub fn domain(self) -> ort::Result<OperatorDomain> {
        let shared = Arc::new(self);
        let domain = OperatorDomain::new(DOMAIN)?.add(EncoderOperator(Arc::clone(&shared)))?;
        match shared.labels {
            None => Ok(domain),
            Some(_) => domain.add(AttributionOperator(shared)),
        }
    }
}

struct EncoderOperator(Arc<EncoderOperators>);

struct EncoderKernel(Arc<EncoderOperators>);

impl Operator for EncoderOperator {
    type Kernel<'attr> = EncoderKernel;

    fn name(&self) -> &str {
        ENCODER
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [FLOAT, TensorElementType::Int64].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        let count = if self.0.labels.is_some() { 6 } else { 2 };
        (0..count).map(|_| OperatorOutput::required(FLOAT))
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<EncoderKernel> {
        Ok(EncoderKernel(Arc::clone(&self.0)))
    }
}

impl Kernel for EncoderKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let shape = self.0.encoder.shape();
        let pixels = input(context, 0)?;
        let (dims, pixels) = pixels.try_extract_tensor::<f32>()?;
        let [height, width] = shape.image.map(as_i64);
        let &[batch, 3, found_height, found_width] = &**dims else {
            return Err(failure(format!("the pixels have shape {dims:?}")));
        };
        if [found_height, found_width] != [height, width] {
            return Err(failure(format!(
                "the pixels have shape {dims:?}, expected [batch, 3, {height}, {width}]"
            )));
        }
        let maps = input(context, 1)?;
        let (_, maps) = maps.try_extract_tensor::<i64>()?;
        let maps = maps.first() != Some(&0);

        let [layers, heads, tokens, hidden] =
            [shape.layers, shape.heads, shape.tokens(), shape.hidden].map(as_i64);
        let read_values = if maps { tokens * hidden / heads } else { 0 };
        let states = [batch * as_i64(shape.read), hidden];
        let mut states = output(context, 0, states)?;
        let mut by_start = output(context, 1, [batch, layers, tokens])?;
        let mut class_token = match self.0.labels {
            None => None,
            Some(_) => Some((
                output(context, 2, [batch, layers, heads, tokens])?,
                output(context, 3, [batch, layers, heads, read_values])?,
                output(context, 4, [batch, layers, hidden])?,
                output(context, 5, [batch, hidden])?,
            )),
        };
        let states = states.try_extract_tensor_mut::<f32>()?.1;
        let by_start = by_start.try_extract_tensor_mut::<f32>()?.1;
        let class_token = match &mut class_token {
            None => None,
            Some((attention, values, errors, other)) => Some(ClassTokenOutputs {
                attention: attention.try_extract_tensor_mut::<f32>()?.1,
                weighted_values: values.try_extract_tensor_mut::<f32>()?.1,
                rounding_error: errors.try_extract_tensor_mut::<f32>()?.1,
                other: other.try_extract_tensor_mut::<f32>()?.1,
            }),
        };
        let mut of_maps = BatchMaps {
            by_start,
            class_token,
        };
        if !maps {
            of_maps.clear();
        }
        let outputs = BatchOutputs {
            states,
            maps: maps.then_some(of_maps),
        };
        fenced(|| self.0.encoder.run(pixels, outputs, &self.0.pool))
    }
}

struct AttributionOperator(Arc<EncoderOperators>);

struct AttributionKernel(Arc<EncoderOperators>);

impl Operator for AttributionOperator {
    type Kernel<'attr> = AttributionKernel;

    fn name(&self) -> &str {
        ATTRIBUTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [FLOAT; 3].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [FLOAT; 2].map(OperatorOutput::required)
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<AttributionKernel> {
        Ok(AttributionKernel(Arc::clone(&self.0)))
    }
}

impl Kernel for AttributionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let shape = self.0.encoder.shape();
        let labels = self.0.labels.unwrap_or(1);
        let (directions, values, errors) =
            (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let directions = directions.try_extract_tensor::<f32>()?.1;
        let values = values.try_extract_tensor::<f32>()?.1;
        let errors = errors.try_extract_tensor::<f32>()?.1;
        let images = directions.len() / (labels * shape.hidden);
        let dims = [images, shape.tokens(), labels].map(as_i64);
        let mut by_token = output(context, 0, dims)?;
        let mut rounding = output(context, 1, [images, labels].map(as_i64))?;
        let by_token = by_token.try_extract_tensor_mut::<f32>()?.1;
        let rounding = rounding.try_extract_tensor_mut::<f32>()?.1;
        if values.is_empty() {
            by_token.fill(0.0);
            rounding.fill(0.0);
            return Ok(());
        }
        let inputs = AttributionInputs {
            directions,
            weighted_values: values,
            rounding_error: errors,
        };
        let (encoder, pool) = (&self.0.encoder, &self.0.pool);
        fenced(|| encoder.attribute(images, inputs, by_token, rounding, pool))
    }
}

impl BatchMaps<'_> {
    /// The runtime's memory holds anything at first.
    fn clear(&mut self) {
        self.by_start.fill(0.0);
        if let Some(outputs) = &mut self.class_token {
            let parts = [
                &mut outputs.attention,
                &mut outputs.weighted_values,
                &mut outputs.rounding_error,
                &mut outputs.other,
            ];
            parts.into_iter().for_each(|part| part.fill(0.0));
        }
    }
}

/// A panic is a failed run: it must not unwind into the runtime.
fn fenced(run: impl FnOnce()) -> ort::Result<()> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        failure(format!("a kernel panicked: {}", message.unwrap_or("?")))
    })
}

fn failure(error: impl ToString) -> ort::Error {
    ort::Error::new(error.to_string())
}

fn input(context: &ComputeContext, at: usize) -> ort::Result<ort::value::ValueRef<'_>> {
    let value = context.input(at)?;
    value.ok_or_else(|| failure(format!("input {at} is missing")))
}

fn output<const AXES: usize>(
    context: &ComputeContext,
    at: usize,
    dims: [i64; AXES],
) -> ort::Result<ort::value::ValueRefMut<'_>> {
    let value = context.output(at, dims)?;
    value.ok_or_else(|| failure(format!("output {at} is missing")))
}

fn as_i64(length: usize) -> i64 {
    // Lengths of things in memory are below 2^63.
    length as i64
}
