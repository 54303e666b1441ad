//! The graph of [`build`](super::build()) with its encoder, patches to classifier, as one operator.
//!
//! [`cut`] takes a float32, bf16 or int8 graph when it is loaded, and leaves the file as it is. What is
//! left for the runtime are the last normalisation, the classifier, and of attribution what is made
//! for the best labels. In the domain [`DOMAIN`] two operators take the place of the rest:
//!
//! | operator | inputs | results |
//! |---|---|---|
//! | [`ENCODER`] | pixels `[batch, 3, height, width]`, maps | states that the classifier reads `[batch · read, hidden]`, rollout by start `[batch, layers, tokens]`; with attribution also the class token's attention `[batch, layers, heads, tokens]`, the values that it reads, rounding errors `[batch, layers, hidden]`, and what else is added to it `[batch, hidden]` |
//! | [`ATTRIBUTION`] | directions `[batch · labels, hidden]`, the values read, rounding errors | the tokens' part of the labels' logits `[batch, tokens, labels]`, and what rounding changed in it `[batch, labels]` |
//!
//! `maps` is the graph's input [`MAPS`], as in the [fused graph of GPUs](super::fused). The
//! operators bring their own weights, which [`Constants`] reads: the new graph no longer holds them.

mod constants;
mod network;

pub use self::{
    constants::{Constants, KernelValues, LinearWeights, ReadExternal},
    network::EncoderNetwork,
};

use super::{
    CLASS_ATTENTION, PIXEL_VALUES, ROLLOUT_BY_START,
    fused::{DOMAIN, FusedShape, MAPS, graph_of_ours, pruned},
};
use crate::{
    graph::{Graph, OPSET, as_i64},
    proto::{ModelProto, OperatorSetIdProto},
    tensor::DType,
};

/// From pixels to the states that the classifier reads.
pub const ENCODER: &str = "Encoder";
/// The tokens' part of the labels' logits.
pub const ATTRIBUTION: &str = "EncoderAttribution";

/// A graph without its encoder, and the encoder's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct WithoutEncoder {
    /// The graph with the two operators.
    pub model: ModelProto,
    /// What they have to compute.
    pub network: EncoderNetwork,
}

/// Replaces the encoder of a float32, bf16 or int8 graph that [`build`](super::build()) wrote.
///
/// # Errors
/// Why it cannot be replaced, to complete "the graph stays as it is, because": it is another
/// program's, or its network has something that the operators lack.
pub fn cut(model: &ModelProto, shape: &FusedShape) -> Result<WithoutEncoder, String> {
    let graph = graph_of_ours(model)?;
    let network = EncoderNetwork::read(graph, shape)?;
    let last = format!("block.{}/mlp", network.layers - 1);
    let replaced = [
        last.as_str(),
        ROLLOUT_BY_START,
        CLASS_ATTENTION,
        "evidence/other",
        "evidence/tokens",
        "evidence/rounded/of_labels",
    ];
    let mut rest = graph.clone();
    rest.node.retain(|node| {
        !node
            .output
            .iter()
            .any(|name| replaced.contains(&name.as_str()))
    });

    let mut graph = Graph::resume(rest, OPSET);
    let maps = graph.input(MAPS, DType::I64, &[1.into()]);
    let pixels = graph.value(PIXEL_VALUES);
    let mut results = vec![last.as_str(), ROLLOUT_BY_START];
    let (read, errors) = ("encoder/values_read", "encoder/rounding_error");
    if network.labels.is_some() {
        results.extend([CLASS_ATTENTION, read, errors, "evidence/other"]);
    }
    graph.call((DOMAIN, ENCODER), &results, &[&pixels, &maps], &[]);
    if network.labels.is_some() {
        let directions = graph.value("evidence/directions/flat");
        let inputs = [directions, graph.value(read), graph.value(errors)];
        let results = ["evidence/tokens", "evidence/rounded/of_labels"];
        let inputs: Vec<_> = inputs.iter().collect();
        graph.call((DOMAIN, ATTRIBUTION), &results, &inputs, &[]);
    }
    let rest = pruned(graph.into_proto());
    if let Some(left) = rest.node.iter().flat_map(|node| &node.output).find(|name| {
        name.as_str() != last && (name.starts_with("block.") || name.starts_with("embed"))
    }) {
        return Err(format!("`{left}` is read by more than its encoder"));
    }
    let mut model = ModelProto {
        graph: Some(rest),
        opset_import: model.opset_import.clone(),
        ir_version: model.ir_version,
        ..ModelProto::default()
    };
    model.opset_import.push(OperatorSetIdProto {
        domain: Some(DOMAIN.to_owned()),
        version: Some(1),
    });
    Ok(WithoutEncoder { model, network })
}

/// The lengths of a constant as ONNX has them.
fn dims(lengths: &[usize]) -> Vec<i64> {
    lengths.iter().map(|&length| as_i64(length)).collect()
}
