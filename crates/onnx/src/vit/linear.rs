//! The blocks' linear layers, in the precision that the plan gives them.
//!
//! # Eight bits
//!
//! A kernel W `[in, out]` is stored as integers with one scale for each output channel, a token x
//! is rounded to integers with one scale of its own, and the product is taken in integers:
//!
//! ```text
//! s = max(|x|) / 127          q = round(x / s)  from −127 to 127
//! c_o = max(|W_o|) / 127      k = round(W / c)  from −127 to 127
//! y_o = (Σ_i q_i k_io) · c_o · s + b_o
//! ```
//!
//! Nothing here looks at another token, and a sum of integers does not depend on its order: an
//! image's answer has the same bits alone and in any batch. A scale for a whole tensor, which
//! `DynamicQuantizeLinear` takes, would let one image change the others' answers.
//!
//! Tokens are stored as q + 128 in unsigned bytes, the pairing that x86 multiplies (`u8 × s8`).
//! The runtime's `MatMulIntegerToFloat` multiplies by `c`; the token's `s` is one multiplication
//! after it.
//!
//! # Bfloat16
//!
//! Kernels are stored as bfloat16, and tokens are rounded to it before a product of float32. So any
//! runtime computes what an instruction for pairs of bfloat16 does, but for the order of the sum.

use std::io;

use super::{BlockWeight, Builder, LinearLayer, WeightId, Weights, layer_errors::LayerPair};
use crate::{
    graph::Value,
    tensor::{DType, Tensor},
    vit::Precision,
};

/// The largest magnitude of a stored integer; −128 is left out, so that ranges are symmetric.
const QUANTIZED_MAX: f32 = 127.0;

/// Added to a token's integers: they are stored unsigned.
const ZERO_POINT: u8 = 128;

/// What takes the place of a token's largest magnitude if that is smaller: a token of zeros must
/// not be divided by zero.
const SMALLEST_RANGE: f32 = 1e-12;

/// Tokens `[rows, in]` as a linear layer reads them; made once for all that read the same.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    float: Value,
    rounded: Option<Rounded>,
}

/// Tokens rounded to fewer bits.
#[derive(Clone, Debug)]
pub(super) enum Rounded {
    /// To integers.
    Int8(Quantized),
    /// To bfloat16, as float32 `[rows, in]`.
    Bf16(Value),
}

/// Tokens as integers.
#[derive(Clone, Debug)]
pub(super) struct Quantized {
    /// Uint8 `[rows, in]`.
    pub(super) values: Value,
    /// Float32 `[rows, 1]`.
    pub(super) scale: Value,
}

impl Operand {
    /// The tokens as they came.
    pub(super) fn float(&self) -> &Value {
        &self.float
    }

    /// What the product reads, where it is rounded.
    pub(super) fn rounded(&self) -> Option<&Rounded> {
        self.rounded.as_ref()
    }
}

/// A layer's kernel `[in, out]`.
#[derive(Clone, Debug)]
pub(super) enum Kernel {
    /// In the blocks' floating-point type.
    Float(Value),
    /// As integers.
    Int8(QuantizedKernel),
    /// In float32, and as integers for comparison.
    Both {
        /// `[in, out]`.
        float32: Value,
        /// The same.
        int8: QuantizedKernel,
    },
}

/// A kernel as integers.
#[derive(Clone, Debug)]
pub(super) struct QuantizedKernel {
    /// Int8 `[in, out]`.
    values: Value,
    /// Float32 `[out]`: one of each output channel.
    scale: Value,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// Prepares tokens `[rows, in]` for a layer; `tokens` is the number of rows an image has.
    pub(super) fn operand(
        &mut self,
        layer: LinearLayer,
        name: &str,
        x: &Value,
        tokens: usize,
    ) -> Operand {
        let codes = format!("{name}/codes");
        let rounded = match self.plan.precision_of(layer) {
            Precision::Fp32 if self.plan.probing => {
                Some(Rounded::Int8(self.quantize(&codes, x, tokens)))
            }
            Precision::Int8 => Some(Rounded::Int8(self.quantize(&codes, x, tokens))),
            Precision::Bf16 => {
                let rounded = self.graph.cast(&codes, x, DType::Bf16);
                let widened = self
                    .graph
                    .cast(&format!("{codes}/float32"), &rounded, DType::F32);
                Some(Rounded::Bf16(widened))
            }
            Precision::Fp32 | Precision::Fp16 => None,
        };
        Operand {
            float: x.clone(),
            rounded,
        }
    }

