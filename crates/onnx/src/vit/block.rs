//! One transformer block: attention, then the MLP, each on the normalised residual stream.

use super::{
    Activation, BlockWeight as B, Builder, LinearKind, LinearLayer, WeightId, Weights,
    attribution::{Trace, WeightedValues},
    linear::Operand,
};
use crate::{
    graph::{Value, as_i64},
    vit::Precision,
};

/// What a block gives.
pub(super) struct Block {
    /// `[batch·tokens, hidden]`.
    pub(super) tokens: Value,
    /// Its attention matrix, heads fused: `[batch, queries, tokens]`.
    pub(super) fused: Value,
    /// What it wrote to the class token, where attribution is made.
    pub(super) trace: Option<Trace>,
}

/// The output of attention, before its output kernel.
struct AttentionOutput {
    /// What the block adds to: `[batch·queries, hidden]`.
    residual: Value,
    /// What the heads read of the tokens, `[batch, queries, heads, head size]`.
    mixed: Value,
    /// The attention matrix, heads fused: `[batch, queries, tokens]`.
    fused: Value,
    written: Option<WeightedValues>,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// Tokens `[batch·tokens, hidden]` → those after the block. `entering` is what the attribution
    /// keeps of the class token of what is before the block, each `[batch, hidden]`.
    ///
    /// Only the pooled tokens leave the last block: nothing reads the others, so neither their
    /// queries nor their MLPs are computed. A mean over the patches reads all.
    pub(super) fn block(
        &mut self,
        block: usize,
        x: &Value,
        entering: Option<&[Value]>,
    ) -> Result<Block, W::Error> {
        let last = block + 1 == self.spec.layers;
        let pooled_only = last && self.spec.pooled_tokens() < self.spec.tokens();
        let tokens = match pooled_only {
            true => self.spec.pooled_tokens(),
            false => self.spec.tokens(),
        };
        let attention_output = self.attention(block, x, pooled_only, entering.is_some())?;

        let layer = |part| LinearLayer { block, part };
        let name = |part: &str| format!("block.{block}/{part}");
        let hidden = as_i64(self.spec.hidden);
        let joined = name("attention/heads_joined");
        let mixed = match (&attention_output.written, entering) {
            (Some(written), Some(entering)) if !last => {
                self.join_heads_after(&joined, &attention_output.mixed, &written.values, entering)
            }
            _ => self
                .graph
                .reshape(&joined, &attention_output.mixed, &[-1, hidden]),
        };
        let out = layer(LinearKind::Out);
        let mixed = self.operand(out, &name("attention/mixed"), &mixed, tokens);
        let rounding_error = match (entering, mixed.quantized()) {
            (Some(_), Some(quantized)) if self.plan.precision_of(out) == Precision::Int8 => {
                Some(self.rounding_error(block, &mixed, quantized, last))
            }
            _ => None,
        };
        let out_kernel = self.kernel(out, &name("attention/out.kernel"), B::OutKernel, None)?;
        let out_bias = self.bias(out, &name("attention/out.bias"), B::OutBias, None)?;
        let written = self.product(
            out,
            &name("attention/out"),
            &mixed,
            &out_kernel,
            Some(&out_bias),
        );
        let x = self
            .graph
            .add(&name("attention"), &attention_output.residual, &written);

        let normed = [B::MlpNormScale, B::MlpNormBias];
        let normed = self.norm(block, &name("mlp/norm"), &x, normed)?;
        let up = [B::UpKernel, B::UpBias];
        let up = self.linear(layer(LinearKind::Up), &name("mlp/up"), &normed, tokens, up)?;
        let active = self.activation(&name("mlp/active"), &up);
        let down = [B::DownKernel, B::DownBias];
        let down = self.linear(
            layer(LinearKind::Down),
            &name("mlp/down"),
            &active,
            tokens,
            down,
        )?;
        let tokens = self.graph.add(&name("mlp"), &x, &down);
        let trace = attention_output.written.map(|written| Trace {
            written,
            rounding_error,
            out_kernel,
            out_bias,
            mlp: match last {
                true => down,
                false => self.class_token(&name("mlp/class_token"), &down),
            },
        });
        Ok(Block {
            tokens,
            fused: attention_output.fused,
            trace,
        })
    }

