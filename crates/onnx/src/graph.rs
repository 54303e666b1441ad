//! Builds ONNX graphs: names values, adds nodes, and stores large constants beside the file.
//!
//! ```
//! use patchlight_onnx::{graph::{Dim, Graph, Storage}, tensor::{DType, Tensor}};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut graph = Graph::new("double", Storage::Inline);
//! let x = graph.input("x", DType::F32, &[Dim::named("batch"), Dim::from(3)]);
//! let two = graph.constant("two", Tensor::f32(vec![], &[2.0]))?;
//! let y = graph.mul("y", &x, &two);
//! graph.output(&y, DType::F32, &[Dim::named("batch"), Dim::from(3)]);
//! let model = graph.finish();
//! # assert_eq!(model.graph.unwrap().node.len(), 1);
//! # Ok(())
//! # }
//! ```

mod ops;
mod storage;

use std::{collections::HashSet, io};

use bytes::Bytes;

pub use storage::{External, Storage};

use crate::{
    proto::{
        AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
        TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto, dimension,
        type_proto,
    },
    tensor::{DType, Tensor},
};

/// The operator set of every graph written here. The newest that still spells attention out:
/// from 23 on, exporters and optimisers may put one `Attention` node there, whose probabilities
/// cannot be read on every device.
pub const OPSET: i64 = 20;

/// The oldest operator set that [`Graph::with_opset`] can write.
pub const OLDEST_OPSET: i64 = 11;

/// ONNX Runtime's own operators.
pub(crate) const RUNTIME_DOMAIN: &str = "com.microsoft";

/// The file format version that goes with [`OPSET`].
const IR_VERSION: i64 = 9;

/// A value in a graph under construction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Value {
    name: String,
}

/// Length of one axis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Known when the graph runs; equal wherever the name is.
    Named(&'static str),
}

impl Dim {
    /// An axis whose length is known when the graph runs.
    pub fn named(name: &'static str) -> Self {
        Self::Named(name)
    }
}

impl From<usize> for Dim {
    fn from(length: usize) -> Self {
        Self::Fixed(length)
    }
}

/// A parameter of a node that is fixed in the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(&'a [i64]),
    /// A number.
    Float(f32),
    /// A string.
    Text(&'a str),
    /// A small tensor.
    Tensor(&'a Tensor),
}

/// A graph under construction. A node's result bears the node's name, so names are unique, and the
/// name of an output is that of the node that computes it.
#[derive(Debug)]
pub struct Graph<'s> {
    proto: GraphProto,
    storage: Storage<'s>,
    shared: HashSet<String>,
    opset: i64,
}

impl<'s> Graph<'s> {
    /// An empty graph.
    pub fn new(name: &str, storage: Storage<'s>) -> Self {
        Self {
            proto: GraphProto {
                name: Some(name.to_owned()),
                ..GraphProto::default()
            },
            storage,
            shared: HashSet::new(),
            opset: OPSET,
        }
    }

    /// A graph that goes on from one that is there, its constants inline.
    pub fn resume(proto: GraphProto, opset: i64) -> Self {
        let names = proto
            .initializer
            .iter()
            .map(|tensor| tensor.name().to_owned());
        Self {
            shared: names.collect(),
            proto,
            storage: Storage::Inline,
            opset,
        }
    }

    /// What has been made so far.
    pub fn into_proto(self) -> GraphProto {
        self.proto
    }

    /// A value that is in the graph, or that a function takes.
    pub fn value(&self, name: &str) -> Value {
        Value {
            name: name.to_owned(),
        }
    }

    /// A node of any domain, with results of these names, the empty ones of which are left out.
    pub fn call(
        &mut self,
        (domain, operator): (&str, &str),
        results: &[&str],
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) {
        self.node_with_results(operator, results, inputs, attributes);
        if let Some(node) = self.proto.node.last_mut() {
            node.domain = Some(domain.to_owned());
        }
    }

    /// In a function's body: the last node's attribute is what the caller's node has under `name`.
    pub(crate) fn refer_to_attribute(&mut self, attribute: &str, name: &str) {
        if let Some(node) = self.proto.node.last_mut() {
            node.attribute.push(AttributeProto {
                name: Some(attribute.to_owned()),
                ref_attr_name: Some(name.to_owned()),
                r#type: Some(AttributeType::Int.into()),
                ..AttributeProto::default()
            });
        }
    }

    /// Writes its nodes in an older operator set, from [`OLDEST_OPSET`] on.
    pub fn with_opset(self, opset: i64) -> Self {
        Self { opset, ..self }
    }

