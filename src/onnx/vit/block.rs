//! One transformer block: attention, then the MLP, each on the normalised residual stream.

use super::{Activation, BlockRole as B, Builder, Role, Weights, evidence::Trace};
use crate::onnx::{
    graph::{Value, as_i64},
    tensor::Element,
};

/// What a block gives.
pub(super) struct Block {
    /// `[batch·tokens, hidden]`.
    pub(super) tokens: Value,
    /// Its attention matrix, heads fused: `[batch, queries, tokens]`.
    pub(super) fused: Value,
    /// What it wrote to the class token, where evidence is made.
    pub(super) trace: Option<Trace>,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// Tokens `[batch·tokens, hidden]` → those after the block. `entering` is what was written to
    /// the class token last before the block, `[batch, hidden]`.
    ///
    /// Only the readout's tokens leave the last block: nobody reads the others, so neither their
    /// queries nor their MLPs are computed. A mean over the patches reads all.
    pub(super) fn block(
        &mut self,
        layer: usize,
        x: &Value,
        entering: Option<&Value>,
    ) -> Result<Block, W::Error> {
        let last = layer + 1 == self.spec.layers;
        let narrow = last && self.spec.read_tokens() < self.spec.tokens();
        let name = |part: &str| format!("block.{layer}/{part}");
        let normed = self.norm(
            layer,
            &name("attention/norm"),
            x,
            [B::AttentionNormScale, B::AttentionNormBias],
        )?;
        let (residual, querying, tokens) = if narrow {
            let residual = self.readout_rows(&name("residual"), x);
            let querying = self.readout_rows(&name("attention/readout"), &normed);
            (residual, querying, self.spec.read_tokens())
        } else {
            (x.clone(), normed.clone(), self.spec.tokens())
        };
        let queries = self.queries(layer, &name("attention/queries"), &querying)?;
        let queries = self.split_heads(&name("attention/queries"), &queries, tokens);
        let keys = [B::KeyKernel, B::KeyBias];
        let keys = self.projection(layer, &name("attention/keys"), &normed, keys)?;
        let keys = self.split_heads(&name("attention/keys"), &keys, self.spec.tokens());
        let keys = self
            .graph
            .transpose(&name("attention/keys_transposed"), &keys, &[0, 1, 3, 2]);
        let scores = self
            .graph
            .matmul(&name("attention/scores"), &queries, &keys);
        let probabilities = self
            .graph
            .softmax(&name("attention/probabilities"), &scores);
        let fused = self.fuse_heads(layer, &probabilities);
        let values = [B::ValueKernel, B::ValueBias];
        let values = self.projection(layer, &name("attention/values"), &normed, values)?;
        let values = match narrow {
            true => self.by_head(&name("attention/values"), &values, self.spec.tokens()),
            false => self.by_head_after(&name("attention/values"), &values, &fused),
        };
        let written = entering.map(|_| self.written(layer, &probabilities, &values));

        let hidden = as_i64(self.spec.hidden);
        let graph = &mut self.graph;
        let values = graph.transpose(&name("attention/values"), &values, &[0, 2, 1, 3]);
        let mixed = graph.matmul(&name("attention/mixed"), &probabilities, &values);
        let mixed = graph.transpose(&name("attention/by_token"), &mixed, &[0, 2, 1, 3]);
        let joined = name("attention/heads_joined");
        let mixed = match (&written, entering) {
            (Some(written), Some(entering)) if !last => {
                self.join_heads_after(&joined, &mixed, &written.values, entering)
            }
            _ => graph.reshape(&joined, &mixed, &[-1, hidden]),
        };
        let out_kernel = self.constant(
            Role::Block(layer, B::OutKernel),
            &name("attention/out.kernel"),
        )?;
        let out_bias =
            self.constant(Role::Block(layer, B::OutBias), &name("attention/out.bias"))?;
        let graph = &mut self.graph;
        let out = graph.linear(&name("attention/out"), &mixed, &out_kernel, Some(&out_bias));
        let x = graph.add(&name("attention"), &residual, &out);

        let normed = self.norm(
            layer,
            &name("mlp/norm"),
            &x,
            [B::MlpNormScale, B::MlpNormBias],
        )?;
        let up = self.linear(layer, &name("mlp/up"), &normed, [B::UpKernel, B::UpBias])?;
        let tanh = self.spec.activation == Activation::GeluTanh;
        let active = self.graph.gelu(&name("mlp/gelu"), &up, tanh);
        let down = self.linear(
            layer,
            &name("mlp/down"),
            &active,
            [B::DownKernel, B::DownBias],
        )?;
        let tokens = self.graph.add(&name("mlp"), &x, &down);
        let trace = written.map(|written| Trace {
            written,
            out_kernel,
            out_bias,
            mlp: match last {
                true => down,
                false => self.readout_rows(&name("mlp/readout"), &down),
            },
        });
        Ok(Block {
            tokens,
            fused,
            trace,
        })
    }

