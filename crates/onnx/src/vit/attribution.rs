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
//! to integers, in a bf16 graph both are rounded to bfloat16: ⟨(rounded − read) O, u_c⟩ of each block is a term of the rest. So the account
//! closes against the int8 graph's own logit as it does in float32. In a float16 graph every sum on
//! the residual stream is rounded, and it closes as well as these add up.

//!
//! Where a network normalises once more on the way (inside attention, or what attention writes),
//! that normalisation is frozen as the last one is: u passes through it, and what its shift adds is
//! a term of the rest.
//!
//! A classifier that reads a mean over the patches takes every patch's last state apart from the
//! others' (`attribution/readout.rs`): that part needs no account of attention.

mod readout;

use super::{
    ATTRIBUTION, ATTRIBUTION_CLASS, ATTRIBUTION_REST, Builder, CLASS_ATTENTION, Weights,
    linear::{Kernel, Operand, Quantized, Rounded},
};
use crate::{
    graph::{Value, as_i64},
    tensor::Tensor,
};

/// What a block wrote to the class token.
pub(super) struct Trace {
    pub(super) written: WeightedValues,
    /// What rounding changed before the output kernel, `[batch, hidden]`.
    pub(super) rounding_error: Option<Value>,
    /// The normalisation before the output kernel.
    pub(super) heads_norm: Option<FrozenNorm>,
    /// `[hidden, hidden]`.
    pub(super) out_kernel: Kernel,
    /// `[hidden]`.
    pub(super) out_bias: Value,
    /// The normalisation of what attention writes.
    pub(super) out_norm: Option<FrozenNorm>,
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

/// A normalisation that the class token went through, and whose scale is taken as given.
pub(super) struct FrozenNorm {
    /// What it normalised, `[batch, width]`.
    pub(super) state: Value,
    /// γ `[width]`.
    pub(super) scale: Value,
    /// β `[width]`.
    pub(super) shift: Value,
}

/// The classifier as the attribution needs it.
pub(super) struct Classifier {
    /// What reads the tokens, in the order of the kernel's rows.
    pub(super) readers: Vec<Reader>,
    /// `[readers · hidden, classes]`.
    pub(super) kernel: Value,
    /// Its mean over the classes, `[readers · hidden]`.
    pub(super) mean_kernel: Vec<f32>,
    /// What every class's logit is without any state, and the mean of that at the end.
    pub(super) offsets: Vec<f32>,
    /// The same of what is divided by [`length`](Self::length).
    pub(super) offsets_over_length: Option<Vec<f32>>,
    /// What the state was divided by, `[batch, 1]`.
    pub(super) length: Option<Value>,
    /// `[batch, classes]`.
    pub(super) logits: Value,
}

/// What a part of the classifier's kernel reads.
pub(super) enum Reader {
    /// The class token's state, normalised.
    ClassToken(FinalNorm),
    /// The mean over the patches of values `[batch·tokens, hidden]`, normalised afterwards if at
    /// all.
    Mean(Value, Option<FinalNorm>),
    /// What a learned query read.
    Query(PooledQuery),
}

/// The normalisation that a state goes through last.
pub(super) struct FinalNorm {
    /// The state before it, `[batch, hidden]`.
    pub(super) state: Value,
    /// γ `[hidden]`.
    pub(super) scale: Value,
}

/// What a learned query that pools read of the tokens.
pub(super) struct PooledQuery {
    /// Values of all heads, each weighted by the query's attention: `[batch·tokens, hidden]`.
    pub(super) values: Value,
    /// `[hidden, hidden]`.
    pub(super) out_kernel: Value,
    /// All that was added to what it read, `[batch, hidden]`.
    pub(super) other: Value,
    /// The normalisation between it and the classifier.
    pub(super) norm: Option<FinalNorm>,
}

/// The outputs made here.
pub(super) struct Attribution {
    /// `[batch, labels + 1, patches]`.
    pub(super) patch_values: Value,
    /// `[batch, labels + 1]`.
    pub(super) rest: Value,
    /// `[batch, labels]`, int64.
    pub(super) classes: Value,
    /// `[batch, layers, heads, tokens]`, where the class token is read.
    pub(super) class_attention: Option<Value>,
}

/// The parts of the logits that went through attention.
struct TokenContributions {
    /// φ, `[batch, tokens, labels + 1]`.
    tokens: Value,
    /// What rounding added, `[batch, labels + 1]`.
    rounding_error: Option<Value>,
    /// What biases and shifts added that a normalisation follows, `[batch, labels + 1]` each.
    constant_terms: Vec<Value>,
}

/// What a reader's part of the logits is made of.
struct ReaderShare {
    /// `[batch, patches, labels + 1]`.
    patches: Value,
    /// `[batch, labels + 1]` each.
    rest: Vec<Value>,
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
        class_token_only: bool,
    ) -> WeightedValues {
        let name = |part: &str| format!("evidence/{layer}/{part}");
        let width = as_i64(self.spec.attention_width());
        let graph = &mut self.graph;
        // The last block has no other queries.
        let row = match class_token_only {
            true => probabilities.clone(),
            false => graph.slice(&name("row"), probabilities, 2, 0, 1),
        };
        let weights = graph.transpose(&name("weights"), &row, &[0, 3, 1, 2]);
        let weighted = graph.mul(&name("weighted"), values, &weights);
        WeightedValues {
            values: graph.reshape(&name("written"), &weighted, &[-1, width]),
            attention: row,
        }
    }