    /// A value that the caller provides.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> Value {
        self.proto.input.push(value_info(name, dtype, shape));
        Value {
            name: name.to_owned(),
        }
    }

    /// Hands a value to the caller, after those handed over before.
    pub fn output(&mut self, value: &Value, dtype: DType, shape: &[Dim]) {
        self.proto
            .output
            .push(value_info(&value.name, dtype, shape));
    }

    /// A constant. Large ones go where the graph's [`Storage`] says.
    ///
    /// # Errors
    /// If the external file cannot be written.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> io::Result<Value> {
        let mut proto = header(name, &tensor);
        self.storage.store(&mut proto, tensor)?;
        self.proto.initializer.push(proto);
        Ok(Value {
            name: name.to_owned(),
        })
    }

    /// A float32 constant; those of other types are stored as they are and widened by a `Cast`,
    /// which the runtime computes once, when it loads the graph.
    ///
    /// # Errors
    /// As [`constant`](Self::constant).
    pub fn weight(&mut self, name: &str, tensor: Tensor) -> io::Result<Value> {
        if tensor.dtype() == DType::F32 {
            return self.constant(name, tensor);
        }
        let stored = self.constant(&format!("{name}.stored"), tensor)?;
        Ok(self.cast(name, &stored, DType::F32))
    }

    /// A short list of integers, such as a shape or axes; equal lists become one constant.
    pub fn int64_constant(&mut self, values: &[i64]) -> Value {
        let listed: Vec<String> = values.iter().map(i64::to_string).collect();
        self.shared(
            format!("integers/{}", listed.join(",")),
            Tensor::i64s(values),
        )
    }

    /// One float32 number.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.full(&[], value)
    }

    /// A float32 number repeated to fill a small shape; equal ones become one constant.
    pub fn full(&mut self, shape: &[usize], value: f32) -> Value {
        let tensor = Tensor::f32(shape.to_vec(), &vec![value; shape.iter().product()]);
        let listed: Vec<String> = shape.iter().map(usize::to_string).collect();
        self.shared(format!("numbers/{value}/{}", listed.join(",")), tensor)
    }

    /// One byte; equal ones become one constant.
    pub fn scalar_u8(&mut self, value: u8) -> Value {
        let tensor = Tensor::u8s(&[value]).reshaped(Vec::new());
        self.shared(format!("bytes/{value}"), tensor)
    }

    /// A node of ONNX's own operators with one result. The typed operators below are shorter.
    pub fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Value {
        self.node_with_results(operator, &[name], inputs, attributes);
        Value {
            name: name.to_owned(),
        }
    }

    /// A node of ONNX Runtime's own operators with one result.
    fn runtime_node(&mut self, operator: &str, name: &str, inputs: &[&Value]) -> Value {
        let value = self.node(operator, name, inputs, &[]);
        if let Some(node) = self.proto.node.last_mut() {
            node.domain = Some(RUNTIME_DOMAIN.to_owned());
        }
        value
    }

    /// A node whose results have these names; it bears the last.
    fn node_with_results(
        &mut self,
        operator: &str,
        results: &[&str],
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) {
        self.proto.node.push(NodeProto {
            op_type: Some(operator.to_owned()),
            name: results.last().map(|&name| name.to_owned()),
            input: inputs.iter().map(|value| value.name.clone()).collect(),
            output: results.iter().map(|&name| name.to_owned()).collect(),
            attribute: attributes
                .iter()
                .map(|(name, value)| attribute(name, value))
                .collect(),
            ..NodeProto::default()
        });
    }

    /// Types, nodes and constants as a model.
    pub fn finish(self) -> ModelProto {
        let set = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        let mut opset_import = vec![set("", self.opset)];
        if self
            .proto
            .node
            .iter()
            .any(|node| node.domain() == RUNTIME_DOMAIN)
        {
            opset_import.push(set(RUNTIME_DOMAIN, 1));
        }
        ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import,
            producer_name: Some("patchlight".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(self.proto),
            ..ModelProto::default()
        }
    }

    /// A small constant that stays in the graph's file, once however often it is asked for.
    fn shared(&mut self, name: String, tensor: Tensor) -> Value {
        if self.shared.insert(name.clone()) {
            let mut proto = header(&name, &tensor);
            proto.raw_data = Some(tensor.into_bytes().into());
            self.proto.initializer.push(proto);
        }
        Value { name }
    }
}

/// Name, type and shape of a constant whose values are still to be placed.
fn header(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: tensor
            .shape()
            .iter()
            .map(|&length| as_i64(length))
            .collect(),
        data_type: Some(tensor.dtype().data_type().into()),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, value: &Attribute<'_>) -> AttributeProto {
    let mut proto = AttributeProto {
        name: Some(name.to_owned()),
        ..AttributeProto::default()
    };
    let kind = match *value {
        Attribute::Int(value) => {
            proto.i = Some(value);
            AttributeType::Int
        }
        Attribute::Ints(values) => {
            proto.ints = values.to_vec();
            AttributeType::Ints
        }
        Attribute::Float(value) => {
            proto.f = Some(value);
            AttributeType::Float
        }
        Attribute::Text(value) => {
            proto.s = Some(Bytes::copy_from_slice(value.as_bytes()));
            AttributeType::String
        }
        Attribute::Tensor(tensor) => {
            let mut stored = header("", tensor);
            stored.raw_data = Some(Bytes::copy_from_slice(tensor.bytes()));
            proto.t = Some(stored);
            AttributeType::Tensor
        }
    };
    proto.r#type = Some(kind.into());
    proto
}

fn value_info(name: &str, dtype: DType, shape: &[Dim]) -> ValueInfoProto {
    let axis = |dim: &Dim| dimension::Dimension {
        value: Some(match dim {
            Dim::Fixed(length) => dimension::Value::DimValue(as_i64(*length)),
            Dim::Named(name) => dimension::Value::DimParam((*name).to_owned()),
        }),
        denotation: None,
    };
    let tensor = TensorType {
        elem_type: Some(dtype.data_type().into()),
        shape: Some(TensorShapeProto {
            dim: shape.iter().map(axis).collect(),
        }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            denotation: None,
        }),
        ..ValueInfoProto::default()
    }
}

/// A length in ONNX's own integer type.
#[expect(
    clippy::cast_possible_wrap,
    reason = "lengths of things in memory are below 2^63"
)]
pub fn as_i64(length: usize) -> i64 {
    length as i64
}