    /// `x · kernel + bias` for tokens `[rows, in]`.
    pub(super) fn product(
        &mut self,
        layer: LinearLayer,
        name: &str,
        x: &Operand,
        kernel: &Kernel,
        bias: Option<&Value>,
    ) -> Value {
        if let (Kernel::Both { float32, int8 }, Some(Rounded::Int8(quantized))) =
            (kernel, &x.rounded)
        {
            let int8 = self.integer_linear(&format!("{name}/probe"), quantized, int8, bias);
            let float32 = self.graph.linear(name, &x.float, float32, bias);
            let probe = LayerPair {
                float32: float32.clone(),
                int8,
            };
            self.probes.entry(layer).or_default().push(probe);
            return float32;
        }
        match (kernel, &x.rounded) {
            (Kernel::Int8(kernel), Some(Rounded::Int8(quantized))) => {
                self.integer_linear(name, quantized, kernel, bias)
            }
            (kernel, rounded) => {
                let read = match rounded {
                    Some(Rounded::Bf16(rounded)) => rounded,
                    _ => &x.float,
                };
                let kernel = self.dequantized_kernel(&format!("{name}.kernel"), kernel);
                self.graph.linear(name, read, &kernel, bias)
            }
        }
    }

    fn integer_linear(
        &mut self,
        name: &str,
        quantized: &Quantized,
        kernel: &QuantizedKernel,
        bias: Option<&Value>,
    ) -> Value {
        let graph = &mut self.graph;
        let unscaled = graph.matmul_integer(
            &format!("{name}/unscaled"),
            &quantized.values,
            ZERO_POINT,
            &kernel.values,
            &kernel.scale,
        );
        match bias {
            None => graph.mul(name, &unscaled, &quantized.scale),
            Some(bias) => {
                let scaled = graph.mul(&format!("{name}/scaled"), &unscaled, &quantized.scale);
                graph.add(name, &scaled, bias)
            }
        }
    }

    /// A kernel of a layer, each value multiplied by `factor`.
    pub(super) fn kernel(
        &mut self,
        layer: LinearLayer,
        name: &str,
        weight: BlockWeight,
        factor: Option<f32>,
    ) -> Result<Kernel, W::Error> {
        let probing = self.plan.probing;
        let precision = self.plan.precision_of(layer);
        if precision == Precision::Bf16 {
            let tensor = self.weights.tensor(WeightId::Block(layer.block, weight))?;
            let tensor = match factor {
                Some(factor) => tensor.scaled(factor),
                None => tensor,
            };
            return Ok(Kernel::Float(self.graph.weight(name, tensor.cast_bf16())?));
        }
        if precision != Precision::Int8 && !probing {
            return Ok(Kernel::Float(self.scaled(
                layer.block,
                name,
                weight,
                factor,
            )?));
        }
        let tensor = self.weights.tensor(WeightId::Block(layer.block, weight))?;
        let factor = factor.unwrap_or(1.0);
        let (values, scale) = quantize_per_channel(&tensor, factor);
        let int8 = QuantizedKernel {
            values: self.graph.constant(&format!("{name}.int8"), values)?,
            scale: self.graph.constant(&format!("{name}.scale"), scale)?,
        };
        if !probing {
            return Ok(Kernel::Int8(int8));
        }
        let float32 = self.graph.constant(name, tensor.scaled(factor))?;
        Ok(Kernel::Both { float32, int8 })
    }

    /// A bias of a layer, each value multiplied by `factor`.
    pub(super) fn bias(
        &mut self,
        layer: LinearLayer,
        name: &str,
        weight: BlockWeight,
        factor: Option<f32>,
    ) -> Result<Value, W::Error> {
        self.scaled(layer.block, name, weight, factor)
    }

    /// What an int8 kernel stands for, in float32, which the runtime computes once, on loading;
    /// others as they are.
    pub(super) fn dequantized_kernel(&mut self, name: &str, kernel: &Kernel) -> Value {
        match kernel {
            Kernel::Float(kernel)
            | Kernel::Both {
                float32: kernel, ..
            } => kernel.clone(),
            Kernel::Int8(QuantizedKernel { values, scale }) => {
                let graph = &mut self.graph;
                let values = graph.cast(&format!("{name}/float32"), values, DType::F32);
                graph.mul(name, &values, scale)
            }
        }
    }

    /// What integers stand for: `(values − 128) · scale`, float32.
    pub(super) fn dequantized(&mut self, name: &str, quantized: &Quantized) -> Value {
        let graph = &mut self.graph;
        let values = graph.cast(&format!("{name}/float32"), &quantized.values, DType::F32);
        let zero = graph.scalar(f32::from(ZERO_POINT));
        let values = graph.sub(&format!("{name}/signed"), &values, &zero);
        graph.mul(name, &values, &quantized.scale)
    }

