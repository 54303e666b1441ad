//! The options of a classification, checked against the model.

use patchlight_model::ModelInfo;

use crate::{
    Error, Result,
    classify::{self, MapRetention, Options},
    store::Owner,
};

/// How many labels are returned unless the request says otherwise.
const DEFAULT_TOP_K: usize = 5;

/// What a request says about its answer; nothing where it leaves that to the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestedOptions {
    /// How many labels at most.
    pub top_k: Option<usize>,
    /// Labels below this score are left out.
    pub min_score: Option<f32>,
    /// Which maps are stored.
    pub attention: Option<MapRetention>,
    /// The level of the prediction set.
    pub coverage: Option<f64>,
}

impl RequestedOptions {
    /// The options for a model; `owner` will own the maps.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`].
    pub fn resolve(self, owner: Owner, model: &ModelInfo) -> Result<Options> {
        let classes = model.manifest.task.classes;
        let default = DEFAULT_TOP_K.min(classes);
        let top_k = self.top_k.unwrap_or(default);
        if !(1..=classes).contains(&top_k) {
            return Err(Error::InvalidParameter {
                name: "top_k",
                detail: format_args!(
                    "{top_k} is not between 1 and {classes}, the number of classes"
                )
                .into(),
            });
        }
        let min_score = self.min_score.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&min_score) {
            return Err(Error::InvalidParameter {
                name: "min_score",
                detail: "it must be between 0 and 1".into(),
            });
        }
        let coverage = classify::level(model, self.coverage).map_err(|error| {
            let detail = error.to_string().into();
            Error::InvalidParameter {
                name: "coverage",
                detail,
            }
        })?;
        Ok(Options {
            top_k,
            min_score,
            scores: None,
            coverage,
            attention: self.attention.unwrap_or(MapRetention::Rollout),
            owner,
        })
    }
}
