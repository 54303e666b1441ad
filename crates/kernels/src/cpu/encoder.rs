//! A Vision Transformer's encoder: from pixels to the states that the classifier reads, with what
//! maps need, in one pass.

mod block;
mod steps;
mod workspace;

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::{
    ThreadPool,
    iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator},
};

use self::workspace::Workspace;
use super::{
    division::{Division, Parts, for_each_part, lengths},
    instructions::{Epilogue, Instructions, Operand},
    rollout::rollout,
    shape::EncoderShape,
    weights::{Linear, Norm, WrongLength, expect_length},
};

/// From patches to the tokens before the first block.
#[derive(Debug)]
pub struct Embedding {
    /// `[3 · patch · patch, hidden]` in float32; inputs in the order channel, row, column.
    pub projection: Linear,
    /// Added to every image's tokens, `[tokens, hidden]`: the prefix tokens, and the positions of the
    /// patches.
    pub table: Vec<f32>,
    /// Before the first block, where the network has one.
    pub norm: Option<Norm>,
}

/// Weights of one block. Queries, keys and values are of one precision.
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub attention_norm: Norm,
    /// The attention scale is part of it.
    pub queries: Linear,
    /// `[hidden, hidden]`, as the two around it.
    pub keys: Linear,
    /// The same.
    pub values: Linear,
    /// From the heads' results back to the residual stream.
    pub out: Linear,
    /// Before the MLP.
    pub mlp_norm: Norm,
    /// `[hidden, mlp]`.
    pub up: Linear,
    /// `[mlp, hidden]`.
    pub down: Linear,
}

/// An encoder with its weights, shared by all sessions of a model.
#[derive(Debug)]
pub struct Encoder {
    shape: EncoderShape,
    embedding: Embedding,
    blocks: Vec<Block>,
    instructions: Box<dyn Instructions>,
    /// Of passes that are done: pages that are there already.
    workspaces: Mutex<Vec<Workspace>>,
}

/// What is made of a batch, image after image.
#[derive(Debug)]
pub struct BatchOutputs<'a> {
    /// The states that the classifier reads, `[image][read][hidden]`.
    pub states: &'a mut [f32],
    /// What maps need, if they are wanted.
    pub maps: Option<BatchMaps<'a>>,
}

/// What maps need of a batch.
#[derive(Debug)]
pub struct BatchMaps<'a> {
    /// `[image][layer][token]`: the rollout that starts at the layer's block.
    pub by_start: &'a mut [f32],
    /// What attribution needs.
    pub class_token: Option<ClassTokenOutputs<'a>>,
}

/// What each block wrote to the class token, image after image.
#[derive(Debug)]
pub struct ClassTokenOutputs<'a> {
    /// How it attends, `[image][layer][head][token]`.
    pub attention: &'a mut [f32],
    /// The values that it reads, weighted by attention: `[image][layer][head][token][head size]`.
    pub weighted_values: &'a mut [f32],
    /// What rounding to integers changed before the output kernel, `[image][layer][hidden]`.
    pub rounding_error: &'a mut [f32],
    /// Its embedding, and what the MLPs and the biases of attention added: `[image][hidden]`.
    pub other: &'a mut [f32],
}

/// One image of a batch.
struct Image<'a> {
    pixels: &'a [f32],
    outputs: ImageOutputs<'a>,
}

/// The outputs of one image.
struct ImageOutputs<'a> {
    states: &'a mut [f32],
    maps: Option<BatchMaps<'a>>,
}

impl Encoder {
    /// Puts an encoder together.
    ///
    /// # Errors
    /// If weights do not have the shape's sizes.
    pub(crate) fn new(
        shape: EncoderShape,
        embedding: Embedding,
        blocks: Vec<Block>,
        instructions: Box<dyn Instructions>,
    ) -> Result<Self, WrongLength> {
        check(&shape, &embedding, &blocks)?;
        Ok(Self {
            shape,
            embedding,
            blocks,
            instructions,
            workspaces: Mutex::default(),
        })
    }

    /// Its sizes.
    pub fn shape(&self) -> &EncoderShape {
        &self.shape
    }