    /// From the residual stream to what the heads read of the tokens.
    fn attention(
        &mut self,
        block: usize,
        x: &Value,
        pooled_only: bool,
        traced: bool,
    ) -> Result<AttentionOutput, W::Error> {
        let name = |part: &str| format!("block.{block}/{part}");
        let all = self.spec.tokens();
        let layer = LinearLayer {
            block,
            part: LinearKind::Qkv,
        };
        let normed = [B::AttentionNormScale, B::AttentionNormBias];
        let normed = self.norm(block, &name("attention/norm"), x, normed)?;
        let read = self.operand(layer, &name("attention/norm"), &normed, all);
        let (residual, querying, tokens) = if pooled_only {
            let tokens = self.spec.pooled_tokens();
            let residual = self.pooled_rows(&name("residual"), x);
            let querying = self.pooled_rows(&name("attention/readout"), &normed);
            let querying = self.operand(layer, &name("attention/readout"), &querying, tokens);
            (residual, querying, tokens)
        } else {
            (x.clone(), read.clone(), all)
        };

        // Dividing the queries' weights saves doing the same to the scores.
        let scale = Some(attention_scale(self.spec.head_size()));
        let queries = [B::QueryKernel, B::QueryBias];
        let queries = self.projection(layer, "queries", &querying, queries, scale)?;
        let queries = self.split_heads(&name("attention/queries"), &queries, tokens);
        let keys = [B::KeyKernel, B::KeyBias];
        let keys = self.projection(layer, "keys", &read, keys, None)?;
        let keys = self.split_heads(&name("attention/keys"), &keys, all);
        let graph = &mut self.graph;
        let keys = graph.transpose(&name("attention/keys_transposed"), &keys, &[0, 1, 3, 2]);
        let scores = graph.matmul(&name("attention/scores"), &queries, &keys);
        let probabilities = graph.softmax(&name("attention/probabilities"), &scores);
        let fused = self.fuse_heads(block, &probabilities);
        let values = [B::ValueKernel, B::ValueBias];
        let values = self.projection(layer, "values", &read, values, None)?;
        let values = match pooled_only {
            true => self.by_head(&name("attention/values"), &values, all),
            false => self.by_head_after(&name("attention/values"), &values, &fused),
        };
        let written = traced.then(|| self.written(block, &probabilities, &values));

        let graph = &mut self.graph;
        let values = graph.transpose(&name("attention/values"), &values, &[0, 2, 1, 3]);
        let mixed = graph.matmul(&name("attention/mixed"), &probabilities, &values);
        Ok(AttentionOutput {
            residual,
            mixed: graph.transpose(&name("attention/by_token"), &mixed, &[0, 2, 1, 3]),
            fused,
            written,
        })
    }

    /// The pooled tokens out of all: `[batch·tokens, hidden]` → `[batch·pooled, hidden]`.
    fn pooled_rows(&mut self, name: &str, x: &Value) -> Value {
        let hidden = as_i64(self.spec.hidden);
        let pooling = as_i64(self.spec.pooled_tokens());
        let shape = [-1, as_i64(self.spec.tokens()), hidden];
        let x = self.graph.reshape(&format!("{name}/by_picture"), x, &shape);
        let x = self.graph.slice(&format!("{name}/rows"), &x, 1, 0, pooling);
        self.graph.reshape(name, &x, &[-1, hidden])
    }

    /// `[batch·tokens, hidden]` → queries, keys or values.
    ///
    /// They are three products: one over three times the width, taken apart by a `Split`, which
    /// copies, is no faster (`load-tests/precision.py` compares them; docs/performance.md has the
    /// figures).
    fn projection(
        &mut self,
        layer: LinearLayer,
        what: &str,
        x: &Operand,
        [kernel, bias]: [B; 2],
        factor: Option<f32>,
    ) -> Result<Value, W::Error> {
        let name = format!("block.{}/attention/{what}", layer.block);
        let kernel = self.kernel(layer, &format!("{name}.kernel"), kernel, factor)?;
        let bias = match self.spec.qkv_bias {
            true => Some(self.bias(layer, &format!("{name}.bias"), bias, factor)?),
            false => None,
        };
        Ok(self.product(layer, &format!("{name}/flat"), x, &kernel, bias.as_ref()))
    }

    /// `[batch·tokens, hidden]` → `[batch, heads, tokens, head size]`.
    fn split_heads(&mut self, name: &str, x: &Value, tokens: usize) -> Value {
        let x = self.by_head(name, x, tokens);
        self.graph.transpose(name, &x, &[0, 2, 1, 3])
    }

