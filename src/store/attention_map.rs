//! A map with all that is needed to draw and describe it.

use std::sync::Arc;

use patchlight_imaging::preprocess::Region;
use patchlight_model::ModelDescriptor;
use serde::Serialize;
use utoipa::ToSchema;

use super::{KeptAttribution, Owner};
use crate::explain::{Grid, PatchMap, Placement, RenderError};

/// One image's map with all that is needed to draw and describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionMap {
    /// Who may see and delete it.
    pub owner: Owner,
    /// The model that made it.
    pub model: Arc<ModelDescriptor>,
    /// `layers × tokens`: the rollout that starts at each block, prefix tokens first. Only the
    /// first of these rows if the map is [`abridged`](Self::abridged). Empty where the network has
    /// no attention that could be followed.
    pub rollout: Arc<[f32]>,
    /// Per-label attribution, if the model makes it.
    pub attribution: Option<Arc<KeptAttribution>>,
    /// `layers × heads × tokens`: the class token's attention, if the request wanted it kept.
    pub class_attention: Option<Arc<[f32]>>,
    /// Where on the image the model looked.
    pub placement: Placement,
    /// The same in whole pixels, as answers say it.
    pub region: Region,
    /// The key of the result that it was made of, where results are kept for identical requests:
    /// deleting the map deletes that, too.
    pub result: Option<[u8; 32]>,
    /// Whether the id carries the map, which has room for the whole rollout and nothing else.
    pub abridged: bool,
}

/// A kind of map that can be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MapKind {
    /// The rollout.
    Rollout,
    /// A label's attribution.
    Class,
    /// The class token's attention of every layer and head.
    Heads,
}

impl AttentionMap {
    /// The rollout that starts at block `start_layer`, over all tokens; `None` if it is not kept.
    pub fn row(&self, start_layer: usize) -> Option<&[f32]> {
        self.rollout
            .chunks_exact(self.model.tokens.total())
            .nth(start_layer)
    }

    /// The patches' part of that row.
    ///
    /// # Errors
    /// When it is not kept.
    pub fn patches(&self, start_layer: usize) -> Result<PatchMap, RenderError> {
        let tokens = &self.model.tokens;
        let [rows, cols] = tokens.grid;
        let row = self
            .row(start_layer)
            .and_then(|row| row.get(tokens.prefix..));
        PatchMap::new(Grid { rows, cols }, row.unwrap_or_default().to_vec())
    }

    /// The class token's attention of one head over all tokens; `None` if it is not kept.
    pub fn head(&self, layer: usize, head: usize) -> Option<&[f32]> {
        let mut heads = self
            .class_attention
            .as_deref()?
            .chunks_exact(self.model.tokens.total());
        heads.nth(layer * self.model.heads + head)
    }

    /// The kinds of maps in it.
    pub fn kinds(&self) -> Vec<MapKind> {
        let class = self.attribution.is_some().then_some(MapKind::Class);
        let heads = self.class_attention.is_some().then_some(MapKind::Heads);
        let rollout = (!self.rollout.is_empty()).then_some(MapKind::Rollout);
        rollout.into_iter().chain(class).chain(heads).collect()
    }

    /// Bytes of its values.
    pub fn size(&self) -> usize {
        let attention = self
            .class_attention
            .as_ref()
            .map_or(0, |values| values.len());
        let attribution = self.attribution.as_ref().map_or(0, |attribution| {
            attribution.patches.len() + 2 * attribution.rest.len() + 2 * attribution.classes.len()
        });
        let labels = self.attribution.as_ref().map_or(0, |attribution| {
            attribution.labels.iter().map(String::len).sum()
        });
        (self.rollout.len() + attention + attribution) * size_of::<f32>() + labels
    }
}
