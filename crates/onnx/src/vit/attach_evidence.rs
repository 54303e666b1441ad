//! Evidence of a graph that was written elsewhere, whose classifier reads a mean over positions.
//!
//! The contributions of each position of the last feature map (class activation maps; Zhou et al.
//! 2016), which add up to the logit: the same account as of a Vision Transformer that reads the mean
//! over its patches, and the same nodes.

use std::{collections::BTreeMap, io};

use super::{
    Activation, Builder, HeadFusion, PoolNorm, Pooling, Precision, PrecisionPlan, Variant, VitSpec,
    attach_rollout::NoWeights,
    attribution::{Classifier, FinalNorm, Reader, classifier_offsets},
};
use crate::{
    graph::{Graph, Storage},
    proto::GraphProto,
    tensor::{DType, Tensor},
};

/// How a graph's classifier reads a mean over positions.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanReadout {
    /// The value whose mean is taken: its name, and its element type.
    pub states: (String, DType),
    /// How its axes become `[batch, rows, columns, channels]` or `[batch, positions, channels]`.
    pub order: Vec<i64>,
    /// The mean, `[batch, channels]` once it is flat; its name, and its element type.
    pub mean: (String, DType),
    /// Rows and columns of positions.
    pub grid: [usize; 2],
    /// The normalisation of the mean over its channels, if there is one.
    pub norm: Option<MeanNorm>,
    /// The classifier, `[channels, classes]`.
    pub kernel: Tensor,
    /// Its bias, `[classes]`.
    pub bias: Tensor,
    /// The value that holds the logits, float32 `[batch, classes]`.
    pub logits: String,
}

/// A normalisation over the channels.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanNorm {
    /// γ `[channels]`.
    pub scale: Vec<f32>,
    /// β `[channels]`.
    pub shift: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl MeanReadout {
    fn channels(&self) -> usize {
        self.kernel.shape()[0]
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.kernel.shape()[1]
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// For how many labels evidence is made.
    pub fn labels(&self) -> usize {
        self.classes().min(5)
    }

    /// The same as a network without blocks, each position a patch of one pixel.
    fn spec(&self) -> VitSpec {
        VitSpec {
            layers: 0,
            heads: 1,
            hidden: self.channels(),
            mlp: 0,
            image: self.grid,
            patch: 1,
            prefix: 0,
            classes: self.classes(),
            norm_epsilon: self.norm.as_ref().map_or(0.0, |norm| norm.epsilon),
            activation: Activation::Gelu,
            pre_norm: false,
            qkv_bias: true,
            pooling: Pooling::PatchMean(match self.norm {
                Some(_) => PoolNorm::AfterMean,
                None => PoolNorm::Absent,
            }),
            head_fusion: HeadFusion::Mean,
            variant: Variant::default(),
        }
    }
}

/// Nodes and constants to add to a graph that has these values; they make the outputs `evidence`,
/// `evidence_rest` and `evidence_class`. All new names begin with `evidence`.
///
/// # Errors
/// None that memory does not have; the constants stay in the graph.
pub fn attach_evidence(readout: &MeanReadout, opset: i64) -> io::Result<GraphProto> {
    let spec = readout.spec();
    let plan = PrecisionPlan::uniform(Precision::Fp32);
    let mut builder = Builder {
        spec: &spec,
        plan: &plan,
        weights: &mut NoWeights,
        graph: Graph::new("evidence", Storage::Inline).with_opset(opset),
        zero_points: BTreeMap::new(),
        probes: BTreeMap::new(),
        relations: BTreeMap::new(),
        rotary: None,
    };
    let graph = &mut builder.graph;
    let mut states = graph.value(&readout.states.0);
    if readout.states.1 != DType::F32 {
        states = graph.cast("evidence/states/float32", &states, DType::F32);
    }
    let in_order = readout.order.iter().copied().eq(0..);
    if !in_order {
        states = graph.transpose("evidence/states", &states, &readout.order);
    }
    let channels = readout.channels();
    let shift = readout.norm.as_ref().map(|norm| norm.shift.as_slice());
    let zeros = vec![0.0; channels];
    let shift = Tensor::f32(vec![channels], shift.unwrap_or(&zeros));
    let (mean_kernel, offsets) = classifier_offsets(&readout.kernel, &shift, &readout.bias);
    let norm = match &readout.norm {
        None => None,
        Some(norm) => {
            let mut state = graph.value(&readout.mean.0);
            if readout.mean.1 != DType::F32 {
                state = graph.cast("evidence/mean/float32", &state, DType::F32);
            }
            let flat = [-1, crate::graph::as_i64(channels)];
            let state = graph.reshape("evidence/mean", &state, &flat);
            let scale = Tensor::f32(vec![channels], &norm.scale);
            let scale = graph.constant("evidence/mean/scale", scale)?;
            Some(FinalNorm { state, scale })
        }
    };
    let classifier = Classifier {
        readers: vec![Reader::Mean(states, norm)],
        kernel: graph.constant("evidence/kernel", readout.kernel.clone())?,
        mean_kernel,
        offsets,
        offsets_over_length: None,
        length: None,
        logits: graph.value(&readout.logits),
    };
    builder.attribution(None, &[], &classifier)?;
    Ok(builder.graph.finish().graph.unwrap_or_default())
}
