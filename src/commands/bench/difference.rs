//! How far an engine's answers are from those of the CPU's stock operators.

use patchlight_engine::{Engine, EngineError, OrtEngine, Output};
use patchlight_imaging::preprocess::ImageTensor;
use patchlight_model::{ModelInfo, scores};
use serde::Serialize;

use super::inputs::inputs;

/// Largest differences from the CPU's stock operators.
#[derive(Default, Serialize)]
pub(super) struct Difference {
    pub(super) images: usize,
    pub(super) score: f32,
    /// Of a patch's share of the rollout.
    pub(super) rollout: f32,
    /// Of a patch's part of a logit.
    pub(super) attribution: f32,
    pub(super) same_best_class: usize,
}

impl Difference {
    /// Over `count` of the images, one at a time.
    pub(super) fn measure(
        engine: &mut OrtEngine,
        reference: &mut OrtEngine,
        model: &ModelInfo,
        images: &[ImageTensor],
        count: usize,
    ) -> Result<Self, EngineError> {
        let mut difference = Self::default();
        for at in 0..count {
            let image = &images[at % images.len()..][..1];
            let inputs = inputs(image, 1, true);
            let expected = reference.run(&inputs)?;
            let found = engine.run(&inputs)?;
            for (found, expected) in found.iter().zip(&expected) {
                difference.add(model, found, expected);
            }
        }
        Ok(difference)
    }

    fn add(&mut self, model: &ModelInfo, found: &Output, expected: &Output) {
        let largest = |a: &[f32], b: &[f32]| {
            let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            // Not a number is the largest difference there is.
            differences.fold(0.0, |most: f32, d| if d <= most { most } else { d })
        };
        let kind = model.manifest.task.kind;
        let [of_found, of_expected] =
            [found, expected].map(|output| scores::of_all(kind, &output.logits));
        let best = |scores: &[f32]| scores::ranking(scores, 1);
        self.images += 1;
        self.score = self.score.max(largest(&of_found, &of_expected));
        self.same_best_class += usize::from(best(&of_found) == best(&of_expected));
        let tokens = model.manifest.tokens.total().min(found.rollout.len());
        let rollout = largest(&found.rollout[..tokens], &expected.rollout[..tokens]);
        self.rollout = self.rollout.max(rollout);
        if let (Some(a), Some(b)) = (&found.attribution, &expected.attribution)
            && a.classes == b.classes
        {
            self.attribution = self.attribution.max(largest(&a.patches, &b.patches));
        }
    }
}
