//! What is known of an exported network, and from where.

use std::path::Path;

use prost::Message;

use super::{
    Described, Signature, attention,
    check::{self, Answers},
    probe::{self, Probe, Read, Shown},
    signature::Patches,
};
use crate::{
    engine::{EngineError, Runtime},
    import::{ImportError, ImportOptions, directory::Directory},
    onnx::{
        graph::OLDEST_OPSET,
        proto::{GraphProto, ModelProto, NodeProto},
        tensor::Element,
        vit::{Activation, Probabilities, Readout, VitSpec},
    },
};

/// A network whose attention was seen.
pub(super) struct Network {
    patches: Patches,
    layers: usize,
    heads: usize,
    prefix: usize,
    mlp: usize,
    readout: Readout,
    half: bool,
    /// The blocks' attention probabilities.
    blocks: Vec<Probabilities>,
    /// What they were for the first test picture: `[heads, tokens, tokens]` of each block.
    attention: Vec<Vec<f32>>,
}

/// An operator by which a graph takes the largest of its tokens. Nothing else in a Vision Transformer
/// whose softmaxes are whole has a use for one.
fn maximum(graph: &GraphProto) -> Option<&str> {
    const OPERATORS: [&str; 5] = ["ReduceMax", "MaxPool", "GlobalMaxPool", "TopK", "ArgMax"];
    let operators = graph.node.iter().map(NodeProto::op_type);
    operators
        .into_iter()
        .find(|found| OPERATORS.contains(found))
}

/// Why attention is not known for sure.
pub(super) enum Unknown {
    /// The graph shows something else.
    Map(String),
    /// It could not be run, or written.
    Other(ImportError),
}

impl From<EngineError> for Unknown {
    fn from(why: EngineError) -> Self {
        Self::Other(why.into())
    }
}

impl From<ImportError> for Unknown {
    fn from(why: ImportError) -> Self {
        Self::Other(why)
    }
}

impl Unknown {
    /// As an error about this file, which says what else can be done.
    pub(super) fn at(self, path: &Path) -> ImportError {
        match self {
            Self::Map(detail) => ImportError::Map {
                path: path.to_owned(),
                detail,
            },
            Self::Other(why) => why,
        }
    }
}

impl Network {
    /// Looks at the graph and runs it.
    ///
    /// # Errors
    /// If anything about its attention is not sure; what was found instead.
    pub(super) fn seen(
        runtime: &Runtime,
        directory: &Directory,
        model: &ModelProto,
        signature: &Signature,
        described: &Described,
        sides: [usize; 2],
    ) -> Result<Self, Unknown> {
        let Some(graph) = &model.graph else {
            return Err(Unknown::Map("there is no graph".to_owned()));
        };
        if signature.opset < OLDEST_OPSET {
            return Err(Unknown::Map(format!(
                "its operators are of version {}, and the rollout is written in those from \
                 {OLDEST_OPSET} on; export it in a newer opset",
                signature.opset
            )));
        }
        let patches = signature.square_patches().map_err(Unknown::Map)?;
        if let Some(side) = sides.iter().find(|side| !side.is_multiple_of(patches.side)) {
            return Err(Unknown::Map(format!(
                "it takes pictures with a side of {side}, no multiple of its patches' {}",
                patches.side
            )));
        }
        let found = attention::find(graph, signature.opset).map_err(Unknown::Map)?;
        let pictures = check::pictures(sides);
        let showing = probe::graph(model.clone(), &found, signature.opset).encode_to_vec();
        let file = directory.write_scratch("probe.onnx", &showing)?;
        let mut probe = Probe::open(runtime, &file, &graph.node, &found, sides, &pictures[0])?;
        let shown = probe.look()?.map_err(Unknown::Map)?;
        agree(&shown, described)?;

        let count: usize = sides.iter().map(|side| side / patches.side).product();
        let Some(prefix) = shown.tokens.checked_sub(count) else {
            return Err(Unknown::Map(format!(
                "attention is over {} tokens, but pictures have {count} patches",
                shown.tokens
            )));
        };
        let readout = readout(probe.readout(shown.tokens, prefix)?, described.readout)?;
        if let (Readout::PatchMean(_), Some(operator)) = (readout, maximum(graph)) {
            return Err(Unknown::Map(format!(
                "the classifier reads all patches, and the graph has a {operator}: it takes the \
                 largest of them, and a rollout starts from a mean"
            )));
        }
        Ok(Self {
            patches,
            layers: shown.blocks.len(),
            heads: shown.heads,
            prefix,
            mlp: shown.activations.first().copied().unwrap_or_default(),
            readout,
            half: shown
                .blocks
                .iter()
                .any(|block| block.element == Element::F16),
            blocks: shown.blocks,
            attention: shown.attention,
        })
    }

    /// The same as a specification. What only a network of our own needs is left at its usual value.
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
            readout: self.readout,
            head_fusion: options.head_fusion,
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
    /// matrix, of the attention that was seen.
    pub(super) fn agrees_with(
        &self,
        after: &Answers,
        spec: &VitSpec,
        path: &Path,
    ) -> Result<(), ImportError> {
        check::rollout(after, &self.attention, spec, self.half).map_err(|detail| ImportError::Map {
            path: path.to_owned(),
            detail,
        })
    }
}

/// What was seen and what is said.
fn agree(shown: &Shown, described: &Described) -> Result<(), Unknown> {
    let blocks = shown.blocks.len();
    let (expected, whence) = match described.layers {
        Some(layers) => (layers, "config.json tells of"),
        // Each block has one MLP with one nonlinearity.
        None => (
            shown.activations.len(),
            "the nonlinearities of MLPs tell of",
        ),
    };
    if blocks != expected {
        return Err(Unknown::Map(format!(
            "{blocks} attention matrices were found, but {whence} {expected} blocks"
        )));
    }
    match described.heads {
        Some(heads) if heads != shown.heads => Err(Unknown::Map(format!(
            "attention has {} heads, but config.json or --heads tells of {heads}",
            shown.heads
        ))),
        _ => Ok(()),
    }
}

/// What the run showed, which what is said must not contradict.
fn readout(read: Read, described: Option<Readout>) -> Result<Readout, Unknown> {
    match (read, described) {
        (Read::Tokens(seen), Some(said)) if !alike(seen, said) => Err(Unknown::Map(format!(
            "the classifier reads {}, but config.json tells of {}",
            tokens(seen),
            tokens(said)
        ))),
        (Read::Tokens(seen), _) => Ok(seen),
        (Read::Nothing, Some(said)) => Ok(said),
        (Read::Nothing, None) => Err(Unknown::Map(
            "the last block's attention changes no logit, so which tokens the classifier reads \
             cannot be seen; a config.json beside the graph would tell"
                .to_owned(),
        )),
        (Read::Others(detail), _) => Err(Unknown::Map(detail)),
    }
}

fn alike(a: Readout, b: Readout) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

fn tokens(readout: Readout) -> &'static str {
    match readout {
        Readout::ClassToken => "the class token",
        Readout::ClassAndDistillation => "class and distillation token",
        Readout::PatchMean(_) => "a mean over the patches",
    }
}
