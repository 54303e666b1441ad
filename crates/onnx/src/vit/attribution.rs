//! Per-label attribution: how much every patch wrote into a label's logit through attention.
//!
//! The class token's last state is a sum: its embedding, and of every block what attention and the
//! MLP added. The logits are linear in it once the scale σ of the last normalisation is taken as
//! given, so each logit is a sum of the same terms (direct logit attribution; per patch as in
//! Gandelsman, Efros & Steinhardt 2024). With γ, β of that normalisation, w_c and b_c of the
//! classifier, and of block l and head h the class token's attention a, the values v and the head's
//! part O of the output kernel:
//!
//! ```text
//! u_c    = (γ∘w_c − mean(γ∘w_c)) / σ
//! φ_c[j] = Σ_l Σ_h a_lh[j] · ⟨v_lh[j] O_lh, u_c⟩
//! logit  = Σ_j φ_c[j] + ⟨embedding + Σ_l output bias_l + Σ_l MLP_l, u_c⟩ + ⟨β, w_c⟩ + b_c
//! ```
//!
//! The mean in u_c is what the normalisation takes off the state. Of φ, the patches are the map;
//! the prefix tokens' part and all other terms are the rest. It is made for the best labels, and
//! for the mean over all classes: what lifts all logits alike says nothing of one.
//!
//! O is multiplied with u_c, not with the values, which costs tokens / (labels + 1) times less; so
//! the values, weighted by attention, wait until the logits are known: 4 · tokens · hidden bytes a
//! block (19 MB per image for ViT-L/16).
//!
//! In an int8 graph O is what its integers stand for, and before O what the heads read is rounded
//! to integers: ⟨(rounded − read) O, u_c⟩ of each block is a term of the rest. So the account
//! closes against the int8 graph's own logit as it does in float32. In a float16 graph every sum on
//! the residual stream is rounded, and it closes as well as these add up.

use super::{
    ATTRIBUTION, ATTRIBUTION_CLASS, ATTRIBUTION_REST, Builder, CLASS_ATTENTION, Weights,
    linear::{Kernel, Operand, Quantized},
};
use crate::{
    graph::{Value, as_i64},
    tensor::Tensor,
};

/// What a block wrote to the class token.
pub(super) struct Trace {
    pub(super) written: WeightedValues,
    /// What rounding to integers changed before the output kernel, `[batch, hidden]`.
    pub(super) rounding_error: Option<Value>,
    /// `[hidden, hidden]`.
    pub(super) out_kernel: Kernel,
    /// `[hidden]`.
    pub(super) out_bias: Value,
    /// `[batch, hidden]`.
    pub(super) mlp: Value,
}

/// What the class token read of every token, before the output kernel.
pub(super) struct WeightedValues {
    /// Values of all heads, each weighted by the class token's attention: `[batch·tokens, hidden]`.
    pub(super) values: Value,
    /// That attention, `[batch, heads, 1, tokens]`.
    attention: Value,
}

/// The classifier as the attribution needs it.
pub(super) struct Classifier {
    /// The class token's state before the last normalisation, `[batch, hidden]`.
    pub(super) state: Value,
    /// γ `[hidden]`.
    pub(super) scale: Value,
    /// `[hidden, classes]`.
    pub(super) kernel: Value,
    /// Its mean over the classes, `[hidden]`.
    pub(super) mean_kernel: Vec<f32>,
    /// ⟨β, w_c⟩ + b_c of every class, and their mean at the end.
    pub(super) offsets: Vec<f32>,
    /// `[batch, classes]`.
    pub(super) logits: Value,
}

/// The outputs made here.
pub(super) struct Attribution {
    /// `[batch, labels + 1, patches]`.
    pub(super) patch_values: Value,
    /// `[batch, labels + 1]`.
    pub(super) rest: Value,
    /// `[batch, labels]`, int64.
    pub(super) classes: Value,
    /// `[batch, layers, heads, tokens]`.
    pub(super) class_attention: Value,
}

/// The parts of the logits that went through attention.
struct TokenContributions {
    /// φ, `[batch, tokens, labels + 1]`.
    tokens: Value,
    /// What rounding to integers added, `[batch, labels + 1]`.
    rounding_error: Option<Value>,
}