    /// The instruction set that it computes with, for logs.
    pub fn instruction_set(&self) -> &'static str {
        self.instructions.name()
    }

    /// Bytes of its weights in memory.
    pub fn bytes(&self) -> usize {
        let of_blocks = self.blocks.iter().flat_map(Block::layers);
        let of_blocks = of_blocks.map(Linear::bytes).sum::<usize>();
        of_blocks + self.embedding.projection.bytes() + 4 * self.embedding.table.len()
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn instructions(&self) -> &dyn Instructions {
        &*self.instructions
    }

    /// Runs a batch of images `[image][channel][row][column]` on the threads of `pool`. An image's
    /// results do not depend on the others, nor on the number of threads.
    ///
    /// # Panics
    /// If pixels or outputs are not of whole images, or a thread panics.
    pub fn run(&self, pixels: &[f32], outputs: BatchOutputs<'_>, pool: &ThreadPool) {
        let images = pixels.len() / self.shape.image_len();
        assert_eq!(pixels.len(), images * self.shape.image_len());
        let threads = pool.current_num_threads();
        let division = Division::of(images, self.shape.tokens(), threads, self.bytes());
        self.run_divided(division, pixels, outputs, pool);
    }

    fn run_divided(
        &self,
        division: Division,
        pixels: &[f32],
        outputs: BatchOutputs<'_>,
        pool: &ThreadPool,
    ) {
        let images = pixels.len() / self.shape.image_len();
        let pixels = pixels.chunks_exact(self.shape.image_len());
        let images = pixels.zip(self.of_images(outputs, images));
        let mut images = images.map(|(pixels, outputs)| Image { pixels, outputs });
        let mut alone = Vec::new();
        for first in (0..division.alone).step_by(division.together) {
            let count = division.together.min(division.alone - first);
            alone.push(images.by_ref().take(count).collect::<Vec<_>>());
        }
        let divided: Vec<_> = images.map(|image| vec![image]).collect();
        pool.install(|| {
            let run = |parts| move |mut images: Vec<_>| self.run_images(&mut images, parts);
            alone
                .into_par_iter()
                .with_max_len(1)
                .for_each(run(Parts::ONE));
            let divided = divided.into_par_iter().with_max_len(1);
            divided.for_each(run(division.parts));
        });
    }

    /// The outputs, taken apart by image.
    fn of_images<'a>(&self, outputs: BatchOutputs<'a>, images: usize) -> Vec<ImageOutputs<'a>> {
        let shape = &self.shape;
        let (layers, tokens, hidden) = (shape.layers, shape.tokens(), shape.hidden);
        let states = split(outputs.states, images, shape.read * hidden);
        let mut maps: Vec<Option<BatchMaps<'a>>> = match outputs.maps {
            None => (0..images).map(|_| None).collect(),
            Some(BatchMaps {
                by_start,
                class_token,
            }) => {
                let by_start = split(by_start, images, layers * tokens);
                let class_token: Vec<_> = match class_token {
                    None => (0..images).map(|_| None).collect(),
                    Some(outputs) => {
                        let attention =
                            split(outputs.attention, images, layers * shape.heads * tokens);
                        let values =
                            split(outputs.weighted_values, images, layers * tokens * hidden);
                        let errors = split(outputs.rounding_error, images, layers * hidden);
                        let other = split(outputs.other, images, hidden);
                        let parts = attention.into_iter().zip(values).zip(errors).zip(other);
                        let parts =
                            parts.map(|(((attention, weighted_values), rounding_error), other)| {
                                Some(ClassTokenOutputs {
                                    attention,
                                    weighted_values,
                                    rounding_error,
                                    other,
                                })
                            });
                        parts.collect()
                    }
                };
                let maps = by_start.into_iter().zip(class_token);
                maps.map(|(by_start, class_token)| {
                    Some(BatchMaps {
                        by_start,
                        class_token,
                    })
                })
                .collect()
            }
        };
        let maps = maps.drain(..);
        let images = states.into_iter().zip(maps);
        images
            .map(|(states, maps)| ImageOutputs { states, maps })
            .collect()
    }

    /// Takes images through the network together; a single one may be divided into parts.
    fn run_images(&self, images: &mut [Image<'_>], parts: Parts) {
        let mut workspace = self.take_workspace(images.len());
        let shape = &self.shape;
        let of_image = shape.tokens() * shape.hidden;
        for (at, image) in images.iter_mut().enumerate() {
            self.embed(at, image.pixels, &mut workspace, parts.threads());
            if let Some(maps) = &mut image.outputs.maps {
                workspace.reserve_maps(shape);
                if let Some(class_token) = &mut maps.class_token {
                    let embedding = &workspace.tokens[at * of_image..][..shape.hidden];
                    class_token.other.copy_from_slice(embedding);
                }
            }
        }
        for layer in 0..shape.layers {
            self.run_block(layer, &mut workspace, images, parts);
        }
        let row = shape.head_shape().row();
        let of_maps = shape.layers * shape.tokens() * row;
        for (at, image) in images.iter_mut().enumerate() {
            let states = &mut image.outputs.states;
            let read = states.len();
            states.copy_from_slice(&workspace.tokens[at * read..][..read]);
            if let Some(maps) = &mut image.outputs.maps {
                let fused = &workspace.fused[at * of_maps..][..of_maps];
                rollout(self.instructions(), shape, fused, row, maps.by_start);
            }
        }
        self.kept_workspaces().push(workspace);
    }

    /// One that a pass has left, or a new one.
    fn take_workspace(&self, images: usize) -> Workspace {
        let mut kept = self.kept_workspaces();
        let found = kept.iter().position(|workspace| workspace.images == images);
        if let Some(at) = found {
            return kept.swap_remove(at);
        }
        drop(kept);
        let prepared = self.instructions.prepared_len(self.shape.head_shape());
        Workspace::new(images, &self.shape, &self.blocks, prepared)
    }

    fn kept_workspaces(&self) -> MutexGuard<'_, Vec<Workspace>> {
        // Nothing panics while it is locked, and a list of memory is whole in any case.
        self.workspaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Pixels to the tokens before the first block.
    fn embed(&self, at: usize, pixels: &[f32], workspace: &mut Workspace, parts: usize) {
        let (shape, embedding) = (&self.shape, &self.embedding);
        let hidden = shape.hidden;
        let inputs = embedding.projection.inputs;
        let of_image = shape.tokens() * hidden;
        let all = &mut workspace.tokens[at * of_image..][..of_image];
        all.copy_from_slice(&embedding.table);
        let lengths = lengths(shape.patches(), parts);
        let tokens = split_rows(&mut all[shape.prefix * hidden..], hidden, lengths.clone());
        let rows = split_rows(&mut workspace.activations, inputs, lengths.clone());
        let mut first = 0;
        let tasks: Vec<_> = lengths
            .zip(tokens.into_iter().zip(rows))
            .map(|(length, (tokens, rows))| {
                let start = first;
                first += length;
                (start, tokens, rows)
            })
            .collect();
        for_each_part(tasks, |(first, tokens, rows)| {
            gather_patches(shape, pixels, first, rows);
            let (rows, into) = (Operand::Float32(rows), Epilogue::Add(tokens));
            self.instructions
                .multiply(rows, &embedding.projection, into, 1);
        });
        if let Some(norm) = &embedding.norm {
            let normalized = &mut workspace.mixed[..of_image];
            let epsilon = shape.norm_epsilon;
            self.instructions.normalize(all, norm, epsilon, normalized);
            all.copy_from_slice(normalized);
        }
    }
}

