//! A line of JSON for an image.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{classify::Classification, store::FoundMap};

/// What became of an image.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) file: &'a Path,
    /// SHA-256 of the model's manifest; on lines of a file, which outlives the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model_digest: Option<&'a str>,
    #[serde(flatten)]
    pub(super) answer: Option<&'a Classification>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overlay: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) map: Option<MapColumn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<EvidenceColumn>,
}

/// The rollout: its values and `prefix_mass` add up to 1.
#[derive(Serialize)]
pub(super) struct MapColumn {
    grid: [usize; 2],
    values: Vec<f32>,
    prefix_mass: f32,
}

/// The best label's account: values, `unattributed` and `residual` add up to `logit`.
#[derive(Serialize)]
pub(super) struct EvidenceColumn {
    class_id: usize,
    grid: [usize; 2],
    values: Vec<f32>,
    unattributed: f32,
    logit: f32,
    residual: f32,
}

impl MapColumn {
    /// `None` where the model makes no rollout.
    pub(super) fn of(found: &FoundMap) -> Option<Self> {
        let tokens = &found.map.model.tokens;
        let row = found.map.row(0)?;
        let (prefix, patches) = row.split_at_checked(tokens.prefix)?;
        Some(Self {
            grid: tokens.grid,
            values: patches.to_vec(),
            prefix_mass: prefix.iter().sum(),
        })
    }
}

impl EvidenceColumn {
    /// `None` where the model makes none.
    pub(super) fn of(found: &FoundMap, class_id: usize) -> Option<Self> {
        let account = found.map.attribution.as_ref()?.of(class_id, false)?;
        Some(Self {
            class_id,
            grid: found.map.model.tokens.grid,
            values: account.values,
            unattributed: account.unattributed,
            logit: account.logit,
            residual: account.residual,
        })
    }
}
