//! The graph of [`build`](super::build()) with a few large operators where it has many small ones.
//!
//! A GPU spends most of the portable graph on passes over memory and on launches. [`fuse`] rewrites
//! a float16 graph when it is loaded, and leaves the file as it is: linear layers without a bias,
//! the bias in ONNX Runtime's `BiasGelu` and `SkipLayerNormalization`, and in the domain [`DOMAIN`]
//!
//! | operator | inputs | results |
//! |---|---|---|
//! | `Normalize` | images in bytes `[batch, height, width, 3]`, normalised ones `[batch, 3, height, width]`, scale `[1]`, mean and deviation `[3]`, float32 | all of them, normalised, `[batch, 3, height, width]` |
//! | `Attention` | queries and keys `[batch, tokens, 2·hidden]`, values `[batch, tokens, hidden]`, biases of queries and of values `[hidden]`, maps | mixed values `[batch, queries, hidden]`, mean over the heads `[batch, groups, queries, stride]`, class token's rows float32 `[batch, 1, heads, tokens]` |
//! | `Rollout` | maps, the head means of all blocks | float32 `[batch, layers, tokens]` |
//! | `ClassTokenSum` | sum so far float32 `[batch, hidden]`, a block's MLP `[batch, tokens, hidden]`, biases of MLP and attention output `[hidden]`, maps | the sum float32 `[batch, hidden]` |
//! | `Attribution` | maps, labels' directions `[batch·labels, hidden]`, and of all blocks output kernel, values, values' bias, class token's rows | float32 `[batch, tokens, labels]`, room for what is computed on the way |
//!
//! `maps` is the graph's input [`MAPS`], int64 `[1]`: with 0 the operators do not compute what only
//! maps need, and the outputs other than the logits hold anything. `stride` is the number of tokens
//! rounded up to a multiple of eight, filled with zeros; the mean is the sum over `groups`.
//!
//! The images of a batch come as bytes in [`PIXELS`] (`[pixels_batch, height, width, 3]`) or,
//! normalised, in the input of the portable graph; either may be empty, and those in bytes come
//! first in the batch.
//!
//! Each is a model-local function whose body is standard operators, so the graph runs where no
//! operator of the name is registered, too.

mod functions;
mod pixels;
mod plan;
mod prune;

pub(super) use self::prune::pruned;
use self::{
    plan::{BiasActivation, Plan, Source},
    prune::without_replaced,
};

use super::{CLASS_ATTENTION, PIXEL_VALUES, ROLLOUT_BY_START};
use crate::{
    graph::{Attribute, Graph, OPSET, RUNTIME_DOMAIN, Value, as_i64},
    proto::{GraphProto, ModelProto, OperatorSetIdProto},
    tensor::{DType, Tensor},
    vit::HeadFusion,
};

/// Domain of the operators.
pub const DOMAIN: &str = "patchlight";
/// Images of both forms, as the network reads them.
pub const NORMALIZE: &str = "Normalize";
/// Attention of a block, with what maps need of it.
pub const ATTENTION: &str = "Attention";
/// The rollout of all blocks.
pub const ROLLOUT_OPERATOR: &str = "Rollout";
/// Adds what a block's MLP and biases wrote to the class token.
pub const CLASS_TOKEN_SUM: &str = "ClassTokenSum";
/// The patches' part of the labels' logits.
pub const ATTRIBUTION: &str = "Attribution";
/// Input that says whether anything but the logits is wanted.
pub const MAPS: &str = "maps";
/// Input of images as bytes.
pub const PIXELS: &str = "pixels";

/// What has to be known of a graph to rewrite it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FusedShape {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Tokens of an image, prefix included.
    pub tokens: usize,
    /// Height and width of an image.
    pub image: [usize; 2],
    /// How the heads' matrices become one.
    pub head_fusion: HeadFusion,
}

impl FusedShape {
    /// Length of a row of the head mean: a multiple of eight.
    pub fn mean_stride(&self) -> usize {
        self.tokens.next_multiple_of(8)
    }
}

