//! The model's result for an image, before a request's options apply: what the result cache stores.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use patchlight_model::{Labels, ModelDescriptor};

use super::{
    ImageInfo, MapRetention, Timing,
    decode_job::ImageMeta,
    result_cache::{SingleFlightCache, Weighted},
};
use crate::{
    batch::Inference,
    explain::Placement,
    metrics::Metrics,
    store::{AttentionMap, KeptAttribution, Owner},
};

/// The model's answer for one image. Its maps are shared with every [`AttentionMap`] made of it.
#[derive(Debug)]
pub(super) struct ModelResult {
    /// One value per class.
    pub(super) logits: Vec<f32>,
    rollout: Arc<[f32]>,
    attribution: Option<Arc<KeptAttribution>>,
    class_attention: Option<Arc<[f32]>>,
    placement: Placement,
    /// Size, format and region of the image.
    pub(super) image: ImageInfo,
    /// The preview, if one was made.
    pub(super) preview: Option<Bytes>,
    /// How long it took; the total is not known yet.
    pub(super) timing: Timing,
}

impl ModelResult {
    /// Whether the model makes maps at all.
    pub(super) fn has_map(&self) -> bool {
        !self.rollout.is_empty() || self.attribution.is_some()
    }

    /// The rollout, empty where the model makes none; see [`AttentionMap::rollout`].
    pub(super) fn rollout(&self) -> &Arc<[f32]> {
        &self.rollout
    }

    /// Takes from an output what `keep` asks for.
    pub(super) fn new(
        inference: Inference,
        meta: ImageMeta,
        keep: MapRetention,
        preview: Option<Bytes>,
        labels: &Labels,
    ) -> Self {
        let output = inference.output;
        let attribution = output
            .attribution
            .filter(|_| keep != MapRetention::None)
            .map(|attribution| Arc::new(KeptAttribution::new(attribution, &output.logits, labels)));
        Self {
            rollout: output.rollout.into(),
            attribution,
            class_attention: output.class_attention.map(Arc::from),
            logits: output.logits,
            placement: meta.placement,
            timing: Timing {
                decode: meta.decoding,
                preprocess: meta.preprocessing,
                queue: inference.queued,
                inference: inference.ran,
                ..Timing::default()
            },
            image: meta.image,
            preview,
        }
    }

    /// Its maps for one owner; `result` is the key that it is itself kept under.
    pub(super) fn map(
        &self,
        owner: Owner,
        model: &Arc<ModelDescriptor>,
        result: Option<[u8; 32]>,
    ) -> AttentionMap {
        AttentionMap {
            owner,
            model: Arc::clone(model),
            rollout: Arc::clone(&self.rollout),
            attribution: self.attribution.clone(),
            class_attention: self.class_attention.clone(),
            placement: self.placement,
            region: self.image.region,
            result,
            abridged: false,
        }
    }
}

impl Weighted for ModelResult {
    fn bytes(&self) -> usize {
        let attribution = self.attribution.as_ref().map_or(0, |attribution| {
            attribution.patches.len() + 2 * attribution.rest.len() + 2 * attribution.classes.len()
        });
        let attention = self
            .class_attention
            .as_ref()
            .map_or(0, |values| values.len());
        let values = self.logits.len() + self.rollout.len() + attribution + attention;
        let preview = self.preview.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + values * size_of::<f32>() + preview
    }
}

/// Model results for identical requests. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct ResultCache(pub(super) SingleFlightCache<ModelResult>);

impl ResultCache {
    /// Nothing kept yet, never more than so many bytes, and nothing for longer than `ttl`.
    pub fn new(bytes: u64, ttl: Duration, metrics: Arc<Metrics>) -> Self {
        Self(SingleFlightCache::new(bytes, ttl, metrics))
    }

    /// Bytes that are kept now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}
