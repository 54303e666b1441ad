//! What a portable graph's network has, read from its nodes and constants by their names.

use std::collections::HashMap;

use super::FusedShape;
use crate::{
    graph::as_i64,
    proto::{DataType, GraphProto, NodeProto, TensorProto},
};

/// The graph by names.
pub(super) struct Source<'a> {
    producer: HashMap<&'a str, &'a NodeProto>,
    constant: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> Source<'a> {
    pub(super) fn new(graph: &'a GraphProto) -> Self {
        let results = graph.node.iter().flat_map(|node| {
            let named = node.output.iter();
            named.map(move |name| (name.as_str(), node))
        });
        Self {
            producer: results.collect(),
            constant: graph
                .initializer
                .iter()
                .map(|tensor| (tensor.name(), tensor))
                .collect(),
        }
    }

    fn node(&self, name: &str) -> Result<&'a NodeProto, String> {
        let node = self.producer.get(name).copied();
        node.ok_or_else(|| format!("it has no value `{name}`"))
    }

    fn float16(&self, name: &str, dims: &[usize]) -> Result<(), String> {
        let Some(tensor) = self.constant.get(name) else {
            return Err(format!("it has no constant `{name}`"));
        };
        let expected: Vec<i64> = dims.iter().map(|&length| as_i64(length)).collect();
        if tensor.data_type != Some(DataType::Float16.into()) || tensor.dims != expected {
            return Err(format!("`{name}` is not float16 {dims:?}"));
        }
        Ok(())
    }
}

/// What the graph's network has, read from its nodes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The tokens before the first block.
    pub(super) embedding: String,
    pub(super) epsilon: f32,
    pub(super) activation: BiasActivation,
    pub(super) qkv_bias: bool,
    /// Queries of the last block, from the first token on.
    pub(super) read: usize,
    pub(super) mlp: usize,
    pub(super) attribution: Option<AttributionPlan>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct AttributionPlan {
    /// Directions of an image: the labels and the mean over all classes.
    pub(super) labels: usize,
    /// Where the class token's embedding is, in float32.
    pub(super) embedding: String,
}

/// Activations that the runtime has together with their bias.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BiasActivation {
    Gelu,
    GeluTanh,
}

impl Plan {
    pub(super) fn read(source: &Source<'_>, shape: &FusedShape) -> Result<Self, String> {
        refuse_variants(source)?;
        let norm = source.node("block.0/attention/norm")?;
        let attribute = |name: &str| norm.attribute.iter().find(|a| a.name() == name);
        let activation = source.node("block.0/mlp/active")?;
        let approximate = activation
            .attribute
            .iter()
            .find(|a| a.name() == "approximate");
        let activation = match (
            activation.op_type(),
            approximate.and_then(|a| a.s.as_deref()),
        ) {
            ("Gelu", Some(b"tanh")) => BiasActivation::GeluTanh,
            ("Gelu", _) => BiasActivation::Gelu,
            (other, _) => return Err(format!("its activation is {other}")),
        };
        let (hidden, last) = (shape.hidden, shape.layers - 1);
        let qkv_bias = source
            .constant
            .contains_key("block.0/attention/queries.bias");
        let up = source.constant.get("block.0/mlp/up.kernel");
        let mlp = up.and_then(|kernel| usize::try_from(*kernel.dims.get(1)?).ok());
        let mlp = mlp.ok_or("its MLP's kernel has no width")?;
        for block in 0..shape.layers {
            for (name, dims) in constants_of_block(hidden, mlp, qkv_bias) {
                source.float16(&format!("block.{block}/{name}"), &dims)?;
            }
        }
        // The last block's queries are cut to those that the classifier reads.
        let read = match source.node(&format!("block.{last}/residual/rows")) {
            Ok(slice) => {
                let end = slice
                    .input
                    .get(2)
                    .and_then(|name| source.constant.get(name.as_str()));
                let end = end.and_then(|tensor| tensor.raw_data.as_deref()?.try_into().ok());
                let end = end
                    .map(i64::from_le_bytes)
                    .and_then(|end| usize::try_from(end).ok());
                end.ok_or("the rows that its classifier reads are not constant")?
            }
            Err(_) => shape.tokens,
        };
        let attribution = source.producer.contains_key("evidence/tokens").then(|| {
            let labels = source.producer.get("evidence/0/read")?;
            let reshaped = source.constant.get(labels.input.get(1)?.as_str())?;
            let labels: [u8; 8] = reshaped.raw_data.as_deref()?.get(8..16)?.try_into().ok()?;
            Some(AttributionPlan {
                labels: usize::try_from(i64::from_le_bytes(labels)).ok()?,
                embedding: source
                    .producer
                    .get("evidence/other")?
                    .input
                    .first()?
                    .clone(),
            })
        });
        let attribution = match attribution {
            Some(None) => return Err("its labels cannot be counted".to_owned()),
            Some(found) => found,
            None => None,
        };
        Ok(Self {
            embedding: norm.input.first().cloned().unwrap_or_default(),
            epsilon: attribute("epsilon").and_then(|a| a.f).unwrap_or(1e-5),
            activation,
            qkv_bias,
            read,
            mlp,
            attribution,
        })
    }
}

/// Refuses what the operators do not compute.
fn refuse_variants(source: &Source<'_>) -> Result<(), String> {
    const PARTS: [(&str, &str); 8] = [
        (
            "block.0/attention/queries/norm",
            "normalises queries and keys",
        ),
        ("block.0/attention/keys/rotated", "turns queries and keys"),
        ("block.0/attention/relative_bias", "adds to its scores"),
        (
            "block.0/attention/heads_norm",
            "normalises inside attention",
        ),
        (
            "block.0/attention/normed",
            "normalises what attention writes",
        ),
        ("block.0/mlp/inner_norm", "normalises inside its MLPs"),
        ("readout/joined", "classifies by class token and mean"),
        ("pool", "pools by attention"),
    ];
    for (name, reason) in PARTS {
        if source.producer.contains_key(name) {
            return Err(format!("its network {reason}"));
        }
    }
    let read = &source.node("block.0/mlp/norm")?.input;
    match read.first().is_some_and(|name| name == "block.0/attention") {
        true => Ok(()),
        false => Err("its MLPs do not read what attention made".to_owned()),
    }
}

fn constants_of_block(
    hidden: usize,
    mlp: usize,
    qkv_bias: bool,
) -> Vec<(&'static str, Vec<usize>)> {
    let mut constants = vec![
        ("attention/norm.scale", vec![hidden]),
        ("attention/norm.bias", vec![hidden]),
        ("attention/queries.kernel", vec![hidden, hidden]),
        ("attention/keys.kernel", vec![hidden, hidden]),
        ("attention/values.kernel", vec![hidden, hidden]),
        ("attention/out.kernel", vec![hidden, hidden]),
        ("attention/out.bias", vec![hidden]),
        ("mlp/norm.scale", vec![hidden]),
        ("mlp/norm.bias", vec![hidden]),
        ("mlp/up.kernel", vec![hidden, mlp]),
        ("mlp/up.bias", vec![mlp]),
        ("mlp/down.kernel", vec![mlp, hidden]),
        ("mlp/down.bias", vec![hidden]),
    ];
    if qkv_bias {
        constants.push(("attention/queries.bias", vec![hidden]));
        constants.push(("attention/values.bias", vec![hidden]));
    }
    constants
}
