//! From the last states to the logits: normalisation, pooling, classifier.

use super::{
    Builder, LOGITS, PoolNorm, PoolWeight, Pooling, Precision, UnitLength, WeightId, Weights,
    attribution::{self, Classifier, FinalNorm, PooledQuery, Reader},
    block::attention_scale,
};
use crate::{
    graph::{Value, as_i64},
    tensor::Tensor,
};

/// What is made here.
pub(super) struct Head {
    pub(super) classifier: Classifier,
    /// What a learned query that pools reads of the tokens, heads fused: `[batch, 1, tokens]`.
    pub(super) pool: Option<Value>,
}

/// What the classifier reads, and what the attribution needs of it.
struct Readout {
    /// `[batch, pooled states · hidden]`.
    state: Value,
    readers: Vec<Reader>,
    pool: Option<Value>,
}

/// The normalisation after the last block.
#[derive(Clone)]
struct Norm {
    scale: Value,
    shift: Value,
    /// The shift's values.
    shifts: Tensor,
}

/// What is the same in every image.
struct Offsets {
    mean_kernel: Vec<f32>,
    offsets: Vec<f32>,
    over_length: Option<Vec<f32>>,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// From the pooled tokens' last states `[batch·pooled, hidden]` to the logits.
    pub(super) fn head(&mut self, tokens: &Value) -> Result<Head, W::Error> {
        let norm = match self.spec.has_final_norm() {
            true => Some(self.final_norm()?),
            false => None,
        };
        let readout = self.readout(tokens, norm.as_ref())?;
        let after = match self.spec.variant.attention_pool.norm_after {
            true => Some(WeightId::Pool(PoolWeight::NormAfterBias)),
            false => None,
        };
        let (state, length) = self.unit_length(&readout.state)?;
        let kernel = self.weights.tensor(WeightId::HeadKernel)?;
        let bias = self.weights.tensor(WeightId::HeadBias)?;
        let shifts = match (self.spec.pooling, &norm) {
            (Pooling::Attention, _) => after.map(|id| self.weights.tensor(id)).transpose()?,
            (Pooling::PatchMean(PoolNorm::BeforeMean | PoolNorm::Absent), _) | (_, None) => None,
            (_, Some(norm)) => Some(norm.shifts.clone()),
        };
        let Offsets {
            mean_kernel,
            offsets,
            over_length,
        } = self.constant_parts(&kernel, shifts.as_ref(), &bias, length.is_some());
        let kernel = self.graph.weight("head.kernel", kernel)?;
        let bias = self.graph.weight("head.bias", bias)?;
        let logits = match self.plan.precision {
            Precision::Int8 => self.logits_whatever_the_batch(&state, &kernel, &bias),
            Precision::Fp32 | Precision::Bf16 | Precision::Fp16 => {
                self.graph.linear(LOGITS, &state, &kernel, Some(&bias))
            }
        };
        Ok(Head {
            classifier: Classifier {
                readers: readout.readers,
                kernel,
                mean_kernel,
                offsets,
                offsets_over_length: over_length,
                length,
                logits,
            },
            pool: readout.pool,
        })
    }

    fn final_norm(&mut self) -> Result<Norm, W::Error> {
        let scale = self.constant(WeightId::FinalNormScale, "norm.scale")?;
        let shifts = self.weights.tensor(WeightId::FinalNormBias)?;
        let shift = self.graph.weight("norm.bias", shifts.clone())?;
        Ok(Norm {
            scale,
            shift,
            shifts,
        })
    }

    fn readout(&mut self, tokens: &Value, norm: Option<&Norm>) -> Result<Readout, W::Error> {
        let epsilon = self.spec.norm_epsilon;
        let normed = |builder: &mut Self, x: &Value| match norm {
            Some(Norm { scale, shift, .. }) => {
                builder.graph.layer_norm("norm", x, scale, shift, epsilon)
            }
            None => x.clone(),
        };
        let class_token = |state: &Value| {
            let norm = norm.map(|norm| FinalNorm {
                state: state.clone(),
                scale: norm.scale.clone(),
            });
            norm.map(Reader::ClassToken)
        };
        let (state, readers) = match self.spec.pooling {
            Pooling::ClassToken => (normed(self, tokens), Vec::from_iter(class_token(tokens))),
            // Two classifiers of half the weight, joined, give the mean of both.
            Pooling::ClassAndDistillation => {
                let normed = normed(self, tokens);
                let joined = as_i64(self.spec.pooling.pooled_states() * self.spec.hidden);
                let state = self.graph.reshape("readout", &normed, &[-1, joined]);
                (state, Vec::new())
            }
            Pooling::PatchMean(PoolNorm::BeforeMean | PoolNorm::Absent) => {
                let normed = normed(self, tokens);
                (self.patch_mean(&normed), vec![Reader::Mean(normed, None)])
            }
            Pooling::PatchMean(PoolNorm::AfterMean) => {
                let mean = self.patch_mean(tokens);
                let own = norm.map(|norm| FinalNorm {
                    state: mean.clone(),
                    scale: norm.scale.clone(),
                });
                (normed(self, &mean), vec![Reader::Mean(tokens.clone(), own)])
            }
            Pooling::ClassAndMean => {
                let state = self.class_token("readout/class_token", tokens);
                let normed = normed(self, tokens);
                let first = self.class_token("readout/class_token/normed", &normed);
                let mean = self.patch_mean(&normed);
                let joined = self.graph.concat("readout/joined", &[&first, &mean], 1);
                let mut readers = Vec::from_iter(class_token(&state));
                readers.push(Reader::Mean(normed, None));
                (joined, readers)
            }
            Pooling::Attention => {
                let normed = normed(self, tokens);
                return self.attention_pool(&normed);
            }
        };
        Ok(Readout {
            state,
            readers,
            pool: None,
        })
    }

