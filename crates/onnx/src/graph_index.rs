//! Producer and consumers of every value, in a graph that was read from a file.

use std::collections::{HashMap, HashSet};

use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// The edges of a graph. Bodies of `If`, `Loop` and `Scan` are not looked into.
#[derive(Debug)]
pub struct GraphIndex<'g> {
    graph: &'g GraphProto,
    /// Position of the node that produces a value.
    producer: HashMap<&'g str, usize>,
    /// Positions of the nodes that read it.
    consumers: HashMap<&'g str, Vec<usize>>,
    initializers: HashMap<&'g str, &'g TensorProto>,
}

impl<'g> GraphIndex<'g> {
    /// Follows every edge once.
    pub fn new(graph: &'g GraphProto) -> Self {
        let mut producer = HashMap::new();
        let mut consumers: HashMap<_, Vec<_>> = HashMap::new();
        for (at, node) in graph.node.iter().enumerate() {
            for output in &node.output {
                producer.insert(output.as_str(), at);
            }
            for input in node.input.iter().filter(|input| !input.is_empty()) {
                consumers.entry(input.as_str()).or_default().push(at);
            }
        }
        let named = |tensor: &'g TensorProto| Some((tensor.name.as_deref()?, tensor));
        Self {
            graph,
            producer,
            consumers,
            initializers: graph.initializer.iter().filter_map(named).collect(),
        }
    }

    /// The node that produces a value, and its position; `None` for inputs and initializers.
    pub fn producer(&self, value: &str) -> Option<(usize, &'g NodeProto)> {
        let at = *self.producer.get(value)?;
        Some((at, &self.graph.node[at]))
    }

    /// The nodes that read a value, with their positions.
    pub fn consumers(&self, value: &str) -> impl Iterator<Item = (usize, &'g NodeProto)> {
        let at = self.consumers.get(value).map_or(&[][..], Vec::as_slice);
        at.iter().map(|&at| (at, &self.graph.node[at]))
    }

    /// A value that is fixed in the file: an initializer, or what a `Constant` node makes, also
    /// behind `Identity`.
    pub fn constant(&self, value: &str) -> Option<&'g TensorProto> {
        let mut value = value;
        for _ in 0..=self.node_count() {
            if let Some(tensor) = self.initializers.get(value) {
                return Some(tensor);
            }
            let (_, node) = self.producer(value)?;
            match node.op_type() {
                "Constant" => return attribute(node, "value")?.t.as_ref(),
                "Identity" => value = node.input.first()?,
                _ => return None,
            }
        }
        None
    }

    /// How many nodes there are. Bounds every walk from node to node: a hostile graph has cycles.
    pub fn node_count(&self) -> usize {
        self.graph.node.len()
    }

    /// Everything that a value is computed from, as positions of nodes, its producer included.
    pub fn ancestors(&self, value: &str) -> HashSet<usize> {
        let mut found = HashSet::new();
        let mut open: Vec<usize> = self.producer.get(value).copied().into_iter().collect();
        while let Some(at) = open.pop() {
            if found.insert(at) {
                let inputs = self.graph.node[at].input.iter();
                open.extend(inputs.filter_map(|input| self.producer.get(input.as_str())));
            }
        }
        found
    }
}

/// A node's attribute of this name.
pub fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|found| found.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(operator.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn diamond() -> GraphProto {
        GraphProto {
            initializer: vec![TensorProto {
                name: Some("w".to_owned()),
                ..TensorProto::default()
            }],
            node: vec![
                node("Identity", &["w"], "same"),
                node("Mul", &["x", "same"], "a"),
                node("Add", &["x", ""], "b"),
                node("Sub", &["a", "b"], "y"),
            ],
            ..GraphProto::default()
        }
    }

    #[test]
    fn both_sides_of_a_diamond_are_ancestors_and_omitted_inputs_are_none() {
        let graph = diamond();
        let graph_index = GraphIndex::new(&graph);
        assert_eq!(graph_index.ancestors("y"), HashSet::from([0, 1, 2, 3]));
        assert_eq!(graph_index.ancestors("b"), HashSet::from([2]));
        let consumers: Vec<usize> = graph_index.consumers("x").map(|(at, _)| at).collect();
        assert_eq!(consumers, [1, 2]);
        assert_eq!(graph_index.consumers("").count(), 0);
    }

    #[test]
    fn cycles_and_long_chains_terminate() {
        let mut graph = GraphProto {
            node: vec![node("Identity", &["b"], "a"), node("Identity", &["a"], "b")],
            ..diamond()
        };
        assert!(GraphIndex::new(&graph).constant("a").is_none());
        let name = |at: usize| format!("v{at}");
        let steps = (0..100_000).map(|at| node("Identity", &[&name(at + 1)], &name(at)));
        graph.node = steps.collect();
        graph.node.push(node("Identity", &["w"], &name(100_000)));
        let found = GraphIndex::new(&graph)
            .constant("v0")
            .map(TensorProto::name);
        assert_eq!(found, Some("w"));
    }

    #[test]
    fn a_constant_is_found_behind_identity_and_a_computed_value_is_none() {
        let graph = diamond();
        let graph_index = GraphIndex::new(&graph);
        assert_eq!(
            graph_index.constant("same").map(TensorProto::name),
            Some("w")
        );
        assert!(graph_index.constant("a").is_none());
    }
}
