//! Maps as JSON.

use patchlight_imaging::preprocess::Region;
use patchlight_model::manifest::HeadFusion;
use serde::Serialize;
use utoipa::ToSchema;

use super::{map_request::MapSelector, selected_map::SelectedMap};
use crate::{Error, Result, explain::PatchMap, store::AttentionMap};

const ROLLOUT: &str = "rollout is class-agnostic: one map per image, whatever the label";
const ATTRIBUTION: &str = "evidence is the direct path only: what attention carried from each \
                           patch's position straight into this logit, in logits";
const ATTENTION: &str = "attention is class-agnostic: where the class token read in this layer, \
                         whatever the label";

/// A map in numbers. Rollout, evidence or attention, by method; docs/maps.md says what each means.
#[derive(Serialize, ToSchema)]
#[schema(as = Map)]
pub(super) struct MapDescription<'a> {
    /// The map's id.
    id: &'a str,
    /// The model that made it.
    model: &'a str,
    /// Of that model's files: SHA-256 in hexadecimal.
    model_digest: &'a str,
    #[schema(inline)]
    #[serde(flatten)]
    map: ByMethod<'a>,
    /// Rows and columns of patches.
    #[schema(min_items = 2, max_items = 2)]
    grid: [usize; 2],
    region: Region,
    image: Size,
}

/// `values` are row-major.
#[derive(Serialize, ToSchema)]
#[serde(tag = "method", rename_all = "lowercase")]
enum ByMethod<'a> {
    /// `values` and `prefix_mass` add up to 1.
    Rollout {
        /// What the map says, in words.
        about: &'static str,
        #[schema(inline)]
        head_fusion: HeadFusion,
        /// The block at which the product starts.
        start_layer: usize,
        /// Row-major weights of the patches, not rescaled.
        values: &'a [f32],
        /// What the prefix tokens hold.
        prefix_mass: f32,
    },
    /// `values`, `unattributed` and `residual` add up to `logit`.
    Attribution {
        /// What the map says, in words.
        about: &'static str,
        /// The label's class.
        class_id: usize,
        /// The label.
        label: &'a str,
        /// Whether the mean over all classes is taken away.
        contrast: bool,
        /// Row-major, signed, in logits.
        values: &'a [f32],
        /// The share of prefix tokens, biases, MLPs and embedding, in logits.
        unattributed: f32,
        /// The label's logit.
        logit: f32,
        /// What the account does not close by.
        residual: f32,
    },
    /// The class token's attention in one layer.
    Attention {
        /// What the map says, in words.
        about: &'static str,
        /// The layer, from 0.
        layer: usize,
        #[schema(inline)]
        #[serde(flatten)]
        heads: Heads<'a>,
    },
}

/// One head of a layer, or all.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Heads<'a> {
    /// `values` and `prefix_mass` add up to 1.
    One {
        /// The head, from 0.
        head: usize,
        /// Row-major.
        values: &'a [f32],
        /// What the prefix tokens hold.
        prefix_mass: f32,
    },
    /// Those of each head add up to 1.
    All {
        /// By head, row and column.
        values: Vec<Vec<&'a [f32]>>,
        /// What the prefix tokens hold, by head.
        prefix_mass: Vec<f32>,
    },
}

/// Pixels of the upright image.
#[derive(Serialize, ToSchema)]
struct Size {
    width: u32,
    height: u32,
}

/// The map that was picked for `selector`.
pub(super) fn describe(
    id: &str,
    kept: &AttentionMap,
    selector: MapSelector,
    selected: &SelectedMap,
) -> Result<Vec<u8>> {
    let model = &kept.model;
    let map = match (selector, selected) {
        (MapSelector::Rollout { start_layer }, SelectedMap::Rollout(weights)) => {
            ByMethod::Rollout {
                about: ROLLOUT,
                head_fusion: model.head_fusion,
                start_layer,
                values: weights.patches.values(),
                prefix_mass: weights.prefix_mass,
            }
        }
        (MapSelector::Class { class, contrast }, SelectedMap::Class { map, attribution }) => {
            ByMethod::Attribution {
                about: ATTRIBUTION,
                class_id: class,
                label: &attribution.label,
                contrast,
                values: map.values(),
                unattributed: attribution.unattributed,
                logit: attribution.logit,
                residual: attribution.residual,
            }
        }
        (MapSelector::Head { layer, head }, SelectedMap::Head(weights)) => ByMethod::Attention {
            about: ATTENTION,
            layer,
            heads: Heads::One {
                head,
                values: weights.patches.values(),
                prefix_mass: weights.prefix_mass,
            },
        },
        (MapSelector::Layer { layer }, SelectedMap::Layer(heads)) => ByMethod::Attention {
            about: ATTENTION,
            layer,
            heads: Heads::All {
                values: heads.iter().map(|weights| rows(&weights.patches)).collect(),
                prefix_mass: heads.iter().map(|weights| weights.prefix_mass).collect(),
            },
        },
        // The selected map is the one that was requested.
        _ => return Err(Error::Internal),
    };
    let (width, height) = kept.placement.image();
    let description = MapDescription {
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