    /// What rounding `[batch·queries, hidden]` changed for the class token, float32
    /// `[batch, hidden]`.
    pub(super) fn rounding_error(
        &mut self,
        layer: usize,
        read: &Operand,
        rounded: &Rounded,
        last: bool,
    ) -> Value {
        let name = |part: &str| format!("evidence/{layer}/rounded{part}");
        // The last block has no other queries.
        let mut class_token = |part: &str, x: &Value| match last {
            true => x.clone(),
            false => self.class_token(&name(part), x),
        };
        let read = class_token("/read", read.float());
        let rounded = match rounded {
            Rounded::Bf16(rounded) => class_token("/codes", rounded),
            Rounded::Int8(quantized) => {
                let quantized = Quantized {
                    values: class_token("/codes", &quantized.values),
                    scale: class_token("/scale", &quantized.scale),
                };
                self.dequantized(&name("/decoded"), &quantized)
            }
        };
        self.graph.sub(&name(""), &rounded, &read)
    }

    /// `embedding` `[batch, hidden]` is the class token before the first block, `traces` what the
    /// blocks wrote to it: both where it is followed.
    pub(super) fn attribution(
        &mut self,
        embedding: Option<&Value>,
        traces: &[Trace],
        classifier: &Classifier,
    ) -> Result<Attribution, W::Error> {
        let labels = self.spec.attribution_labels();
        let classes = self
            .graph
            .top_k(ATTRIBUTION_CLASS, &classifier.logits, labels);
        let weights = self.label_weights(classifier, &classes)?;
        let parts = self.parts_of_weights(&weights, classifier.readers.len());
        let mut shares = Vec::with_capacity(parts.len());
        let (offsets, mean) = classifier.offsets.split_at(self.spec.classes);
        for (reader, weights) in classifier.readers.iter().zip(&parts) {
            shares.push(match (reader, embedding) {
                (Reader::ClassToken(norm), Some(embedding)) => {
                    self.class_token_share(embedding, traces, norm, weights)
                }
                (Reader::Mean(tokens, norm), _) => self.mean_share(tokens, norm.as_ref(), weights),
                (Reader::Query(query), _) => self.query_share(query, weights),
                // Its account was not kept.
                (Reader::ClassToken(_), None) => continue,
            });
        }
        let mut terms = vec![self.offsets("evidence/offsets", offsets, mean, &classes)?];
        if let (Some(offsets), Some(length)) = (&classifier.offsets_over_length, &classifier.length)
        {
            let (offsets, mean) = offsets.split_at(self.spec.classes);
            let name = "evidence/offsets_over_length";
            let offsets = self.offsets(name, offsets, mean, &classes)?;
            terms.push(self.graph.div("evidence/offsets/divided", &offsets, length));
        }

        let graph = &mut self.graph;
        let patches = match &shares[..] {
            [only] => only.patches.clone(),
            _ => {
                let patches: Vec<&Value> = shares.iter().map(|share| &share.patches).collect();
                graph.sum("evidence/patches/all", &patches)
            }
        };
        let rest = shares.iter().flat_map(|share| &share.rest);
        let rest: Vec<&Value> = rest.chain(&terms).collect();
        let rest = graph.sum(ATTRIBUTION_REST, &rest);
        let patch_values = graph.transpose(ATTRIBUTION, &patches, &[0, 2, 1]);
        Ok(Attribution {
            patch_values,
            rest,
            classes,
            class_attention: self.class_attention(traces),
        })
    }