    /// `[batch·tokens, hidden]` → `[batch, tokens, heads, head size]`.
    fn by_head(&mut self, name: &str, x: &Value, tokens: usize) -> Value {
        let (heads, head_size) = (as_i64(self.spec.heads), as_i64(self.spec.head_size()));
        let shape = [-1, as_i64(tokens), heads, head_size];
        self.graph.reshape(&format!("{name}/by_token"), x, &shape)
    }

    /// The same, but not before `first` `[batch, tokens, …]` is there.
    ///
    /// Left alone, ONNX Runtime puts off what only the rollout needs until the last block is done,
    /// and so keeps all heads' matrices of all blocks: 60 MB per image for ViT-L/16. Here the shape
    /// comes from `first`, so that this block cannot go on without it; the matrices are read while
    /// they are in cache, and their memory serves the next block. Two lengths are taken because an
    /// optimiser replaces a single unknown one by −1, and the dependence with it.
    fn by_head_after(&mut self, name: &str, x: &Value, first: &Value) -> Value {
        let sizes = [self.spec.heads, self.spec.head_size()].map(as_i64);
        let graph = &mut self.graph;
        let batch_and_tokens = graph.shape_of(&format!("{name}/batch_and_tokens"), first, 0, 2);
        let sizes = graph.int64_constant(&sizes);
        let shape = graph.concat(&format!("{name}/shape"), &[&batch_and_tokens, &sizes], 0);
        graph.node("Reshape", &format!("{name}/by_token"), &[x, &shape], &[])
    }

    /// `[batch, tokens, heads, head size]` → `[batch·tokens, hidden]`, but not before `values` of
    /// that shape and all `entering` `[batch, hidden]` are there: for the same reason, so that of a
    /// block only these remain in memory for the attribution.
    fn join_heads_after(
        &mut self,
        name: &str,
        x: &Value,
        values: &Value,
        entering: &[Value],
    ) -> Value {
        let graph = &mut self.graph;
        let mut shape = graph.shape_of(&format!("{name}/lengths"), values, 0, 2);
        for (number, entering) in entering.iter().enumerate() {
            // [batch·tokens, hidden] whatever these are.
            let smaller = graph.shape_of(&format!("{name}/smaller/{number}"), entering, 0, 2);
            shape = graph.max(&format!("{name}/shape/{number}"), &shape, &smaller);
        }
        graph.node("Reshape", name, &[x, &shape], &[])
    }

    fn norm(
        &mut self,
        block: usize,
        name: &str,
        x: &Value,
        [scale, bias]: [B; 2],
    ) -> Result<Value, W::Error> {
        let scale = self.block_weight(WeightId::Block(block, scale), &format!("{name}.scale"))?;
        let bias = self.block_weight(WeightId::Block(block, bias), &format!("{name}.bias"))?;
        Ok(self
            .graph
            .layer_norm(name, x, &scale, &bias, self.spec.norm_epsilon))
    }

    fn activation(&mut self, name: &str, x: &Value) -> Value {
        const QUICK: f32 = 1.702;
        let graph = &mut self.graph;
        match self.spec.activation {
            Activation::Gelu => graph.gelu(name, x, false),
            Activation::GeluTanh => graph.gelu(name, x, true),
            Activation::Relu => graph.relu(name, x),
            Activation::Silu => {
                let gate = graph.sigmoid(&format!("{name}/gate"), x);
                graph.mul(name, x, &gate)
            }
            Activation::QuickGelu => {
                let factor = graph.scalar(QUICK);
                let factor = self.cast_to_block_dtype(&format!("{name}/factor"), &factor);
                let graph = &mut self.graph;
                let steep = graph.mul(&format!("{name}/steep"), x, &factor);
                let gate = graph.sigmoid(&format!("{name}/gate"), &steep);
                graph.mul(name, x, &gate)
            }
        }
    }

    fn linear(
        &mut self,
        layer: LinearLayer,
        name: &str,
        x: &Value,
        tokens: usize,
        [kernel, bias]: [B; 2],
    ) -> Result<Value, W::Error> {
        let x = self.operand(layer, &format!("{name}/read"), x, tokens);
        let kernel = self.kernel(layer, &format!("{name}.kernel"), kernel, None)?;
        let bias = self.bias(layer, &format!("{name}.bias"), bias, None)?;
        Ok(self.product(layer, name, &x, &kernel, Some(&bias)))
    }
}

/// 1/√(head size), computed in float64 as the reference libraries do.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a small number, rounded once"
)]
fn attention_scale(head_size: usize) -> f32 {
    (1.0 / (head_size as f64).sqrt()) as f32
}
