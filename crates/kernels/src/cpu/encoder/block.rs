//! One block, of one image or of several together.
//!
//! Divided by tokens, a single image goes through it in parts, a thread each, that meet three times:
//! queries, keys and values of all tokens have to be there before keys are prepared, all keys before
//! a token attends, and all tokens have left a block before the next begins. Divided by output
//! channels, it is one part whose steps are each spread over the threads.

use super::{
    Block, ClassTokenOutputs, Encoder, Image, Parts, for_each_part, lengths, split_rows,
    steps::{Scratch, sum_by_head, write_rounding_error},
};
use crate::cpu::{
    encoder::workspace::Workspace,
    instructions::{Epilogue, KeysAndValues, RowsMut},
    shape::EncoderShape,
};

/// Tokens of one part on their way to queries, keys and values.
struct Projection<'a> {
    tokens: &'a [f32],
    queries: &'a mut [f32],
    keys: &'a mut [f32],
    values: &'a mut [f32],
    scratch: Scratch<'a>,
}

/// Tokens of one part on their way from attention to the end of the block.
struct Rest<'a> {
    tokens: &'a mut [f32],
    queries: &'a [f32],
    mixed: &'a mut [f32],
    activations: RowsMut<'a>,
    /// Of each image, if maps are wanted.
    fused: Vec<Option<&'a mut [f32]>>,
    scratch: Scratch<'a>,
    /// Of each image, where the part has its class token and it is wanted.
    class_token: Vec<Option<ClassToken<'a>>>,
}

/// What a block tells of the class token.
struct ClassToken<'a> {
    /// The values that it reads, as attribution takes them: `[head][token][head size]`.
    weighted_values: &'a [f32],
    rounding_error: &'a mut [f32],
    other: &'a mut [f32],
}

impl<'a> ClassToken<'a> {
    fn of_layer(
        outputs: &'a mut ClassTokenOutputs<'_>,
        layer: usize,
        shape: &EncoderShape,
    ) -> Self {
        let (hidden, values) = (shape.hidden, shape.tokens() * shape.hidden);
        Self {
            weighted_values: &outputs.weighted_values[layer * values..][..values],
            rounding_error: &mut outputs.rounding_error[layer * hidden..][..hidden],
            other: outputs.other,
        }
    }
}

/// One head of one image, to be prepared.
struct PreparedHead<'a> {
    image: usize,
    head: usize,
    keys: &'a mut [f32],
    values: &'a mut [f32],
    /// How the class token attends, and the values that it reads, if they are wanted.
    class_token: Option<(&'a mut [f32], &'a mut [f32])>,
}