    /// The class token's attention in all blocks.
    fn class_attention(&mut self, traces: &[Trace]) -> Option<Value> {
        if traces.is_empty() {
            return None;
        }
        let attention: Vec<&Value> = traces
            .iter()
            .map(|trace| &trace.written.attention)
            .collect();
        let graph = &mut self.graph;
        let attention = graph.concat("class_attention/by_head", &attention, 2);
        let attention = self.cast_to_float32("class_attention/by_head", &attention);
        Some(
            self.graph
                .transpose(CLASS_ATTENTION, &attention, &[0, 2, 1, 3]),
        )
    }

    /// What the classifier reads of the class token; `weights` is its part of the kernel.
    fn class_token_share(
        &mut self,
        embedding: &Value,
        traces: &[Trace],
        norm: &FinalNorm,
        weights: &Value,
    ) -> ReaderShare {
        let spec = self.spec;
        let hidden = as_i64(spec.hidden);
        let rows = as_i64(spec.attribution_labels() + 1);
        let directions = self.through_norm("evidence", weights, &norm.state, &norm.scale);
        let TokenContributions {
            tokens,
            rounding_error,
            constant_terms,
        } = self.token_contributions(traces, &directions);

        let mut other = vec![embedding.clone()];
        for (layer, trace) in traces.iter().enumerate() {
            if trace.out_norm.is_none() {
                let name = format!("evidence/{layer}/out_bias");
                other.push(self.cast_to_float32(&name, &trace.out_bias));
            }
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
        let mut rest = vec![prefixed, other];
        rest.extend(rounding_error);
        rest.extend(constant_terms);
        ReaderShare { patches, rest }
    }

    /// The classifier's kernel for every label, then its mean over all classes, divided by the
    /// state's length where that is: `[batch, labels + 1, readers · hidden]`.
    fn label_weights(
        &mut self,
        classifier: &Classifier,
        classes: &Value,
    ) -> Result<Value, W::Error> {
        let labels = self.spec.attribution_labels();
        let width = classifier.mean_kernel.len();
        let mut mean = vec![0.0; labels * width];
        mean.extend_from_slice(&classifier.mean_kernel);
        let mean = Tensor::f32(vec![1, labels + 1, width], &mean);

        let graph = &mut self.graph;
        let of_labels = graph.gather("evidence/columns", &classifier.kernel, classes, 1);
        let of_labels = graph.transpose("evidence/rows", &of_labels, &[1, 2, 0]);
        let padded = graph.pad_back("evidence/rows/padded", &of_labels, 3, 1, 1);
        let mean = graph.constant("evidence/mean_row", mean)?;
        let weights = graph.add("evidence/weights", &padded, &mean);
        Ok(match &classifier.length {
            None => weights,
            Some(length) => {
                let length = graph.reshape("evidence/length", length, &[-1, 1, 1]);
                graph.div("evidence/weights/divided", &weights, &length)
            }
        })
    }

    /// Each reader's part of the weights, `[batch, labels + 1, hidden]`.
    fn parts_of_weights(&mut self, weights: &Value, readers: usize) -> Vec<Value> {
        let hidden = as_i64(self.spec.hidden);
        if readers == 1 {
            return vec![weights.clone()];
        }
        let part = |reader: usize| {
            let (name, first) = (
                format!("evidence/weights/{reader}"),
                as_i64(reader) * hidden,
            );
            self.graph.slice(&name, weights, 2, first, first + hidden)
        };
        (0..readers).map(part).collect()
    }

    /// What a normalisation of `state` `[batch, width]` makes of `weights` `[batch, rows, width]`:
    /// those that read the state before it, its deviation taken as given.
    fn through_norm(&mut self, name: &str, weights: &Value, state: &Value, scale: &Value) -> Value {
        let graph = &mut self.graph;
        let scaled = graph.mul(&format!("{name}/scaled"), weights, scale);
        let mean = graph.reduce(
            "ReduceMean",
            &format!("{name}/scaled/mean"),
            &scaled,
            -1,
            true,
        );
        let centred = graph.sub(&format!("{name}/centred"), &scaled, &mean);
        let deviation = self.deviation(name, state);
        self.graph
            .div(&format!("{name}/directions"), &centred, &deviation)
    }

    /// σ of a normalisation, `[batch, 1, 1]`.
    fn deviation(&mut self, name: &str, state: &Value) -> Value {
        let name = |part: &str| format!("{name}/{part}");
        let graph = &mut self.graph;
        let mean = graph.reduce("ReduceMean", &name("state/mean"), state, -1, true);
        let centred = graph.sub(&name("state/centred"), state, &mean);
        let squares = graph.mul(&name("state/squares"), &centred, &centred);
        let variance = graph.reduce("ReduceMean", &name("variance"), &squares, -1, true);
        let epsilon = graph.scalar(self.spec.norm_epsilon);
        let variance = graph.add(&name("variance/shifted"), &variance, &epsilon);
        let deviation = graph.sqrt(&name("deviation"), &variance);
        graph.reshape(&name("deviation/by_picture"), &deviation, &[-1, 1, 1])
    }

    /// `weights` `[batch, rows, width]` before a frozen normalisation, float32, and what its shift
    /// adds, `[batch, rows]`.
    fn through_frozen(&mut self, name: &str, weights: &Value, norm: &FrozenNorm) -> [Value; 2] {
        let state = self.cast_to_float32(&format!("{name}/state"), &norm.state);
        let scale = self.cast_to_float32(&format!("{name}/scale"), &norm.scale);
        let shift = self.cast_to_float32(&format!("{name}/shift"), &norm.shift);
        let shifted = self.constant_term(&format!("{name}/shift"), weights, &shift);
        [self.through_norm(name, weights, &state, &scale), shifted]
    }

    /// What a constant `[width]` adds that `weights` `[batch, rows, width]` read: `[batch, rows]`.
    fn constant_term(&mut self, name: &str, weights: &Value, constant: &Value) -> Value {
        let rows = as_i64(self.spec.attribution_labels() + 1);
        let graph = &mut self.graph;
        let column = graph.reshape(&format!("{name}/column"), constant, &[-1, 1]);
        let term = graph.matmul(&format!("{name}/read"), weights, &column);
        graph.reshape(&format!("{name}/of_labels"), &term, &[-1, rows])
    }

    /// φ of all tokens, and what rounding added.
    fn token_contributions(&mut self, traces: &[Trace], directions: &Value) -> TokenContributions {
        let spec = self.spec;
        let rows = as_i64(spec.attribution_labels() + 1);
        let [tokens, hidden, width] =
            [spec.tokens(), spec.hidden, spec.attention_width()].map(as_i64);
        let shared = traces
            .iter()
            .any(|trace| trace.out_norm.is_none())
            .then(|| {
                let flat =
                    self.graph
                        .reshape("evidence/directions/flat", directions, &[-1, hidden]);
                self.cast_to_block_dtype("evidence/directions/flat", &flat)
            });
        let mut of_blocks = Vec::with_capacity(traces.len());
        let mut rounding_error = Vec::new();
        let mut constant_terms = Vec::new();
        for (layer, trace) in traces.iter().enumerate() {
            let name = |part: &str| format!("evidence/{layer}/{part}");
            let flat = match (&trace.out_norm, &shared) {
                (Some(norm), _) => {
                    let [own, shifted] = self.through_frozen(&name("out_norm"), directions, norm);
                    let bias = self.cast_to_float32(&name("out_bias"), &trace.out_bias);
                    let bias = self.constant_term(&name("out_bias"), &own, &bias);
                    constant_terms.extend([shifted, bias]);
                    let own = self
                        .graph
                        .reshape(&name("directions/flat"), &own, &[-1, hidden]);
                    self.cast_to_block_dtype(&name("directions/flat"), &own)
                }
                (None, Some(shared)) => shared.clone(),
                // There is one as soon as a block has no normalisation of its own.
                (None, None) => directions.clone(),
            };
            let kernel = self.dequantized_kernel(&name("out.kernel"), &trace.out_kernel);
            let graph = &mut self.graph;
            let read = graph.linear_transposed(&name("read/flat"), &flat, &kernel);
            let read = graph.reshape(&name("read"), &read, &[-1, rows, width]);
            let values_read = match &trace.heads_norm {
                None => read.clone(),
                Some(norm) => {
                    let read = self.cast_to_float32(&name("read"), &read);
                    let [before, shifted] = self.through_frozen(&name("heads_norm"), &read, norm);
                    constant_terms.push(shifted);
                    self.cast_to_block_dtype(&name("heads_norm/read"), &before)
                }
            };
            let graph = &mut self.graph;
            let columns = graph.transpose(&name("read/columns"), &values_read, &[0, 2, 1]);
            let shape = [-1, tokens, width];
            let values = graph.reshape(&name("values"), &trace.written.values, &shape);
            let of_block = graph.matmul(&name("tokens"), &values, &columns);
            if let Some(change) = &trace.rounding_error {
                let change = graph.reshape(&name("rounded/row"), change, &[-1, 1, width]);
                let columns = match trace.heads_norm {
                    None => columns,
                    // Rounding comes after the normalisation.
                    Some(_) => graph.transpose(&name("rounded/columns"), &read, &[0, 2, 1]),
                };
                rounding_error.push(graph.matmul(&name("rounded/of_labels"), &change, &columns));
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
            constant_terms,
        }
    }

    /// What each logit is without any state, `[batch, labels + 1]`.
    fn offsets(
        &mut self,
        name: &str,
        offsets: &[f32],
        mean: &[f32],
        classes: &Value,
    ) -> Result<Value, W::Error> {
        let labels = self.spec.attribution_labels();
        let mut last = vec![0.0; labels];
        last.extend_from_slice(mean);
        let graph = &mut self.graph;
        let offsets = Tensor::f32(vec![offsets.len()], offsets);
        let offsets = graph.constant(name, offsets)?;
        let offsets = graph.gather(&format!("{name}/of_labels"), &offsets, classes, 0);
        let offsets = graph.pad_back(&format!("{name}/padded"), &offsets, 2, 1, 1);
        let last = graph.constant(
            &format!("{name}/mean"),
            Tensor::f32(vec![1, labels + 1], &last),
        )?;
        Ok(graph.add(&format!("{name}/all"), &offsets, &last))
    }
}
