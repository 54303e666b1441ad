//! The `Attention` operator of ONNX 23 and newer, written out as the operators that define it.
//!
//! torch's exporter writes it for opsets from 23 on. It can hand its probabilities out, but not on
//! every device; written out they can be read on all.

use patchlight_onnx::{
    graph_index::{GraphIndex, attribute},
    proto::{DataType, ModelProto, NodeProto, TensorProto},
};

use super::{
    rewrite::{float_attribute, int_attribute, ints_attribute, node},
    signature::integer,
};

/// Writes out every `Attention` node that is plain self-attention over four axes, with a mask or
/// without; others stay.
pub(super) fn decompose(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else {
        return;
    };
    let graph_index = GraphIndex::new(graph);
    let masks: Vec<Option<Mask>> = graph
        .node
        .iter()
        .map(|node| {
            is_decomposable(node)
                .then(|| mask(&graph_index, node))
                .flatten()
        })
        .collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    let mut lowest = false;
    for (node, mask) in std::mem::take(&mut graph.node).into_iter().zip(masks) {
        match mask {
            Some(mask) => {
                lowest |= mask == Mask::Allowed;
                nodes.extend(decomposed_nodes(&node, mask));
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    if lowest {
        graph.initializer.push(TensorProto {
            name: Some(LOWEST.to_owned()),
            data_type: Some(DataType::Float.into()),
            raw_data: Some(f32::NEG_INFINITY.to_le_bytes().to_vec().into()),
            ..TensorProto::default()
        });
    }
}

const LOWEST: &str = "spelled/lowest";

/// What is done to scores before the softmax.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mask {
    None,
    /// Where it is false, nothing is attended to.
    Allowed,
    /// It is added.
    Added,
}

/// Neither causal, nor capped, nor with past keys, nor with heads joined in the last axis.
fn is_decomposable(node: &NodeProto) -> bool {
    let number = |name: &str| {
        attribute(node, name)
            .and_then(|found| found.f)
            .unwrap_or(0.0)
    };
    node.op_type() == "Attention"
        && node.domain().is_empty()
        && integer(node, "is_causal").unwrap_or(0) == 0
        && number("softcap") == 0.0
        && attribute(node, "q_num_heads").is_none()
        && attribute(node, "softmax_precision").is_none()
        && node.input.len() >= 3
        && !node.output.is_empty()
        && node.input.iter().skip(4).all(String::is_empty)
        && node.output.iter().skip(1).all(String::is_empty)
}

/// The kind of mask, by the type of the constant that it is made of; `None` if that is not known.
fn mask(graph_index: &GraphIndex<'_>, node: &NodeProto) -> Option<Mask> {
    let Some(mut value) = node.input.get(3).filter(|name| !name.is_empty()) else {
        return Some(Mask::None);
    };
    for _ in 0..=graph_index.node_count() {
        if let Some(tensor) = graph_index.constant(value) {
            return match DataType::try_from(tensor.data_type()).ok()? {
                DataType::Bool => Some(Mask::Allowed),
                DataType::Float => Some(Mask::Added),
                _ => None,
            };
        }
        let (_, producer) = graph_index.producer(value)?;
        match producer.op_type() {
            "Expand" | "Reshape" | "Unsqueeze" | "Squeeze" | "Slice" | "Transpose" | "Identity" => {
                value = producer.input.first()?;
            }
            "And" | "Or" | "Not" | "Equal" | "Less" | "LessOrEqual" | "Greater"
            | "GreaterOrEqual" => return Some(Mask::Allowed),
            _ => return None,
        }
    }
    None
}

/// Softmax(scale · Q·Kᵀ, masked) · V, as the operator's specification has it.
fn decomposed_nodes(attention: &NodeProto, mask: Mask) -> Vec<NodeProto> {
    let output = &attention.output[0];
    let name = |part: &str| format!("spelled/{output}/{part}");
    let [query, key, value] = [0, 1, 2].map(|at| attention.input[at].as_str());
    let mut nodes = Vec::new();

    let mut transpose = node("Transpose", &[key], &name("keys"));
    transpose.attribute = vec![ints_attribute("perm", &[0, 1, 3, 2])];
    nodes.push(transpose);
    nodes.push(node("MatMul", &[query, &name("keys")], &name("products")));
    match attribute(attention, "scale").and_then(|scale| scale.f) {
        Some(scale) => nodes.push(number(&name("scale"), scale)),
        // 1/√(head size), which only the run tells.
        None => {
            let mut size = node("Shape", &[query], &name("size"));
            size.attribute = vec![int_attribute("start", 3)];
            let mut cast = node("Cast", &[&name("size")], &name("size/float"));
            cast.attribute = vec![int_attribute("to", i64::from(DataType::Float as i32))];
            nodes.extend([size, cast]);
            nodes.push(node("Sqrt", &[&name("size/float")], &name("size/root")));
            nodes.push(node("Reciprocal", &[&name("size/root")], &name("scale")));
        }
    }
    let [products, scale, typed] = ["products", "scale", "scale/typed"].map(name);
    nodes.push(node("CastLike", &[&scale, &products], &typed));
    nodes.push(node("Mul", &[&products, &typed], &name("scores")));
    let scores = match mask {
        Mask::None => name("scores"),
        Mask::Added => {
            nodes.push(node(
                "Add",
                &[&name("scores"), &attention.input[3]],
                &name("masked"),
            ));
            name("masked")
        }
        Mask::Allowed => {
            nodes.push(node("CastLike", &[LOWEST, &products], &name("lowest")));
            let chosen = [&attention.input[3], &name("scores"), &name("lowest")];
            nodes.push(node("Where", &chosen.map(String::as_str), &name("masked")));
            name("masked")
        }
    };
    let mut softmax = node("Softmax", &[&scores], &name("probabilities"));
    softmax.attribute = vec![int_attribute("axis", -1)];
    nodes.push(softmax);
    nodes.push(node("MatMul", &[&name("probabilities"), value], output));
    nodes
}

/// A constant, in place.
fn number(name: &str, value: f32) -> NodeProto {
    let mut constant = node("Constant", &[], name);
    constant.attribute = vec![float_attribute("value_float", value)];
    constant
}
