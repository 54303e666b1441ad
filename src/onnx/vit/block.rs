//! One transformer block: attention, then the MLP, each on the normalised residual stream.

use super::{Activation, BlockRole as B, Builder, Role, Weights};
use crate::onnx::{
    graph::{Value, as_i64},
    tensor::{Element, Tensor},
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
        let (residual, queries, keys_values) = if last {
            let residual = self.readout_rows(&name("residual"), x);
            let normed_readout = self.readout_rows(&name("attention/readout"), &normed);
            let queries =
                self.query_key_value(layer, &name("attention/q"), &normed_readout, &[Part::Query])?;
            let keys_values = self.query_key_value(
                layer,
                &name("attention/kv"),
                &normed,
                &[Part::Key, Part::Value],
            )?;
            (residual, queries, keys_values)
        } else {
            let all = [Part::Query, Part::Key, Part::Value];
            let mut parts = self.query_key_value(layer, &name("attention/qkv"), &normed, &all)?;
            let keys_values = parts.split_off(1);
            (x.clone(), parts, keys_values)
        };

        let hidden = as_i64(self.spec.hidden);
        let graph = &mut self.graph;
        let keys = graph.transpose(&name("attention/keys"), &keys_values[0], &[0, 1, 3, 2]);
        let scores = graph.matmul(&name("attention/scores"), &queries[0], &keys);
        let probabilities = graph.softmax(&name("attention/probabilities"), &scores);
        let mixed = graph.matmul(&name("attention/mixed"), &probabilities, &keys_values[1]);
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

    /// Several projections as one product, then apart and by head: each result is
    /// `[batch, heads, tokens, head size]`.
    fn query_key_value(
        &mut self,
        layer: usize,
        name: &str,
        x: &Value,
        parts: &[Part],
    ) -> Result<Vec<Value>, W::Error> {
        let spec = self.spec;
        let kernel = self.joined(layer, &format!("{name}.kernel"), parts, Part::kernel)?;
        let bias = match spec.qkv_bias {
            true => Some(self.joined(layer, &format!("{name}.bias"), parts, Part::bias)?),
            false => None,
        };
        let tokens = match parts {
            [Part::Query] => spec.readout.tokens(),
            _ => spec.tokens(),
        };
        let count = as_i64(parts.len());
        let shape = [
            -1,
            as_i64(tokens),
            count,
            as_i64(spec.heads),
            as_i64(spec.head_size()),
        ];
        let graph = &mut self.graph;
        let joined = graph.linear(name, x, &kernel, bias.as_ref());
        let joined = graph.reshape(&format!("{name}/by_head"), &joined, &shape);
        let joined = graph.transpose(&format!("{name}/apart"), &joined, &[2, 0, 3, 1, 4]);
        let pieces = graph.split(&format!("{name}/split"), &joined, 0, &vec![1; parts.len()]);
        let shape = [-1, shape[3], shape[1], shape[4]];
        Ok(pieces
            .iter()
            .zip(parts)
            .map(|(piece, part)| graph.reshape(&format!("{name}/{}", part.name()), piece, &shape))
            .collect())
    }

    /// Kernels or biases side by side, the attention scale 1/√(head size) in those of the queries.
    ///
    /// In float32 the scale is multiplied in here: exact where it is a power of two, and else off
    /// by one rounding of each weight. Values stored in 16 bits stay as they are; the product with
    /// a constant row of scales comes after widening, and the runtime computes it once, on loading.
    fn joined(
        &mut self,
        layer: usize,
        name: &str,
        parts: &[Part],
        role: fn(Part) -> B,
    ) -> Result<Value, W::Error> {
        let scale = attention_scale(self.spec.head_size());
        let mut tensors = Vec::with_capacity(parts.len());
        let mut scales = Vec::with_capacity(parts.len() * self.spec.hidden);
        for &part in parts {
            let tensor = self.weights.tensor(Role::Block(layer, role(part)))?;
            let scaled_here = part == Part::Query && tensor.element() == Element::F32;
            let scaled_later = part == Part::Query && !scaled_here;
            scales.extend(vec![
                if scaled_later { scale } else { 1.0 };
                self.spec.hidden
            ]);
            tensors.push(if scaled_here {
                tensor.scaled(scale)
            } else {
                tensor
            });
        }
        let joined = Tensor::concat_last(tensors);
        if scales.iter().all(|&scale| scale == 1.0) {
            return Ok(self.graph.weight(name, joined)?);
        }
        let stored = self.graph.weight(&format!("{name}.unscaled"), joined)?;
        let scales = Tensor::f32(vec![scales.len()], &scales);
        let scales = self.graph.constant(&format!("{name}.scales"), scales)?;
        Ok(self.graph.mul(name, &stored, &scales))
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

/// The three projections of attention.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Query,
    Key,
    Value,
}

impl Part {
    fn kernel(self) -> B {
        match self {
            Self::Query => B::QueryKernel,
            Self::Key => B::KeyKernel,
            Self::Value => B::ValueKernel,
        }
    }

    fn bias(self) -> B {
        match self {
            Self::Query => B::QueryBias,
            Self::Key => B::KeyBias,
            Self::Value => B::ValueBias,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Query => "queries",
            Self::Key => "keys",
            Self::Value => "values",
        }
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
