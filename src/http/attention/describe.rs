//! Maps as JSON.

use serde::Serialize;

use super::{form::Asked, picked::Picked};
use crate::{
    Error, Result, explain::PatchMap, model::manifest::HeadFusion, preprocess::Region,
    store::KeptMap,
};

const ROLLOUT: &str = "rollout is class-agnostic: one map a picture, whatever the label";
const ATTRIBUTION: &str = "evidence is the direct path only: what attention carried from each \
                           patch's position straight into this logit, in logits";
const ATTENTION: &str = "attention is class-agnostic: where the class token read in this layer, \
                         whatever the label";

/// A map with what all of them have in common.
#[derive(Serialize)]
struct Description<'a> {
    id: &'a str,
    model: &'a str,
    model_digest: &'a str,
    #[serde(flatten)]
    map: Map<'a>,
    grid: [usize; 2],
    region: Region,
    image: Size,
}

/// `values` are row-major.
#[derive(Serialize)]
#[serde(tag = "method", rename_all = "lowercase")]
enum Map<'a> {
    /// `values` and `prefix_mass` add up to 1.
    Rollout {
        about: &'static str,
        head_fusion: HeadFusion,
        start_layer: usize,
        values: &'a [f32],
        prefix_mass: f32,
    },
    /// `values`, `unattributed` and `residual` add up to `logit`.
    Attribution {
        about: &'static str,
        class_id: usize,
        label: &'a str,
        contrast: bool,
        values: &'a [f32],
        unattributed: f32,
        logit: f32,
        residual: f32,
    },
    /// One head's `values` and `prefix_mass` add up to 1.
    Attention {
        about: &'static str,
        layer: usize,
        #[serde(flatten)]
        heads: Heads<'a>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Heads<'a> {
    One {
        head: usize,
        values: &'a [f32],
        prefix_mass: f32,
    },
    /// By head, row and column.
    All {
        values: Vec<Vec<&'a [f32]>>,
        prefix_mass: Vec<f32>,
    },
}

#[derive(Serialize)]
struct Size {
    width: u32,
    height: u32,
}

/// The map that was picked for `asked`.
pub(super) fn describe(id: &str, kept: &KeptMap, asked: Asked, picked: &Picked) -> Result<Vec<u8>> {
    let model = &kept.model;
    let map = match (asked, picked) {
        (Asked::Rollout { start_layer }, Picked::Rollout(shares)) => Map::Rollout {
            about: ROLLOUT,
            head_fusion: model.head_fusion,
            start_layer,
            values: shares.patches.values(),
            prefix_mass: shares.prefix_mass,
        },
        (Asked::Class { class, contrast }, Picked::Class { map, evidence }) => Map::Attribution {
            about: ATTRIBUTION,
            class_id: class,
            label: &evidence.label,
            contrast,
            values: map.values(),
            unattributed: evidence.unattributed,
            logit: evidence.logit,
            residual: evidence.residual,
        },
        (Asked::Head { layer, head }, Picked::Head(shares)) => Map::Attention {
            about: ATTENTION,
            layer,
            heads: Heads::One {
                head,
                values: shares.patches.values(),
                prefix_mass: shares.prefix_mass,
            },
        },
        (Asked::Layer { layer }, Picked::Layer(heads)) => Map::Attention {
            about: ATTENTION,
            layer,
            heads: Heads::All {
                values: heads.iter().map(|shares| rows(&shares.patches)).collect(),
                prefix_mass: heads.iter().map(|shares| shares.prefix_mass).collect(),
            },
        },
        // What is picked is what was asked for.
        _ => return Err(Error::Internal),
    };
    let (width, height) = kept.placement.picture();
    let description = Description {
        id,
        model: &model.name,
        model_digest: &model.digest,
        map,
        grid: model.tokens.grid,
        region: kept.region,
        image: Size { width, height },
    };
    serde_json::to_vec(&description).map_err(|_| Error::Internal)
}

fn rows(map: &PatchMap) -> Vec<&[f32]> {
    map.values().chunks_exact(map.grid().cols).collect()
}
