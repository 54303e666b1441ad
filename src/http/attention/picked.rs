//! The map that is asked for, out of what is kept.

use super::form::Asked;
use crate::{
    Error, Result,
    explain::{Grid, PatchMap},
    model::manifest::Tokens,
    store::{ClassEvidence, KeptMap},
};

/// A map that is there.
pub(super) enum Picked {
    Rollout(Shares),
    Class {
        map: PatchMap,
        evidence: ClassEvidence,
    },
    Head(Shares),
    /// One for each head.
    Layer(Vec<Shares>),
}

/// Weights of all tokens, which add up to 1.
pub(super) struct Shares {
    pub(super) patches: PatchMap,
    /// What the prefix tokens hold.
    pub(super) prefix_mass: f32,
}

impl Picked {
    /// # Errors
    /// [`Error::MapNotKept`], saying how to get it.
    pub(super) fn of(kept: &KeptMap, asked: Asked) -> Result<Self> {
        let tokens = &kept.model.tokens;
        match asked {
            Asked::Rollout { start_layer } => {
                let row = kept
                    .row(start_layer)
                    .ok_or_else(|| not_carried("a rollout that starts at a later block"))?;
                Ok(Self::Rollout(Shares::of(row, tokens)?))
            }
            Asked::Class { class, contrast } => {
                let evidence = evidence(kept, class, contrast)?;
                Ok(Self::Class {
                    map: patches(tokens, evidence.values.clone())?,
                    evidence,
                })
            }
            Asked::Head { layer, head } => Ok(Self::Head(Shares::of(
                attention(kept, layer, head)?,
                tokens,
            )?)),
            Asked::Layer { layer } => {
                let heads = 0..kept.model.heads;
                let shares = heads.map(|head| Shares::of(attention(kept, layer, head)?, tokens));
                Ok(Self::Layer(shares.collect::<Result<_>>()?))
            }
        }
    }
}

impl Shares {
    fn of(row: &[f32], tokens: &Tokens) -> Result<Self> {
        let (prefix, of_patches) = row.split_at(tokens.prefix);
        Ok(Self {
            patches: patches(tokens, of_patches.to_vec())?,
            prefix_mass: prefix.iter().sum(),
        })
    }
}

fn evidence(kept: &KeptMap, class: usize, contrast: bool) -> Result<ClassEvidence> {
    let Some(evidence) = &kept.evidence else {
        if kept.abridged {
            return Err(not_carried("per-label evidence"));
        }
        return Err(Error::MapNotKept(
            format_args!(
                "the model makes no per-label evidence: {}",
                kept.model.without_evidence
            )
            .into(),
        ));
    };
    evidence.of(class, contrast).ok_or_else(|| {
        let ids: Vec<String> = evidence.classes.iter().map(usize::to_string).collect();
        Error::MapNotKept(
            format_args!(
                "evidence is kept for this picture's best labels, the classes {}; {class} is not \
                 among them. Ask for one of these",
                ids.join(", ")
            )
            .into(),
        )
    })
}

fn attention(kept: &KeptMap, layer: usize, head: usize) -> Result<&[f32]> {
    kept.head(layer, head).ok_or_else(|| {
        if kept.abridged {
            return not_carried("single layers and heads");
        }
        Error::MapNotKept(match kept.model.class_attention {
            true => "single layers and heads are kept on demand: classify the picture again with \
                     `attention=heads`"
                .into(),
            false => format_args!(
                "the model does not hand out single layers and heads: {}",
                kept.model.without_evidence
            )
            .into(),
        })
    })
}

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
    PatchMap::new(Grid { rows, cols }, values).map_err(|why| {
        tracing::error!(%why, "a kept map is not whole");
        Error::Internal
    })
}
