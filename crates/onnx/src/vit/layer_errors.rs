//! The error that int8 makes in each layer by itself.

use super::{Builder, LAYER_ERRORS, Weights};
use crate::graph::{Attribute, Value};

/// One product of a layer in both precisions, of the same tokens.
pub(super) struct LayerPair {
    /// In float32.
    pub(super) float32: Value,
    /// In int8.
    pub(super) int8: Value,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// ‖rounded − exact‖ / ‖exact‖ of every layer, over all its products and all tokens; `None`
    /// where nothing was probed.
    pub(super) fn layer_errors(&mut self) -> Option<Value> {
        let probes = std::mem::take(&mut self.probes);
        let graph = &mut self.graph;
        let mut errors = Vec::with_capacity(probes.len());
        for (layer, probes) in probes {
            let name = |part: &str| format!("probe/{layer}/{part}");
            let mut changes = Vec::with_capacity(probes.len());
            let mut sizes = Vec::with_capacity(probes.len());
            for (number, LayerPair { float32, int8 }) in probes.iter().enumerate() {
                let change = graph.sub(&name(&format!("change/{number}")), int8, float32);
                let squares = [
                    (&change, format!("change/{number}/squares")),
                    (float32, format!("exact/{number}/squares")),
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
            let smallest = graph.scalar(f32::MIN_POSITIVE);
            let size = graph.max(&name("size/guarded"), &size, &smallest);
            let ratio = graph.div(&name("ratio"), &change, &size);
            errors.push(graph.sqrt(&name("error"), &ratio));
        }
        let errors: Vec<&Value> = errors.iter().collect();
        (!errors.is_empty()).then(|| graph.concat(LAYER_ERRORS, &errors, 0))
    }
}
