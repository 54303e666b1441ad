//! One block of one image.
//!
//! Its tokens go through it in parts, a thread each, that meet three times: queries, keys and values
//! of all tokens have to be there before keys are transposed, all keys before a token attends, and
//! all tokens have left a block before the next begins.

use super::{BatchMaps, Block, ClassTokenOutputs, Encoder, for_each_part, lengths, split_rows};
use crate::cpu::{
    encoder::workspace::Workspace,
    instructions::{Epilogue, HeadFusion, KeysAndValues, Operand, QuantizedMut},
    weights::{Linear, Norm, ZERO_POINT},
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
    activations: &'a mut [f32],
    fused: Option<(&'a mut [f32], HeadFusion)>,
    scratch: Scratch<'a>,
    /// Of the part that has the class token, if it is wanted.
    class_token: Option<ClassToken<'a>>,
}

/// What a block tells of the class token.
struct ClassToken<'a> {
    rounding_error: &'a mut [f32],
    other: &'a mut [f32],
}

/// Where a part prepares what a layer reads.
struct Scratch<'a> {
    quantized: QuantizedMut<'a>,
    normalized: &'a mut [f32],
}

impl Encoder {
    /// Runs a block: the tokens in the workspace become those after it.
    ///
    /// Only the tokens that the classifier reads leave the last block: nothing reads the others.
    pub(super) fn run_block(
        &self,
        layer: usize,
        workspace: &mut Workspace,
        mut maps: Option<&mut BatchMaps<'_>>,
        parts: usize,
    ) {
        let shape = &self.shape;
        let (all, hidden, block) = (shape.tokens(), shape.hidden, &self.blocks[layer]);
        let last = layer + 1 == shape.layers;
        let queries = if last { shape.read } else { all };
        self.project(block, workspace, queries, parts);
        self.by_head(layer, workspace, maps.as_deref_mut(), parts);

        let heads = shape.head_shape();
        let parts = if queries < all { 1 } else { parts };
        let lengths = lengths(queries, parts);
        let matrix = all * heads.row();
        let fused: Vec<Option<&mut [f32]>> = match &maps {
            None => (0..parts).map(|_| None).collect(),
            Some(_) => {
                let fused = &mut workspace.fused[layer * matrix..][..matrix];
                let fused = split_rows(fused, heads.row(), lengths.clone());
                fused.into_iter().map(Some).collect()
            }
        };
        let mut class_token = maps.and_then(|maps| maps.class_token.as_mut()).map(
            |ClassTokenOutputs {
                 rounding_error,
                 other,
                 ..
             }| ClassToken {
                rounding_error: &mut rounding_error[layer * hidden..][..hidden],
                other,
            },
        );
        let tokens = split_rows(&mut workspace.tokens, hidden, lengths.clone());
        let mixed = split_rows(&mut workspace.mixed, hidden, lengths.clone());
        let activations = split_rows(&mut workspace.activations, shape.mlp, lengths.clone());
        let normalized = split_scratch(&mut workspace.normalized, hidden, lengths.clone());
        let quantized = workspace.quantized.split(lengths.clone());
        let mut first = 0;
        let mut tasks = Vec::with_capacity(parts);
        let buffers = tokens.into_iter().zip(mixed).zip(activations).zip(fused);
        let scratch = normalized.into_iter().zip(quantized);
        for ((length, (((tokens, mixed), activations), fused)), scratch) in
            lengths.zip(buffers).zip(scratch)
        {
            tasks.push(Rest {
                tokens,
                queries: &workspace.queries[first * hidden..][..length * hidden],
                mixed,
                activations,
                fused: fused.map(|fused| (fused, shape.head_fusion)),
                scratch: Scratch::new(scratch),
                class_token: if first == 0 { class_token.take() } else { None },
            });
            first += length;
        }
        let of_image = KeysAndValues {
            keys: &workspace.keys_by_head,
            values: &workspace.values,
        };
        for_each_part(tasks, |task| self.attend_and_mlp(block, task, of_image));
    }

