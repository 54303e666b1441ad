//! Makes the batch dynamic that an exporter baked into a graph.
//!
//! With a fixed batch B, exporters write B into the constant shapes of `Reshape` and `Expand`, and
//! tokens that are the same for every image are expanded to B rows. Here each such shape begins with
//! the length of the batch that comes, or leaves it to be inferred; nothing else changes:
//!
//! ```text
//! Reshape(x, [B·k, …])        the first length is inferred
//! Reshape(x, [B, …, −1, …])   the first length is that of the image's batch
//! Expand(x, [B, …])           the same
//! Concat(same for all, x)     the former is expanded to the batch
//! Add(B masks, x)             the first stands for all
//! ```
//!
//! Which leading length is a batch's cannot be seen for sure. So the graph that comes out is a proposal:
//! it is taken only if it gives what the exported one does, of one image and of several at once.

use std::collections::{HashMap, HashSet};

use patchlight_onnx::{
    graph::as_i64,
    graph_index::GraphIndex,
    proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto},
    tensor::Tensor,
    vit::PIXEL_VALUES,
};

use super::{
    paths::integers,
    rewrite::{int_attribute, node},
    signature::integer,
};

/// Operators that repeat an axis of length 1, `Attention` that of its mask.
const BROADCASTING: [&str; 6] = ["Add", "Sub", "Mul", "Where", "And", "Attention"];

/// The length of the batch, `[1]`.
const BATCH: &str = "batch/length";

/// How a node's input changes.
enum Edit {
    /// The shape in its second input, the first length inferred.
    Inferred(Vec<i64>),
    /// The same, the first length that of the batch.
    OfBatch(Vec<i64>),
    /// This input, expanded to the batch; its number of axes.
    Expanded(usize, usize),
    /// The first row of this input, which is broadcast.
    FirstRow(usize),
}

/// The graph, whose input is called [`PIXEL_VALUES`], with the fixed batch of `fixed` images made
/// dynamic; `None` if nothing in it looks as if that were possible.
pub(super) fn propose(model: &ModelProto, fixed: usize) -> Option<ModelProto> {
    let mut model = model.clone();
    let graph = model.graph.as_mut()?;
    let edits = edits(graph, as_i64(fixed));
    let mut added = Vec::new();
    let mut nodes = batch_length(&mut added);
    for (at, mut changed) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        for (number, edit) in edits.get(&at).into_iter().flatten().enumerate() {
            let output = changed.output.first().cloned().unwrap_or_default();
            let name = format!("batch/{output}/{number}");
            match edit {
                Edit::Inferred(rest) => {
                    let shape: Vec<i64> = [-1].iter().chain(rest).copied().collect();
                    added.push(lengths(&name, &shape));
                    changed.input[1] = name;
                }
                Edit::OfBatch(rest) => {
                    nodes.push(with_batch(&name, rest, &mut added));
                    changed.input[1] = name;
                }
                Edit::FirstRow(input) => {
                    nodes.push(first_row(&name, &changed.input[*input], &mut added));
                    changed.input[*input] = name;
                }
                Edit::Expanded(input, rank) => {
                    let [one, shape] = ["one", "shape"].map(|part| format!("{name}/{part}"));
                    nodes.push(first_row(&one, &changed.input[*input], &mut added));
                    nodes.push(with_batch(&shape, &vec![1; rank - 1], &mut added));
                    nodes.push(node("Expand", &[&one, &shape], &name));
                    changed.input[*input] = name;
                }
            }
        }
        nodes.push(changed);
    }
    graph.node = nodes;
    graph.initializer.extend(added);
    Some(model)
}

/// What changes, by the position of the node.
fn edits(graph: &GraphProto, fixed: i64) -> HashMap<usize, Vec<Edit>> {
    let index = GraphIndex::new(graph);
    let of_image = of_image(graph, &index);
    let reads_image = |name: &String| name == PIXEL_VALUES || producer_in(&index, name, &of_image);
    let mut edits: HashMap<usize, Vec<Edit>> = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        if !of_image.contains(&at) {
            continue;
        }
        let found = match node.op_type() {
            "Reshape" => shape(&index, node).and_then(|shape| reshaped(&shape, fixed)),
            "Expand" => shape(&index, node).and_then(|shape| {
                let (&first, rest) = shape.split_first()?;
                (first == fixed).then(|| Edit::OfBatch(rest.to_vec()))
            }),
            _ => None,
        };
        edits.entry(at).or_default().extend(found);
        if fixed > 1 && BROADCASTING.contains(&node.op_type()) {
            let masks = node.input.iter().enumerate().filter(|(_, name)| {
                let dims = index.constant(name).map(|tensor| &tensor.dims[..]);
                dims.is_some_and(|dims| dims.len() > 2 && dims[0] == fixed)
            });
            let rows = masks.map(|(input, _)| Edit::FirstRow(input));
            edits.entry(at).or_default().extend(rows);
        }
        if node.op_type() == "Concat" && integer(node, "axis") != Some(0) {
            let same = node.input.iter().enumerate();
            let same = same.filter(|(_, name)| !reads_image(name));
            let expanded =
                same.filter_map(|(input, name)| Some(Edit::Expanded(input, rank(&index, name)?)));
            edits.entry(at).or_default().extend(expanded);
        }
    }
    edits
}

