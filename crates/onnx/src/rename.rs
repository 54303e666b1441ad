//! New names for values of a graph that was read from a file.

use std::collections::HashMap;

use crate::proto::{GraphProto, ValueInfoProto};

/// Gives values other names wherever they stand, in bodies of `If`, `Loop` and `Scan`, too.
pub fn rename(graph: &mut GraphProto, names: &HashMap<String, String>) {
    let change = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    let change_info = |info: &mut ValueInfoProto| {
        if let Some(name) = &mut info.name {
            change(name);
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().for_each(change);
        node.output.iter_mut().for_each(change);
        for attribute in &mut node.attribute {
            let bodies = attribute.g.iter_mut().chain(&mut attribute.graphs);
            bodies.for_each(|body| rename(body, names));
        }
    }
    graph.initializer.iter_mut().for_each(|tensor| {
        if let Some(name) = &mut tensor.name {
            change(name);
        }
    });
    graph.input.iter_mut().for_each(change_info);
    graph.output.iter_mut().for_each(change_info);
    graph.value_info.iter_mut().for_each(change_info);
}