/// From bytes to the values that the network was trained on: `(byte · scale − mean) / std` of each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelNormalization {
    /// Usually 1/255.
    pub scale: f64,
    /// Of R, G and B, subtracted after scaling.
    pub mean: [f64; 3],
    /// What the difference is divided by.
    pub std: [f64; 3],
}

/// A rewritten graph, and what its operators have to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    /// The graph, its constants where they were.
    pub model: ModelProto,
    /// Queries of the last block: the tokens that the classifier reads.
    pub read: usize,
    /// Directions of an image that attributions are made for: the best labels and the mean over all
    /// classes. None if the graph makes no attributions.
    pub directions: Option<usize>,
}

/// Rewrites a float16 graph that [`build`](super::build()) wrote. Constants stay where they are.
///
/// # Errors
/// Why the graph cannot be rewritten, to complete "the graph stays as it is, because": it is
/// another program's, or its network has something that the fused operators lack.
pub fn fuse(
    model: ModelProto,
    shape: &FusedShape,
    normalize: &PixelNormalization,
) -> Result<Fused, String> {
    if shape.head_fusion != HeadFusion::Mean {
        return Err("its rollout does not take the mean over the heads".to_owned());
    }
    let graph = graph_of_ours(&model)?.clone();
    let source = Source::new(&graph);
    let plan = Plan::read(&source, shape)?;
    let mut fused = Fusion {
        graph: Graph::resume(without_replaced(graph.clone(), &plan), OPSET),
        shape,
        plan: &plan,
    };
    pixels::write(&mut fused.graph, shape.image, normalize).map_err(|error| error.to_string())?;
    fused.write()?;
    let mut model = ModelProto {
        graph: Some(pruned(fused.graph.into_proto())),
        functions: functions::all(shape, &plan),
        ..model
    };
    for domain in [RUNTIME_DOMAIN, DOMAIN] {
        if !model.opset_import.iter().any(|set| set.domain() == domain) {
            model.opset_import.push(OperatorSetIdProto {
                domain: Some(domain.to_owned()),
                version: Some(1),
            });
        }
    }
    Ok(Fused {
        model,
        read: plan.read,
        directions: plan.attribution.map(|attribution| attribution.labels),
    })
}

/// The graph of a model in the operator set that [`build`](super::build()) writes.
pub(super) fn graph_of_ours(model: &ModelProto) -> Result<&GraphProto, String> {
    let graph = model.graph.as_ref().ok_or("it has no graph")?;
    let opset = model
        .opset_import
        .iter()
        .find(|set| set.domain().is_empty());
    match opset.and_then(|set| set.version) {
        Some(OPSET) => Ok(graph),
        _ => Err(format!("it is not in operator set {OPSET}")),
    }
}

/// The rewritten graph under construction.
struct Fusion<'a> {
    graph: Graph<'static>,
    shape: &'a FusedShape,
    plan: &'a Plan,
}

/// What later operators read of a block.
struct Block {
    mean: Value,
    rows: Value,
    values: Value,
}

