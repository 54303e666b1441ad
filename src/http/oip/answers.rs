//! The short answers of the protocol.

use serde::Serialize;
use utoipa::ToSchema;

use crate::oip::statistics::Described;

/// Who answers.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerMetadata {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// What of the protocol's extensions is spoken here, by Triton's names.
    pub(super) extensions: Vec<&'static str>,
}

/// Whether the process answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Live {
    pub(super) live: bool,
}

/// Whether new work should be sent to the server.
#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    pub(super) ready: bool,
}

/// Whether new work should be sent to a model.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelReady {
    /// As the client called it.
    pub(super) name: String,
    pub(super) ready: bool,
}

/// What names of models have done since the program started.
#[derive(Serialize, ToSchema)]
pub(super) struct Statistics {
    pub(super) model_stats: Vec<Described>,
}

/// A name that can be asked.
#[derive(Serialize, ToSchema)]
pub(super) struct IndexEntry {
    pub(super) name: String,
    pub(super) version: &'static str,
    /// `READY`: what is not ready is not listed.
    pub(super) state: &'static str,
    /// Why it is not ready; empty.
    pub(super) reason: &'static str,
}
