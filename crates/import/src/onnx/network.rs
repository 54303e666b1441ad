//! What is known of an exported network, and from where.

use std::path::Path;

use patchlight_engine::{EngineError, Runtime};
use patchlight_onnx::{
    graph::OLDEST_OPSET,
    proto::{GraphProto, ModelProto, NodeProto},
    tensor::DType,
    vit::{Activation, Pooling, Probabilities, Variant, VitSpec},
};
use prost::Message;

use super::{
    Signature, attention,
    check::{self, GraphOutputs},
    probe::{self, DetectedPooling, Joined, Probe, ProbeResult},
    signature::Patches,
};
use crate::{ImportError, ImportOptions, directory::ModelDirWriter, sidecar::SidecarMetadata};

/// A network whose attention was seen.
pub(super) struct Network {
    patches: Patches,
    layers: usize,
    heads: usize,
    prefix: usize,
    mlp: usize,
    pooling: Pooling,
    half: bool,
    /// The blocks' attention probabilities.
    blocks: Vec<Probabilities>,
    /// What they were for the first test image: `[heads, tokens, tokens]` of each block.
    attention: Vec<Vec<f32>>,
}

/// An operator by which a graph takes the largest of its tokens. Nothing else in a Vision
/// Transformer whose softmaxes are whole has a use for one.
fn max_pooling_operator(graph: &GraphProto) -> Option<&str> {
    const OPERATORS: [&str; 5] = ["ReduceMax", "MaxPool", "GlobalMaxPool", "TopK", "ArgMax"];
    let operators = graph.node.iter().map(NodeProto::op_type);
    operators
        .into_iter()
        .find(|found| OPERATORS.contains(found))
}

/// Why attention is not known for sure.
pub(super) enum DetectionError {
    /// The graph shows something else.
    Map(String),
    /// It is a Vision Transformer's, and something about it contradicts that its map would be right.
    Doubtful(String),
    /// It could not be run, or written.
    Other(ImportError),
}

impl From<EngineError> for DetectionError {
    fn from(error: EngineError) -> Self {
        Self::Other(error.into())
    }
}

impl From<ImportError> for DetectionError {
    fn from(error: ImportError) -> Self {
        Self::Other(error)
    }
}

impl Network {
    /// Looks at the graph and runs it.
    ///
    /// # Errors
    /// If anything about its attention is not sure; what was found instead.
    pub(super) fn from_probe(
        runtime: &Runtime,
        directory: &ModelDirWriter,
        model: &ModelProto,
        signature: &Signature,
        sidecar: &SidecarMetadata,
        sides: [usize; 2],
    ) -> Result<Self, DetectionError> {
        let Some(graph) = &model.graph else {
            return Err(DetectionError::Map("there is no graph".to_owned()));
        };
        if signature.opset < OLDEST_OPSET {
            return Err(DetectionError::Map(format!(
                "its operators are of version {}, and the rollout is written in those from \
                 {OLDEST_OPSET} on; export it in a newer opset",
                signature.opset
            )));
        }
        let patches = signature.square_patches().map_err(DetectionError::Map)?;
        if let Some(side) = sides.iter().find(|side| !side.is_multiple_of(patches.side)) {
            return Err(DetectionError::Map(format!(
                "it takes pictures with a side of {side}, no multiple of its patches' {}",
                patches.side
            )));
        }
        let found = attention::find(graph, signature.opset).map_err(DetectionError::Map)?;
        let images = check::images(sides);
        let joined = Joined::of(graph);
        let shown = joined.iter().flat_map(Joined::values);
        let showing = probe::graph(model.clone(), &found, shown, signature.opset).encode_to_vec();
        let file = directory.write_scratch("probe.onnx", &showing)?;
        let mut probe = Probe::open(runtime, &file, &graph.node, &found, sides, &images[0])?;
        let result = probe.inspect()?.map_err(DetectionError::Map)?;
        agree(&result, sidecar)?;

        let count: usize = sides.iter().map(|side| side / patches.side).product();
        let Some(prefix) = result.tokens.checked_sub(count) else {
            return Err(DetectionError::Map(format!(
                "attention is over {} tokens, but pictures have {count} patches",
                result.tokens
            )));
        };
        let pooling = pooling(
            probe.pooling(result.tokens, prefix, joined.as_ref())?,
            sidecar.pooling,
        )?;
        if let (Pooling::PatchMean(_), Some(operator)) = (pooling, max_pooling_operator(graph)) {
            return Err(DetectionError::Doubtful(format!(
                "the classifier reads all patches, and the graph has a {operator}: it takes the \
                 largest of them, and a rollout starts from a mean"
            )));
        }
        Ok(Self {
            patches,
            layers: result.blocks.len(),
            heads: result.heads,
            prefix,
            mlp: result.activations.first().copied().unwrap_or_default(),
            pooling,
            half: result.blocks.iter().any(|block| block.dtype == DType::F16),
            blocks: result.blocks,
            attention: result.attention,
        })
    }

