//! One transformer block: attention, then the MLP, each on the normalised residual stream.

use super::{Activation, BlockRole as B, Builder, Role, Weights};
use crate::onnx::{
    graph::{Value, as_i64},
    tensor::Element,
};

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// Tokens `[batch·tokens, hidden]` → those after the block, and its attention matrix, heads
    /// fused: `[batch, queries, tokens]`.
    ///
    /// Only the readout's tokens leave the last block: nobody reads the others, so neither their
    /// queries nor their MLPs are computed. A mean over the patches reads all.
    pub(super) fn block(&mut self, layer: usize, x: &Value) -> Result<(Value, Value), W::Error> {
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
            true => self.split_heads(&name("attention/values"), &values, self.spec.tokens()),
            false => self.split_heads_after(&name("attention/values"), &values, &fused),
        };

        let hidden = as_i64(self.spec.hidden);
        let graph = &mut self.graph;
        let mixed = graph.matmul(&name("attention/mixed"), &probabilities, &values);
        let mixed = graph.transpose(&name("attention/by_token"), &mixed, &[0, 2, 1, 3]);
        let mixed = graph.reshape(&name("attention/heads_joined"), &mixed, &[-1, hidden]);
        let out = self.linear(
            layer,
            &name("attention/out"),
            &mixed,
            [B::OutKernel, B::OutBias],
        )?;
        let x = self.graph.add(&name("attention"), &residual, &out);

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
        let x = self.graph.add(&name("mlp"), &x, &down);
        Ok((x, fused))
    }

    /// The readout's tokens out of all: `[batch·tokens, hidden]` → `[batch·readout, hidden]`.
    fn readout_rows(&mut self, name: &str, x: &Value) -> Value {
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
        let (heads, head_size) = (as_i64(self.spec.heads), as_i64(self.spec.head_size()));
        let shape = [-1, as_i64(tokens), heads, head_size];
        let x = self.graph.reshape(&format!("{name}/by_token"), x, &shape);
        self.graph.transpose(name, &x, &[0, 2, 1, 3])
    }

    /// The same, but not before `first` `[batch, tokens, …]` is there.
    ///
    /// Left alone, ONNX Runtime puts off what only the rollout needs until the last block is done,
    /// and so keeps all heads' matrices of all blocks: 60 MB a picture for ViT-L/16. Here the shape
    /// comes from `first`, so that this block cannot go on without it; the matrices are read while
    /// they are in cache, and their memory serves the next block. Two lengths are taken because an
    /// optimiser replaces a single unknown one by −1, and the dependence with it.
    fn split_heads_after(&mut self, name: &str, x: &Value, first: &Value) -> Value {
        let sizes = [self.spec.heads, self.spec.head_size()].map(as_i64);
        let graph = &mut self.graph;
        let batch_and_tokens = graph.lengths(&format!("{name}/batch_and_tokens"), first, 0, 2);
        let sizes = graph.integers(&sizes);
        let shape = graph.concat(&format!("{name}/shape"), &[&batch_and_tokens, &sizes], 0);
        let x = graph.node("Reshape", &format!("{name}/by_token"), &[x, &shape], &[]);
        graph.transpose(name, &x, &[0, 2, 1, 3])
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
