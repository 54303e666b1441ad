//! What some networks do to queries, keys and scores: normalisation, rotation, relative positions.

use std::iter;

use super::{BlockWeight as B, Builder, Rotation, WeightId, Weights, norm::Place, relation_index};
use crate::{
    graph::{Value, as_i64},
    tensor::Tensor,
};

/// Tables of a rotation, `[tokens, head size]` or `[heads, tokens, head size]`; the prefix is not
/// turned.
#[derive(Clone, Debug)]
pub(super) struct RotaryTables {
    cosines: Value,
    sines: Value,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// The rotation that all blocks share, where the network has one.
    pub(super) fn rotary_tables(&mut self) -> Result<Option<RotaryTables>, W::Error> {
        match self.spec.variant.rotary {
            Rotation::Shared => {
                let weights = [WeightId::RotaryCosines, WeightId::RotarySines];
                Ok(Some(self.tables_of(weights, "rotary")?))
            }
            Rotation::None | Rotation::OfEachHead => Ok(None),
        }
    }

    /// Takes a block's own rotation for what is turned next, where the network has such.
    pub(super) fn enter_block(&mut self, block: usize) -> Result<(), W::Error> {
        if self.spec.variant.rotary == Rotation::OfEachHead {
            let weights =
                [B::RotaryCosines, B::RotarySines].map(|weight| WeightId::Block(block, weight));
            let tables = self.tables_of(weights, &format!("block.{block}/rotary"))?;
            self.rotary = Some(tables);
        }
        Ok(())
    }

    fn tables_of(
        &mut self,
        [cosines, sines]: [WeightId; 2],
        name: &str,
    ) -> Result<RotaryTables, W::Error> {
        let spec = self.spec;
        let (unturned, patches) = (
            spec.prefix * spec.head_size(),
            spec.patches() * spec.head_size(),
        );
        let mut table = |weight, name: &str, of_prefix: f32| {
            let mut shape = spec.shape(weight);
            let tokens_axis = shape.len() - 2;
            shape[tokens_axis] = spec.tokens();
            let values = self.weights.tensor(weight)?.to_f32();
            let with_prefix = values.chunks_exact(patches).flat_map(|of_patches| {
                let prefix = iter::repeat_n(of_prefix, unturned);
                prefix.chain(of_patches.iter().copied())
            });
            let values: Vec<f32> = with_prefix.collect();
            Ok::<_, W::Error>(self.block_tensor(name, Tensor::f32(shape, &values))?)
        };
        Ok(RotaryTables {
            cosines: table(cosines, &format!("{name}/cosines"), 1.0)?,
            sines: table(sines, &format!("{name}/sines"), 0.0)?,
        })
    }

    /// Queries or keys `[batch, heads, tokens, head size]`, turned where the network turns them:
    /// x · cos + (−x₂, x₁) · sin, x₁ and x₂ being the halves of a head.
    pub(super) fn rotated(&mut self, name: &str, x: Value) -> Value {
        let Some(RotaryTables { cosines, sines }) = self.rotary.clone() else {
            return x;
        };
        let size = as_i64(self.spec.head_size());
        let graph = &mut self.graph;
        let first = graph.slice(&format!("{name}/first"), &x, 3, 0, size / 2);
        let second = graph.slice(&format!("{name}/second"), &x, 3, size / 2, size);
        let second = graph.neg(&format!("{name}/negative"), &second);
        let turned = graph.concat(&format!("{name}/turned"), &[&second, &first], 3);
        let along = graph.mul(&format!("{name}/cosine"), &x, &cosines);
        let across = graph.mul(&format!("{name}/sine"), &turned, &sines);
        graph.add(name, &along, &across)
    }

    /// Queries or keys, each head normalised by itself where the network does so; then times
    /// `factor`.
    pub(super) fn qk_norm(
        &mut self,
        block: usize,
        what: &str,
        x: Value,
        [scale, bias]: [B; 2],
        factor: f32,
    ) -> Result<Value, W::Error> {
        if !self.spec.variant.qk_norm {
            return Ok(x);
        }
        let name = format!("block.{block}/attention/{what}/norm");
        let mut constant = |weight, part: &str| {
            let tensor = self.weights.tensor(WeightId::Block(block, weight))?;
            let tensor = tensor.cast_f32().scaled(factor);
            Ok::<_, W::Error>(self.block_tensor(&format!("{name}.{part}"), tensor)?)
        };
        let (scale, bias) = (constant(scale, "scale")?, constant(bias, "bias")?);
        Ok(self.normalized(Place::Block, &name, &x, [&scale, &bias]))
    }

    /// Scores `[batch, heads, queries, tokens]` with what the block adds for how tokens lie to each
    /// other. A gather of a constant by a constant: the runtime does it once, on loading.
    pub(super) fn with_relative_bias(
        &mut self,
        block: usize,
        scores: Value,
        queries: usize,
    ) -> Result<Value, W::Error> {
        let spec = self.spec;
        if !spec.variant.relative_bias {
            return Ok(scores);
        }
        let name = format!("block.{block}/attention/relative_bias");
        let table = self.block_weight(
            WeightId::Block(block, B::RelativeBias),
            &format!("{name}.table"),
        )?;
        let index = format!("relations/{queries}");
        let index = match self.relations.get(&queries) {
            Some(index) => index.clone(),
            None => {
                let all = relation_index(spec.grid());
                let first = all.into_iter().take(queries * spec.tokens());
                let values: Vec<i64> = first.map(as_i64).collect();
                let shape = vec![queries, spec.tokens()];
                let made = self
                    .graph
                    .constant(&index, Tensor::i64s(&values).reshaped(shape))?;
                self.relations.insert(queries, made.clone());
                made
            }
        };
        let graph = &mut self.graph;
        let bias = graph.gather(&name, &table, &index, 1);
        Ok(graph.add(
            &format!("block.{block}/attention/scores/biased"),
            &scores,
            &bias,
        ))
    }
}
