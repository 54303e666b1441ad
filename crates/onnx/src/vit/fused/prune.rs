//! Takes nodes out of a graph, and what only they needed.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use super::{CLASS_ATTENTION, ROLLOUT_BY_START, pixels, plan::Plan};
use crate::proto::GraphProto;

/// Takes out the nodes whose values are made in another way.
pub(super) fn without_replaced(mut graph: GraphProto, plan: &Plan) -> GraphProto {
    let replaced = [
        ROLLOUT_BY_START,
        CLASS_ATTENTION,
        "evidence/tokens",
        "evidence/other",
        pixels::NARROWED,
    ];
    pixels::rename_batch(&mut graph);
    graph.node.retain(|node| {
        let makes = |name: &str| node.output.iter().any(|output| output == name);
        let embedding = makes(&plan.embedding);
        let of_block = node
            .output
            .iter()
            .any(|output| output.starts_with("block."));
        embedding || !(of_block || replaced.iter().any(|name| makes(name)))
    });
    graph
}

/// Keeps what the outputs hang on, in an order in which it can be computed.
pub(in crate::vit) fn pruned(mut graph: GraphProto) -> GraphProto {
    let producer: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |name| (name.as_str(), at)))
        .collect();
    let mut order = Vec::new();
    let mut seen = vec![false; graph.node.len()];
    // Depth first, a node behind all that it reads.
    let mut stack: Vec<(usize, bool)> = graph
        .output
        .iter()
        .rev()
        .filter_map(|output| Some((*producer.get(output.name())?, false)))
        .collect();
    while let Some((at, read)) = stack.pop() {
        if read {
            order.push(at);
            continue;
        }
        if mem::replace(&mut seen[at], true) {
            continue;
        }
        stack.push((at, true));
        let inputs = graph.node[at].input.iter().rev();
        stack.extend(inputs.filter_map(|name| Some((*producer.get(name.as_str())?, false))));
    }
    graph.node = order.iter().map(|&at| graph.node[at].clone()).collect();
    let used: HashSet<&str> = graph
        .node
        .iter()
        .flat_map(|node| node.input.iter().map(String::as_str))
        .collect();
    let used: HashSet<String> = used.into_iter().map(str::to_owned).collect();
    graph
        .initializer
        .retain(|tensor| used.contains(tensor.name()));
    graph.value_info.clear();
    graph
}
