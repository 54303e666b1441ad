//! One transformer block: attention, then the MLP, each on the normalised residual stream.

use super::{
    Activation, BlockWeight as B, Builder, LinearKind, LinearLayer, WeightId, Weights,
    attribution::{FrozenNorm, Trace, WeightedValues},
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
        let width = as_i64(self.spec.attention_width());
        let joined = name("attention/heads_joined");
        let mixed = match (&attention_output.written, entering) {
            // It takes the larger of both widths, so they must be one.
            (Some(written), Some(entering))
                if !last && self.spec.attention_width() == self.spec.hidden =>
            {
                self.join_heads_after(&joined, &attention_output.mixed, &written.values, entering)
            }
            _ => self
                .graph
                .reshape(&joined, &attention_output.mixed, &[-1, width]),
        };
        let traced = attention_output.written.is_some();
        let (mixed, heads_norm) = self.heads_norm(block, mixed, traced, pooled_only)?;
        let out = layer(LinearKind::Out);
        let mixed = self.operand(out, &name("attention/mixed"), &mixed, tokens);
        let float32 = self.plan.precision_of(out) == Precision::Fp32;
        let rounding_error = match (entering, mixed.rounded()) {
            (Some(_), Some(rounded)) if !float32 => {
                Some(self.rounding_error(block, &mixed, rounded, pooled_only))
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
        let (written, out_norm) =
            self.post_norm_of_attention(block, written, traced, pooled_only)?;
        let x = self
            .graph
            .add(&name("attention"), &attention_output.residual, &written);

        let read = match self.spec.variant.parallel_mlp {
            true => attention_output.residual.clone(),
            false => x.clone(),
        };
        let normed = match self.spec.variant.post_norm {
            true => read,
            false => {
                let normed = [B::MlpNormScale, B::MlpNormBias];
                self.norm(block, &name("mlp/norm"), &read, normed)?
            }
        };
        let active = self.mlp_hidden(block, &normed, tokens)?;
        let down = [B::DownKernel, B::DownBias];
        let mut down = self.linear(
            layer(LinearKind::Down),
            &name("mlp/down"),
            &active,
            tokens,
            down,
        )?;
        if self.spec.variant.post_norm {
            let normed = [B::MlpNormScale, B::MlpNormBias];
            down = self.norm(block, &name("mlp/normed"), &down, normed)?;
        }
        let tokens = self.graph.add(&name("mlp"), &x, &down);
        let trace = attention_output.written.map(|written| Trace {
            written,
            rounding_error,
            heads_norm,
            out_kernel,
            out_bias,
            out_norm,
            mlp: match pooled_only {
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
        let normed = match self.spec.variant.post_norm {
            true => x.clone(),
            false => {
                let normed = [B::AttentionNormScale, B::AttentionNormBias];
                self.norm(block, &name("attention/norm"), x, normed)?
            }
        };
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

        // Dividing the queries' weights saves doing the same to the scores. Where queries are
        // normalised, the weights of the normalisation are divided.
        let scale = attention_scale(self.spec.head_size());
        let scale_of_kernel = (!self.spec.variant.qk_norm).then_some(scale);
        let queries = [B::QueryKernel, B::QueryBias];
        let queries = self.projection(layer, "queries", &querying, queries, scale_of_kernel)?;
        let queries = self.split_heads(&name("attention/queries"), &queries, tokens);
        let norm = [B::QueryNormScale, B::QueryNormBias];
        let queries = self.qk_norm(block, "queries", queries, norm, scale)?;
        let queries = match pooled_only {
            // The prefix is not turned.
            true => queries,
            false => self.rotated(&name("attention/queries/rotated"), queries),
        };
        let keys = [B::KeyKernel, B::KeyBias];
        let keys = self.projection(layer, "keys", &read, keys, None)?;
        let keys = self.split_heads(&name("attention/keys"), &keys, all);
        let norm = [B::KeyNormScale, B::KeyNormBias];
        let keys = self.qk_norm(block, "keys", keys, norm, 1.0)?;
        let keys = self.rotated(&name("attention/keys/rotated"), keys);
        let graph = &mut self.graph;
        let keys = graph.transpose(&name("attention/keys_transposed"), &keys, &[0, 1, 3, 2]);
        let scores = graph.matmul(&name("attention/scores"), &queries, &keys);
        let scores = self.with_relative_bias(block, scores, tokens)?;
        let graph = &mut self.graph;
        let probabilities = graph.softmax(&name("attention/probabilities"), &scores);
        let fused = self.fuse_heads(block, &probabilities);
        let values = [B::ValueKernel, B::ValueBias];
        let values = self.projection(layer, "values", &read, values, None)?;
        let values = match pooled_only {
            true => self.by_head(&name("attention/values"), &values, all),
            false => self.by_head_after(&name("attention/values"), &values, &fused),
        };
        let written = traced.then(|| self.written(block, &probabilities, &values, pooled_only));

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

    /// What the last layer of the MLP reads: `[batch·tokens, mlp]`.
    fn mlp_hidden(
        &mut self,
        block: usize,
        normed: &Value,
        tokens: usize,
    ) -> Result<Value, W::Error> {
        let name = |part: &str| format!("block.{block}/mlp/{part}");
        let layer = LinearLayer {
            block,
            part: LinearKind::Up,
        };
        let up = [B::UpKernel, B::UpBias];
        let form = self.spec.variant.mlp;
        let active = if form.is_gated() {
            let read = self.operand(layer, &name("up/read"), normed, tokens);
            let up = self.linear_of(layer, &name("up"), &read, up)?;
            let gate = [B::GateKernel, B::GateBias];
            let gate = self.linear_of(layer, &name("gate"), &read, gate)?;
            let gate = self.activation(&name("gate/active"), &gate);
            self.graph.mul(&name("gated"), &gate, &up)
        } else {
            let up = self.linear(layer, &name("up"), normed, tokens, up)?;
            self.activation(&name("active"), &up)
        };
        if !form.has_norm() {
            return Ok(active);
        }
        let norm = [B::InnerNormScale, B::InnerNormBias];
        self.norm(block, &name("inner_norm"), &active, norm)
    }

    /// Normalises what the heads read, in networks that do, and keeps what undoes it for the class
    /// token.
    fn heads_norm(
        &mut self,
        block: usize,
        mixed: Value,
        traced: bool,
        pooled_only: bool,
    ) -> Result<(Value, Option<FrozenNorm>), W::Error> {
        if !self.spec.variant.heads_norm {
            return Ok((mixed, None));
        }
        let norm = [B::HeadsNormScale, B::HeadsNormBias];
        self.frozen_norm(
            block,
            "attention/heads_norm",
            mixed,
            norm,
            traced,
            pooled_only,
        )
    }

    /// The same for what attention writes.
    fn post_norm_of_attention(
        &mut self,
        block: usize,
        written: Value,
        traced: bool,
        pooled_only: bool,
    ) -> Result<(Value, Option<FrozenNorm>), W::Error> {
        if !self.spec.variant.post_norm {
            return Ok((written, None));
        }
        let norm = [B::AttentionNormScale, B::AttentionNormBias];
        self.frozen_norm(
            block,
            "attention/normed",
            written,
            norm,
            traced,
            pooled_only,
        )
    }

    fn frozen_norm(
        &mut self,
        block: usize,
        part: &str,
        x: Value,
        norm: [B; 2],
        traced: bool,
        pooled_only: bool,
    ) -> Result<(Value, Option<FrozenNorm>), W::Error> {
        let name = format!("block.{block}/{part}");
        let normed = self.norm(block, &name, &x, norm)?;
        let frozen = traced.then(|| FrozenNorm {
            state: match pooled_only {
                true => x,
                false => self.class_token(&format!("{name}/class_token"), &x),
            },
            scale: self.graph.value(&format!("{name}.scale")),
            shift: self.graph.value(&format!("{name}.bias")),
        });
        Ok((normed, frozen))
    }

    pub(super) fn norm(
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
        self.activation_with(name, x, true)
    }

    /// The same outside of the blocks, where values are float32.
    pub(super) fn activation_in_float32(&mut self, name: &str, x: &Value) -> Value {
        self.activation_with(name, x, false)
    }

    fn activation_with(&mut self, name: &str, x: &Value, in_block: bool) -> Value {
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
                let mut factor = graph.scalar(QUICK);
                if in_block {
                    factor = self.cast_to_block_dtype(&format!("{name}/factor"), &factor);
                }
                let graph = &mut self.graph;
                let steep = graph.mul(&format!("{name}/steep"), x, &factor);
                let gate = graph.sigmoid(&format!("{name}/gate"), &steep);
                graph.mul(name, x, &gate)
            }
        }
    }

    pub(super) fn linear(
        &mut self,
        layer: LinearLayer,
        name: &str,
        x: &Value,
        tokens: usize,
        [kernel, bias]: [B; 2],
    ) -> Result<Value, W::Error> {
        let x = self.operand(layer, &format!("{name}/read"), x, tokens);
        self.linear_of(layer, name, &x, [kernel, bias])
    }

    fn linear_of(
        &mut self,
        layer: LinearLayer,
        name: &str,
        x: &Operand,
        [kernel, bias]: [B; 2],
    ) -> Result<Value, W::Error> {
        let kernel = self.kernel(layer, &format!("{name}.kernel"), kernel, None)?;
        let bias = self.bias(layer, &format!("{name}.bias"), bias, None)?;
        Ok(self.product(layer, name, x, &kernel, Some(&bias)))
    }
}

/// 1/√(head size), computed in float64 as the reference libraries do.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a small number, rounded once"
)]
pub(super) fn attention_scale(head_size: usize) -> f32 {
    (1.0 / (head_size as f64).sqrt()) as f32
}
