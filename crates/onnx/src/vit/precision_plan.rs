//! The precision of each of the blocks' linear layers.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// Arithmetic of the large matrix products.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit floating point, with LayerNorm, softmax and rollout in 32 bits.
    Fp16,
    /// Bfloat16 factors, added up in 32 bits; everything else is in 32 bits.
    Bf16,
    /// 8-bit integers: weights scaled per channel, activations per token.
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

/// The precision of each of the blocks' linear layers. Everything around them (normalisation of the
/// pooling, classifier, rollout) is float32 in any case; attribution is too, but for its largest
/// product, which has the blocks' own precision in [`Precision::Fp16`].
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionPlan {
    /// That of the linear layers.
    pub precision: Precision,
    /// Layers of an int8 graph that compute in float32.
    pub float32_layers: BTreeSet<LinearLayer>,
    /// Whether every linear layer of a float32 graph computes in int8 beside, and the graph has one
    /// more output, [`LAYER_ERRORS`](super::LAYER_ERRORS).
    pub probing: bool,
}

/// A linear layer of a block: what `import --check` measures, and can keep in float32.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinearLayer {
    /// The block, counted from 0.
    pub block: usize,
    /// Which of its layers.
    pub part: LinearKind,
}

/// Which linear layer of a block.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinearKind {
    /// Queries, keys and values, which read the same tokens.
    Qkv,
    /// From the heads' results back to the residual stream.
    Out,
    /// First layer of the MLP.
    Up,
    /// Second layer of the MLP.
    Down,
}

impl PrecisionPlan {
    /// Every layer in one precision.
    pub fn uniform(precision: Precision) -> Self {
        Self {
            precision,
            float32_layers: BTreeSet::new(),
            probing: false,
        }
    }

    /// That of one layer.
    pub fn precision_of(&self, layer: LinearLayer) -> Precision {
        match self.precision {
            Precision::Int8 if self.float32_layers.contains(&layer) => Precision::Fp32,
            precision => precision,
        }
    }
}

impl LinearKind {
    /// All of them, in the order in which a block computes them.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Out, Self::Up, Self::Down];
}

impl fmt::Display for LinearLayer {
    /// As the graph's nodes are called, such as `block.3/mlp/down`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            LinearKind::Qkv => "attention/qkv",
            LinearKind::Out => "attention/out",
            LinearKind::Up => "mlp/up",
            LinearKind::Down => "mlp/down",
        };
        write!(f, "block.{}/{part}", self.block)
    }
}
