//! Rewrites an exported graph: names, input and outputs, the batch, and the outputs added.

use std::collections::HashMap;

use patchlight_onnx::{
    graph::as_i64,
    proto::{
        AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, TensorProto,
        TensorShapeProto, TensorType, TypeProto, ValueInfoProto, dimension, type_proto,
    },
    rename::rename,
    tensor::Tensor,
    vit::{ATTRIBUTION, CLASS_ATTENTION, LOGITS, PIXEL_VALUES, ROLLOUT},
};

use super::signature::{BatchAxis, Signature};

/// An output.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Output {
    pub(super) name: String,
    /// Those after the batch.
    pub(super) axes: Vec<usize>,
    pub(super) dtype: DataType,
}

impl Output {
    /// Of float32.
    pub(super) fn floats(name: &str, axes: Vec<usize>) -> Self {
        Self {
            name: name.to_owned(),
            axes,
            dtype: DataType::Float,
        }
    }

    /// Of int64.
    pub(super) fn integers(name: &str, axes: Vec<usize>) -> Self {
        Self {
            dtype: DataType::Int64,
            ..Self::floats(name, axes)
        }
    }
}

/// Gives input and logits the names and types of our graphs, and frees the names that are going to
/// be added. Type annotations of values are dropped: a fixed batch may be part of them.
pub(super) fn normalize_io(
    model: &mut ModelProto,
    signature: &Signature,
    sides: [usize; 2],
    classes: usize,
) {
    // Before version 4 initializers had to be inputs as well.
    model.ir_version = Some(model.ir_version.unwrap_or_default().max(4));
    let Some(graph) = &mut model.graph else {
        return;
    };
    let half_logits = graph.output.iter().any(|output| {
        output.name() == signature.logits && dtype(output) == Some(DataType::Float16.into())
    });
    graph.value_info.clear();

    let mut names = HashMap::new();
    let made = graph.node.iter().flat_map(|node| &node.output);
    let kept = graph
        .initializer
        .iter()
        .filter_map(|tensor| tensor.name.as_ref());
    for name in made.chain(kept).filter(|name| is_reserved(name)) {
        names.insert(name.clone(), format!("exported/{name}"));
    }
    let [input, logits] = match (signature.half, half_logits) {
        (false, false) => [PIXEL_VALUES.to_owned(), LOGITS.to_owned()],
        (half, half_logits) => {
            let name = |end: &str, half| {
                if half {
                    format!("{end}/half")
                } else {
                    end.to_owned()
                }
            };
            [name(PIXEL_VALUES, half), name(LOGITS, half_logits)]
        }
    };
    names.insert(signature.input.clone(), input.clone());
    names.insert(signature.logits.clone(), logits.clone());
    rename(graph, &names);
    declare(graph, sides, &[Output::floats(LOGITS, vec![classes])]);
    if signature.half {
        let cast = cast(PIXEL_VALUES, &input, DataType::Float16);
        graph.node.insert(0, cast);
    }
    if half_logits {
        graph.node.push(cast(&logits, LOGITS, DataType::Float));
    }
}

/// Declares input and outputs of a graph that takes images of this size.
pub(super) fn declare(graph: &mut GraphProto, sides: [usize; 2], outputs: &[Output]) {
    let [height, width] = sides;
    graph.input = vec![value_info(PIXEL_VALUES, Some("batch"), &[3, height, width])];
    graph.output = outputs
        .iter()
        .map(|output| typed_info(&output.name, Some("batch"), &output.axes, output.dtype))
        .collect();
}

/// Adds nodes and constants of another graph, whose inputs are values of this one.
pub(super) fn append(graph: &mut GraphProto, addition: GraphProto) {
    graph.node.extend(addition.node);
    graph.initializer.extend(addition.initializer);
}

