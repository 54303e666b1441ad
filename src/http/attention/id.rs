//! The id in a map's address.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    Error,
    http::{Problem, RequestId},
};

/// Which map.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct MapPath {
    /// From the answer of `POST /classify`.
    #[param(min_length = 1, example = "gakSA12YEx1y9T-cZUaogg")]
    pub(in crate::http) id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for MapPath {
    type Rejection = Problem;

    /// An id that is not UTF-8 was never issued.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<Self>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(id),
            Err(_) => Err(Problem::new(&Error::NoSuchMap, &RequestId::given(parts))),
        }
    }
}