    /// Tokens to queries, keys and values; queries of the first `queries` tokens alone.
    fn project(&self, block: &Block, workspace: &mut Workspace, queries: usize, parts: usize) {
        let hidden = self.shape.hidden;
        let lengths = lengths(self.shape.tokens(), parts);
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
        let mut tasks = Vec::with_capacity(parts);
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
            let input = self.normalized(task.tokens, norm, &block.queries, &mut task.scratch);
            let some = input.first(task.queries.len() / hidden, hidden);
            let instructions = &self.instructions;
            instructions.multiply(some, &block.queries, Epilogue::Store(task.queries));
            instructions.multiply(input, &block.keys, Epilogue::Store(task.keys));
            instructions.multiply(input, &block.values, Epilogue::Store(task.values));
        });
    }

    /// Transposes the keys; and how the class token attends, with the values that it reads.
    fn by_head(
        &self,
        layer: usize,
        workspace: &mut Workspace,
        maps: Option<&mut BatchMaps<'_>>,
        parts: usize,
    ) {
        let shape = self.shape.head_shape();
        let (tokens, size) = (shape.tokens, shape.size);
        let keys_by_head = workspace.keys_by_head.chunks_exact_mut(size * shape.row());
        let mut tasks: Vec<_> = keys_by_head.map(|keys| (keys, None)).collect();
        if let Some(class_token) = maps.and_then(|maps| maps.class_token.as_mut()) {
            let of_layer = shape.heads * tokens;
            let attention = &mut class_token.attention[layer * of_layer..][..of_layer];
            let of_layer = of_layer * size;
            let weighted = &mut class_token.weighted_values[layer * of_layer..][..of_layer];
            let attention = attention.chunks_exact_mut(tokens);
            let outputs = attention.zip(weighted.chunks_exact_mut(tokens * size));
            for (task, outputs) in tasks.iter_mut().zip(outputs) {
                task.1 = Some(outputs);
            }
        }
        let (queries, keys, values) = (&workspace.queries, &workspace.keys, &workspace.values);
        let run = |(head, (keys_of_head, class_token)): (usize, (&mut [f32], Option<_>))| {
            self.instructions
                .transpose_keys(shape, head, keys, keys_of_head);
            let Some((attention, weighted)): Option<(&mut [f32], &mut [f32])> = class_token else {
                return;
            };
            let query = &queries[head * size..][..size];
            let mut row = vec![0.0; shape.row()];
            self.instructions
                .attend_one(shape, query, keys_of_head, &mut row);
            attention.copy_from_slice(&row[..tokens]);
            self.instructions
                .weigh_values(shape, head, values, &row, weighted);
        };
        let tasks = tasks.into_iter().enumerate();
        match parts {
            1 => tasks.for_each(run),
            _ => for_each_part(tasks.collect(), run),
        }
    }

    /// From queries to the end of the block, for the tokens of one part.
    fn attend_and_mlp(&self, block: &Block, mut task: Rest<'_>, of_image: KeysAndValues<'_>) {
        let (instructions, hidden) = (&self.instructions, self.shape.hidden);
        let heads = self.shape.head_shape();
        instructions.attend(heads, task.queries, of_image, task.mixed, task.fused.take());
        let input = self.quantized(task.mixed, &block.out, &mut task.scratch);
        if let Some(ClassToken { rounding_error, .. }) = &mut task.class_token {
            write_rounding_error(input, task.mixed, rounding_error);
        }
        instructions.multiply(input, &block.out, Epilogue::Add(task.tokens));

        let before_mlp = match &task.class_token {
            Some(_) => task.tokens[..hidden].to_vec(),
            None => Vec::new(),
        };
        let input = self.normalized(task.tokens, &block.mlp_norm, &block.up, &mut task.scratch);
        let active = Epilogue::Activate(task.activations, self.shape.activation);
        instructions.multiply(input, &block.up, active);
        let input = self.quantized(task.activations, &block.down, &mut task.scratch);
        instructions.multiply(input, &block.down, Epilogue::Add(task.tokens));
        if let Some(ClassToken { other, .. }) = task.class_token {
            let added = task.tokens.iter().zip(before_mlp).zip(&*block.out.bias);
            for (other, ((after, before), bias)) in other.iter_mut().zip(added) {
                *other += (after - before) + bias;
            }
        }
    }

    /// Normalised rows, as a layer reads them.
    fn normalized<'s>(
        &self,
        rows: &[f32],
        norm: &Norm,
        layer: &Linear,
        scratch: &'s mut Scratch<'_>,
    ) -> Operand<'s> {
        let epsilon = self.shape.norm_epsilon;
        match layer.is_int8() {
            true => {
                let quantized = &mut scratch.quantized;
                self.instructions
                    .normalize_and_quantize(rows, norm, epsilon, quantized);
                Operand::Int8(quantized.view())
            }
            false => {
                self.instructions
                    .normalize(rows, norm, epsilon, scratch.normalized);
                Operand::Float32(scratch.normalized)
            }
        }
    }

    /// Rows, as a layer reads them.
    fn quantized<'s>(
        &self,
        rows: &'s [f32],
        layer: &Linear,
        scratch: &'s mut Scratch<'_>,
    ) -> Operand<'s> {
        match layer.is_int8() {
            true => {
                self.instructions.quantize(rows, &mut scratch.quantized);
                Operand::Int8(scratch.quantized.view())
            }
            false => Operand::Float32(rows),
        }
    }
}

impl<'a> Scratch<'a> {
    fn new((normalized, quantized): (&'a mut [f32], QuantizedMut<'a>)) -> Self {
        Self {
            quantized,
            normalized,
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

/// What rounding the first row to integers changed; nothing where it was not rounded.
fn write_rounding_error(input: Operand<'_>, rows: &[f32], error: &mut [f32]) {
    let Operand::Int8(quantized) = input else {
        error.fill(0.0);
        return;
    };
    let values = quantized.bytes.iter().zip(rows);
    for (error, (&byte, value)) in error.iter_mut().zip(values) {
        let integer = (i32::from(byte) - ZERO_POINT) as f32;
        *error = integer * quantized.scale[0] - value;
    }
}
