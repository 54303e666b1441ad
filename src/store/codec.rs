//! A map as bytes that another process understands: a protobuf message.
//!
//! Fields are only ever added: a process skips those it does not know, so replicas of neighbouring
//! versions read each other's maps. Should a field's meaning have to change, [`FORMAT`] does, and
//! older entries are read as if they had expired. What is read is checked for every property that
//! the code relies on, for it may come from anywhere.

use std::sync::Arc;

use patchlight_imaging::preprocess::Region;
use patchlight_model::{
    ModelDescriptor,
    manifest::{HeadFusion, Tokens},
};
use prost::Message;

use super::{AttentionMap, KeptAttribution, Owner, quantize};
use crate::explain::{Placement, Rect};

/// The version of the format.
const FORMAT: u32 = 1;

/// A map, and until when it may be shown.
#[derive(Clone, PartialEq, Message)]
struct MapRecord {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// Seconds since 1970.
    #[prost(uint64, tag = "2")]
    expires_at: u64,
    #[prost(fixed64, tag = "3")]
    owner: u64,
    #[prost(message, optional, tag = "4")]
    model: Option<ModelRecord>,
    #[prost(message, optional, tag = "5")]
    image: Option<ImageRecord>,
    /// `layers × tokens`; empty if abridged.
    #[prost(float, repeated, tag = "6")]
    rollout: Vec<f32>,
    #[prost(message, optional, tag = "7")]
    attribution: Option<AttributionRecord>,
    /// `layers × heads × tokens`; empty if it is not kept.
    #[prost(float, repeated, tag = "8")]
    class_attention: Vec<f32>,
    /// Instead of 6, 7 and 8.
    #[prost(message, optional, tag = "9")]
    abridged: Option<AbridgedRecord>,
    /// The key of the kept result; empty without one, and if abridged.
    #[prost(bytes = "vec", tag = "10")]
    result: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    digest: String,
    #[prost(uint32, tag = "3")]
    layers: u32,
    #[prost(uint32, tag = "4")]
    heads: u32,
    #[prost(uint32, tag = "5")]
    classes: u32,
    #[prost(uint32, tag = "6")]
    prefix: u32,
    #[prost(uint32, tag = "7")]
    rows: u32,
    #[prost(uint32, tag = "8")]
    cols: u32,
    /// 0 mean, 1 max, 2 min.
    #[prost(uint32, tag = "9")]
    head_fusion: u32,
    #[prost(bool, tag = "10")]
    class_attention: bool,
    #[prost(string, tag = "11")]
    without_attribution: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageRecord {
    #[prost(uint32, tag = "1")]
    width: u32,
    #[prost(uint32, tag = "2")]
    height: u32,
    /// What the model saw: x, y, width, height.
    #[prost(double, repeated, tag = "3")]
    seen: Vec<f64>,
    /// The same in whole pixels.
    #[prost(uint32, repeated, tag = "4")]
    region: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributionRecord {
    #[prost(uint32, repeated, tag = "1")]
    classes: Vec<u32>,
    #[prost(string, repeated, tag = "2")]
    labels: Vec<String>,
    #[prost(float, repeated, tag = "3")]
    patches: Vec<f32>,
    #[prost(float, repeated, tag = "4")]
    rest: Vec<f32>,
    #[prost(float, repeated, tag = "5")]
    logits: Vec<f32>,
}

/// The rollout through all blocks and nothing else.
#[derive(Clone, PartialEq, Message)]
struct AbridgedRecord {
    /// Of the prefix tokens.
    #[prost(float, repeated, tag = "1")]
    prefix: Vec<f32>,
    /// Of the patches, see [`quantize`].
    #[prost(bytes = "vec", tag = "2")]
    patches: Vec<u8>,
}

/// Everything that is kept of a map.
pub(super) fn encode(map: &AttentionMap, expires_at: u64) -> Vec<u8> {
    let attribution = map
        .attribution
        .as_deref()
        .map(|attribution| AttributionRecord {
            classes: attribution.classes.iter().copied().map(to_u32).collect(),
            labels: attribution.labels.clone(),
            patches: attribution.patches.clone(),
            rest: attribution.rest.clone(),
            logits: attribution.logits.clone(),
        });
    let record = MapRecord {
        rollout: map.rollout.to_vec(),
        attribution,
        class_attention: map.class_attention.as_deref().unwrap_or_default().to_vec(),
        result: map.result.map(Vec::from).unwrap_or_default(),
        ..MapRecord::of(map, expires_at)
    };
    record.encode_to_vec()
}

/// The rollout through all blocks, in 16 bits a patch.
pub(super) fn encode_abridged(map: &AttentionMap, expires_at: u64) -> Vec<u8> {
    let row = map.row(0).unwrap_or_default();
    let (prefix, patches) = row.split_at(map.model.tokens.prefix.min(row.len()));
    let mut record = MapRecord {
        abridged: Some(AbridgedRecord {
            prefix: prefix.to_vec(),
            patches: quantize::quantize(patches),
        }),
        ..MapRecord::of(map, expires_at)
    };
    // What says why something is missing is not needed where all of it is missing.
    if let Some(model) = &mut record.model {
        model.without_attribution.clear();
    }
    record.encode_to_vec()
}

/// The map, and the seconds that are left to it; `None` if it has expired, or if the bytes are not
/// what this version writes.
pub(crate) fn decode(bytes: &[u8], now: u64) -> Option<(AttentionMap, u64)> {
    let record = MapRecord::decode(bytes).ok()?;
    let left = record
        .expires_at
        .checked_sub(now)
        .filter(|&left| left > 0)?;
    if record.format != FORMAT {
        return None;
    }
    let model = record.model?.into_checked()?;
    let (placement, region) = record.image?.into_checked()?;
    let tokens = model.tokens.total();

    let (rollout, abridged) = match record.abridged {
        Some(abridged) => (abridged.into_checked(&model.tokens)?, true),
        None => (record.rollout, false),
    };
    let rows = if abridged { 1 } else { model.layers };
    require_finite(&rollout, rows.checked_mul(tokens)?)?;
    let attention = record.class_attention;
    if !attention.is_empty() {
        let count = model.layers.checked_mul(model.heads)?.checked_mul(tokens)?;
        require_finite(&attention, count)?;
    }
    let attribution = match record.attribution {
        Some(attribution) => Some(Arc::new(attribution.into_checked(model.tokens.patches())?)),
        None => None,
    };
    let map = AttentionMap {
        owner: Owner::of_key(record.owner),
        model: Arc::new(model),
        rollout: rollout.into(),
        attribution,
        class_attention: (!attention.is_empty()).then(|| attention.into()),
        placement,
        region,
        result: record.result.try_into().ok(),
        abridged,
    };
    Some((map, left))
}

impl MapRecord {
    /// What all entries have.
    fn of(map: &AttentionMap, expires_at: u64) -> Self {
        let (width, height) = map.placement.image();
        let seen = map.placement.region();
        let region = map.region;
        Self {
            format: FORMAT,
            expires_at,
            owner: map.owner.number(),
            model: Some(ModelRecord::of(&map.model)),
            image: Some(ImageRecord {
                width,
                height,
                seen: vec![seen.x, seen.y, seen.width, seen.height],
                region: vec![region.x, region.y, region.width, region.height],
            }),
            ..Self::default()
        }
    }
}

impl ModelRecord {
    fn of(model: &ModelDescriptor) -> Self {
        let [rows, cols] = model.tokens.grid;
        Self {
            name: model.name.clone(),
            digest: model.digest.clone(),
            layers: to_u32(model.layers),
            heads: to_u32(model.heads),
            classes: to_u32(model.classes),
            prefix: to_u32(model.tokens.prefix),
            rows: to_u32(rows),
            cols: to_u32(cols),
            head_fusion: match model.head_fusion {
                HeadFusion::Mean => 0,
                HeadFusion::Max => 1,
                HeadFusion::Min => 2,
            },
            class_attention: model.class_attention,
            without_attribution: model.without_attribution.clone(),
        }
    }

    fn into_checked(self) -> Option<ModelDescriptor> {
        let [layers, heads, classes] = [self.layers, self.heads, self.classes].map(to_usize);
        let [prefix, rows, cols] = [self.prefix, self.rows, self.cols].map(to_usize);
        if [layers, heads, classes, rows, cols].contains(&0) {
            return None;
        }
        rows.checked_mul(cols)?.checked_add(prefix)?;
        Some(ModelDescriptor {
            name: self.name,
            digest: self.digest,
            layers,
            heads,
            classes,
            tokens: Tokens {
                prefix,
                grid: [rows, cols],
            },
            head_fusion: match self.head_fusion {
                0 => HeadFusion::Mean,
                1 => HeadFusion::Max,
                2 => HeadFusion::Min,
                _ => return None,
            },
            class_attention: self.class_attention,
            without_attribution: self.without_attribution,
        })
    }
}

impl ImageRecord {
    fn into_checked(self) -> Option<(Placement, Region)> {
        let [x, y, width, height]: [f64; 4] = self.seen.try_into().ok()?;
        let seen = Rect {
            x,
            y,
            width,
            height,
        };
        let placement = Placement::new((self.width, self.height), seen).ok()?;
        let [x, y, width, height]: [u32; 4] = self.region.try_into().ok()?;
        let region = Region {
            x,
            y,
            width,
            height,
        };
        Some((placement, region))
    }
}

impl AttributionRecord {
    fn into_checked(self, patches: usize) -> Option<KeptAttribution> {
        let rows = self.classes.len() + 1;
        require_finite(&self.patches, rows.checked_mul(patches)?)?;
        require_finite(&self.rest, rows)?;
        require_finite(&self.logits, rows)?;
        (self.labels.len() == self.classes.len()).then(|| KeptAttribution {
            classes: self.classes.into_iter().map(to_usize).collect(),
            labels: self.labels,
            patches: self.patches,
            rest: self.rest,
            logits: self.logits,
        })
    }
}

impl AbridgedRecord {
    /// Prefix tokens and patches, which add up to 1.
    fn into_checked(self, tokens: &Tokens) -> Option<Vec<f32>> {
        require_finite(&self.prefix, tokens.prefix)?;
        let of_prefix: f64 = self.prefix.iter().copied().map(f64::from).sum();
        // Rounding of float32 may take a sum beyond 1.
        let of_patches = (1.0 - of_prefix).max(0.0);
        let mut row = self.prefix;
        row.extend(quantize::dequantize(&self.patches, of_patches)?);
        Some(row)
    }
}

/// Whether there are this many values, all of them numbers.
fn require_finite(values: &[f32], count: usize) -> Option<()> {
    (values.len() == count && values.iter().all(|value| value.is_finite())).then_some(())
}

/// Counts in a model fit, or the model would not.
fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
