//! How outputs become scores.

use serde::{Deserialize, Serialize};

/// Whether one label or any number of labels holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Scores are the softmax of the logits.
    SingleLabel,
    /// Scores are the sigmoid of each logit.
    MultiLabel,
}
