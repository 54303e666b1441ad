//! A map as bytes that another process understands: a protobuf message.
//!
//! Fields are only ever added: a process skips those it does not know, so replicas of neighbouring
//! versions read each other's maps. Should a field's meaning have to change, [`FORMAT`] does, and
//! older entries are read as if they had expired. What is read is checked for every property that
//! the code relies on, for it may come from anywhere.

use std::sync::Arc;

use prost::Message;

use super::{KeptEvidence, KeptMap, Owner, shares};
use crate::{
    explain::{Placement, Rect},
    model::{
        Outline,
        manifest::{HeadFusion, Tokens},
    },
    preprocess::Region,
};

/// The version of the format.
const FORMAT: u32 = 1;

/// A map, and until when it may be shown.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// Seconds since 1970.
    #[prost(uint64, tag = "2")]
    expires_at: u64,
    #[prost(fixed64, tag = "3")]
    owner: u64,
    #[prost(message, optional, tag = "4")]
    model: Option<Model>,
    #[prost(message, optional, tag = "5")]
    picture: Option<Picture>,
    /// `layers × tokens`; empty if abridged.
    #[prost(float, repeated, tag = "6")]
    rollout: Vec<f32>,
    #[prost(message, optional, tag = "7")]
    evidence: Option<Evidence>,
    /// `layers × heads × tokens`; empty if it is not kept.
    #[prost(float, repeated, tag = "8")]
    class_attention: Vec<f32>,
    /// Instead of 6, 7 and 8.
    #[prost(message, optional, tag = "9")]
    abridged: Option<Abridged>,
    /// The key of the kept result; empty without one, and if abridged.
    #[prost(bytes = "vec", tag = "10")]
    result: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Model {
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
    without_evidence: String,
}

#[derive(Clone, PartialEq, Message)]
struct Picture {
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
struct Evidence {
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
struct Abridged {
    /// Of the prefix tokens.
    #[prost(float, repeated, tag = "1")]
    prefix: Vec<f32>,
    /// Of the patches, see [`shares`].
    #[prost(bytes = "vec", tag = "2")]
    patches: Vec<u8>,
}

/// Everything that is kept of a map.
pub(super) fn write(map: &KeptMap, expires_at: u64) -> Vec<u8> {
    let evidence = map.evidence.as_deref().map(|evidence| Evidence {
        classes: evidence.classes.iter().copied().map(small).collect(),
        labels: evidence.labels.clone(),
        patches: evidence.patches.clone(),
        rest: evidence.rest.clone(),
        logits: evidence.logits.clone(),
    });
    let entry = Entry {
        rollout: map.rollout.to_vec(),
        evidence,
        class_attention: map.class_attention.as_deref().unwrap_or_default().to_vec(),
        result: map.result.map(Vec::from).unwrap_or_default(),
        ..Entry::of(map, expires_at)
    };
    entry.encode_to_vec()
}

/// The rollout through all blocks, in 16 bits a patch.
pub(super) fn abridge(map: &KeptMap, expires_at: u64) -> Vec<u8> {
    let row = map.row(0).unwrap_or_default();
    let (prefix, patches) = row.split_at(map.model.tokens.prefix.min(row.len()));
    let mut entry = Entry {
        abridged: Some(Abridged {
            prefix: prefix.to_vec(),
            patches: shares::pack(patches),
        }),
        ..Entry::of(map, expires_at)
    };
    // What says why something is missing is not needed where all of it is missing.
    if let Some(model) = &mut entry.model {
        model.without_evidence.clear();
    }
    entry.encode_to_vec()
}

/// The map, and the seconds that are left to it; `None` if it has expired, or if the bytes are not
/// what this version writes.
pub(crate) fn read(bytes: &[u8], now: u64) -> Option<(KeptMap, u64)> {
    let entry = Entry::decode(bytes).ok()?;
    let left = entry.expires_at.checked_sub(now).filter(|&left| left > 0)?;
    if entry.format != FORMAT {
        return None;
    }
    let model = entry.model?.read()?;
    let (placement, region) = entry.picture?.read()?;
    let tokens = model.tokens.total();

    let (rollout, abridged) = match entry.abridged {
        Some(abridged) => (abridged.read(&model.tokens)?, true),
        None => (entry.rollout, false),
    };
    let rows = if abridged { 1 } else { model.layers };
    has(&rollout, rows.checked_mul(tokens)?)?;
    let attention = entry.class_attention;
    if !attention.is_empty() {
        let count = model.layers.checked_mul(model.heads)?.checked_mul(tokens)?;
        has(&attention, count)?;
    }
    let evidence = match entry.evidence {
        Some(evidence) => Some(Arc::new(evidence.read(model.tokens.patches())?)),
        None => None,
    };
    let map = KeptMap {
        owner: Owner::of_key(entry.owner),
        model: Arc::new(model),
        rollout: rollout.into(),
        evidence,
        class_attention: (!attention.is_empty()).then(|| attention.into()),
        placement,
        region,
        result: entry.result.try_into().ok(),
        abridged,
    };
    Some((map, left))
}

impl Entry {
    /// What all entries have.
    fn of(map: &KeptMap, expires_at: u64) -> Self {
        let (width, height) = map.placement.picture();
        let seen = map.placement.region();
        let region = map.region;
        Self {
            format: FORMAT,
            expires_at,
            owner: map.owner.number(),
            model: Some(Model::of(&map.model)),
            picture: Some(Picture {
                width,
                height,
                seen: vec![seen.x, seen.y, seen.width, seen.height],
                region: vec![region.x, region.y, region.width, region.height],
            }),
            ..Self::default()
        }
    }
}

impl Model {
    fn of(model: &Outline) -> Self {
        let [rows, cols] = model.tokens.grid;
        Self {
            name: model.name.clone(),
            digest: model.digest.clone(),
            layers: small(model.layers),
            heads: small(model.heads),
            classes: small(model.classes),
            prefix: small(model.tokens.prefix),
            rows: small(rows),
            cols: small(cols),
            head_fusion: match model.head_fusion {
                HeadFusion::Mean => 0,
                HeadFusion::Max => 1,
                HeadFusion::Min => 2,
            },
            class_attention: model.class_attention,
            without_evidence: model.without_evidence.clone(),
        }
    }

