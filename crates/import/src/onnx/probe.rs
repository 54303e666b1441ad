//! What running a graph shows of its attention: shapes, and which tokens the classifier reads.
//!
//! The graph is run with its attention probabilities as outputs. Those of the last block are
//! multiplied by a mask over their rows, an input: a token whose row is zero gets nothing from the
//! last attention, so if the logits do not change, the classifier does not read it.

use std::{collections::BTreeMap, ops::Range, path::Path};

use patchlight_engine::{BareSession, EngineError, Runtime, Values};
use patchlight_onnx::{
    graph_index::GraphIndex,
    proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto},
    tensor::DType,
    vit::{LOGITS, PIXEL_VALUES, PoolNorm, Pooling, Probabilities},
};

use super::{
    paths::cuts,
    rewrite::{node, value_info},
};

const MASK: &str = "probe/mask";

/// How many patches are left out one by one, evenly spread.
const SAMPLED: usize = 6;

/// A graph that shows its attention.
pub(super) struct Probe<'a> {
    session: BareSession,
    blocks: &'a [String],
    activations: Vec<String>,
    /// One image, `[1, 3, height, width]`.
    shape: [usize; 4],
    image: &'a [f32],
}

/// Which tokens the classifier reads, as the probe found it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum DetectedPooling {
    /// These.
    Known(Pooling),
    /// The last attention changes nothing, as in a network whose LayerScale was never trained, so
    /// it cannot be seen.
    Undetermined,
    /// Others, which the text lists.
    Unsupported(String),
}

/// The outputs of a probe run.
pub(super) struct ProbeResult {
    /// The blocks' probabilities with their element types, in their order.
    pub(super) blocks: Vec<Probabilities>,
    /// `[heads, tokens, tokens]` of each block.
    pub(super) attention: Vec<Vec<f32>>,
    pub(super) heads: usize,
    pub(super) tokens: usize,
    /// Widths of the values that nonlinearities were applied to.
    pub(super) activations: Vec<usize>,
}

/// The graph with a mask over the last block's rows, and with its blocks' probabilities and what is to
/// be shown as outputs.
pub(super) fn graph<'n>(
    mut model: ModelProto,
    blocks: &'n [String],
    shown: impl Iterator<Item = &'n str>,
    opset: i64,
) -> ModelProto {
    let Some(graph) = &mut model.graph else {
        return model;
    };
    let named = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        ..ValueInfoProto::default()
    };
    if let Some(last) = blocks.last() {
        let masked = "probe/masked";
        for consumer in graph
            .node
            .iter_mut()
            .filter(|node| node.op_type() == "MatMul")
        {
            for input in consumer.input.iter_mut().filter(|input| *input == last) {
                masked.clone_into(input);
            }
        }
        let at = graph
            .node
            .iter()
            .position(|node| node.output.contains(last));
        let mut added = vec![node("Mul", &[last, MASK], masked)];
        if opset >= 15 {
            added = vec![
                node("CastLike", &[MASK, last], "probe/mask/cast"),
                node("Mul", &[last, "probe/mask/cast"], masked),
            ];
        }
        let at = at.map_or(0, |at| at + 1);
        graph.node.splice(at..at, added);
        graph.input.push(value_info(MASK, Some("rows"), &[1]));
    }
    graph
        .output
        .extend(blocks.iter().map(String::as_str).chain(shown).map(named));
    let activations: Vec<String> = activations(&graph.node);
    graph
        .output
        .extend(activations.iter().map(String::as_str).map(named));
    model
}

/// A classifier's input that looks like a class token and, beside it, a mean over the patches.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    class_token: String,
    mean: String,
    /// What the mean is taken of.
    states: String,
}

impl Joined {
    /// The one through which alone the image reaches the logits, if there is one.
    pub(super) fn of(graph: &GraphProto) -> Option<Self> {
        let index = GraphIndex::new(graph);
        let joins = graph.node.iter().filter(|node| node.op_type() == "Concat");
        joins
            .filter_map(|node| {
                let [first, second] = &node.input[..] else {
                    return None;
                };
                let states = states_of_mean(&index, second)?;
                Some((node.output.first()?, first, second, states))
            })
            .find(|(joined, ..)| cuts(&index, joined))
            .map(|(_, first, second, states)| Self {
                class_token: first.clone(),
                mean: second.clone(),
                states,
            })
    }