    /// A learned query reads the tokens `[batch·tokens, hidden]`, and an MLP adds to what it read.
    fn attention_pool(&mut self, tokens: &Value) -> Result<Readout, W::Error> {
        use PoolWeight as P;
        let spec = self.spec;
        let (heads, pool) = (
            spec.variant.attention_pool.heads,
            spec.variant.attention_pool,
        );
        let size = spec.hidden / heads.max(1);
        let [all, hidden, by_head, size_of_head] =
            [spec.tokens(), spec.hidden, heads, size].map(as_i64);
        let query = self.weights.tensor(WeightId::Pool(P::Query))?.cast_f32();
        let query = query.scaled(attention_scale(size));
        let query = query.reshaped(vec![1, heads, 1, size]);
        let query = self.graph.constant("pool/query", query)?;
        let keys = self.pool_linear("pool/keys", tokens, [P::KeyKernel, P::KeyBias])?;
        let values = self.pool_linear("pool/values", tokens, [P::ValueKernel, P::ValueBias])?;
        let graph = &mut self.graph;
        let shape = [-1, all, by_head, size_of_head];
        let keys = graph.reshape("pool/keys/by_token", &keys, &shape);
        let keys = graph.transpose("pool/keys/transposed", &keys, &[0, 2, 3, 1]);
        let scores = graph.matmul("pool/scores", &query, &keys);
        let probabilities = graph.softmax("pool/probabilities", &scores);
        let values = graph.reshape("pool/values/by_token", &values, &shape);
        let by_token = graph.transpose("pool/weights", &probabilities, &[0, 3, 1, 2]);
        let weighted = graph.mul("pool/weighted", &values, &by_token);
        let weighted = graph.reshape("pool/weighted/by_token", &weighted, &[-1, all, hidden]);
        let mixed = graph.reduce("ReduceSum", "pool/mixed", &weighted, 1, false);
        let flat = graph.reshape("pool/weighted/flat", &weighted, &[-1, hidden]);
        let out_kernel = self.constant(WeightId::Pool(P::OutKernel), "pool/out.kernel")?;
        let out_bias = self.constant(WeightId::Pool(P::OutBias), "pool/out.bias")?;
        let read = self
            .graph
            .linear("pool/out", &mixed, &out_kernel, Some(&out_bias));

        let scale = self.constant(WeightId::Pool(P::MlpNormScale), "pool/mlp/norm.scale")?;
        let shift = self.constant(WeightId::Pool(P::MlpNormBias), "pool/mlp/norm.bias")?;
        let epsilon = spec.norm_epsilon;
        let normed = self
            .graph
            .layer_norm("pool/mlp/norm", &read, &scale, &shift, epsilon);
        let up = self.pool_linear("pool/mlp/up", &normed, [P::UpKernel, P::UpBias])?;
        let active = self.activation_in_float32("pool/mlp/active", &up);
        let down = self.pool_linear("pool/mlp/down", &active, [P::DownKernel, P::DownBias])?;
        let state = self.graph.add("pool", &read, &down);
        let other = self.graph.add("pool/other", &down, &out_bias);
        let norm = match pool.norm_after {
            false => None,
            true => {
                let scale = self.constant(WeightId::Pool(P::NormAfterScale), "pool/norm.scale")?;
                Some(FinalNorm {
                    state: state.clone(),
                    scale,
                })
            }
        };
        let after = match &norm {
            None => state,
            Some(FinalNorm { scale, .. }) => {
                let shift = self.constant(WeightId::Pool(P::NormAfterBias), "pool/norm.bias")?;
                self.graph
                    .layer_norm("pool/norm", &state, scale, &shift, epsilon)
            }
        };
        let fused = self.fuse_pool(&probabilities);
        Ok(Readout {
            state: after,
            readers: vec![Reader::Query(PooledQuery {
                values: flat,
                out_kernel,
                other,
                norm,
            })],
            pool: Some(fused),
        })
    }

