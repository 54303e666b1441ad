//! The attention probabilities in a graph that was exported elsewhere.
//!
//! Exporters decompose attention: scores from a product, `Softmax` over the last axis, and a
//! product with the values. What is looked for is this pattern, once a block, each block computed
//! from the one before. Shapes are checked later, by running the graph.

use std::collections::{BTreeMap, HashSet};

use patchlight_onnx::{
    graph_index::GraphIndex,
    proto::{GraphProto, NodeProto},
};

use super::signature::integer;

/// The values that the blocks' products with their values read, first block first.
///
/// # Errors
/// What was found instead.
pub(super) fn find(graph: &GraphProto, opset: i64) -> Result<Vec<String>, String> {
    let fused = fused(graph);
    if !fused.is_empty() {
        let listed: Vec<String> = fused
            .iter()
            .map(|(operator, count)| format!("{count} {operator}"))
            .collect();
        return Err(format!(
            "attention is hidden in operators that do not hand its probabilities out ({}); export \
             with torch.onnx.export and an opset of at most 22, without an optimiser's fusions",
            listed.join(", ")
        ));
    }
    let graph_index = GraphIndex::new(graph);
    let mut found = Vec::new();
    let mut other = 0;
    for node in graph.node.iter().filter(|node| node.op_type() == "Softmax") {
        match probabilities(&graph_index, node, opset) {
            Some(value) => found.push((value, node)),
            None => other += 1,
        }
    }
    if found.is_empty() {
        let functions = match graph.node.iter().find(|node| is_function_call(node)) {
            Some(node) => format!(
                "; it calls functions such as {}, which are not looked into: export with \
                 optimize=True",
                node.op_type()
            ),
            None => String::new(),
        };
        return Err(format!(
            "of {other} Softmax nodes none stands between a product that gives scores and a product \
             with values{functions}"
        ));
    }
    for pair in found.windows(2) {
        let ([before, after], made) = (
            [&pair[0], &pair[1]],
            graph_index.producer(&pair[0].1.output[0]),
        );
        let depends = made.is_some_and(|(at, _)| graph_index.ancestors(&after.0).contains(&at));
        if !depends {
            return Err(format!(
                "the attention at `{}` is not computed from that at `{}`, so blocks are not one after \
                 the other",
                after.0, before.0
            ));
        }
    }
    Ok(found.into_iter().map(|(value, _)| value).collect())
}

/// Nodes by operator that compute the whole of attention.
fn fused(graph: &GraphProto) -> BTreeMap<&str, usize> {
    let mut found = BTreeMap::new();
    for node in &graph.node {
        if node.op_type().contains("Attention") {
            *found.entry(node.op_type()).or_insert(0) += 1;
        }
    }
    found
}

/// What the product with the values reads of this `Softmax`, if it is one of attention.
fn probabilities(graph_index: &GraphIndex<'_>, softmax: &NodeProto, opset: i64) -> Option<String> {
    let default = if opset >= 13 { -1 } else { 1 };
    let axis = integer(softmax, "axis").unwrap_or(default);
    if ![-1, 3].contains(&axis) || !derives_from_matmul(graph_index, softmax.input.first()?, 8) {
        return None;
    }
    // What exporters put between, which hands values on: a cast, dropout that is off, and a guard
    // against rows that are masked throughout.
    let mut value = softmax.output.first()?;
    for _ in 0..=graph_index.node_count() {
        let consumers: Vec<(usize, &NodeProto)> = graph_index.consumers(value).collect();
        let products = consumers
            .iter()
            .filter(|(_, node)| node.op_type() == "MatMul");
        let feeds: Vec<_> = products.collect();
        if let [(_, product)] = feeds[..] {
            return (product.input.first() == Some(value)).then(|| value.clone());
        }
        let mut on = consumers.iter().filter(|(_, node)| {
            let condition = node.input.first() == Some(value);
            match node.op_type() {
                "Cast" | "Identity" | "Dropout" => true,
                "Where" => !condition,
                _ => false,
            }
        });
        let (Some((_, next)), None) = (on.next(), on.next()) else {
            return None;
        };
        value = next.output.first()?;
    }
    None
}

/// Whether scores come out of a product, through scaling, masks and casts, at most so many.
fn derives_from_matmul(graph_index: &GraphIndex<'_>, value: &str, depth: usize) -> bool {
    let mut seen = HashSet::new();
    let mut front = vec![value];
    for _ in 0..depth {
        let producers = front.iter().filter_map(|value| graph_index.producer(value));
        let new: Vec<&NodeProto> = producers
            .filter_map(|(at, node)| seen.insert(at).then_some(node))
            .collect();
        if new
            .iter()
            // The second as ONNX Runtime's optimiser writes a product with the scale in it.
            .any(|node| ["MatMul", "FusedMatMul", "Einsum"].contains(&node.op_type()))
        {
            return true;
        }
        let through = new.into_iter().filter(|node| {
            let operator = node.op_type();
            ["Mul", "Div", "Add", "Sub", "Where", "Cast", "Identity"].contains(&operator)
        });
        front = through
            .flat_map(|node| node.input.iter().map(String::as_str))
            .collect();
    }
    false
}

fn is_function_call(node: &NodeProto) -> bool {
    let domain = node.domain();
    !domain.is_empty() && domain != "ai.onnx" && !domain.starts_with("com.microsoft")
}
