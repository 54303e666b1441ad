//! What a graph's encoder has, read from its nodes by their names.

use super::{FusedShape, dims};
use crate::{
    graph_index::GraphIndex,
    proto::{GraphProto, NodeProto},
    vit::{Activation, HeadFusion},
};

/// Sizes and conventions of an encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderNetwork {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the hidden layer of each MLP.
    pub mlp: usize,
    /// Height and width of an image.
    pub image: [usize; 2],
    /// Side of a patch.
    pub patch: usize,
    /// Tokens before the first patch.
    pub prefix: usize,
    /// Tokens, from the first, that the classifier reads; all where it reads a mean over the
    /// patches.
    pub read: usize,
    /// Added to the variance in every normalisation.
    pub norm_epsilon: f32,
    /// Whether tokens are normalised before the first block.
    pub pre_norm: bool,
    /// Whether the layers multiply bfloat16.
    pub bf16: bool,
    /// Between the two layers of each MLP.
    pub activation: Activation,
    /// How the heads' attention matrices become one.
    pub head_fusion: HeadFusion,
    /// Labels of an image that attributions are made for, and the mean over all classes; none if
    /// the graph makes none.
    pub labels: Option<usize>,
}

/// Values of a block that the operators know, without the layers' own. A graph that has others is
/// of a network that they do not compute.
const VALUES: [&str; 32] = [
    "attention",
    "attention/by_token",
    "attention/heads_joined",
    "attention/keys",
    "attention/keys/by_token",
    "attention/keys_transposed",
    "attention/mixed",
    "attention/norm",
    "attention/probabilities",
    "attention/queries",
    "attention/queries/by_token",
    "attention/readout",
    "attention/readout/by_picture",
    "attention/readout/rows",
    "attention/scores",
    "attention/values",
    "attention/values/batch_and_tokens",
    "attention/values/by_token",
    "attention/values/shape",
    "mlp",
    "mlp/active",
    "mlp/active/factor",
    "mlp/active/gate",
    "mlp/active/steep",
    "mlp/class_token",
    "mlp/norm",
    "residual",
    "residual/by_picture",
    "residual/rows",
    "attention/norm/codes",
    "attention/mixed/codes",
    "attention/readout/codes",
];

/// Linear layers of a block, by the value that each makes.
const LAYERS: [&str; 6] = [
    "attention/queries/flat",
    "attention/keys/flat",
    "attention/values/flat",
    "attention/out",
    "mlp/up",
    "mlp/down",
];

/// What quantizing leaves behind the name of what is quantized.
const CODES: [&str; 9] = [
    "",
    "/float32",
    "/largest",
    "/smallest",
    "/below",
    "/range",
    "/range/guarded",
    "/scale",
    "/scale/flat",
];

impl EncoderNetwork {
    /// Tokens of an image.
    pub fn tokens(&self) -> usize {
        self.prefix
            + self
                .image
                .iter()
                .map(|side| side / self.patch)
                .product::<usize>()
    }

