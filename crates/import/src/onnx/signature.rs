//! Input and output of an exported graph: the image that it takes, its patches, the logits.

use std::{collections::HashSet, path::Path};

use patchlight_onnx::{
    graph_index::{GraphIndex, attribute},
    proto::{
        AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorType, ValueInfoProto,
        dimension::Value as Length, type_proto::Value as Type,
    },
};

use crate::ImportError;

/// What a graph takes and gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Signature {
    pub(super) input: String,
    /// Whether the input is float16.
    pub(super) half: bool,
    pub(super) batch: BatchAxis,
    /// Height and width, where they are fixed.
    pub(super) sides: [Option<usize>; 2],
    pub(super) logits: String,
    /// The patches, if the graph cuts its input into square ones.
    pub(super) patches: Option<Patches>,
    /// Version of ONNX's own operators.
    pub(super) opset: i64,
}

/// How a Vision Transformer cuts its input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Patches {
    /// Side of a patch in pixels.
    pub(super) side: usize,
    /// Width of the residual stream.
    pub(super) hidden: usize,
}

/// How many images a run takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BatchAxis {
    /// Any number.
    Dynamic,
    /// So many: the exporter fixed it.
    Fixed(usize),
}

impl Signature {
    /// Finds input and logits, or says what stands there instead. `path` is for messages.
    pub(super) fn of(model: &ModelProto, path: &Path) -> Result<Self, ImportError> {
        let fail = |detail: String| Err(ImportError::malformed(path, detail));
        let Some(graph) = &model.graph else {
            return fail("holds no graph".to_owned());
        };
        if let Some(node) = graph.node.iter().find(|node| is_quantised(node)) {
            return fail(format!(
                "is a quantised graph (it has a {} node): one scale for a whole batch makes an answer \
                 depend on the other images of its batch; import the float graph",
                node.op_type()
            ));
        }
        let constants = |info: &&ValueInfoProto| {
            !graph
                .initializer
                .iter()
                .any(|tensor| tensor.name() == info.name())
        };
        let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(constants).collect();
        let [input] = inputs[..] else {
            let names: Vec<&str> = inputs.iter().map(|input| input.name()).collect();
            return fail(format!(
                "takes {names:?}; one input, the picture, is expected"
            ));
        };
        let (dtype, dims) = shape(input);
        let half = match dtype {
            Some(DataType::Float) => false,
            Some(DataType::Float16) => true,
            other => {
                return fail(format!(
                    "its input `{}` is of type {other:?}; float32 or float16 is expected",
                    input.name()
                ));
            }
        };
        let [batch, channels, height, width] = dims[..] else {
            return fail(format!(
                "its input `{}` has {} axes; [batch, 3, height, width] is expected",
                input.name(),
                dims.len()
            ));
        };
        if channels.is_some_and(|channels| channels != 3) {
            return fail(format!(
                "its input `{}` has {} channels; [batch, 3, height, width] is expected",
                input.name(),
                channels.unwrap_or_default()
            ));
        }
        let batch = match batch {
            None => BatchAxis::Dynamic,
            Some(fixed) => BatchAxis::Fixed(fixed),
        };
        let logits = logits(graph, path)?;
        let graph_index = GraphIndex::new(graph);
        if let Some((_, node)) = graph_index.producer(&logits)
            && ["Softmax", "LogSoftmax", "Sigmoid"].contains(&node.op_type())
        {
            return fail(format!(
                "its output `{logits}` comes out of {}, so it holds scores; export the model \
                 without it: logits are expected",
                node.op_type()
            ));
        }
        let own = |domain: Option<&str>| domain.unwrap_or_default().is_empty();
        let opset = model
            .opset_import
            .iter()
            .find(|set| own(set.domain.as_deref()));
        Ok(Self {
            input: input.name().to_owned(),
            half,
            batch,
            sides: [height, width],
            logits,
            patches: patches(&graph_index, input.name()),
            opset: opset.map_or(1, |set| set.version()),
        })
    }
}

impl Signature {
    /// The patches, as a Vision Transformer of the plain kind has them.
    pub(super) fn square_patches(&self) -> Result<Patches, String> {
        self.patches.ok_or_else(|| {
            "it has no convolution of its input that cuts it into square patches, so it is no Vision \
             Transformer of the plain kind"
                .to_owned()
        })
    }
}

/// The output called so, or the only one.
fn logits(graph: &GraphProto, path: &Path) -> Result<String, ImportError> {
    let names: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
    if names.contains(&"logits") {
        return Ok("logits".to_owned());
    }
    match names[..] {
        [only] => Ok(only.to_owned()),
        _ => Err(ImportError::malformed(
            path,
            format!("gives {names:?}; one output, or one that is called `logits`, is expected"),
        )),
    }
}

/// Those of the convolution that reads the input, with a stride of its kernel's side.
fn patches(graph_index: &GraphIndex<'_>, input: &str) -> Option<Patches> {
    let mut values = vec![input.to_owned()];
    let mut seen = HashSet::new();
    while let Some(value) = values.pop() {
        if !seen.insert(value.clone()) {
            continue;
        }
        for (_, node) in graph_index.consumers(&value) {
            match node.op_type() {
                "Cast" | "Identity" => values.extend(node.output.first().cloned()),
                "Conv" => {
                    let kernel = graph_index.constant(node.input.get(1)?)?;
                    let [hidden, 3, rows, columns] = kernel.dims[..] else {
                        return None;
                    };
                    let strides = &attribute(node, "strides")?.ints;
                    let square = rows == columns && *strides == [rows, columns];
                    let sizes = [hidden, rows].map(usize::try_from);
                    return match sizes {
                        [Ok(hidden), Ok(side)] if square && side > 0 => {
                            Some(Patches { side, hidden })
                        }
                        _ => None,
                    };
                }
                _ => {}
            }
        }
    }
    None
}

/// Products of integers whose scale is found while the graph runs.
fn is_quantised(node: &NodeProto) -> bool {
    let operator = node.op_type();
    operator.starts_with("DynamicQuantize")
        || operator.starts_with("QLinear")
        || operator.ends_with("Integer")
        || ["QAttention", "QGemm", "QuantizeLinear"].contains(&operator)
}

/// Element type and the fixed lengths of the axes.
fn shape(info: &ValueInfoProto) -> (Option<DataType>, Vec<Option<usize>>) {
    let value = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(Type::TensorType(TensorType { elem_type, shape })) = value else {
        return (None, Vec::new());
    };
    let dims = shape.iter().flat_map(|shape| &shape.dim);
    let length = |value: &Option<Length>| match value {
        Some(Length::DimValue(length)) => usize::try_from(*length).ok().filter(|&n| n > 0),
        _ => None,
    };
    (
        elem_type.and_then(|dtype| DataType::try_from(dtype).ok()),
        dims.map(|dim| length(&dim.value)).collect(),
    )
}

/// An attribute that is an integer.
pub(super) fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).and_then(|found: &AttributeProto| found.i)
}
