//! The Vision Transformer as an ONNX graph whose outputs include its attention rollout.
//!
//! Input: `pixel_values`, float32 `[batch, 3, height, width]`. Outputs, in this order:
//!
//! | name | float32 shape | |
//! |---|---|---|
//! | `logits` | `[batch, classes]` | |
//! | `rollout` | `[batch, patches]` | the rollout of the pooled tokens over the patches, row-major, raw |
//! | `rollout_by_start` | `[batch, layers, tokens]` | row `k`: the product that starts at block `k`, prefix tokens first |
//!
//! and, where the account can be kept ([`Pooling::attribution_support`]), with k = min(5, classes):
//!
//! | name | shape | |
//! |---|---|---|
//! | `evidence` | float32 `[batch, k + 1, patches]` | how much each patch wrote into the logits of the k best classes, then into the mean over all classes |
//! | `evidence_rest` | float32 `[batch, k + 1]` | everything else in these logits: with the patches' sum, the logit |
//! | `evidence_class` | int64 `[batch, k]` | the k best classes, best first |
//! | `class_attention` | float32 `[batch, layers, heads, tokens]` | the class token's attention, prefix tokens first, where the classifier reads it ([`Pooling::follows_class_token`]) |
//!
//! The graph is written for speed without changing what is computed: tokens form one matrix
//! `[batch·tokens, hidden]`, so that every linear layer is one `Gemm` with its bias; the attention
//! scale is part of the query weights; the last block computes only what pooling needs; no
//! value leaves the graph that has tokens × tokens elements. Kernels are stored as `[in, out]`.
//!
//! [`PrecisionPlan`] says whether the blocks compute in float32, float16 or int8. Input and outputs
//! are float32 in any case. An int8 graph gives an image logits of the same bits in every batch.
//!
//! # What the runtime makes of it
//!
//! ONNX Runtime 1.31 on a CPU leaves this graph nearly as it is, which is the point: its pattern
//! matchers have nothing to recognise, so nothing depends on whether they do. It widens 16-bit
//! weights and scales the queries' once, on loading; it runs the patch convolution in its blocked
//! layout; it packs the constant sides of the `Gemm`s. `LayerNormalization` and `Gelu` are single
//! operators here (`Gelu` after `Gemm` took 99 µs where the fused `BiasGelu` took 165 µs, for 197
//! tokens of ViT-Ti). No attention fusion applies, since each softmax has a second reader.
//!
//! Measured as processor time of paired runs on a busy machine, one thread: the rollout adds less
//! than 1 % to ViT-L/16 at batch 1 and 4 to 6 % to ViT-Ti/16, where a block has little else to do
//! (about two thirds of it are the means over the heads). A batch of 8 through ViT-L/16 needs 83
//! MiB beside the weights. Attribution and the class token's attention add 2 to 4 % to ViT-L/16 at
//! batch 1, 7 % to ViT-Ti/16 at batch 1 and 3 to 4 % at batch 8, and 19 MB per image to the memory
//! of ViT-L/16.

mod activation;
mod attach_evidence;
mod attach_rollout;
mod attribution;
mod block;
mod embed;
pub mod encoder;
pub mod fused;
mod head;
mod layer_errors;
mod linear;
mod norm;
mod precision_plan;
mod rollout;
mod scores;
mod spec;
mod variant;
mod weight_id;

use std::{collections::BTreeMap, io, iter};

pub use self::{
    activation::Activation,
    attach_evidence::{MeanNorm, MeanReadout, attach_evidence},
    attach_rollout::{Probabilities, attach_rollout},
    precision_plan::{LinearKind, LinearLayer, Precision, PrecisionPlan},
    spec::{HeadFusion, PoolNorm, Pooling, VitSpec},
    variant::{AttentionPool, MlpForm, Rotation, UnitLength, Variant, relation_index, relations},
    weight_id::{BlockWeight, PoolWeight, WeightId},
};

use self::{head::Head, layer_errors::LayerPair, scores::RotaryTables};
use crate::{
    graph::{Dim, Graph, Storage, Value},
    proto::ModelProto,
    tensor::{DType, Tensor},
};

/// Name of the graph's input.
pub const PIXEL_VALUES: &str = "pixel_values";
/// Name of the first output.
pub const LOGITS: &str = "logits";
/// Name of the second output.
pub const ROLLOUT: &str = "rollout";
/// Name of the third output.
pub const ROLLOUT_BY_START: &str = "rollout_by_start";
/// Name of the output with the patches' attribution.
pub const ATTRIBUTION: &str = "evidence";
/// Name of the output with what the logits hold beside it.
pub const ATTRIBUTION_REST: &str = "evidence_rest";
/// Name of the output that says which classes it is about.
pub const ATTRIBUTION_CLASS: &str = "evidence_class";
/// Name of the output with the class token's attention.
pub const CLASS_ATTENTION: &str = "class_attention";

/// Name of the output that a probing graph has besides, float32 `[layers · 4]`: what eight bits
/// change in each linear layer of the whole input, ‖int8 − float32‖ / ‖float32‖, given the same
/// tokens to read; [`LinearKind::ALL`] of the first block, then of the second.
pub const LAYER_ERRORS: &str = "layer_errors";

