//! What a map needs of its model to be queried, rendered and described.
//!
//! It travels with a map, so that a process can explain a map whose model it does not serve: one
//! made by another replica in the middle of a rollout, or before a restart.

use super::{
    ModelInfo,
    manifest::{HeadFusion, Tokens},
};

/// A model's name and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDescriptor {
    /// What clients call it.
    pub name: String,
    /// Enough of its digest to recognise it by, in hexadecimal.
    pub digest: String,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Number of classes.
    pub classes: usize,
    /// How tokens relate to the image.
    pub tokens: Tokens,
    /// How the heads' attention matrices become one in the rollout.
    pub head_fusion: HeadFusion,
    /// Whether the graph hands out the class token's attention.
    pub class_attention: bool,
    /// Why the graph lacks attribution or the class token's attention, where it does.
    pub without_attribution: String,
}

impl ModelDescriptor {
    /// The descriptor of a model.
    pub fn of(model: &ModelInfo) -> Self {
        let manifest = &model.manifest;
        Self {
            name: model.name.clone(),
            digest: model.short_digest().to_owned(),
            layers: manifest.architecture.layers,
            heads: manifest.architecture.heads,
            classes: manifest.task.classes,
            tokens: manifest.tokens.clone(),
            head_fusion: manifest.rollout.head_fusion,
            class_attention: manifest.graph.class_attention.is_some(),
            without_attribution: manifest.graph.no_attribution_reason().to_owned(),
        }
    }
}