/// A graph that an exporter fixed to a batch of one takes any number: it becomes the body of a
/// `Scan` over the images. That is exact whatever the graph does, and as fast as one by one.
pub(super) fn wrap_in_scan(
    graph: &mut GraphProto,
    batch: BatchAxis,
    sides: [usize; 2],
    outputs: &[Output],
) {
    if batch == BatchAxis::Dynamic {
        return;
    }
    const IMAGE: &str = "picture";
    let inner = |name: &str| format!("{IMAGE}/{name}");
    let mut names = HashMap::from([(PIXEL_VALUES.to_owned(), inner(PIXEL_VALUES))]);
    names.extend(
        outputs
            .iter()
            .map(|output| (output.name.clone(), inner(&output.name))),
    );
    rename(graph, &names);

    let [height, width] = sides;
    let mut constants = Vec::new();
    let mut reshape = |from: &str, to: &str, shape: &[usize]| {
        let shape: Vec<i64> = shape.iter().map(|&length| as_i64(length)).collect();
        let name = format!("{to}/shape");
        constants.push(TensorProto {
            name: Some(name.clone()),
            dims: vec![as_i64(shape.len())],
            data_type: Some(DataType::Int64.into()),
            raw_data: Some(Tensor::i64s(&shape).into_bytes().into()),
            ..TensorProto::default()
        });
        node("Reshape", &[from, &name], to)
    };
    let mut nodes = vec![reshape(IMAGE, &inner(PIXEL_VALUES), &[1, 3, height, width])];
    nodes.append(&mut graph.node);
    let mut results = Vec::new();
    for Output { name, axes, dtype } in outputs {
        let result = format!("{}/result", inner(name));
        nodes.push(reshape(&inner(name), &result, axes));
        results.push(typed_info(&result, None, axes, *dtype));
    }
    let body = GraphProto {
        name: Some("one picture".to_owned()),
        node: nodes,
        input: vec![value_info(IMAGE, None, &[3, height, width])],
        output: results,
        ..GraphProto::default()
    };
    let mut scan = node("Scan", &[PIXEL_VALUES], "");
    scan.output = outputs.iter().map(|output| output.name.clone()).collect();
    scan.attribute = vec![
        AttributeProto {
            name: Some("body".to_owned()),
            r#type: Some(AttributeType::Graph.into()),
            g: Some(body),
            ..AttributeProto::default()
        },
        int_attribute("num_scan_inputs", 1),
    ];
    graph.node = vec![scan];
    graph.initializer.extend(constants);
}

/// A node of ONNX's own operators with one result, whose name it bears.
pub(super) fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(operator.to_owned()),
        name: Some(format!("{output}/{operator}")),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

pub(super) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}

pub(super) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints.into()),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

pub(super) fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float.into()),
        f: Some(value),
        ..AttributeProto::default()
    }
}

/// A value of float32, with or without a batch before its axes.
pub(super) fn value_info(name: &str, batch: Option<&str>, axes: &[usize]) -> ValueInfoProto {
    typed_info(name, batch, axes, DataType::Float)
}

/// The same of any type.
pub(super) fn typed_info(
    name: &str,
    batch: Option<&str>,
    axes: &[usize],
    dtype: DataType,
) -> ValueInfoProto {
    let named = batch.map(|name| dimension::Value::DimParam(name.to_owned()));
    let fixed = axes
        .iter()
        .map(|&length| dimension::Value::DimValue(as_i64(length)));
    let dim = named
        .into_iter()
        .chain(fixed)
        .map(|value| dimension::Dimension {
            value: Some(value),
            denotation: None,
        });
    let tensor = TensorType {
        elem_type: Some(dtype.into()),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
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

fn is_reserved(name: &str) -> bool {
    [
        PIXEL_VALUES,
        LOGITS,
        ROLLOUT,
        CLASS_ATTENTION,
        ATTRIBUTION,
        "picture",
        "probe",
    ]
    .iter()
    .any(|ours| name.starts_with(ours))
}

fn cast(from: &str, to: &str, dtype: DataType) -> NodeProto {
    let mut cast = node("Cast", &[from], to);
    cast.attribute = vec![int_attribute("to", i64::from(i32::from(dtype)))];
    cast
}

fn dtype(info: &ValueInfoProto) -> Option<i32> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => tensor.elem_type,
        _ => None,
    }
}
