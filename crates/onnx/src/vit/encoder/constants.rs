//! The encoder's constants, read one at a time.

use std::{collections::HashMap, io};

use bytes::Bytes;
use half::bf16;

use super::{EncoderNetwork, dims};
use crate::{
    proto::{DataLocation, DataType, GraphProto, ModelProto, NodeProto, TensorProto},
    tensor::{DType, Tensor},
};

/// Reads the bytes of a constant that lies in another file.
pub type ReadExternal<'a> = dyn Fn(&TensorProto) -> io::Result<Bytes> + Sync + 'a;

/// A linear layer `[in, out]` as the graph holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeights {
    /// Number of inputs and outputs.
    pub sizes: [usize; 2],
    /// The kernel, row-major.
    pub kernel: KernelValues,
    /// One value for each output, if there is a bias.
    pub bias: Option<Vec<f32>>,
}

/// Values of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelValues {
    /// Integers, and a scale for each output.
    Int8 {
        /// From −127 to 127.
        values: Vec<i8>,
        /// What an integer of the channel stands for.
        scale: Vec<f32>,
    },
    /// As they are stored.
    Bf16(Vec<bf16>),
    /// As they are.
    Float32(Vec<f32>),
}

/// Constants of a graph by name, those in other files read when they are asked for.
pub struct Constants<'a> {
    constant: HashMap<&'a str, &'a TensorProto>,
    producer: HashMap<&'a str, &'a NodeProto>,
    external: &'a ReadExternal<'a>,
}

impl<'a> Constants<'a> {
    /// Those of the graph before [`cut`](super::cut).
    pub fn new(model: &'a ModelProto, external: &'a ReadExternal<'a>) -> Self {
        let graph = model.graph.as_ref();
        let nodes = graph.into_iter().flat_map(|graph| &graph.node);
        let named = |tensor: &'a TensorProto| (tensor.name(), tensor);
        Self {
            constant: graph
                .into_iter()
                .flat_map(|graph: &'a GraphProto| graph.initializer.iter().map(named))
                .collect(),
            producer: nodes
                .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
                .collect(),
            external,
        }
    }

    /// A linear layer of a block, such as `attention/queries`.
    ///
    /// # Errors
    /// If it is missing, or of other sizes.
    pub fn linear(
        &self,
        network: &EncoderNetwork,
        block: usize,
        layer: &str,
    ) -> Result<LinearWeights, String> {
        let [inputs, outputs] = match layer {
            "mlp/up" => [network.hidden, network.mlp],
            "mlp/down" => [network.mlp, network.hidden],
            _ => [network.hidden, network.hidden],
        };
        let name = format!("block.{block}/{layer}");
        let bias = format!("{name}.bias");
        let int8 = format!("{name}.kernel.int8");
        let kernel = match self.constant.get(int8.as_str()) {
            Some(tensor) => KernelValues::Int8 {
                values: self.int8(tensor, &[inputs, outputs])?,
                scale: self.floats(&format!("{name}.kernel.scale"), &[outputs])?,
            },
            None if network.bf16 => {
                let kernel = format!("{name}.kernel.stored");
                KernelValues::Bf16(self.bf16(&kernel, &[inputs, outputs])?)
            }
            None => {
                let kernel = format!("{name}.kernel");
                KernelValues::Float32(self.floats(&kernel, &[inputs, outputs])?)
            }
        };
        Ok(LinearWeights {
            sizes: [inputs, outputs],
            kernel,
            bias: match self.has(&bias) {
                true => Some(self.floats(&bias, &[outputs])?),
                false => None,
            },
        })
    }

    /// The projection of the patches: `[3 · patch · patch, hidden]`.
    ///
    /// # Errors
    /// As of [`linear`](Self::linear).
    pub fn patch_projection(&self, network: &EncoderNetwork) -> Result<LinearWeights, String> {
        let (side, hidden) = (network.patch, network.hidden);
        let inputs = 3 * side * side;
        // Convolutions have the outputs first.
        let kernel = self.floats("embed/patch.kernel", &[hidden, 3, side, side])?;
        let kernel = Tensor::f32(vec![hidden, inputs], &kernel).transposed();
        Ok(LinearWeights {
            sizes: [inputs, hidden],
            kernel: KernelValues::Float32(kernel.to_f32()),
            bias: Some(self.floats("embed/patch.bias", &[hidden])?),
        })
    }

    /// What is added to every image's tokens, `[tokens, hidden]`.
    ///
    /// # Errors
    /// As of [`linear`](Self::linear).
    pub fn positions(&self, network: &EncoderNetwork) -> Result<Vec<f32>, String> {
        let shape = [1, network.tokens(), network.hidden];
        self.floats("embed/prefix_and_positions", &shape)
    }

    /// Scale and shift of a normalisation, such as `block.0/mlp/norm`.
    ///
    /// # Errors
    /// As of [`linear`](Self::linear).
    pub fn norm(&self, network: &EncoderNetwork, name: &str) -> Result<[Vec<f32>; 2], String> {
        Ok([
            self.floats(&format!("{name}.scale"), &[network.hidden])?,
            self.floats(&format!("{name}.bias"), &[network.hidden])?,
        ])
    }

    fn has(&self, name: &str) -> bool {
        self.constant.contains_key(name) || self.producer.contains_key(name)
    }

    /// A constant as float32: stored so, or widened and multiplied by what the graph multiplies it
    /// with.
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        if let Some(tensor) = self.constant.get(name) {
            return Ok(self.tensor(tensor, shape)?.to_f32());
        }
        let node = self.producer.get(name);
        let node = node.ok_or_else(|| format!("it has no constant `{name}`"))?;
        match (node.op_type(), node.input.as_slice()) {
            ("Cast", [stored]) => self.floats(stored, shape),
            ("Mul", [values, factor]) => {
                let factor = self.floats(factor, &[])?;
                let mut values = self.floats(values, shape)?;
                values.iter_mut().for_each(|value| *value *= factor[0]);
                Ok(values)
            }
            (operator, _) => Err(format!("`{name}` is not constant but made by {operator}")),
        }
    }

