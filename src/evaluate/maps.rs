//! The maps that are compared.

use patchlight_engine::Output;
use patchlight_model::Manifest;
use serde::Serialize;

/// A kind of map.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapMethod {
    /// The rollout over all layers.
    Rollout,
    /// The class token's attention in the last layer, the mean of its heads.
    LastLayer,
    /// What each patch wrote into the predicted label's logit.
    #[serde(rename = "evidence")]
    Attribution,
    /// The same with the mean over all classes taken away.
    Contrast,
}

impl MapMethod {
    /// As tables and plots call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::LastLayer => "last layer's attention",
            Self::Attribution => "evidence",
            Self::Contrast => "evidence, contrast",
        }
    }
}

/// Every kind of map that the graph hands out, for the class with the largest logit.
pub(super) fn maps(
    manifest: &Manifest,
    output: &Output,
    class: usize,
) -> Vec<(MapMethod, Vec<f32>)> {
    let tokens = &manifest.tokens;
    let mut found = Vec::new();
    if let Some(row) = output.rollout.get(tokens.prefix..tokens.total()) {
        found.push((MapMethod::Rollout, row.to_vec()));
    }
    if let Some(attention) = &output.class_attention {
        let heads = manifest.architecture.heads;
        let mut mean = vec![0.0; tokens.patches()];
        for head in attention.chunks_exact(tokens.total()).rev().take(heads) {
            for (sum, value) in mean.iter_mut().zip(&head[tokens.prefix..]) {
                *sum += value / heads as f32;
            }
        }
        found.push((MapMethod::LastLayer, mean));
    }
    let rows = output.attribution.as_ref().and_then(|attribution| {
        let row = attribution.classes.iter().position(|&kept| kept == class)?;
        let mut rows = attribution.patches.chunks_exact(tokens.patches());
        Some((rows.nth(row)?, rows.last()?))
    });
    if let Some((of_class, of_mean)) = rows {
        let contrast = of_class
            .iter()
            .zip(of_mean)
            .map(|(of_class, of_mean)| of_class - of_mean);
        found.push((MapMethod::Attribution, of_class.to_vec()));
        found.push((MapMethod::Contrast, contrast.collect()));
    }
    found
}