/// What the attribution needs of a classifier and the last normalisation's shift: the kernel's mean
/// over the classes, and ⟨β, w_c⟩ + b_c of every class with their mean at the end. Summed in
/// float64.
pub(super) fn classifier_offsets(
    kernel: &Tensor,
    shift: &Tensor,
    bias: &Tensor,
) -> (Vec<f32>, Vec<f32>) {
    let classes = bias.shape()[0];
    let mean = |values: &[f64]| values.iter().sum::<f64>() / classes as f64;
    let mut offsets: Vec<f64> = bias.to_f32().into_iter().map(f64::from).collect();
    let mut mean_kernel = Vec::with_capacity(kernel.shape()[0]);
    for (row, shift) in kernel.to_f32().chunks_exact(classes).zip(shift.to_f32()) {
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        mean_kernel.push(mean(&row) as f32);
        for (offset, weight) in offsets.iter_mut().zip(row) {
            *offset += f64::from(shift) * weight;
        }
    }
    offsets.push(mean(&offsets));
    (mean_kernel, offsets.into_iter().map(|v| v as f32).collect())
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// The class token out of all: `[batch·tokens, hidden]` → `[batch, hidden]`.
    pub(super) fn class_token(&mut self, name: &str, x: &Value) -> Value {
        let tokens = as_i64(self.spec.tokens());
        self.graph.strided_slice(name, x, 0, tokens)
    }

    /// Attention `[batch, heads, queries, tokens]` and values `[batch, tokens, heads, head size]` →
    /// what the class token reads.
    pub(super) fn written(
        &mut self,
        layer: usize,
        probabilities: &Value,
        values: &Value,
    ) -> WeightedValues {
        let name = |part: &str| format!("evidence/{layer}/{part}");
        let hidden = as_i64(self.spec.hidden);
        let last = layer + 1 == self.spec.layers;
        let graph = &mut self.graph;
        // The last block has no other queries.
        let row = match last {
            true => probabilities.clone(),
            false => graph.slice(&name("row"), probabilities, 2, 0, 1),
        };
        let weights = graph.transpose(&name("weights"), &row, &[0, 3, 1, 2]);
        let weighted = graph.mul(&name("weighted"), values, &weights);
        WeightedValues {
            values: graph.reshape(&name("written"), &weighted, &[-1, hidden]),
            attention: row,
        }
    }

    /// What rounding `[batch·queries, hidden]` to integers changed for the class token, float32
    /// `[batch, hidden]`.
    pub(super) fn rounding_error(
        &mut self,
        layer: usize,
        read: &Operand,
        quantized: &Quantized,
        last: bool,
    ) -> Value {
        let name = |part: &str| format!("evidence/{layer}/rounded{part}");
        // The last block has no other queries.
        let mut class_token = |part: &str, x: &Value| match last {
            true => x.clone(),
            false => self.class_token(&name(part), x),
        };
        let read = class_token("/read", read.float());
        let quantized = Quantized {
            values: class_token("/codes", &quantized.values),
            scale: class_token("/scale", &quantized.scale),
        };
        let dequantized = self.dequantized(&name("/decoded"), &quantized);
        self.graph.sub(&name(""), &dequantized, &read)
    }

    /// `embedding` `[batch, hidden]` is the class token before the first block.
    pub(super) fn attribution(
        &mut self,
        embedding: &Value,
        traces: &[Trace],
        classifier: &Classifier,
    ) -> Result<Attribution, W::Error> {
        let spec = self.spec;
        let (labels, hidden) = (spec.attribution_labels(), as_i64(spec.hidden));
        let rows = as_i64(labels + 1);
        let classes = self
            .graph
            .top_k(ATTRIBUTION_CLASS, &classifier.logits, labels);
        let directions = self.directions(classifier, &classes)?;
        let TokenContributions {
            tokens,
            rounding_error,
        } = self.token_contributions(traces, &directions);
        let offsets = self.offsets(classifier, &classes)?;

        let mut other = vec![embedding.clone()];
        for (layer, trace) in traces.iter().enumerate() {
            other
                .push(self.cast_to_float32(&format!("evidence/{layer}/out_bias"), &trace.out_bias));
            other.push(self.cast_to_float32(&format!("evidence/{layer}/mlp"), &trace.mlp));
        }
        let other: Vec<&Value> = other.iter().collect();
        let graph = &mut self.graph;
        let other = graph.sum("evidence/other", &other);
        let other = graph.reshape("evidence/other/column", &other, &[-1, hidden, 1]);
        let other = graph.matmul("evidence/other/written", &directions, &other);
        let other = graph.reshape("evidence/other/of_labels", &other, &[-1, rows]);

        let [prefix, total] = [spec.prefix, spec.tokens()].map(as_i64);
        let prefixed = graph.slice("evidence/prefix", &tokens, 1, 0, prefix);
        let prefixed = graph.reduce("ReduceSum", "evidence/prefix/sum", &prefixed, 1, false);
        let patches = graph.slice("evidence/patches", &tokens, 1, prefix, total);
        let attention: Vec<&Value> = traces
            .iter()
            .map(|trace| &trace.written.attention)
            .collect();
        let attention = graph.concat("class_attention/by_head", &attention, 2);
        let attention = self.cast_to_float32("class_attention/by_head", &attention);
        let graph = &mut self.graph;
        let mut rest = vec![&prefixed, &other, &offsets];
        rest.extend(&rounding_error);
        Ok(Attribution {
            patch_values: graph.transpose(ATTRIBUTION, &patches, &[0, 2, 1]),
            rest: graph.sum(ATTRIBUTION_REST, &rest),
            classes,
            class_attention: graph.transpose(CLASS_ATTENTION, &attention, &[0, 2, 1, 3]),
        })
    }

    /// u of every label, then of the mean over all classes: `[batch, labels + 1, hidden]`.
    fn directions(&mut self, classifier: &Classifier, classes: &Value) -> Result<Value, W::Error> {
        let (labels, hidden) = (self.spec.attribution_labels(), self.spec.hidden);
        let mut mean = vec![0.0; labels * hidden];
        mean.extend_from_slice(&classifier.mean_kernel);
        let mean = Tensor::f32(vec![1, labels + 1, hidden], &mean);

        let graph = &mut self.graph;
        let of_labels = graph.gather("evidence/columns", &classifier.kernel, classes, 1);
        let of_labels = graph.transpose("evidence/rows", &of_labels, &[1, 2, 0]);
        let padded = graph.pad_back("evidence/rows/padded", &of_labels, 3, 1, 1);
        let mean = graph.constant("evidence/mean_row", mean)?;
        let weights = graph.add("evidence/weights", &padded, &mean);
        let scaled = graph.mul("evidence/scaled", &weights, &classifier.scale);
        let mean = graph.reduce("ReduceMean", "evidence/scaled/mean", &scaled, -1, true);
        let centred = graph.sub("evidence/centred", &scaled, &mean);
        let deviation = self.deviation(&classifier.state);
        Ok(self.graph.div("evidence/directions", &centred, &deviation))
    }

    /// σ of the last normalisation, `[batch, 1, 1]`.
    fn deviation(&mut self, state: &Value) -> Value {
        let graph = &mut self.graph;
        let mean = graph.reduce("ReduceMean", "evidence/state/mean", state, -1, true);
        let centred = graph.sub("evidence/state/centred", state, &mean);
        let squares = graph.mul("evidence/state/squares", &centred, &centred);
        let variance = graph.reduce("ReduceMean", "evidence/variance", &squares, -1, true);
        let epsilon = graph.scalar(self.spec.norm_epsilon);
        let variance = graph.add("evidence/variance/shifted", &variance, &epsilon);
        let deviation = graph.sqrt("evidence/deviation", &variance);
        graph.reshape("evidence/deviation/by_picture", &deviation, &[-1, 1, 1])
    }

    /// φ of all tokens, and what rounding added.
    fn token_contributions(&mut self, traces: &[Trace], directions: &Value) -> TokenContributions {
        let spec = self.spec;
        let rows = as_i64(spec.attribution_labels() + 1);
        let [tokens, hidden] = [spec.tokens(), spec.hidden].map(as_i64);
        let flat = self
            .graph
            .reshape("evidence/directions/flat", directions, &[-1, hidden]);
        let flat = self.cast_to_block_dtype("evidence/directions/flat", &flat);
        let mut of_blocks = Vec::with_capacity(traces.len());
        let mut rounding_error = Vec::new();
        for (layer, trace) in traces.iter().enumerate() {
            let name = |part: &str| format!("evidence/{layer}/{part}");
            let kernel = self.dequantized_kernel(&name("out.kernel"), &trace.out_kernel);
            let graph = &mut self.graph;
            let read = graph.linear_transposed(&name("read/flat"), &flat, &kernel);
            let read = graph.reshape(&name("read"), &read, &[-1, rows, hidden]);
            let read = graph.transpose(&name("read/columns"), &read, &[0, 2, 1]);
            let shape = [-1, tokens, hidden];
            let values = graph.reshape(&name("values"), &trace.written.values, &shape);
            let of_block = graph.matmul(&name("tokens"), &values, &read);
            if let Some(change) = &trace.rounding_error {
                let change = graph.reshape(&name("rounded/row"), change, &[-1, 1, hidden]);
                rounding_error.push(graph.matmul(&name("rounded/of_labels"), &change, &read));
            }
            of_blocks.push(self.cast_to_float32(&name("tokens"), &of_block));
        }
        let graph = &mut self.graph;
        let rounding_error: Vec<&Value> = rounding_error.iter().collect();
        let rounding_error = (!rounding_error.is_empty()).then(|| {
            let sum = graph.sum("evidence/rounded", &rounding_error);
            graph.reshape("evidence/rounded/of_labels", &sum, &[-1, rows])
        });
        let of_blocks: Vec<&Value> = of_blocks.iter().collect();
        TokenContributions {
            tokens: graph.sum("evidence/tokens", &of_blocks),
            rounding_error,
        }
    }

    /// What each logit is without any state, `[batch, labels + 1]`.
    fn offsets(&mut self, classifier: &Classifier, classes: &Value) -> Result<Value, W::Error> {
        let labels = self.spec.attribution_labels();
        let (offsets, mean) = classifier.offsets.split_at(self.spec.classes);
        let mut last = vec![0.0; labels];
        last.extend_from_slice(mean);
        let graph = &mut self.graph;
        let offsets = Tensor::f32(vec![offsets.len()], offsets);
        let offsets = graph.constant("evidence/offsets", offsets)?;
        let offsets = graph.gather("evidence/offsets/of_labels", &offsets, classes, 0);
        let offsets = graph.pad_back("evidence/offsets/padded", &offsets, 2, 1, 1);
        let last = graph.constant(
            "evidence/offsets/mean",
            Tensor::f32(vec![1, labels + 1], &last),
        )?;
        Ok(graph.add("evidence/offsets/all", &offsets, &last))
    }
}