    fn read(self) -> Option<Outline> {
        let [layers, heads, classes] = [self.layers, self.heads, self.classes].map(large);
        let [prefix, rows, cols] = [self.prefix, self.rows, self.cols].map(large);
        if [layers, heads, classes, rows, cols].contains(&0) {
            return None;
        }
        rows.checked_mul(cols)?.checked_add(prefix)?;
        Some(Outline {
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
            without_evidence: self.without_evidence,
        })
    }
}

impl Picture {
    fn read(self) -> Option<(Placement, Region)> {
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

impl Evidence {
    fn read(self, patches: usize) -> Option<KeptEvidence> {
        let rows = self.classes.len() + 1;
        has(&self.patches, rows.checked_mul(patches)?)?;
        has(&self.rest, rows)?;
        has(&self.logits, rows)?;
        (self.labels.len() == self.classes.len()).then(|| KeptEvidence {
            classes: self.classes.into_iter().map(large).collect(),
            labels: self.labels,
            patches: self.patches,
            rest: self.rest,
            logits: self.logits,
        })
    }
}

impl Abridged {
    /// Prefix tokens and patches, which add up to 1.
    fn read(self, tokens: &Tokens) -> Option<Vec<f32>> {
        has(&self.prefix, tokens.prefix)?;
        let of_prefix: f64 = self.prefix.iter().copied().map(f64::from).sum();
        // Rounding of float32 may take a sum beyond 1.
        let of_patches = (1.0 - of_prefix).max(0.0);
        let mut row = self.prefix;
        row.extend(shares::unpack(&self.patches, of_patches)?);
        Some(row)
    }
}

/// Whether there are this many values, all of them numbers.
fn has(values: &[f32], count: usize) -> Option<()> {
    (values.len() == count && values.iter().all(|value| value.is_finite())).then_some(())
}

/// Counts in a model fit, or the model would not.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn large(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