    fn quantize(&mut self, name: &str, x: &Value, tokens: usize) -> Quantized {
        let zero_points = self.zero_points(x, tokens);
        let graph = &mut self.graph;
        // Two passes that read; the magnitudes themselves would be one more that writes.
        let largest = graph.reduce("ReduceMax", &format!("{name}/largest"), x, -1, true);
        let smallest = graph.reduce("ReduceMin", &format!("{name}/smallest"), x, -1, true);
        let below = graph.neg(&format!("{name}/below"), &smallest);
        let range = graph.max(&format!("{name}/range"), &largest, &below);
        let guard = graph.scalar(SMALLEST_RANGE);
        let range = graph.max(&format!("{name}/range/guarded"), &range, &guard);
        let step = graph.scalar(1.0 / QUANTIZED_MAX);
        let scale = graph.mul(&format!("{name}/scale"), &range, &step);
        let flat = graph.reshape(&format!("{name}/scale/flat"), &scale, &[-1]);
        Quantized {
            values: graph.quantize_rows(name, x, &flat, &zero_points),
            scale,
        }
    }

    /// 128 for each row of `x`, uint8; the same for all values with as many rows an image.
    fn zero_points(&mut self, x: &Value, tokens: usize) -> Value {
        if let Some(made) = self.zero_points.get(&tokens) {
            return made.clone();
        }
        let graph = &mut self.graph;
        let name = format!("zero_points/{tokens}");
        let rows = graph.shape_of(&format!("{name}/rows"), x, 0, 1);
        let made = graph.constant_of_shape(&name, &rows, &Tensor::u8s(&[ZERO_POINT]));
        self.zero_points.insert(tokens, made.clone());
        made
    }

    /// A constant of a block in the blocks' floating-point type, each value multiplied.
    ///
    /// Float32 values are multiplied here. Those stored in 16 bits stay as they are in a float32
    /// graph; they are multiplied after widening, which the runtime does once, on loading.
    fn scaled(
        &mut self,
        block: usize,
        name: &str,
        weight: BlockWeight,
        factor: Option<f32>,
    ) -> Result<Value, W::Error> {
        let Some(factor) = factor else {
            return self.block_weight(WeightId::Block(block, weight), name);
        };
        let tensor = self.weights.tensor(WeightId::Block(block, weight))?;
        if tensor.dtype() == DType::F32 || self.plan.precision == Precision::Fp16 {
            return Ok(self.block_tensor(name, tensor.scaled(factor))?);
        }
        let unscaled = self.graph.weight(&format!("{name}.unscaled"), tensor)?;
        let factor = self.graph.scalar(factor);
        Ok(self.graph.mul(name, &unscaled, &factor))
    }

    /// A constant in the type that the blocks' values have outside of int8 products.
    pub(super) fn block_weight(&mut self, weight: WeightId, name: &str) -> Result<Value, W::Error> {
        let tensor = self.weights.tensor(weight)?;
        Ok(self.block_tensor(name, tensor)?)
    }

    /// The same of values that are there.
    pub(super) fn block_tensor(&mut self, name: &str, tensor: Tensor) -> io::Result<Value> {
        match self.plan.precision {
            Precision::Fp16 => self.graph.constant(name, tensor.cast_f16()),
            Precision::Fp32 | Precision::Bf16 | Precision::Int8 => self.graph.weight(name, tensor),
        }
    }

    /// A value of the blocks as float32.
    pub(super) fn cast_to_float32(&mut self, name: &str, x: &Value) -> Value {
        match self.plan.precision {
            Precision::Fp16 => self.graph.cast(&format!("{name}/float32"), x, DType::F32),
            Precision::Fp32 | Precision::Bf16 | Precision::Int8 => x.clone(),
        }
    }

    /// A float32 value in the blocks' type.
    pub(super) fn cast_to_block_dtype(&mut self, name: &str, x: &Value) -> Value {
        match self.plan.precision {
            Precision::Fp16 => self.graph.cast(&format!("{name}/float16"), x, DType::F16),
            Precision::Fp32 | Precision::Bf16 | Precision::Int8 => x.clone(),
        }
    }
}

/// A kernel `[in, out]` as int8, and the scale of each output channel, after multiplying it by
/// `factor`. A channel of zeros has the scale 1.
fn quantize_per_channel(kernel: &Tensor, factor: f32) -> (Tensor, Tensor) {
    let channels = kernel.shape()[1];
    let values = kernel.to_f32();
    let mut ranges = vec![0.0_f32; channels];
    for row in values.chunks_exact(channels) {
        for (range, value) in ranges.iter_mut().zip(row) {
            *range = range.max(value.abs());
        }
    }
    let steps: Vec<f32> = ranges
        .iter()
        .map(|&range| {
            if range > 0.0 {
                range / QUANTIZED_MAX
            } else {
                1.0
            }
        })
        .collect();
    let mut quantized = Vec::with_capacity(values.len());
    for row in values.chunks_exact(channels) {
        let scaled_row = row.iter().zip(&steps);
        // At most 127 in magnitude, so the conversion keeps the value.
        quantized.extend(scaled_row.map(|(value, step)| (value / step).round_ties_even() as i8));
    }
    let scale: Vec<f32> = steps.iter().map(|step| step * factor).collect();
    (
        Tensor::i8s(kernel.shape().to_vec(), &quantized),
        Tensor::f32(vec![channels], &scale),
    )
}
