//! The operators that our graphs use, as methods: name first, then values, then parameters.

use super::{Attribute, Graph, Value, as_i64};
use crate::tensor::{DType, Tensor};

impl Graph<'_> {
    /// `a + b`, broadcast.
    pub fn add(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Add", name, &[a, b], &[])
    }

    /// `a - b`, broadcast.
    pub fn sub(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Sub", name, &[a, b], &[])
    }

    /// The sum of any number of values, broadcast.
    pub fn sum(&mut self, name: &str, terms: &[&Value]) -> Value {
        self.node("Sum", name, terms, &[])
    }

    /// The larger of `a` and `b` element by element, broadcast.
    pub fn max(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Max", name, &[a, b], &[])
    }

    /// Every element with the other sign.
    pub fn neg(&mut self, name: &str, x: &Value) -> Value {
        self.node("Neg", name, &[x], &[])
    }

    /// The square root of every element.
    pub fn sqrt(&mut self, name: &str, x: &Value) -> Value {
        self.node("Sqrt", name, &[x], &[])
    }

    /// 1 / (1 + e⁻ˣ) of every element.
    pub fn sigmoid(&mut self, name: &str, x: &Value) -> Value {
        self.node("Sigmoid", name, &[x], &[])
    }

    /// max(x, 0) of every element.
    pub fn relu(&mut self, name: &str, x: &Value) -> Value {
        self.node("Relu", name, &[x], &[])
    }

    /// `a · b` element by element, broadcast.
    pub fn mul(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Mul", name, &[a, b], &[])
    }

    /// `a / b` element by element, broadcast.
    pub fn div(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Div", name, &[a, b], &[])
    }

    /// The matrix product over the last two axes, broadcast over the others.
    pub fn matmul(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("MatMul", name, &[a, b], &[])
    }

    /// `x · kernel + bias` for a matrix `x` `[rows, in]` and a kernel `[in, out]`.
    pub fn linear(&mut self, name: &str, x: &Value, kernel: &Value, bias: Option<&Value>) -> Value {
        match bias {
            Some(bias) => self.node("Gemm", name, &[x, kernel, bias], &[]),
            None => self.matmul(name, x, kernel),
        }
    }

    /// `x · kernelᵀ` for a matrix `x` `[rows, out]` and a kernel `[in, out]`.
    pub fn linear_transposed(&mut self, name: &str, x: &Value, kernel: &Value) -> Value {
        let transposed = [("transB", Attribute::Int(1))];
        self.node("Gemm", name, &[x, kernel], &transposed)
    }

    /// `(x − zero_point) · kernel · scale` for uint8 `x` `[rows, in]`, an int8 kernel `[in, out]`
    /// and a float32 scale `[out]`: summed in integers, float32 comes out. An operator of ONNX
    /// Runtime's own.
    pub fn matmul_integer(
        &mut self,
        name: &str,
        x: &Value,
        zero_point: u8,
        kernel: &Value,
        scale: &Value,
    ) -> Value {
        let one = self.scalar(1.0);
        let zero_point = self.scalar_u8(zero_point);
        let inputs = [x, kernel, &one, scale, &zero_point];
        self.runtime_node("MatMulIntegerToFloat", name, &inputs)
    }

    /// `round(x / scale) + zero_point` for a matrix `x`, with a float32 scale and a uint8 zero
    /// point for each row; saturated to uint8.
    pub fn quantize_rows(
        &mut self,
        name: &str,
        x: &Value,
        scale: &Value,
        zero_points: &Value,
    ) -> Value {
        let axis = [("axis", Attribute::Int(0))];
        self.node("QuantizeLinear", name, &[x, scale, zero_points], &axis)
    }

    /// One element repeated to fill a shape that is known when the graph runs.
    pub fn constant_of_shape(&mut self, name: &str, shape: &Value, value: &Tensor) -> Value {
        let value = [("value", Attribute::Tensor(value))];
        self.node("ConstantOfShape", name, &[shape], &value)
    }

    /// The same elements under another shape: 0 keeps an axis, −1 takes what is left.
    pub fn reshape(&mut self, name: &str, x: &Value, shape: &[i64]) -> Value {
        let shape = self.int64_constant(shape);
        self.node("Reshape", name, &[x, &shape], &[])
    }

    /// Lengths of the axes `start..end`, as a list of integers.
    pub fn shape_of(&mut self, name: &str, x: &Value, start: i64, end: i64) -> Value {
        let attributes = [
            ("start", Attribute::Int(start)),
            ("end", Attribute::Int(end)),
        ];
        self.node("Shape", name, &[x], &attributes)
    }

    /// Axis `i` of the result is axis `order[i]` of `x`.
    pub fn transpose(&mut self, name: &str, x: &Value, order: &[i64]) -> Value {
        self.node("Transpose", name, &[x], &[("perm", Attribute::Ints(order))])
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, name: &str, x: &Value) -> Value {
        self.node("Softmax", name, &[x], &[("axis", Attribute::Int(-1))])
    }

    /// Normalises the last axis to mean 0 and variance 1, then scales and shifts it.
    pub fn layer_norm(
        &mut self,
        name: &str,
        x: &Value,
        scale: &Value,
        bias: &Value,
        epsilon: f32,
    ) -> Value {
        let attributes = [
            ("axis", Attribute::Int(-1)),
            ("epsilon", Attribute::Float(epsilon)),
        ];
        self.node("LayerNormalization", name, &[x, scale, bias], &attributes)
    }

    /// GELU, with the Gauss error function or its tanh approximation.
    pub fn gelu(&mut self, name: &str, x: &Value, approximate: bool) -> Value {
        let form = if approximate { "tanh" } else { "none" };
        self.node(
            "Gelu",
            name,
            &[x],
            &[("approximate", Attribute::Text(form))],
        )
    }

    /// The elements in another type.
    pub fn cast(&mut self, name: &str, x: &Value, to: DType) -> Value {
        let to = i64::from(i32::from(to.data_type()));
        self.node("Cast", name, &[x], &[("to", Attribute::Int(to))])
    }

    /// Values joined along an axis.
    pub fn concat(&mut self, name: &str, parts: &[&Value], axis: i64) -> Value {
        self.node("Concat", name, parts, &[("axis", Attribute::Int(axis))])
    }

    /// Elements `start..end` along an axis.
    pub fn slice(&mut self, name: &str, x: &Value, axis: i64, start: i64, end: i64) -> Value {
        let start = self.int64_constant(&[start]);
        let end = self.int64_constant(&[end]);
        let axis = self.int64_constant(&[axis]);
        self.node("Slice", name, &[x, &start, &end, &axis], &[])
    }

    /// The slices of `x` along an axis that `indices` name; their axes take that axis's place.
    pub fn gather(&mut self, name: &str, x: &Value, indices: &Value, axis: i64) -> Value {
        let axis = [("axis", Attribute::Int(axis))];
        self.node("Gather", name, &[x, indices], &axis)
    }

    /// Where the `count` largest elements of the last axis are, largest first, ties by position.
    pub fn top_k(&mut self, name: &str, x: &Value, count: usize) -> Value {
        let count = self.int64_constant(&[as_i64(count)]);
        let attributes = [
            ("axis", Attribute::Int(-1)),
            ("largest", Attribute::Int(1)),
            ("sorted", Attribute::Int(1)),
        ];
        let values = format!("{name}/values");
        self.node_with_results("TopK", &[&values, name], &[x, &count], &attributes);
        Value {
            name: name.to_owned(),
        }
    }

    /// Elements 0, `step`, 2·`step`, … along an axis.
    pub fn strided_slice(&mut self, name: &str, x: &Value, axis: i64, step: i64) -> Value {
        let start = self.int64_constant(&[0]);
        let end = self.int64_constant(&[i64::MAX]);
        let axis = self.int64_constant(&[axis]);
        let step = self.int64_constant(&[step]);
        self.node("Slice", name, &[x, &start, &end, &axis, &step], &[])
    }

    /// Zeros before the first element of an axis of a value with `rank` axes.
    pub fn pad_front(
        &mut self,
        name: &str,
        x: &Value,
        rank: usize,
        axis: usize,
        by: usize,
    ) -> Value {
        self.pad(name, x, 2 * rank, axis, by)
    }

    /// Zeros after the last element of an axis of a value with `rank` axes.
    pub fn pad_back(
        &mut self,
        name: &str,
        x: &Value,
        rank: usize,
        axis: usize,
        by: usize,
    ) -> Value {
        self.pad(name, x, 2 * rank, rank + axis, by)
    }

    /// A reduction such as `ReduceMean` over one axis.
    pub fn reduce(
        &mut self,
        operator: &str,
        name: &str,
        x: &Value,
        axis: i64,
        keep_dims: bool,
    ) -> Value {
        let keep_dims = ("keepdims", Attribute::Int(i64::from(keep_dims)));
        // Axes became an input, of sums first.
        let axis_is_input = self.opset >= if operator == "ReduceSum" { 13 } else { 18 };
        if !axis_is_input {
            let axes = [axis];
            return self.node(
                operator,
                name,
                &[x],
                &[("axes", Attribute::Ints(&axes)), keep_dims],
            );
        }
        let axis = self.int64_constant(&[axis]);
        self.node(operator, name, &[x, &axis], &[keep_dims])
    }

    /// ONNX lists the counts before all axes, then those after all axes.
    fn pad(&mut self, name: &str, x: &Value, sides: usize, side: usize, by: usize) -> Value {
        let mut pads = vec![0; sides];
        pads[side] = as_i64(by);
        let pads = self.int64_constant(&pads);
        self.node("Pad", name, &[x, &pads], &[])
    }
}