    fn pool_linear(
        &mut self,
        name: &str,
        x: &Value,
        [kernel, bias]: [PoolWeight; 2],
    ) -> Result<Value, W::Error> {
        let kernel = self.constant(WeightId::Pool(kernel), &format!("{name}.kernel"))?;
        let bias = self.constant(WeightId::Pool(bias), &format!("{name}.bias"))?;
        Ok(self.graph.linear(name, x, &kernel, Some(&bias)))
    }

    /// The state divided by its own length, or by that of its projection; and that length,
    /// `[batch, 1]`.
    fn unit_length(&mut self, state: &Value) -> Result<(Value, Option<Value>), W::Error> {
        let measured = match self.spec.variant.unit_length {
            UnitLength::None => return Ok((state.clone(), None)),
            UnitLength::State => state.clone(),
            UnitLength::Projected(_) => {
                let kernel = self.constant(WeightId::Projection, "head/projection.kernel")?;
                self.graph.linear("head/projection", state, &kernel, None)
            }
        };
        let graph = &mut self.graph;
        let squares = graph.mul("head/squares", &measured, &measured);
        let sum = graph.reduce("ReduceSum", "head/square_sum", &squares, -1, true);
        let length = graph.sqrt("head/length", &sum);
        Ok((graph.div("head/unit", state, &length), Some(length)))
    }

    /// What the attribution needs of the kernel `[pooled states · hidden, classes]`; nothing where
    /// none is made. `shifts` are those of the normalisation that the account goes through, which
    /// stands before the first `hidden` rows.
    fn constant_parts(
        &self,
        kernel: &Tensor,
        shifts: Option<&Tensor>,
        bias: &Tensor,
        divided: bool,
    ) -> Offsets {
        if self.spec.pooling.attribution_support().is_err() {
            return Offsets {
                mean_kernel: Vec::new(),
                offsets: Vec::new(),
                over_length: None,
            };
        }
        let rows = kernel.shape()[0];
        let mut shift = shifts.map_or_else(Vec::new, Tensor::to_f32);
        shift.resize(rows, 0.0);
        let shift = Tensor::f32(vec![rows], &shift);
        if !divided {
            let (mean_kernel, offsets) = attribution::classifier_offsets(kernel, &shift, bias);
            return Offsets {
                mean_kernel,
                offsets,
                over_length: None,
            };
        }
        let [no_shift, no_bias] =
            [rows, self.spec.classes].map(|length| Tensor::f32(vec![length], &vec![0.0; length]));
        let (mean_kernel, offsets) = attribution::classifier_offsets(kernel, &no_shift, bias);
        let (_, over_length) = attribution::classifier_offsets(kernel, &shift, &no_bias);
        Offsets {
            mean_kernel,
            offsets,
            over_length: Some(over_length),
        }
    }

    /// The classifier of an int8 graph, whose answers do not depend on the batch: neither may the
    /// order in which this float32 product adds up.
    ///
    /// ONNX Runtime adds 128 terms or more in one go, how many depends on the shape; and a single
    /// row goes a way of its own. So the width is split into parts of at most 128, which are added
    /// up afterwards, and a row of zeros makes two of a single one.
    fn logits_whatever_the_batch(&mut self, state: &Value, kernel: &Value, bias: &Value) -> Value {
        const TERMS: usize = 128;
        let width = self.spec.pooling.pooled_states() * self.spec.hidden;
        let part = (1..=TERMS)
            .rev()
            .find(|&part| width.is_multiple_of(part))
            .unwrap_or(1);
        let [parts, part, classes] = [width / part, part, self.spec.classes].map(as_i64);
        let graph = &mut self.graph;
        let padded = graph.pad_front("head/padded", state, 2, 0, 1);
        let padded = graph.reshape("head/parts/by_row", &padded, &[-1, parts, part]);
        let padded = graph.transpose("head/parts", &padded, &[1, 0, 2]);
        let kernel = graph.reshape("head/kernel/parts", kernel, &[parts, part, classes]);
        let products = graph.matmul("head/products", &padded, &kernel);
        let products = graph.slice("head/products/rows", &products, 1, 1, i64::MAX);
        let sum = graph.reduce("ReduceSum", "head/sum", &products, 0, false);
        graph.add(LOGITS, &sum, bias)
    }

    /// `[batch·tokens, hidden]` → the mean over the patches, `[batch, hidden]`.
    fn patch_mean(&mut self, x: &Value) -> Value {
        let [prefix, tokens, hidden] =
            [self.spec.prefix, self.spec.tokens(), self.spec.hidden].map(as_i64);
        let graph = &mut self.graph;
        let x = graph.reshape("readout/by_picture", x, &[-1, tokens, hidden]);
        let patches = graph.slice("readout/patches", &x, 1, prefix, tokens);
        graph.reduce("ReduceMean", "readout", &patches, 1, false)
    }
}
