//! Attention rollout (Abnar & Zuidema 2020) as a row vector.
//!
//! Each layer's attention matrix A, its heads fused into one, becomes Â = ½A + ½I, which stands for
//! attention and the residual connection; the map is the pooled tokens' row of Â_L ⋯ Â_1. Only a
//! row is ever needed, so the product is taken as r ← r·Â_l from the last layer to the first, which
//! costs tokens² instead of tokens³ a layer. The row after layer k is the rollout that starts at
//! block k. Everything is float32, but for the mean over the heads in a float16 graph: there the
//! probabilities are float16, their means are widened, and each row is divided by its sum at the
//! end.

use super::{Builder, Pooling, ROLLOUT, ROLLOUT_BY_START, Weights};
use crate::{
    graph::{Value, as_i64},
    tensor::Tensor,
    vit::{HeadFusion, Precision},
};

/// The outputs made here.
pub(super) struct Rollout {
    /// `[batch, patches]`.
    pub(super) patch_values: Value,
    /// `[batch, layers, tokens]`.
    pub(super) by_start: Value,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// `[batch, heads, queries, tokens]` → `[batch, queries, tokens]`.
    ///
    /// The mean is a product with a row of 1/heads: on a CPU, ONNX Runtime's `ReduceMean` over the
    /// heads of one image takes 4 to 10 times as long as this product.
    pub(super) fn fuse_heads(&mut self, layer: usize, probabilities: &Value) -> Value {
        let name = format!("rollout/{layer}/fused");
        let (heads, tokens) = (self.spec.heads, as_i64(self.spec.tokens()));
        let fused = match self.spec.head_fusion {
            HeadFusion::Mean => {
                let flat = [0, as_i64(heads), -1];
                let flat = self
                    .graph
                    .reshape(&format!("{name}/heads"), probabilities, &flat);
                let weights = self.graph.full(&[1, heads], 1.0 / heads as f32);
                let weights = self.cast_to_block_dtype(&format!("{name}/weights"), &weights);
                let mean = self.graph.matmul(&format!("{name}/mean"), &weights, &flat);
                self.graph.reshape(&name, &mean, &[0, -1, tokens])
            }
            HeadFusion::Max => self
                .graph
                .reduce("ReduceMax", &name, probabilities, 1, false),
            HeadFusion::Min => self
                .graph
                .reduce("ReduceMin", &name, probabilities, 1, false),
        };
        self.cast_to_float32(&name, &fused)
    }

    /// What a learned query reads `[batch, heads, 1, tokens]`, heads fused, adding up to one:
    /// `[batch, 1, tokens]`.
    pub(super) fn fuse_pool(&mut self, probabilities: &Value) -> Value {
        let operator = match self.spec.head_fusion {
            HeadFusion::Mean => "ReduceMean",
            HeadFusion::Max => "ReduceMax",
            HeadFusion::Min => "ReduceMin",
        };
        let graph = &mut self.graph;
        let fused = graph.reduce(operator, "rollout/pool/fused", probabilities, 1, false);
        if self.spec.head_fusion == HeadFusion::Mean {
            return fused;
        }
        let sum = graph.reduce("ReduceSum", "rollout/pool/sum", &fused, -1, true);
        graph.div("rollout/pool", &fused, &sum)
    }

    /// The chain over the layers' fused matrices: `[batch, queries, tokens]` for the last,
    /// `[batch, tokens, tokens]` for the others. `pool` is what a learned query that pools reads of
    /// the tokens, `[batch, 1, tokens]`, adding up to one.
    pub(super) fn rollout(
        &mut self,
        fused: &[Value],
        pool: Option<&Value>,
    ) -> Result<Rollout, W::Error> {
        let spec = self.spec;
        let mut rows = Vec::with_capacity(fused.len());
        let mut row = None;
        for (layer, matrix) in fused.iter().enumerate().rev() {
            let after = match row {
                None => self.first_row(layer, matrix, pool)?,
                Some(before) => self.next_row(layer, &before, matrix),
            };
            rows.push(after.clone());
            row = Some(after);
        }
        rows.reverse();

        let by_start = match spec.head_fusion {
            // Halving only changes the exponent, so L halvings at once give the same bits as one
            // after each layer.
            HeadFusion::Mean => {
                let joined = self.graph.concat("rollout/doubled", &references(&rows), 1);
                let halvings: Vec<f32> = (1..=spec.layers).rev().map(half_to_the).collect();
                let halvings = Tensor::f32(vec![1, spec.layers, 1], &halvings);
                let halvings = self.graph.constant("rollout/halvings", halvings)?;
                match self.plan.precision {
                    Precision::Fp32 | Precision::Bf16 | Precision::Int8 => {
                        self.graph.mul(ROLLOUT_BY_START, &joined, &halvings)
                    }
                    Precision::Fp16 => {
                        let rows = self.graph.mul("rollout/rows", &joined, &halvings);
                        let sums = self
                            .graph
                            .reduce("ReduceSum", "rollout/sums", &rows, -1, true);
                        self.graph.div(ROLLOUT_BY_START, &rows, &sums)
                    }
                }
            }
            HeadFusion::Max | HeadFusion::Min => {
                self.graph.concat(ROLLOUT_BY_START, &references(&rows), 1)
            }
        };
        let whole = self.graph.slice("rollout/whole", &by_start, 1, 0, 1);
        let (prefix, tokens) = (as_i64(spec.prefix), as_i64(spec.tokens()));
        let patches = self
            .graph
            .slice("rollout/patches", &whole, 2, prefix, tokens);
        let patch_values = self.graph.reshape(ROLLOUT, &patches, &[0, -1]);
        Ok(Rollout {
            patch_values,
            by_start,
        })
    }