    pub(super) fn read(graph: &GraphProto, shape: &FusedShape) -> Result<Self, String> {
        let index = GraphIndex::new(graph);
        let node = |name: &str| {
            let node = producer(&index, name);
            node.ok_or_else(|| format!("it has no value `{name}`"))
        };
        check_names(graph)?;
        let embedding = first_input(node("block.0/attention/norm")?);
        check_blocks(&node, shape.layers, embedding)?;

        let norm = node("block.0/attention/norm")?;
        let epsilon = norm.attribute.iter().find(|a| a.name() == "epsilon");
        let patch = node("embed/patch")?;
        let sides = patch.attribute.iter().find(|a| a.name() == "kernel_shape");
        let Some(&[side, other]) = sides.map(|sides| sides.ints.as_slice()) else {
            return Err("the size of its patches is not said".to_owned());
        };
        let side = usize::try_from(side).ok().filter(|_| side == other);
        let side = side.ok_or("its patches are not square")?;
        let patches: usize = shape.image.iter().map(|length| length / side).product();
        let prefix = shape.tokens.checked_sub(patches);
        let prefix = prefix.ok_or("it has fewer tokens than patches")?;
        let last = shape.layers - 1;
        let read = match producer(&index, &format!("block.{last}/residual/rows")) {
            None => shape.tokens,
            Some(slice) => {
                let end = slice.input.get(2).and_then(|name| integers(&index, name));
                let end = end.and_then(|end| usize::try_from(*end.first()?).ok());
                end.ok_or("the rows that its classifier reads are not constant")?
            }
        };
        let out = ["", ".stored", ".int8"].map(|end| format!("block.0/attention/out.kernel{end}"));
        let out = out.iter().find_map(|name| index.constant(name));
        if out.is_none_or(|kernel| kernel.dims != dims(&[shape.hidden; 2])) {
            return Err("its attention has another width than its tokens".to_owned());
        }
        let up = index.constant("block.0/mlp/up.bias");
        let up = up.or_else(|| index.constant("block.0/mlp/up.bias.stored"));
        let mlp = up.and_then(|bias| usize::try_from(*bias.dims.first()?).ok());
        let labels = match producer(&index, "evidence/tokens") {
            None => None,
            Some(_) => {
                let shape = node("evidence/0/read")?.input.get(1);
                let shape = shape.and_then(|name| integers(&index, name));
                let labels = shape.and_then(|shape| usize::try_from(*shape.get(1)?).ok());
                Some(labels.ok_or("its labels cannot be counted")?)
            }
        };
        Ok(Self {
            layers: shape.layers,
            heads: shape.heads,
            hidden: shape.hidden,
            mlp: mlp.ok_or("its MLP has no width")?,
            image: shape.image,
            patch: side,
            prefix,
            read,
            norm_epsilon: epsilon.and_then(|a| a.f).unwrap_or(1e-5),
            pre_norm: index.producer("embed/norm").is_some(),
            bf16: rounds_to_bf16(&index, shape.layers)?,
            activation: activation(node("block.0/mlp/active")?, &index)?,
            head_fusion: shape.head_fusion,
            labels,
        })
    }
}

/// Whether the blocks consist of nothing else than what the operators compute.
fn check_names(graph: &GraphProto) -> Result<(), String> {
    for node in &graph.node {
        for name in &node.output {
            // Their rollouts start elsewhere than at the class token or the mean of patches.
            match name.as_str() {
                "readout/joined" => {
                    return Err("its classifier reads class token and mean".to_owned());
                }
                "pool" => return Err("its classifier reads what a learned query does".to_owned()),
                _ => {}
            }
            let known = match name.split_once('/') {
                Some((block, part)) if block.starts_with("block.") => is_known(part, node),
                Some(("embed", part)) => {
                    let known = ["patch", "flat", "patches", "padded", "tokens", "norm"];
                    known.contains(&part) || is_weight(part, node)
                }
                _ => true,
            };
            if !known {
                return Err(format!("it has `{name}`, which the kernels lack"));
            }
        }
    }
    Ok(())
}

fn is_known(part: &str, node: &NodeProto) -> bool {
    let codes = |suffix: &str| {
        let read = part
            .strip_suffix(suffix)
            .and_then(|part| part.strip_suffix("/codes"));
        let read = read.map(|read| read.strip_suffix("/read").unwrap_or(read));
        let read_by_layers = ["attention/norm", "attention/mixed", "attention/readout"];
        read.is_some_and(|read| read_by_layers.contains(&read) || LAYERS.contains(&read))
    };
    let layer = part
        .strip_suffix("/unscaled")
        .or_else(|| part.strip_suffix("/scaled"));
    VALUES.contains(&part)
        || LAYERS.contains(&layer.unwrap_or(part))
        || part.starts_with("attention/heads_joined/")
        || CODES.into_iter().any(codes)
        || is_weight(part, node)
}

/// A constant that is widened or multiplied on loading.
fn is_weight(part: &str, node: &NodeProto) -> bool {
    let weight = [".kernel", ".bias", ".scale", ".unscaled"];
    weight.iter().any(|end| part.ends_with(end)) && matches!(node.op_type(), "Cast" | "Mul")
}