    /// The values that tell whether it is one.
    pub(super) fn values(&self) -> [&str; 3] {
        [&self.class_token, &self.mean, &self.states]
    }
}

/// What a mean is taken of, where a value is one, its axes rearranged or not.
fn states_of_mean(index: &GraphIndex<'_>, value: &str) -> Option<String> {
    let (_, node) = index.producer(value)?;
    match node.op_type() {
        "ReduceMean" => node.input.first().cloned(),
        "Squeeze" | "Reshape" | "Flatten" | "Identity" | "Cast" => {
            states_of_mean(index, node.input.first()?)
        }
        _ => None,
    }
}

/// Results of the nodes that are nonlinearities of MLPs.
pub(super) fn activations<'n>(nodes: impl IntoIterator<Item = &'n NodeProto>) -> Vec<String> {
    const OPERATORS: [&str; 8] = [
        "Erf",
        "Gelu",
        "Tanh",
        "FastGelu",
        "BiasGelu",
        "QuickGelu",
        "Relu",
        "Sigmoid",
    ];
    let found = nodes
        .into_iter()
        .filter(|node| OPERATORS.contains(&node.op_type()));
    found
        .filter_map(|node| node.output.first().cloned())
        .collect()
}

impl<'a> Probe<'a> {
    /// Loads what [`graph`] made.
    pub(super) fn open(
        runtime: &Runtime,
        file: &Path,
        nodes: &[NodeProto],
        blocks: &'a [String],
        sides: [usize; 2],
        image: &'a [f32],
    ) -> Result<Self, EngineError> {
        let [height, width] = sides;
        Ok(Self {
            session: BareSession::open(runtime, file)?,
            blocks,
            activations: activations(nodes),
            shape: [1, 3, height, width],
            image,
        })
    }

    /// Runs it once. The inner error says what is wrong with the attention that it gave.
    pub(super) fn inspect(&mut self) -> Result<Result<ProbeResult, String>, EngineError> {
        let half = self.session.half_outputs();
        let mut outputs = self.run(&[1.0])?;
        Ok(self.parse_outputs(&half, &mut outputs))
    }

    fn parse_outputs(
        &self,
        half: &[String],
        outputs: &mut BTreeMap<String, Values>,
    ) -> Result<ProbeResult, String> {
        let mut attention = Vec::with_capacity(self.blocks.len());
        let mut sizes = None;
        for name in self.blocks {
            let Values { shape, values } = outputs.remove(name).unwrap_or_else(none);
            let &[1, heads, tokens, keys] = &shape[..] else {
                return Err(format!(
                    "the probabilities `{name}` have the shape {shape:?}; [batch, heads, tokens, \
                     tokens] is expected"
                ));
            };
            if tokens != keys || *sizes.get_or_insert((heads, tokens)) != (heads, tokens) {
                return Err(format!(
                    "the probabilities `{name}` have the shape {shape:?}, which is not square or not \
                     that of the first block"
                ));
            }
            let sums = values.chunks(tokens).map(|row| row.iter().sum::<f32>());
            if let Some(sum) = sums.into_iter().find(|sum| (sum - 1.0).abs() > 1e-2) {
                return Err(format!(
                    "a row of the probabilities `{name}` adds up to {sum}, not to 1"
                ));
            }
            attention.push(values);
        }
        let Some((heads, tokens)) = sizes else {
            return Err("there is no attention".to_owned());
        };
        let widths = self.activations.iter().filter_map(|name| outputs.get(name));
        Ok(ProbeResult {
            blocks: self
                .blocks
                .iter()
                .map(|name| Probabilities {
                    name: name.clone(),
                    dtype: match half.contains(name) {
                        true => DType::F16,
                        false => DType::F32,
                    },
                })
                .collect(),
            attention,
            heads,
            tokens,
            activations: widths
                .filter(|values| values.shape.iter().rev().nth(1) == Some(&tokens))
                .filter_map(|values| values.shape.last().copied())
                .collect(),
        })
    }