/// How the shape of a value changes whose first length is a multiple of the batch.
fn reshaped(shape: &[i64], fixed: i64) -> Option<Edit> {
    let (&first, rest) = shape.split_first()?;
    if first <= 0 || first % fixed != 0 {
        return None;
    }
    match rest.contains(&-1) {
        false => Some(Edit::Inferred(rest.to_vec())),
        true => (first == fixed).then(|| Edit::OfBatch(rest.to_vec())),
    }
}

/// Positions of the nodes that are computed from the image.
fn of_image(graph: &GraphProto, index: &GraphIndex<'_>) -> HashSet<usize> {
    let mut found = HashSet::new();
    let mut open: Vec<&str> = vec![PIXEL_VALUES];
    while let Some(value) = open.pop() {
        for (at, _) in index.consumers(value) {
            if found.insert(at) {
                open.extend(graph.node[at].output.iter().map(String::as_str));
            }
        }
    }
    found
}

fn producer_in(index: &GraphIndex<'_>, name: &str, nodes: &HashSet<usize>) -> bool {
    index
        .producer(name)
        .is_some_and(|(at, _)| nodes.contains(&at))
}

/// The constant shape that a node takes as its second input.
fn shape(index: &GraphIndex<'_>, node: &NodeProto) -> Option<Vec<i64>> {
    integers(index.constant(node.input.get(1)?)?)
}

/// Number of axes of a value that is the same for every image.
fn rank(index: &GraphIndex<'_>, name: &str) -> Option<usize> {
    if let Some(tensor) = index.constant(name) {
        return Some(tensor.dims.len()).filter(|&rank| rank > 0);
    }
    let (_, node) = index.producer(name)?;
    match node.op_type() {
        "Expand" => match shape(index, node) {
            Some(shape) => Some(shape.len()),
            None => rank(index, node.input.first()?),
        },
        "Cast" | "Identity" => rank(index, node.input.first()?),
        _ => None,
    }
}

/// The nodes that find how many images come.
fn batch_length(added: &mut Vec<TensorProto>) -> Vec<NodeProto> {
    const FIRST: &str = "batch/first";
    added.push(lengths(FIRST, &[0]));
    let mut gather = node("Gather", &["batch/shape", FIRST], BATCH);
    gather.attribute = vec![int_attribute("axis", 0)];
    vec![node("Shape", &[PIXEL_VALUES], "batch/shape"), gather]
}

/// The first row of a value.
fn first_row(name: &str, value: &str, added: &mut Vec<TensorProto>) -> NodeProto {
    let ends = ["first", "last", "axis"].map(|part| format!("{name}/{part}"));
    for (end, value) in ends.iter().zip([0, 1, 0]) {
        added.push(lengths(end, &[value]));
    }
    let [first, last, axis] = &ends;
    node("Slice", &[value, first, last, axis], name)
}

/// The shape `[batch, rest…]`.
fn with_batch(name: &str, rest: &[i64], added: &mut Vec<TensorProto>) -> NodeProto {
    let constant = format!("{name}/rest");
    added.push(lengths(&constant, rest));
    let mut joined = node("Concat", &[BATCH, &constant], name);
    joined.attribute = vec![int_attribute("axis", 0)];
    joined
}

fn lengths(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![as_i64(values.len())],
        data_type: Some(DataType::Int64.into()),
        raw_data: Some(Tensor::i64s(values).into_bytes().into()),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_length_that_the_batch_divides_is_one_of_it() {
        let kind = |shape: &[i64], fixed| match reshaped(shape, fixed) {
            None => "kept",
            Some(Edit::Inferred(_)) => "inferred",
            Some(Edit::OfBatch(_)) => "of batch",
            Some(Edit::Expanded(..) | Edit::FirstRow(_)) => "expanded",
        };
        assert_eq!(kind(&[4, 17, 24], 4), "inferred");
        assert_eq!(kind(&[68, 24], 4), "inferred");
        assert_eq!(kind(&[4, -1, 24], 4), "of batch");
        assert_eq!(kind(&[68, -1], 4), "kept");
        assert_eq!(kind(&[17, 24], 4), "kept");
        assert_eq!(kind(&[-1, 24], 4), "kept");
        assert_eq!(kind(&[0, 17, 24], 4), "kept");
    }
}
