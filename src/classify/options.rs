//! What a request asks for.

use utoipa::ToSchema;

use crate::store::Owner;

/// What one request wants of the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How many labels at most.
    pub top_k: usize,
    /// Labels below this score are left out.
    pub min_score: f32,
    /// Which maps are kept.
    pub attention: Keep,
    /// Who asks, and will own the maps.
    pub owner: Owner,
}

/// Which maps are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ToSchema)]
#[schema(rename_all = "lowercase", default = "rollout")]
pub enum Keep {
    /// None.
    #[schema(rename = "none")]
    Nothing,
    /// The rollout and the best labels' evidence.
    Rollout,
    /// These, and the class token's attention of every layer and head.
    Heads,
}