impl Encoder {
    /// Runs a block: the tokens in the workspace become those after it.
    ///
    /// Only the tokens that the classifier reads leave the last block: nothing reads the others.
    pub(super) fn run_block(
        &self,
        layer: usize,
        workspace: &mut Workspace,
        images: &mut [Image<'_>],
        parts: Parts,
    ) {
        let shape = &self.shape;
        let (all, hidden, block) = (shape.tokens(), shape.hidden, &self.blocks[layer]);
        let last = layer + 1 == shape.layers;
        let queries = if last { shape.read } else { all };
        let count = images.len();
        // Of several images the queries that nothing reads are computed, too.
        let projected = if count == 1 { queries } else { count * all };
        self.project(block, workspace, projected, parts);
        self.by_head(layer, workspace, images, parts.threads());
        if queries < all {
            for image in 1..count {
                let rows = image * all * hidden..(image * all + queries) * hidden;
                let to = image * queries * hidden;
                workspace.tokens.copy_within(rows.clone(), to);
                workspace.queries.copy_within(rows, to);
            }
        }

        let heads = shape.head_shape();
        let Parts { rows, columns } = parts;
        let rows = if queries < all { 1 } else { rows };
        let lengths = lengths(count * queries, rows);
        let row = heads.row();
        let of_layer = layer * all * row..layer * all * row + queries * row;
        let mut fused: Vec<Vec<Option<&mut [f32]>>> = (0..rows).map(|_| Vec::new()).collect();
        let mut class_token = Vec::with_capacity(count);
        let mut of_images = workspace.fused.chunks_mut(shape.layers * all * row);
        for image in images {
            let maps = image.outputs.maps.as_mut();
            let of_image = of_images.next().filter(|_| maps.is_some());
            // Each part has some of a single image's queries, or all of every image's.
            let lengths = lengths.clone().map(|length| length / count);
            match of_image {
                None => fused.iter_mut().for_each(|of_part| of_part.push(None)),
                Some(of_image) => {
                    let rows = split_rows(&mut of_image[of_layer.clone()], row, lengths);
                    let parts = fused.iter_mut().zip(rows);
                    parts.for_each(|(of_part, rows)| of_part.push(Some(rows)));
                }
            }
            let outputs = maps.and_then(|maps| maps.class_token.as_mut());
            class_token.push(outputs.map(|outputs| ClassToken::of_layer(outputs, layer, shape)));
        }
        let tokens = split_rows(&mut workspace.tokens, hidden, lengths.clone());
        let mixed = split_rows(&mut workspace.mixed, hidden, lengths.clone());
        let stride = workspace.activation_stride;
        let activations = split_rows(&mut workspace.activations, stride, lengths.clone());
        let normalized = split_scratch(&mut workspace.normalized, hidden, lengths.clone());
        let quantized = workspace.quantized.split(lengths.clone());
        let mut first = 0;
        let mut tasks = Vec::with_capacity(rows);
        let buffers = tokens.into_iter().zip(mixed).zip(activations).zip(fused);
        let scratch = normalized.into_iter().zip(quantized);
        for ((length, (((tokens, mixed), activations), fused)), scratch) in
            lengths.zip(buffers).zip(scratch)
        {
            tasks.push(Rest {
                tokens,
                queries: &workspace.queries[first * hidden..][..length * hidden],
                mixed,
                activations: RowsMut {
                    values: activations,
                    stride,
                },
                fused,
                scratch: Scratch::new(scratch),
                // The class token is the first, and so in the first part.
                class_token: std::mem::take(&mut class_token),
            });
            first += length;
        }
        let of_images = KeysAndValues {
            keys: &workspace.keys,
            values: &workspace.values,
        };
        let [keys, values] = &workspace.prepared;
        let prepared = KeysAndValues { keys, values };
        for_each_part(tasks, |task| {
            self.attend_and_mlp(block, task, [count, columns], prepared, of_images)
        });
    }

    /// Tokens to queries, keys and values; queries of the first `queries` tokens alone.
    fn project(&self, block: &Block, workspace: &mut Workspace, queries: usize, parts: Parts) {
        let hidden = self.shape.hidden;
        let Parts { rows, columns } = parts;
        let lengths = lengths(workspace.images * self.shape.tokens(), rows);
        let mut first = 0;
        let of_queries: Vec<usize> = lengths
            .clone()
            .map(|length| {
                let wanted = queries.saturating_sub(first).min(length);
                first += length;
                wanted
            })
            .collect();
        let queries = split_rows(&mut workspace.queries, hidden, of_queries.into_iter());
        let keys = split_rows(&mut workspace.keys, hidden, lengths.clone());
        let values = split_rows(&mut workspace.values, hidden, lengths.clone());
        let normalized = split_scratch(&mut workspace.normalized, hidden, lengths.clone());
        let quantized = workspace.quantized.split(lengths.clone());
        let mut tokens = &*workspace.tokens;
        let outputs = queries.into_iter().zip(keys).zip(values);
        let scratch = normalized.into_iter().zip(quantized);
        let mut tasks = Vec::with_capacity(rows);
        for ((length, ((queries, keys), values)), scratch) in lengths.zip(outputs).zip(scratch) {
            let (of_part, rest) = tokens.split_at(length * hidden);
            tokens = rest;
            tasks.push(Projection {
                tokens: of_part,
                queries,
                keys,
                values,
                scratch: Scratch::new(scratch),
            });
        }
        for_each_part(tasks, |mut task| {
            let norm = &block.attention_norm;
            let layer = &block.queries;
            let input = self.normalized(task.tokens, norm, layer, &mut task.scratch, columns);
            let some = input.first(task.queries.len() / hidden, hidden);
            let multiply = |input, layer, out| {
                let into = Epilogue::Store(out);
                self.instructions.multiply(input, layer, into, columns);
            };
            multiply(some, layer, task.queries);
            multiply(input, &block.keys, task.keys);
            multiply(input, &block.values, task.values);
        });
    }

    /// Prepares keys and values; and how the class token attends, with the values that it reads.
    fn by_head(
        &self,
        layer: usize,
        workspace: &mut Workspace,
        images: &mut [Image<'_>],
        threads: usize,
    ) {
        let shape = self.shape.head_shape();
        let (tokens, size, of_image) = (shape.tokens, shape.size, shape.tokens * shape.hidden());
        let [keys, values] = &mut workspace.prepared;
        let of_head = self.instructions.prepared_len(shape);
        let heads = || std::iter::repeat_n(1, images.len() * shape.heads);
        let keys = split_rows(keys, of_head[0], heads());
        let values = split_rows(values, of_head[1], heads());
        let mut tasks: Vec<_> = keys
            .into_iter()
            .zip(values)
            .enumerate()
            .map(|(at, (keys, values))| PreparedHead {
                image: at / shape.heads,
                head: at % shape.heads,
                keys,
                values,
                class_token: None,
            })
            .collect();
        for (image, tasks) in images.iter_mut().zip(tasks.chunks_mut(shape.heads)) {
            let maps = image.outputs.maps.as_mut();
            let Some(outputs) = maps.and_then(|maps| maps.class_token.as_mut()) else {
                continue;
            };
            let of_layer = shape.heads * tokens;
            let attention = &mut outputs.attention[layer * of_layer..][..of_layer];
            let of_layer = of_layer * size;
            let weighted = &mut outputs.weighted_values[layer * of_layer..][..of_layer];
            let attention = attention.chunks_exact_mut(tokens);
            let of_heads = attention.zip(weighted.chunks_exact_mut(tokens * size));
            for (task, of_head) in tasks.iter_mut().zip(of_heads) {
                task.class_token = Some(of_head);
            }
        }
        let [queries, keys, values] =
            [&workspace.queries, &workspace.keys, &workspace.values].map(|all| &**all);
        let run = |task: PreparedHead<'_>| {
            let start = task.image * of_image;
            let of_image = KeysAndValues {
                keys: &keys[start..][..of_image],
                values: &values[start..][..of_image],
            };
            let (instructions, head) = (&self.instructions, task.head);
            instructions.prepare_head(shape, head, of_image, task.keys, task.values);
            let Some((attention, weighted)) = task.class_token else {
                return;
            };
            let query = &queries[start + head * size..][..size];
            let mut row = vec![0.0; shape.row()];
            instructions.attend_one(shape, head, query, of_image.keys, &mut row);
            attention.copy_from_slice(&row[..tokens]);
            instructions.weigh_values(shape, head, of_image.values, &row, weighted);
        };
        match threads {
            1 => tasks.into_iter().for_each(run),
            _ => for_each_part(tasks, run),
        }
    }

    /// From queries to the end of the block, for the tokens of one part; `images` have as many of
    /// them each. Every step is on `columns` threads.
    fn attend_and_mlp(
        &self,
        block: &Block,
        mut task: Rest<'_>,
        [images, columns]: [usize; 2],
        prepared: KeysAndValues<'_>,
        of_images: KeysAndValues<'_>,
    ) {
        let (instructions, hidden) = (&self.instructions, self.shape.hidden);
        let of_image = task.queries.len() / images;
        let queries = task.queries.chunks_exact(of_image.max(1));
        let mixed = task.mixed.chunks_exact_mut(of_image.max(1));
        let fused = task.fused.into_iter();
        for (image, ((queries, mixed), fused)) in queries.zip(mixed).zip(fused).enumerate() {
            let prepared = prepared.of_image(image, images);
            let of_image = of_images.of_image(image, images);
            self.attend(queries, [prepared, of_image], mixed, fused, columns);
        }
        let input = self.quantized(task.mixed, hidden, &block.out, &mut task.scratch, columns);
        for (image, class_token) in task.class_token.iter_mut().enumerate() {
            if let Some(class_token) = class_token {
                let row = image * of_image / hidden;
                let read = sum_by_head(self.shape.head_shape(), class_token.weighted_values);
                write_rounding_error(input, row, &read, class_token.rounding_error);
            }
        }
        instructions.multiply(input, &block.out, Epilogue::Add(task.tokens), columns);

        let class_rows = |tokens: &[f32]| -> Vec<f32> {
            let rows = (0..task.class_token.len()).map(|image| image * of_image);
            rows.flat_map(|start| tokens[start..][..hidden].to_vec())
                .collect()
        };
        let before_mlp = class_rows(task.tokens);
        let (norm, scratch) = (&block.mlp_norm, &mut task.scratch);
        let input = self.normalized(task.tokens, norm, &block.up, scratch, columns);
        let RowsMut { values, stride } = task.activations;
        let out = RowsMut {
            values: &mut *values,
            stride,
        };
        let active = Epilogue::Activate(self.shape.activation, out);
        instructions.multiply(input, &block.up, active, columns);
        let input = self.quantized(values, stride, &block.down, scratch, columns);
        instructions.multiply(input, &block.down, Epilogue::Add(task.tokens), columns);
        let after_mlp = class_rows(task.tokens);
        let rows = after_mlp
            .chunks_exact(hidden)
            .zip(before_mlp.chunks_exact(hidden));
        for (class_token, (after, before)) in task.class_token.into_iter().zip(rows) {
            let Some(ClassToken { other, .. }) = class_token else {
                continue;
            };
            let added = after.iter().zip(before).zip(&*block.out.bias);
            for (other, ((after, before), bias)) in other.iter_mut().zip(added) {
                *other += (after - before) + bias;
            }
        }
    }
}

/// As [`split_rows`], of a buffer that may not be there.
fn split_scratch(
    rows: &mut [f32],
    width: usize,
    lengths: impl Iterator<Item = usize>,
) -> Vec<&mut [f32]> {
    match rows.is_empty() {
        true => lengths.map(|_| &mut [][..]).collect(),
        false => split_rows(rows, width, lengths),
    }
}