impl Block {
    pub(super) fn layers(&self) -> [&Linear; 6] {
        [
            &self.queries,
            &self.keys,
            &self.values,
            &self.out,
            &self.up,
            &self.down,
        ]
    }

    fn norms(&self) -> [&Norm; 2] {
        [&self.attention_norm, &self.mlp_norm]
    }
}

/// The patches from `first` on as rows of the projection's inputs, as many as there is room for.
fn gather_patches(shape: &EncoderShape, pixels: &[f32], first: usize, rows: &mut [f32]) {
    let [height, width] = shape.image;
    let (side, columns) = (shape.patch, width / shape.patch);
    for (at, row) in rows.chunks_exact_mut(3 * side * side).enumerate() {
        let (patch_row, patch_column) = ((first + at) / columns, (first + at) % columns);
        for (line, out) in row.chunks_exact_mut(side).enumerate() {
            let (channel, line) = (line / side, line % side);
            let start = (channel * height + patch_row * side + line) * width + patch_column * side;
            out.copy_from_slice(&pixels[start..start + side]);
        }
    }
}

fn check(shape: &EncoderShape, embedding: &Embedding, blocks: &[Block]) -> Result<(), WrongLength> {
    let (hidden, mlp) = (shape.hidden, shape.mlp);
    expect_length("the list of blocks", blocks.len(), shape.layers)?;
    expect_length(
        "the heads' widths together",
        hidden / shape.heads * shape.heads,
        hidden,
    )?;
    expect_length(
        "the table of positions",
        embedding.table.len(),
        shape.tokens() * hidden,
    )?;
    let layer = |what, layer: &Linear, inputs, outputs| {
        expect_length(what, layer.inputs, inputs)?;
        expect_length(what, layer.outputs, outputs)
    };
    let inputs = 3 * shape.patch * shape.patch;
    layer(
        "the patch projection",
        &embedding.projection,
        inputs,
        hidden,
    )?;
    let norms = blocks.iter().flat_map(Block::norms).chain(&embedding.norm);
    for norm in norms {
        expect_length("a normalisation", norm.scale.len(), hidden)?;
    }
    for block in blocks {
        for square in [&block.queries, &block.keys, &block.values, &block.out] {
            layer("a layer of attention", square, hidden, hidden)?;
        }
        layer("the MLP's first layer", &block.up, hidden, mlp)?;
        layer("the MLP's second layer", &block.down, mlp, hidden)?;
    }
    Ok(())
}

/// Values of `images` images, taken apart.
fn split(values: &mut [f32], images: usize, of_image: usize) -> Vec<&mut [f32]> {
    assert_eq!(values.len(), images * of_image);
    match of_image {
        0 => (0..images).map(|_| &mut [][..]).collect(),
        _ => values.chunks_exact_mut(of_image).collect(),
    }
}

/// Rows without gaps, taken apart into ranges of these lengths.
fn split_rows(
    mut rows: &mut [f32],
    width: usize,
    lengths: impl Iterator<Item = usize>,
) -> Vec<&mut [f32]> {
    lengths
        .map(|length| {
            let (first, rest) = std::mem::take(&mut rows).split_at_mut(length * width);
            rows = rest;
            first
        })
        .collect()
}

#[cfg(test)]
mod tests;
