//! A map with all that is needed to draw and describe it.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::{KeptEvidence, Owner};
use crate::{
    explain::{Grid, Invalid, PatchMap, Placement},
    model::Outline,
    preprocess::Region,
};

/// One picture's map with all that is needed to draw and describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptMap {
    /// Who may see and forget it.
    pub owner: Owner,
    /// The model that made it.
    pub model: Arc<Outline>,
    /// `layers × tokens`: the rollout that starts at each block, prefix tokens first. Only the
    /// first of these rows if the map is [`abridged`](Self::abridged).
    pub rollout: Arc<[f32]>,
    /// Per-label evidence, if the model makes it.
    pub evidence: Option<Arc<KeptEvidence>>,
    /// `layers × heads × tokens`: the class token's attention, if the request wanted it kept.
    pub class_attention: Option<Arc<[f32]>>,
    /// Where on the picture the model looked.
    pub placement: Placement,
    /// The same in whole pixels, as answers say it.
    pub region: Region,
    /// The key of the result that it was made of, where results are kept for identical requests:
    /// whoever forgets the map forgets that, too.
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
    /// A label's evidence.
    Class,
    /// The class token's attention of every layer and head.
    Heads,
}

impl KeptMap {
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
    pub fn patches(&self, start_layer: usize) -> Result<PatchMap, Invalid> {
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
        let class = self.evidence.is_some().then_some(MapKind::Class);
        let heads = self.class_attention.is_some().then_some(MapKind::Heads);
        [MapKind::Rollout]
            .into_iter()
            .chain(class)
            .chain(heads)
            .collect()
    }

    /// Bytes of its values.
    pub fn size(&self) -> usize {
        let attention = self
            .class_attention
            .as_ref()
            .map_or(0, |values| values.len());
        let evidence = self.evidence.as_ref().map_or(0, |evidence| {
            evidence.patches.len() + 2 * evidence.rest.len() + 2 * evidence.classes.len()
        });
        let labels = self
            .evidence
            .as_ref()
            .map_or(0, |evidence| evidence.labels.iter().map(String::len).sum());
        (self.rollout.len() + attention + evidence) * size_of::<f32>() + labels
    }
}
