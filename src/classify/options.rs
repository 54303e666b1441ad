//! What a request asks for.

use patchlight_model::scores::ScoreFunction;
use utoipa::ToSchema;

use crate::store::Owner;

/// Options of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How many labels at most.
    pub top_k: usize,
    /// Labels below this score are left out.
    pub min_score: f32,
    /// What makes scores of logits, if not what the model was trained with.
    pub scores: Option<ScoreFunction>,
    /// The level of the prediction set, one that the model has; none if it has no sets.
    pub coverage: Option<f64>,
    /// Which maps are stored.
    pub attention: MapRetention,
    /// The caller, who will own the maps.
    pub owner: Owner,
}

/// Which maps are stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ToSchema)]
#[schema(rename_all = "lowercase", default = "rollout")]
pub enum MapRetention {
    /// None.
    #[schema(rename = "none")]
    None,
    /// The rollout and the best labels' attribution.
    Rollout,
    /// These, and the class token's attention of every layer and head.
    Heads,
}