    /// The last layer: the mean over the pooled tokens of their rows.
    fn first_row(
        &mut self,
        layer: usize,
        matrix: &Value,
        pool: Option<&Value>,
    ) -> Result<Value, W::Error> {
        let spec = self.spec;
        let mut start = vec![0.0; spec.tokens()];
        let of_patches = 1.0 / spec.patches() as f32;
        match (spec.pooling, pool) {
            (Pooling::ClassToken | Pooling::ClassAndDistillation, _) => {
                return self.read_rows(layer, matrix);
            }
            // What the learned query reads is a row that is there.
            (Pooling::Attention, Some(row)) => return Ok(self.next_row(layer, row, matrix)),
            // All rows are there: a step like any other, from a row that is the same everywhere.
            (Pooling::PatchMean(_) | Pooling::Attention, _) => {
                start[spec.prefix..].fill(of_patches);
            }
            (Pooling::ClassAndMean, _) => {
                start[spec.prefix..].fill(0.5 * of_patches);
                start[0] = 0.5;
            }
        }
        let start = Tensor::f32(vec![1, 1, start.len()], &start);
        let start = self.graph.constant("rollout/start", start)?;
        Ok(self.next_row(layer, &start, matrix))
    }

    /// `matrix` holds only the pooled tokens' rows `[batch, read, tokens]`: with the identity
    /// added, they are what is looked for.
    fn read_rows(&mut self, layer: usize, matrix: &Value) -> Result<Value, W::Error> {
        let name = |part: &str| format!("rollout/{layer}{part}");
        let (read, tokens) = (self.spec.pooled_tokens(), self.spec.tokens());
        let mut identity = vec![0.0; read * tokens];
        identity
            .iter_mut()
            .step_by(tokens + 1)
            .for_each(|value| *value = 1.0);
        let identity = Tensor::f32(vec![1, read, tokens], &identity);
        let identity = self.graph.constant("rollout/start", identity)?;
        let graph = &mut self.graph;
        let mut rows = graph.add(&name("/sum"), matrix, &identity);
        if self.spec.head_fusion != HeadFusion::Mean {
            let total = graph.reduce("ReduceSum", &name("/total"), &rows, -1, true);
            rows = graph.div(&name("/rows"), &rows, &total);
        }
        if read > 1 {
            let weights = graph.full(&[1, 1, read], 1.0 / read as f32);
            rows = graph.matmul(&name("/mean"), &weights, &rows);
        }
        Ok(rows)
    }

    /// r·(A + I), halved at the end, for rows that add up to one; for other fusions
    /// q·A + q with q = r / (row sums of A + I).
    fn next_row(&mut self, layer: usize, row: &Value, matrix: &Value) -> Value {
        let name = |part: &str| format!("rollout/{layer}{part}");
        let graph = &mut self.graph;
        let row = match self.spec.head_fusion {
            HeadFusion::Mean => row.clone(),
            HeadFusion::Max | HeadFusion::Min => {
                let one = graph.scalar(1.0);
                let totals = graph.reduce("ReduceSum", &name("/row_sums"), matrix, -1, false);
                let totals = graph.add(&name("/row_sums_with_identity"), &totals, &one);
                let totals = graph.reshape(&name("/totals"), &totals, &[0, 1, -1]);
                graph.div(&name("/normalised"), row, &totals)
            }
        };
        let product = graph.matmul(&name("/product"), &row, matrix);
        graph.add(&name(""), &product, &row)
    }
}

fn references(values: &[Value]) -> Vec<&Value> {
    values.iter().collect()
}

fn half_to_the(power: usize) -> f32 {
    (0..power).fold(1.0, |value, _| value * 0.5)
}
