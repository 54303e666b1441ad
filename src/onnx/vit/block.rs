//! One transformer block: attention, then the MLP, each on the normalised residual stream.

use super::{Activation, BlockRole as B, Builder, Role, Weights};
use crate::onnx::{
    graph::{Value, as_i64},
    tensor::Element,
};

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// Tokens `[batch·tokens, hidden]` → those after the block, and its attention probabilities
    /// `[batch, heads, queries, tokens]`.
    ///
    /// Only the readout's tokens leave the last block: nobody reads the others, so neither their
    /// queries nor their MLPs are computed.
    pub(super) fn block(&mut self, layer: usize, x: &Value) -> Result<(Value, Value), W::Error> {
        let last = layer + 1 == self.spec.layers;
        let name = |part: &str| format!("block.{layer}/{part}");
        let normed = self.norm(
            layer,
            &name("attention/norm"),
            x,
            [B::AttentionNormScale, B::AttentionNormBias],
        )?;
        let (residual, querying, tokens) = if last {
            let residual = self.readout_rows(&name("residual"), x);
            let querying = self.readout_rows(&name("attention/readout"), &normed);
            (residual, querying, self.spec.readout.tokens())
        } else {
            (x.clone(), normed.clone(), self.spec.tokens())
        };
        let queries = self.queries(layer, &name("attention/queries"), &querying, tokens)?;
        let keys = [B::KeyKernel, B::KeyBias];
        let keys = self.by_head(
            layer,
            &name("attention/keys"),
            &normed,
            keys,
            HEAD_CHANNEL_TOKEN,
        )?;
        let values = [B::ValueKernel, B::ValueBias];
        let values = self.by_head(
            layer,
            &name("attention/values"),
            &normed,
            values,
            HEAD_TOKEN_CHANNEL,
        )?;

        let hidden = as_i64(self.spec.hidden);
        let graph = &mut self.graph;
        let scores = graph.matmul(&name("attention/scores"), &queries, &keys);
        let probabilities = graph.softmax(&name("attention/probabilities"), &scores);
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
        Ok((x, probabilities))
    }

    /// The readout's tokens out of all: `[batch·tokens, hidden]` → `[batch·readout, hidden]`.
    fn readout_rows(&mut self, name: &str, x: &Value) -> Value {
        let hidden = as_i64(self.spec.hidden);
        let readout = as_i64(self.spec.readout.tokens());
        let shape = [-1, as_i64(self.spec.tokens()), hidden];
        let x = self.graph.reshape(&format!("{name}/by_picture"), x, &shape);
        let x = self.graph.slice(&format!("{name}/rows"), &x, 1, 0, readout);
        self.graph.reshape(name, &x, &[-1, hidden])
    }

    /// `[batch·tokens, hidden]` → queries by head, divided by √(head size), which saves doing the
    /// same to the scores.
    ///
    /// In float32 the weights are divided here: exactly where the root is a power of two, and else
    /// with one rounding each. Values stored in 16 bits stay as they are; they are divided after
    /// widening, which the runtime does once, on loading.
    fn queries(
        &mut self,
        layer: usize,
        name: &str,
        x: &Value,
        tokens: usize,
    ) -> Result<Value, W::Error> {
        let kernel = self.scaled(layer, &format!("{name}.kernel"), B::QueryKernel)?;
        let bias = match self.spec.qkv_bias {
            true => Some(self.scaled(layer, &format!("{name}.bias"), B::QueryBias)?),
            false => None,
        };
        let projected = self
            .graph
            .linear(&format!("{name}/flat"), x, &kernel, bias.as_ref());
        Ok(self.split_heads(name, &projected, tokens, HEAD_TOKEN_CHANNEL))
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

    /// `[batch·tokens, hidden]` → keys or values by head.
    ///
    /// Queries, keys and values are three products: one over three times the width is no faster,
    /// and taking its result apart costs a copy of it (5 to 8 % of attention at batch 8).
    fn by_head(
        &mut self,
        layer: usize,
        name: &str,
        x: &Value,
        [kernel, bias]: [B; 2],
        order: [i64; 4],
    ) -> Result<Value, W::Error> {
        let kernel = self.constant(Role::Block(layer, kernel), &format!("{name}.kernel"))?;
        let bias = match self.spec.qkv_bias {
            true => Some(self.constant(Role::Block(layer, bias), &format!("{name}.bias"))?),
            false => None,
        };
        let projected = self
            .graph
            .linear(&format!("{name}/flat"), x, &kernel, bias.as_ref());
        Ok(self.split_heads(name, &projected, self.spec.tokens(), order))
    }

    /// Columns `[head, channel]` apart, and the axes `[batch, token, head, channel]` in `order`.
    fn split_heads(&mut self, name: &str, x: &Value, tokens: usize, order: [i64; 4]) -> Value {
        let (heads, head_size) = (as_i64(self.spec.heads), as_i64(self.spec.head_size()));
        let shape = [-1, as_i64(tokens), heads, head_size];
        let x = self.graph.reshape(&format!("{name}/by_token"), x, &shape);
        self.graph.transpose(name, &x, &order)
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

/// From the axes `[batch, token, head, channel]` to those that scores are made of.
const HEAD_TOKEN_CHANNEL: [i64; 4] = [0, 2, 1, 3];
/// The same, transposed for the right-hand side of the product.
const HEAD_CHANNEL_TOKEN: [i64; 4] = [0, 2, 3, 1];

/// 1/√(head size), computed in float64 as the reference libraries do.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a small number, rounded once"
)]
fn attention_scale(head_size: usize) -> f32 {
    (1.0 / (head_size as f64).sqrt()) as f32
}