/// Whether the blocks' layers read what is rounded to bfloat16: all of them, or none.
fn rounds_to_bf16(index: &GraphIndex<'_>, layers: usize) -> Result<bool, String> {
    let read = [
        "attention/norm",
        "attention/mixed",
        "mlp/up/read",
        "mlp/down/read",
    ];
    let rounded = (0..layers).flat_map(|block| {
        let codes = read.map(|read| producer(index, &format!("block.{block}/{read}/codes")));
        codes.map(|codes| codes.is_some_and(|codes| codes.op_type() == "Cast"))
    });
    let rounded: Vec<bool> = rounded.collect();
    match rounded.iter().filter(|&&rounded| rounded).count() {
        0 => Ok(false),
        count if count == rounded.len() => Ok(true),
        _ => Err("some of its layers multiply bfloat16, and others do not".to_owned()),
    }
}

fn first_input(node: &NodeProto) -> &str {
    node.input.first().map_or("", String::as_str)
}

/// Checks that the blocks' parts read each other as in a Vision Transformer with normalisation
/// before attention and before the MLP.
fn check_blocks<'g>(
    node: &impl Fn(&str) -> Result<&'g NodeProto, String>,
    layers: usize,
    embedding: &'g str,
) -> Result<(), String> {
    let mut stream = embedding.to_owned();
    for block in 0..layers {
        let name = |part: &str| format!("block.{block}/{part}");
        let residual = match node(&name("residual/by_picture")) {
            Ok(pooled) if pooled.input.first() == Some(&stream) => name("residual"),
            Ok(_) => return Err(format!("block {block} adds to something else")),
            Err(_) => stream.clone(),
        };
        let expected: [(&str, &str, Vec<String>); 9] = [
            ("attention/norm", "LayerNormalization", vec![stream.clone()]),
            (
                "attention/scores",
                "MatMul",
                vec![name("attention/queries"), name("attention/keys_transposed")],
            ),
            (
                "attention/probabilities",
                "Softmax",
                vec![name("attention/scores")],
            ),
            (
                "attention/mixed",
                "MatMul",
                vec![name("attention/probabilities"), name("attention/values")],
            ),
            (
                "attention/by_token",
                "Transpose",
                vec![name("attention/mixed")],
            ),
            (
                "attention/heads_joined",
                "Reshape",
                vec![name("attention/by_token")],
            ),
            ("attention", "Add", vec![residual, name("attention/out")]),
            ("mlp/norm", "LayerNormalization", vec![name("attention")]),
            ("mlp", "Add", vec![name("attention"), name("mlp/down")]),
        ];
        for (part, operator, inputs) in expected {
            let found = node(&name(part))?;
            let same = found.op_type() == operator && found.input.starts_with(&inputs);
            if !same {
                let part = name(part);
                return Err(format!(
                    "`{part}` is not {operator} of {}",
                    inputs.join(" and ")
                ));
            }
        }
        stream = name("mlp");
    }
    Ok(())
}

fn activation(node: &NodeProto, index: &GraphIndex<'_>) -> Result<Activation, String> {
    let approximate = node.attribute.iter().find(|a| a.name() == "approximate");
    match (node.op_type(), approximate.and_then(|a| a.s.as_deref())) {
        ("Gelu", Some(b"tanh")) => Ok(Activation::GeluTanh),
        ("Gelu", _) => Ok(Activation::Gelu),
        ("Relu", _) => Ok(Activation::Relu),
        ("Mul", _) => {
            let gate = producer(index, "block.0/mlp/active/gate");
            let gate = gate.filter(|gate| gate.op_type() == "Sigmoid");
            match gate.map(first_input) {
                Some("block.0/mlp/up") => Ok(Activation::Silu),
                Some("block.0/mlp/active/steep") => Ok(Activation::QuickGelu),
                _ => Err("its MLPs have a gate".to_owned()),
            }
        }
        (other, _) => Err(format!("its activation is {other}")),
    }
}

fn producer<'g>(index: &GraphIndex<'g>, name: &str) -> Option<&'g NodeProto> {
    index.producer(name).map(|(_, node)| node)
}

/// A short constant list.
fn integers(index: &GraphIndex<'_>, name: &str) -> Option<Vec<i64>> {
    let bytes = index.constant(name)?.raw_data.as_deref()?;
    let values = bytes.as_chunks::<8>().0.iter();
    Some(values.map(|bytes| i64::from_le_bytes(*bytes)).collect())
}