    /// The same as a specification. What only a network of our own needs is left at its usual
    /// value.
    pub(super) fn spec(
        &self,
        sides: [usize; 2],
        classes: usize,
        options: &ImportOptions,
    ) -> VitSpec {
        VitSpec {
            layers: self.layers,
            heads: self.heads,
            hidden: self.patches.hidden,
            mlp: self.mlp,
            image: sides,
            patch: self.patches.side,
            prefix: self.prefix,
            classes,
            norm_epsilon: 0.0,
            activation: Activation::Gelu,
            pre_norm: false,
            qkv_bias: true,
            pooling: self.pooling,
            head_fusion: options.head_fusion,
            variant: Variant::default(),
        }
    }

    /// The blocks' attention probabilities.
    pub(super) fn blocks(&self) -> &[Probabilities] {
        &self.blocks
    }

    /// Whether it computes in float16.
    pub(super) fn is_half(&self) -> bool {
        self.half
    }

    /// Compares the rollout that the new graph gave with the product, in float64 and matrix by
    /// matrix, of the attention that the probe gave.
    pub(super) fn agrees_with(
        &self,
        after: &GraphOutputs,
        spec: &VitSpec,
        path: &Path,
    ) -> Result<(), ImportError> {
        check::rollout(after, &self.attention, spec, self.half).map_err(|detail| ImportError::Map {
            path: path.to_owned(),
            detail,
        })
    }
}

/// Compares the probe's result with the sidecar.
fn agree(result: &ProbeResult, sidecar: &SidecarMetadata) -> Result<(), DetectionError> {
    let blocks = result.blocks.len();
    let (expected, whence) = match sidecar.layers {
        Some(layers) => (layers, "config.json tells of"),
        // Each block has one MLP with one nonlinearity.
        None => (
            result.activations.len(),
            "the nonlinearities of MLPs tell of",
        ),
    };
    if blocks != expected {
        return Err(DetectionError::Doubtful(format!(
            "{blocks} attention matrices were found, but {whence} {expected} blocks"
        )));
    }
    match sidecar.heads {
        Some(heads) if heads != result.heads => Err(DetectionError::Doubtful(format!(
            "attention has {} heads, but config.json or --heads tells of {heads}",
            result.heads
        ))),
        _ => Ok(()),
    }
}

/// The pooling that the probe found, which the sidecar must not contradict.
fn pooling(read: DetectedPooling, sidecar: Option<Pooling>) -> Result<Pooling, DetectionError> {
    match (read, sidecar) {
        (DetectedPooling::Known(probed), Some(declared)) if !same_variant(probed, declared) => {
            Err(DetectionError::Doubtful(format!(
                "the classifier reads {}, but config.json tells of {}",
                tokens(probed),
                tokens(declared)
            )))
        }
        (DetectedPooling::Known(probed), _) => Ok(probed),
        (DetectedPooling::Undetermined, Some(declared)) => Ok(declared),
        (DetectedPooling::Undetermined, None) => Err(DetectionError::Doubtful(
            "the last block's attention changes no logit, so which tokens the classifier reads \
             cannot be seen; a config.json beside the graph would tell"
                .to_owned(),
        )),
        (DetectedPooling::Unsupported(detail), _) => Err(DetectionError::Doubtful(detail)),
    }
}

fn same_variant(a: Pooling, b: Pooling) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

fn tokens(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::ClassToken => "the class token",
        Pooling::ClassAndDistillation => "class and distillation token",
        Pooling::PatchMean(_) => "a mean over the patches",
        Pooling::ClassAndMean => "class token and mean over the patches",
        Pooling::Attention => "a learned query's attention",
    }
}