    fn int8(&self, tensor: &TensorProto, shape: &[usize]) -> Result<Vec<i8>, String> {
        let tensor = self.tensor(tensor, shape)?;
        let values = tensor.bytes().iter();
        Ok(values.map(|byte| byte.cast_signed()).collect())
    }

    fn bf16(&self, name: &str, shape: &[usize]) -> Result<Vec<bf16>, String> {
        let tensor = self.constant.get(name);
        let tensor = tensor.ok_or_else(|| format!("it has no constant `{name}`"))?;
        let tensor = self.tensor(tensor, shape)?;
        if tensor.dtype() != DType::Bf16 {
            return Err(format!("`{name}` is not bfloat16"));
        }
        let values = tensor.bytes().as_chunks().0.iter();
        Ok(values.map(|bytes| bf16::from_le_bytes(*bytes)).collect())
    }

    fn tensor(&self, tensor: &TensorProto, shape: &[usize]) -> Result<Tensor, String> {
        let name = tensor.name();
        let dtype = match DataType::try_from(tensor.data_type()) {
            Ok(DataType::Float) => DType::F32,
            Ok(DataType::Float16) => DType::F16,
            Ok(DataType::Bfloat16) => DType::Bf16,
            Ok(DataType::Int8) => DType::I8,
            _ => return Err(format!("`{name}` is of a type that no weight has")),
        };
        if tensor.dims != dims(shape) {
            let found = &tensor.dims;
            return Err(format!("`{name}` has shape {found:?}, expected {shape:?}"));
        }
        let bytes = match tensor.data_location() {
            DataLocation::Default => tensor.raw_data.clone(),
            DataLocation::External => {
                let read = (self.external)(tensor);
                Some(read.map_err(|error| format!("`{name}` cannot be read: {error}"))?)
            }
        };
        let bytes = bytes.ok_or_else(|| format!("`{name}` has no values"))?;
        let expected = shape.iter().product::<usize>() * dtype.size();
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(format!("`{name}` has {found} bytes, expected {expected}"));
        }
        Ok(Tensor::new(dtype, shape.to_vec(), bytes.to_vec()))
    }
}