    /// Whether the parts of a joined readout are what they look like: one reads the class token
    /// alone, the other is the mean over the patches and nothing else.
    fn is_class_and_mean(
        &mut self,
        joined: &Joined,
        tokens: usize,
        prefix: usize,
    ) -> Result<bool, EngineError> {
        let mut run = |mask: &[f32]| {
            let mut outputs = self.run(mask)?;
            let mut take = |name: &str| outputs.remove(name).unwrap_or_else(none);
            Ok::<_, EngineError>([
                take(&joined.class_token),
                take(&joined.mean),
                take(&joined.states),
            ])
        };
        let only = |kept: Range<usize>| {
            let mut mask = vec![0.0; tokens];
            mask[kept].fill(1.0);
            mask
        };
        let [class_token, mean, states] = run(&vec![1.0; tokens])?;
        let [alone, ..] = run(&only(0..1))?;
        let [_, of_patches, _] = run(&only(prefix..tokens))?;
        let patches = tokens - prefix;
        let width = states.values.len() / patches.max(1);
        let is_mean = mean.values.len() == width
            && states.values.len() == patches * width
            && (0..width).all(|at| {
                let column = states.values.iter().skip(at).step_by(width.max(1));
                let expected = column.map(|&x| f64::from(x)).sum::<f64>() / patches as f64;
                (expected - f64::from(mean.values[at])).abs() < 2e-3 * expected.abs().max(1.0)
            });
        Ok(is_mean
            && class_token.values.len() == width
            && alone.values == class_token.values
            && of_patches.values == mean.values)
    }

    /// Which tokens' last states the logits are made of.
    ///
    /// Rows of a product do not mix, so where nothing that is read has changed, the logits are the
    /// same to the last bit.
    pub(super) fn pooling(
        &mut self,
        tokens: usize,
        prefix: usize,
        joined: Option<&Joined>,
    ) -> Result<DetectedPooling, EngineError> {
        let whole = self.logits(&vec![1.0; tokens])?;
        let mut without = |removed: Range<usize>| {
            let mut mask = vec![1.0; tokens];
            mask[removed].fill(0.0);
            self.logits(&mask)
        };
        if without(0..tokens)? == whole {
            return Ok(DetectedPooling::Undetermined);
        }
        // Each with the tokens that it does not read.
        if prefix >= 1 && without(1..tokens)? == whole {
            return Ok(DetectedPooling::Known(Pooling::ClassToken));
        }
        if prefix >= 2 && without(2..tokens)? == whole {
            return Ok(DetectedPooling::Known(Pooling::ClassAndDistillation));
        }
        // Some of the patches stand for all: a run of a large network takes seconds.
        let patches = (0..SAMPLED).map(|at| prefix + at * (tokens - 1 - prefix) / (SAMPLED - 1));
        let mut read = Vec::new();
        let mut unread = Vec::new();
        for token in (0..prefix).chain(patches) {
            match without(token..token + 1)? == whole {
                true => unread.push(token),
                false => read.push(token),
            }
        }
        if unread.iter().copied().eq(0..prefix) {
            return Ok(DetectedPooling::Known(Pooling::PatchMean(
                PoolNorm::BeforeMean,
            )));
        }
        if unread.iter().copied().eq(1..prefix)
            && prefix > 0
            && let Some(joined) = joined
            && self.is_class_and_mean(joined, tokens, prefix)?
        {
            return Ok(DetectedPooling::Known(Pooling::ClassAndMean));
        }
        Ok(DetectedPooling::Unsupported(format!(
            "the classifier reads other tokens than the class token, class and distillation token, all \
             patches, or the class token beside their mean: of {tokens}, of which {prefix} come before the patches, it reads {read:?} and \
             not {unread:?}"
        )))
    }

    fn logits(&mut self, mask: &[f32]) -> Result<Vec<f32>, EngineError> {
        let mut outputs = self.run(mask)?;
        Ok(outputs.remove(LOGITS).unwrap_or_else(none).values)
    }

    fn run(&mut self, mask: &[f32]) -> Result<BTreeMap<String, Values>, EngineError> {
        self.session.run(&[
            (PIXEL_VALUES, &self.shape, self.image),
            (MASK, &[mask.len(), 1], mask),
        ])
    }
}

fn none() -> Values {
    Values {
        shape: Vec::new(),
        values: Vec::new(),
    }
}