impl Fusion<'_> {
    fn write(&mut self) -> Result<(), String> {
        let FusedShape {
            layers,
            tokens,
            hidden,
            ..
        } = *self.shape;
        let constant = |error: std::io::Error| error.to_string();
        let maps = self.graph.input(MAPS, DType::I64, &[1.into()]);
        if !self.plan.qkv_bias {
            let zeros = Tensor::f32(vec![hidden], &vec![0.0; hidden]).cast_f16();
            self.graph
                .constant("fused/no_bias", zeros)
                .map_err(constant)?;
        }

        let embedding = self.graph.value(&self.plan.embedding);
        let by_image = [-1, as_i64(tokens), as_i64(hidden)];
        let mut x = self.graph.reshape("fused/embedding", &embedding, &by_image);
        let [scale, shift] = self.constants(0, ["attention/norm.scale", "attention/norm.bias"]);
        let epsilon = self.plan.epsilon;
        let mut normed =
            self.graph
                .layer_norm("fused/0/attention/norm", &x, &scale, &shift, epsilon);
        let attribution = self.plan.attribution.as_ref();
        let mut sum = attribution.map(|plan| self.graph.value(&plan.embedding));
        let mut blocks = Vec::with_capacity(layers);
        for block in 0..layers {
            let (attention_output, made) = self.attention(block, &normed, &maps);
            blocks.push(made);
            let last = block + 1 == layers;
            let residual = match last && self.plan.read < tokens {
                true => self
                    .graph
                    .slice("fused/readout", &x, 1, 0, as_i64(self.plan.read)),
                false => x.clone(),
            };
            let (after, mlp) = self.mlp(block, &residual, &attention_output);
            if let Some(before) = sum {
                let name = match last {
                    true => "evidence/other".to_owned(),
                    false => format!("fused/{block}/class_token_sum"),
                };
                let biases = ["mlp/down.bias", "attention/out.bias"];
                let [down, out] = self.constants(block, biases);
                let inputs = [&before, &mlp, &down, &out, &maps];
                self.graph
                    .call((DOMAIN, CLASS_TOKEN_SUM), &[&name], &inputs, &[]);
                sum = Some(self.graph.value(&name));
            }
            match after {
                After::Block {
                    x: next,
                    normed: next_normed,
                } => {
                    x = next;
                    normed = next_normed;
                }
                After::Last => {}
            }
        }
        self.maps(&blocks, &maps);
        Ok(())
    }

    /// Attention up to its output kernel.
    fn attention(&mut self, block: usize, normed: &Value, maps: &Value) -> (Value, Block) {
        let name = |part: &str| format!("fused/{block}/attention/{part}");
        let kernels = [
            "attention/queries.kernel",
            "attention/keys.kernel",
            "attention/values.kernel",
            "attention/out.kernel",
        ];
        let [queries, keys, values, out] = self.constants(block, kernels);
        let [query_bias, value_bias] = match self.plan.qkv_bias {
            true => self.constants(block, ["attention/queries.bias", "attention/values.bias"]),
            false => [(); 2].map(|()| self.graph.value("fused/no_bias")),
        };
        let graph = &mut self.graph;
        // Joined once, when the runtime loads the graph.
        let kernel = graph.concat(&name("queries_and_keys.kernel"), &[&queries, &keys], 1);
        let queries_and_keys = graph.matmul(&name("queries_and_keys"), normed, &kernel);
        let values = graph.matmul(&name("values"), normed, &values);
        let count = match block + 1 == self.shape.layers {
            true => self.plan.read,
            false => self.shape.tokens,
        };
        let results = ["mixed", "mean", "class_token"].map(name);
        graph.call(
            (DOMAIN, ATTENTION),
            &results.each_ref().map(String::as_str),
            &[&queries_and_keys, &values, &query_bias, &value_bias, maps],
            &[("queries", Attribute::Int(as_i64(count)))],
        );
        let [mixed, mean, rows] = results.map(|name| graph.value(&name));
        let attention_output = graph.matmul(&name("out"), &mixed, &out);
        (attention_output, Block { mean, rows, values })
    }

    /// The rest of a block: what the next one reads, and the MLP's result without its bias.
    fn mlp(&mut self, block: usize, residual: &Value, attention_output: &Value) -> (After, Value) {
        let name = |part: &str| format!("fused/{block}/{part}");
        let [scale, shift, bias] = self.constants(
            block,
            ["mlp/norm.scale", "mlp/norm.bias", "attention/out.bias"],
        );
        let [up, up_bias, down, down_bias] = self.constants(
            block,
            [
                "mlp/up.kernel",
                "mlp/up.bias",
                "mlp/down.kernel",
                "mlp/down.bias",
            ],
        );
        let (normed, x) = self.skip_norm(
            &name("mlp/norm"),
            attention_output,
            residual,
            [&scale, &shift, &bias],
        );
        let graph = &mut self.graph;
        let hidden = graph.matmul(&name("mlp/up"), &normed, &up);
        let operator = match self.plan.activation {
            BiasActivation::Gelu => "BiasGelu",
            BiasActivation::GeluTanh => "FastGelu",
        };
        let active = name("mlp/active");
        graph.call(
            (RUNTIME_DOMAIN, operator),
            &[&active],
            &[&hidden, &up_bias],
            &[],
        );
        let active = graph.value(&active);
        let written = graph.matmul(&name("mlp/down"), &active, &down);
        if block + 1 == self.shape.layers {
            let written_biased = graph.add(&name("mlp/down_biased"), &written, &down_bias);
            let x = graph.add(&name("tokens"), &x, &written_biased);
            let shape = [-1, as_i64(self.shape.hidden)];
            graph.reshape(&format!("block.{block}/mlp"), &x, &shape);
            return (After::Last, written);
        }
        let next = block + 1;
        let [scale, shift] = self.constants(next, ["attention/norm.scale", "attention/norm.bias"]);
        let (normed, x) = self.skip_norm(
            &format!("fused/{next}/attention/norm"),
            &written,
            &x,
            [&scale, &shift, &down_bias],
        );
        (After::Block { x, normed }, written)
    }

    /// `written + bias + residual`, normalised and as it is.
    fn skip_norm(
        &mut self,
        name: &str,
        written: &Value,
        residual: &Value,
        [scale, shift, bias]: [&Value; 3],
    ) -> (Value, Value) {
        let sum = format!("{name}/sum");
        self.graph.call(
            (RUNTIME_DOMAIN, "SkipLayerNormalization"),
            &[name, "", "", &sum],
            &[written, residual, scale, shift, bias],
            &[("epsilon", Attribute::Float(self.plan.epsilon))],
        );
        (self.graph.value(name), self.graph.value(&sum))
    }

    /// What is made of all blocks together, under the names that the rest of the graph reads.
    fn maps(&mut self, blocks: &[Block], maps: &Value) {
        let means = blocks.iter().map(|block| &block.mean);
        let inputs: Vec<&Value> = std::iter::once(maps).chain(means).collect();
        self.graph.call(
            (DOMAIN, ROLLOUT_OPERATOR),
            &[ROLLOUT_BY_START],
            &inputs,
            &[],
        );
        if self.plan.attribution.is_none() {
            return;
        }
        let rows: Vec<&Value> = blocks.iter().map(|block| &block.rows).collect();
        self.graph.concat(CLASS_ATTENTION, &rows, 1);

        let directions = self.graph.value("evidence/directions/flat/float16");
        let of_blocks = |part: fn(&Block) -> &Value| blocks.iter().map(part);
        let kernels: Vec<Value> = (0..blocks.len())
            .map(|block| {
                self.graph
                    .value(&format!("block.{block}/attention/out.kernel"))
            })
            .collect();
        let biases: Vec<Value> = (0..blocks.len())
            .map(|block| match self.plan.qkv_bias {
                true => self
                    .graph
                    .value(&format!("block.{block}/attention/values.bias")),
                false => self.graph.value("fused/no_bias"),
            })
            .collect();
        let inputs: Vec<&Value> = [maps, &directions]
            .into_iter()
            .chain(&kernels)
            .chain(of_blocks(|block| &block.values))
            .chain(&biases)
            .chain(of_blocks(|block| &block.rows))
            .collect();
        self.graph.call(
            (DOMAIN, ATTRIBUTION),
            &["evidence/tokens", "fused/scratch"],
            &inputs,
            &[],
        );
    }

    fn constants<const N: usize>(&self, block: usize, names: [&str; N]) -> [Value; N] {
        names.map(|name| self.graph.value(&format!("block.{block}/{name}")))
    }
}

/// What follows a block.
enum After {
    /// The next one reads these, `[batch, tokens, hidden]`.
    Block { x: Value, normed: Value },
    /// The classifier reads the value that it read before.
    Last,
}
