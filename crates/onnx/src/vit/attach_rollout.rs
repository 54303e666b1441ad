//! The rollout of a graph that was written elsewhere, from its attention probabilities.

use std::{collections::BTreeMap, io};

use super::{Builder, CLASS_ATTENTION, Pooling, PrecisionPlan, VitSpec, WeightId, Weights};
use crate::{
    graph::{Dim, Graph, Storage, Value, as_i64},
    proto::GraphProto,
    tensor::{DType, Tensor},
    vit::Precision,
};

/// One block's attention probabilities, `[batch, heads, tokens, tokens]`, in the foreign graph.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probabilities {
    /// Name of the value.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
}

/// Nodes, constants and outputs to add to a graph that has these values: `rollout`,
/// `rollout_by_start` and, where the pooling is the class token, `class_attention`. The inputs of
/// what is returned are the probabilities; all new names begin with one of these three.
///
/// # Errors
/// None that memory does not have; the constants stay in the graph.
pub fn attach_rollout(
    spec: &VitSpec,
    opset: i64,
    blocks: &[Probabilities],
) -> io::Result<GraphProto> {
    let plan = PrecisionPlan::uniform(Precision::Fp32);
    let mut builder = Builder {
        spec,
        plan: &plan,
        weights: &mut NoWeights,
        graph: Graph::new("rollout", Storage::Inline).with_opset(opset),
        zero_points: BTreeMap::new(),
        probes: BTreeMap::new(),
        relations: BTreeMap::new(),
        rotary: None,
    };
    let shape = [
        Dim::named("batch"),
        spec.heads.into(),
        spec.tokens().into(),
        spec.tokens().into(),
    ];
    let class_token = spec.pooling == Pooling::ClassToken;
    let read = as_i64(spec.pooled_tokens());
    let pooled_only = spec.pooled_tokens() < spec.tokens();
    let mut fused = Vec::with_capacity(blocks.len());
    let mut rows = Vec::with_capacity(blocks.len());
    for (layer, block) in blocks.iter().enumerate() {
        let graph = &mut builder.graph;
        let name = |part: &str| format!("rollout/{layer}/{part}");
        let mut matrix = graph.input(&block.name, block.dtype, &shape);
        if block.dtype != DType::F32 {
            matrix = graph.cast(&name("widened"), &matrix, DType::F32);
        }
        if class_token {
            let first = graph.slice(&name("class_token"), &matrix, 2, 0, 1);
            let by_layer = [0, 1, as_i64(spec.heads), as_i64(spec.tokens())];
            rows.push(graph.reshape(&name("class_attention"), &first, &by_layer));
        }
        if pooled_only && layer + 1 == blocks.len() {
            matrix = graph.slice(&name("read"), &matrix, 2, 0, read);
        }
        fused.push(builder.fuse_heads(layer, &matrix));
    }
    let rollout = builder.rollout(&fused, None)?;
    let (layers, tokens, patches) = (spec.layers, spec.tokens(), spec.patches());
    builder.output(&rollout.patch_values, DType::F32, &[patches]);
    builder.output(&rollout.by_start, DType::F32, &[layers, tokens]);
    if class_token {
        let rows: Vec<&Value> = rows.iter().collect();
        let attention = builder.graph.concat(CLASS_ATTENTION, &rows, 1);
        builder.output(&attention, DType::F32, &[layers, spec.heads, tokens]);
    }
    Ok(builder.graph.finish().graph.unwrap_or_default())
}

/// The exported graph has its own.
pub(super) struct NoWeights;

impl Weights for NoWeights {
    type Error = io::Error;

    fn tensor(&mut self, weight: WeightId) -> io::Result<Tensor> {
        Err(io::Error::other(format!("the rollout needs no {weight:?}")))
    }
}
