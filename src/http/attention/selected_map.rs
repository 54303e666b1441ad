//! Selects the requested map from what is stored.

use patchlight_model::manifest::Tokens;

use super::map_request::MapSelector;
use crate::{
    Error, Result,
    explain::{Grid, PatchMap},
    store::{AttentionMap, ClassAttribution},
};

/// A map that was selected.
pub(super) enum SelectedMap {
    Rollout(TokenWeights),
    Class {
        map: PatchMap,
        attribution: ClassAttribution,
    },
    Head(TokenWeights),
    /// One for each head.
    Layer(Vec<TokenWeights>),
}

/// Weights of all tokens, which add up to 1.
pub(super) struct TokenWeights {
    pub(super) patches: PatchMap,
    /// What the prefix tokens hold.
    pub(super) prefix_mass: f32,
}

impl SelectedMap {
    /// # Errors
    /// [`Error::MapNotKept`], saying how to get it.
    pub(super) fn of(kept: &AttentionMap, selector: MapSelector) -> Result<Self> {
        let tokens = &kept.model.tokens;
        match selector {
            MapSelector::Rollout { start_layer } => {
                if kept.rollout.is_empty() {
                    return Err(Error::MapNotKept(NO_ROLLOUT.into()));
                }
                let row = kept
                    .row(start_layer)
                    .ok_or_else(|| not_carried("a rollout that starts at a later block"))?;
                Ok(Self::Rollout(TokenWeights::of(row, tokens)?))
            }
            MapSelector::Class { class, contrast } => {
                let attribution = attribution(kept, class, contrast)?;
                Ok(Self::Class {
                    map: patches(tokens, attribution.values.clone())?,
                    attribution,
                })
            }
            MapSelector::Head { layer, head } => Ok(Self::Head(TokenWeights::of(
                attention(kept, layer, head)?,
                tokens,
            )?)),
            MapSelector::Layer { layer } => {
                let heads = 0..kept.model.heads;
                let weights =
                    heads.map(|head| TokenWeights::of(attention(kept, layer, head)?, tokens));
                Ok(Self::Layer(weights.collect::<Result<_>>()?))
            }
        }
    }
}

impl TokenWeights {
    fn of(row: &[f32], tokens: &Tokens) -> Result<Self> {
        let (prefix, of_patches) = row.split_at(tokens.prefix);
        Ok(Self {
            patches: patches(tokens, of_patches.to_vec())?,
            prefix_mass: prefix.iter().sum(),
        })
    }
}

fn attribution(kept: &AttentionMap, class: usize, contrast: bool) -> Result<ClassAttribution> {
    let Some(attribution) = &kept.attribution else {
        if kept.abridged {
            return Err(not_carried("per-label evidence"));
        }
        return Err(Error::MapNotKept(
            format_args!(
                "the model makes no per-label evidence: {}",
                kept.model.without_attribution
            )
            .into(),
        ));
    };
    attribution.of(class, contrast).ok_or_else(|| {
        let ids: Vec<String> = attribution.classes.iter().map(usize::to_string).collect();
        Error::MapNotKept(
            format_args!(
                "evidence is kept for this image's best labels, the classes {}; {class} is not \
                 among them. Ask for one of these",
                ids.join(", ")
            )
            .into(),
        )
    })
}

fn attention(kept: &AttentionMap, layer: usize, head: usize) -> Result<&[f32]> {
    kept.head(layer, head).ok_or_else(|| {
        if kept.abridged {
            return not_carried("single layers and heads");
        }
        Error::MapNotKept(match kept.model.class_attention {
            true => "single layers and heads are kept on demand: classify the image again with \
                     `attention=heads`"
                .into(),
            false => format_args!(
                "the model does not hand out single layers and heads: {}",
                kept.model.without_attribution
            )
            .into(),
        })
    })
}

const NO_ROLLOUT: &str = "the model makes no rollout: its network has no attention that could be \
                          followed from what its classifier reads to the patches. It makes evidence \
                          for each of the image's best labels: ask for one with `class`";

/// `what` is missing because the id itself is the store.
fn not_carried(what: &str) -> Error {
    Error::MapNotKept(
        format_args!(
            "{what} is not kept: this id carries its map itself and has room for the whole rollout \
             only. A server with `--attention-store memory` or one in Redis keeps all maps"
        )
        .into(),
    )
}

fn patches(tokens: &Tokens, values: Vec<f32>) -> Result<PatchMap> {
    let [rows, cols] = tokens.grid;
    PatchMap::new(Grid { rows, cols }, values).map_err(|error| {
        tracing::error!(%error, "a kept map is not whole");
        Error::Internal
    })
}