/// Gives the graph its constants, one at a time, each once.
pub trait Weights {
    /// What can go wrong; writing the graph adds [`io::Error`].
    type Error: From<io::Error>;

    /// The constant in the shape that [`VitSpec::shape`] tells, in the type it was trained in.
    ///
    /// # Errors
    /// If the source lacks it, or holds it in another shape.
    fn tensor(&mut self, weight: WeightId) -> Result<Tensor, Self::Error>;
}

/// Writes the graph with the precisions of the plan. With [`Storage::External`] large constants go
/// to their file at once, so that memory holds about one of them at a time.
///
/// # Errors
/// What `weights` reports, and what writing external data does.
pub fn build<W: Weights + ?Sized>(
    spec: &VitSpec,
    plan: &PrecisionPlan,
    weights: &mut W,
    storage: Storage<'_>,
) -> Result<ModelProto, W::Error> {
    let mut builder = Builder {
        spec,
        plan,
        weights,
        graph: Graph::new("vit", storage),
        zero_points: BTreeMap::new(),
        probes: BTreeMap::new(),
        relations: BTreeMap::new(),
        rotary: None,
    };
    builder.forward()?;
    Ok(builder.graph.finish())
}

/// The graph under construction; the parts of the network are methods in the files below.
struct Builder<'a, 's, W: ?Sized> {
    spec: &'a VitSpec,
    plan: &'a PrecisionPlan,
    weights: &'a mut W,
    graph: Graph<'s>,
    /// Those of int8 tokens, by the number of rows an image has.
    zero_points: BTreeMap<usize, Value>,
    /// Of a probing graph: each layer's products in both precisions.
    probes: BTreeMap<LinearLayer, Vec<LayerPair>>,
    /// Which relation tokens have to each other, by the number of queries.
    relations: BTreeMap<usize, Value>,
    /// How queries and keys are turned.
    rotary: Option<RotaryTables>,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    fn forward(&mut self) -> Result<(), W::Error> {
        let spec = self.spec;
        let mut tokens = self.embed()?;
        self.rotary = self.rotary_tables()?;
        let entering = match spec.pooling.follows_class_token() {
            true => Some(self.class_token("evidence/embedding", &tokens)),
            false => None,
        };
        let embedding = entering
            .as_ref()
            .map(|token| self.cast_to_float32("evidence/embedding", token));
        let mut entering = entering.map(|token| vec![token]);
        let mut attention = Vec::with_capacity(spec.layers);
        let mut traces = Vec::with_capacity(spec.layers);
        for layer in 0..spec.layers {
            self.enter_block(layer)?;
            let block = self.block(layer, &tokens, entering.as_deref())?;
            tokens = block.tokens;
            attention.push(block.fused);
            entering = block.trace.as_ref().map(|trace| {
                let rounding_error = trace.rounding_error.iter();
                iter::once(&trace.mlp)
                    .chain(rounding_error)
                    .cloned()
                    .collect()
            });
            traces.extend(block.trace);
        }
        let tokens = self.cast_to_float32("readout/states", &tokens);
        let Head { classifier, pool } = self.head(&tokens)?;
        let rollout = self.rollout(&attention, pool.as_ref())?;

        let (layers, total, patches) = (spec.layers, spec.tokens(), spec.patches());
        self.output(&classifier.logits, DType::F32, &[spec.classes]);
        self.output(&rollout.patch_values, DType::F32, &[patches]);
        self.output(&rollout.by_start, DType::F32, &[layers, total]);
        if let Some(errors) = self.layer_errors() {
            let shape = [(LinearKind::ALL.len() * layers).into()];
            self.graph.output(&errors, DType::F32, &shape);
        }
        if spec.pooling.attribution_support().is_err() {
            return Ok(());
        }

        let attribution = self.attribution(embedding.as_ref(), &traces, &classifier)?;
        let labels = spec.attribution_labels();
        self.output(
            &attribution.patch_values,
            DType::F32,
            &[labels + 1, patches],
        );
        self.output(&attribution.rest, DType::F32, &[labels + 1]);
        self.output(&attribution.classes, DType::I64, &[labels]);
        if let Some(attention) = &attribution.class_attention {
            let shape = [layers, spec.heads, total];
            self.output(attention, DType::F32, &shape);
        }
        Ok(())
    }

    /// Hands a value to the caller; the batch comes before the other axes.
    fn output(&mut self, value: &Value, dtype: DType, axes: &[usize]) {
        let axes = axes.iter().map(|&length| Dim::from(length));
        let shape: Vec<Dim> = [Dim::named("batch")].into_iter().chain(axes).collect();
        self.graph.output(value, dtype, &shape);
    }

    /// A constant of the network, widened to float32 where it is stored in fewer bits.
    fn constant(&mut self, weight: WeightId, name: &str) -> Result<Value, W::Error> {
        let tensor = self.weights.tensor(weight)?;
        Ok(self.graph.weight(name, tensor)?)
    }
}
