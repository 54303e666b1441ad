//! Answers as JSON, the long ones written where they hold nobody up.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::task;

use crate::{Error, Result};

/// So many predictions are written in microseconds; sixteen pictures with every label of a large
/// model are tens of megabytes.
const FEW: usize = 1000;

/// A body with so many predictions in it.
pub(super) async fn json(
    status: StatusCode,
    body: impl Serialize + Send + 'static,
    predictions: usize,
) -> Result<Response> {
    let write = move || (status, Json(body)).into_response();
    if predictions <= FEW {
        return Ok(write());
    }
    task::spawn_blocking(write).await.map_err(|why| {
        tracing::error!(%why, "a long answer could not be written");
        Error::Internal
    })
}