    /// The readout's tokens out of all: `[batch·tokens, hidden]` → `[batch·readout, hidden]`.
    pub(super) fn readout_rows(&mut self, name: &str, x: &Value) -> Value {
        let hidden = as_i64(self.spec.hidden);
        let readout = as_i64(self.spec.read_tokens());
        let shape = [-1, as_i64(self.spec.tokens()), hidden];
        let x = self.graph.reshape(&format!("{name}/by_picture"), x, &shape);
        let x = self.graph.slice(&format!("{name}/rows"), &x, 1, 0, readout);
        self.graph.reshape(name, &x, &[-1, hidden])
    }

    /// `[batch·tokens, hidden]` → queries, divided by √(head size), which saves doing the same to
    /// the scores.
    ///
    /// In float32 the weights are divided here: exactly where the root is a power of two, and else
    /// with one rounding each. Values stored in 16 bits stay as they are; they are divided after
    /// widening, which the runtime does once, on loading.
    fn queries(&mut self, layer: usize, name: &str, x: &Value) -> Result<Value, W::Error> {
        let kernel = self.scaled(layer, &format!("{name}.kernel"), B::QueryKernel)?;
        let bias = match self.spec.qkv_bias {
            true => Some(self.scaled(layer, &format!("{name}.bias"), B::QueryBias)?),
            false => None,
        };
        Ok(self
            .graph
            .linear(&format!("{name}/flat"), x, &kernel, bias.as_ref()))
    }

    fn scaled(&mut self, layer: usize, name: &str, role: B) -> Result<Value, W::Error> {
        let scale = attention_scale(self.spec.head_size());
        let tensor = self.weights.tensor(Role::Block(layer, role))?;
        if tensor.element() == Element::F32 {
            return Ok(self.graph.weight(name, tensor.scaled(scale))?);
        }
        let unscaled = self.graph.weight(&format!("{name}.unscaled"), tensor)?;
        let scale = self.graph.number(scale);
        Ok(self.graph.mul(name, &unscaled, &scale))
    }

    /// `[batch·tokens, hidden]` → keys or values.
    ///
    /// Queries, keys and values are three products: one over three times the width is no faster,
    /// and taking its result apart costs a copy of it (5 to 8 % of attention at batch 8).
    fn projection(
        &mut self,
        layer: usize,
        name: &str,
        x: &Value,
        [kernel, bias]: [B; 2],
    ) -> Result<Value, W::Error> {
        let kernel = self.constant(Role::Block(layer, kernel), &format!("{name}.kernel"))?;
        let bias = match self.spec.qkv_bias {
            true => Some(self.constant(Role::Block(layer, bias), &format!("{name}.bias"))?),
            false => None,
        };
        Ok(self
            .graph
            .linear(&format!("{name}/flat"), x, &kernel, bias.as_ref()))
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
    /// and so keeps all heads' matrices of all blocks: 60 MB a picture for ViT-L/16. Here the shape
    /// comes from `first`, so that this block cannot go on without it; the matrices are read while
    /// they are in cache, and their memory serves the next block. Two lengths are taken because an
    /// optimiser replaces a single unknown one by −1, and the dependence with it.
    fn by_head_after(&mut self, name: &str, x: &Value, first: &Value) -> Value {
        let sizes = [self.spec.heads, self.spec.head_size()].map(as_i64);
        let graph = &mut self.graph;
        let batch_and_tokens = graph.lengths(&format!("{name}/batch_and_tokens"), first, 0, 2);
        let sizes = graph.integers(&sizes);
        let shape = graph.concat(&format!("{name}/shape"), &[&batch_and_tokens, &sizes], 0);
        graph.node("Reshape", &format!("{name}/by_token"), &[x, &shape], &[])
    }

    /// `[batch, tokens, heads, head size]` → `[batch·tokens, hidden]`, but not before `values` of
    /// that shape and `entering` `[batch, hidden]` are there: for the same reason, so that of a
    /// block only these remain in memory for the evidence.
    fn join_heads_after(
        &mut self,
        name: &str,
        x: &Value,
        values: &Value,
        entering: &Value,
    ) -> Value {
        let graph = &mut self.graph;
        let shape = graph.lengths(&format!("{name}/lengths"), values, 0, 2);
        // [batch·tokens, hidden] whatever the second is.
        let smaller = graph.lengths(&format!("{name}/smaller"), entering, 0, 2);
        let shape = graph.max(&format!("{name}/shape"), &shape, &smaller);
        graph.node("Reshape", name, &[x, &shape], &[])
    }

    fn norm(
        &mut self,
        layer: usize,
        name: &str,
        x: &Value,
        [scale, bias]: [B; 2],
    ) -> Result<Value, W::Error> {
        let scale = self.constant(Role::Block(layer, scale), &format!("{name}.scale"))?;
        let bias = self.constant(Role::Block(layer, bias), &format!("{name}.bias"))?;
        Ok(self
            .graph
            .layer_norm(name, x, &scale, &bias, self.spec.norm_epsilon))
    }

    fn linear(
        &mut self,
        layer: usize,
        name: &str,
        x: &Value,
        [kernel, bias]: [B; 2],
    ) -> Result<Value, W::Error> {
        let kernel = self.constant(Role::Block(layer, kernel), &format!("{name}.kernel"))?;
        let bias = self.constant(Role::Block(layer, bias), &format!("{name}.bias"))?;
        Ok(self.graph.linear(name, x, &kernel, Some(&bias)))
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
