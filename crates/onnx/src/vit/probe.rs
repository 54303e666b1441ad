//! What eight bits change in each layer by itself.

use super::{Builder, LAYER_ERRORS, Weights};
use crate::graph::{Attribute, Value};

/// One product of a layer, taken twice from the same tokens.
pub(super) struct Probe {
    /// In float32.
    pub(super) exact: Value,
    /// In int8.
    pub(super) rounded: Value,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// ‖rounded − exact‖ / ‖exact‖ of every layer, over all its products and all tokens; `None` where
    /// nothing was probed.
    pub(super) fn layer_errors(&mut self) -> Option<Value> {
        let probes = std::mem::take(&mut self.probes);
        let graph = &mut self.graph;
        let mut errors = Vec::with_capacity(probes.len());
        for (layer, probes) in probes {
            let name = |part: &str| format!("probe/{layer}/{part}");
            let mut changes = Vec::with_capacity(probes.len());
            let mut sizes = Vec::with_capacity(probes.len());
            for (number, Probe { exact, rounded }) in probes.iter().enumerate() {
                let change = graph.sub(&name(&format!("change/{number}")), rounded, exact);
                let squares = [
                    (&change, format!("change/{number}/squares")),
                    (exact, format!("exact/{number}/squares")),
                ];
                let [change, size] = squares.map(|(x, part)| {
                    let all = [("keepdims", Attribute::Int(0))];
                    let sum = graph.node("ReduceSumSquare", &name(&part), &[x], &all);
                    graph.reshape(&name(&format!("{part}/flat")), &sum, &[1])
                });
                changes.push(change);
                sizes.push(size);
            }
            let [change, size] = [(changes, "change"), (sizes, "size")].map(|(parts, part)| {
                let parts: Vec<&Value> = parts.iter().collect();
                graph.sum(&name(part), &parts)
            });
            let smallest = graph.number(f32::MIN_POSITIVE);
            let size = graph.max(&name("size/guarded"), &size, &smallest);
            let ratio = graph.div(&name("ratio"), &change, &size);
            errors.push(graph.sqrt(&name("error"), &ratio));
        }
        let errors: Vec<&Value> = errors.iter().collect();
        (!errors.is_empty()).then(|| graph.concat(LAYER_ERRORS, &errors, 0))
    }
}
