//! Keeps what `GET /attention/{id}` needs, bounded in bytes and in time.
//!
//! A map is kept when a picture is classified and forgotten when its time is over, when memory is
//! short (the least recently used first), or when its owner says so. Its picture, which the
//! overlay is drawn on, is by far the larger part and has a budget of its own: it may go while the
//! map stays.

mod evidence;
mod id;
mod memory;
mod owner;

use std::sync::Arc;

use bytes::Bytes;

pub use self::{
    evidence::{ClassEvidence, KeptEvidence},
    id::MapId,
    memory::{MemoryStore, StoreOptions},
    owner::Owner,
};
use crate::{
    explain::{Grid, Invalid, PatchMap, Placement},
    model::ModelInfo,
    preprocess::Region,
};

/// One picture's map with all that is needed to draw and describe it.
#[derive(Clone, Debug)]
pub struct KeptMap {
    /// Who may see and forget it.
    pub owner: Owner,
    /// The model that made it.
    pub model: Arc<ModelInfo>,
    /// `layers × tokens`: the rollout that starts at each block, prefix tokens first.
    pub rollout: Arc<[f32]>,
    /// Per-label evidence, if the model makes it.
    pub evidence: Option<Arc<KeptEvidence>>,
    /// `layers × heads × tokens`: the class token's attention, if the request wanted it kept.
    pub class_attention: Option<Arc<[f32]>>,
    /// Where on the picture the model looked.
    pub placement: Placement,
    /// The same in whole pixels, as answers say it.
    pub region: Region,
}

impl KeptMap {
    /// The rollout that starts at block `start_layer`, over all tokens; `None` beyond the last.
    pub fn row(&self, start_layer: usize) -> Option<&[f32]> {
        self.rollout
            .chunks_exact(self.model.manifest.tokens.total())
            .nth(start_layer)
    }

    /// The patches' part of that row.
    ///
    /// # Errors
    /// Beyond the last block.
    pub fn patches(&self, start_layer: usize) -> Result<PatchMap, Invalid> {
        let tokens = &self.model.manifest.tokens;
        let [rows, cols] = tokens.grid;
        let row = self
            .row(start_layer)
            .and_then(|row| row.get(tokens.prefix..));
        PatchMap::new(Grid { rows, cols }, row.unwrap_or_default().to_vec())
    }

    /// The class token's attention of one head over all tokens; `None` if it is not kept.
    pub fn head(&self, layer: usize, head: usize) -> Option<&[f32]> {
        let manifest = &self.model.manifest;
        let mut heads = self
            .class_attention
            .as_deref()?
            .chunks_exact(manifest.tokens.total());
        heads.nth(layer * manifest.architecture.heads + head)
    }

    /// The kinds of maps in it, as answers call them.
    pub fn names(&self) -> Vec<&'static str> {
        let class = self.evidence.is_some().then_some("class");
        let heads = self.class_attention.is_some().then_some("heads");
        ["rollout"].into_iter().chain(class).chain(heads).collect()
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
        (self.rollout.len() + attention + evidence) * size_of::<f32>()
    }
}

/// A map as it comes out of the store.
#[derive(Clone, Debug)]
pub struct Found {
    /// The map.
    pub map: KeptMap,
    /// The bounded JPEG copy of the upright picture, if it is still kept.
    pub picture: Option<Bytes>,
    /// Seconds until it is forgotten at the latest.
    pub expires_in_s: u64,
}
