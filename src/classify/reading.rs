//! What a model makes of a picture, before anyone's wishes: what can be kept for identical requests.

use std::sync::Arc;

use bytes::Bytes;

use super::{ImageInfo, Keep, Timing, results::Weigh, work::Seen};
use crate::{
    batch::Inference,
    explain::Placement,
    model::{Labels, Outline},
    store::{KeptEvidence, KeptMap, Owner},
};

/// The model's answer for one picture. Its maps are shared with every [`KeptMap`] made of it.
#[derive(Debug)]
pub(super) struct Reading {
    /// One value per class.
    pub(super) logits: Vec<f32>,
    rollout: Arc<[f32]>,
    evidence: Option<Arc<KeptEvidence>>,
    class_attention: Option<Arc<[f32]>>,
    placement: Placement,
    /// What was seen.
    pub(super) image: ImageInfo,
    /// The copy for the overlay, if one was made.
    pub(super) picture: Option<Bytes>,
    /// How long it took; the total is not known yet.
    pub(super) timing: Timing,
}

impl Reading {
    /// Whether the model makes maps at all.
    pub(super) fn has_map(&self) -> bool {
        !self.rollout.is_empty()
    }

    /// Keeps of an output what is wanted.
    pub(super) fn new(
        inference: Inference,
        seen: Seen,
        keep: Keep,
        picture: Option<Bytes>,
        labels: &Labels,
    ) -> Self {
        let output = inference.output;
        let evidence = output
            .evidence
            .filter(|_| keep != Keep::Nothing)
            .map(|evidence| Arc::new(KeptEvidence::new(evidence, &output.logits, labels)));
        Self {
            rollout: output.rollout.into(),
            evidence,
            class_attention: output.class_attention.map(Arc::from),
            logits: output.logits,
            placement: seen.placement,
            timing: Timing {
                decode: seen.decoding,
                preprocess: seen.preprocessing,
                queue: inference.queued,
                inference: inference.ran,
                ..Timing::default()
            },
            image: seen.image,
            picture,
        }
    }

    /// Its maps for one owner; `result` is the key that it is itself kept under.
    pub(super) fn map(
        &self,
        owner: Owner,
        model: &Arc<Outline>,
        result: Option<[u8; 32]>,
    ) -> KeptMap {
        KeptMap {
            owner,
            model: Arc::clone(model),
            rollout: Arc::clone(&self.rollout),
            evidence: self.evidence.clone(),
            class_attention: self.class_attention.clone(),
            placement: self.placement,
            region: self.image.region,
            result,
            abridged: false,
        }
    }
}

impl Weigh for Reading {
    fn bytes(&self) -> usize {
        let evidence = self.evidence.as_ref().map_or(0, |evidence| {
            evidence.patches.len() + 2 * evidence.rest.len() + 2 * evidence.classes.len()
        });
        let attention = self
            .class_attention
            .as_ref()
            .map_or(0, |values| values.len());
        let values = self.logits.len() + self.rollout.len() + evidence + attention;
        let picture = self.picture.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + values * size_of::<f32>() + picture
    }
}
