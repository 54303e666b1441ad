//! What every front end asks before and while it works on a request: who the caller is, whether the
//! request is let in ([`admission`] has the order), and what the models say to its images.
//!
//! Nothing here knows a wire protocol. A front end ([`http`](crate::http), with the Open Inference
//! Protocol in it) reads headers and bodies, hands plain values over, and says what became of them
//! in its own way.

pub mod admission;
mod api_keys;
mod client;
mod params;
mod run;
mod upload;
mod upload_budget;
mod upload_pace;

use std::sync::Arc;

use self::upload_budget::UploadBudget;
pub(crate) use self::upload_pace::Pace;
pub use self::{
    admission::{Admitted, RequestDescriptor, Unaddressed},
    api_keys::{Caller, KeyRing},
    params::RequestedOptions,
    run::{MAX_IMAGES, Rows, max_rows},
    upload::Upload,
};
use crate::{Error, Result, config::RequestLimits, metrics::Metrics, registry::Registry};

/// The service behind its front ends. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct Service {
    /// The models and the way to them.
    pub models: Registry,
    /// Bounds of requests.
    pub limits: RequestLimits,
    /// A request needs one of these; none is needed without them.
    keys: Option<KeyRing>,
    /// Memory for bodies.
    uploads: UploadBudget,
    metrics: Arc<Metrics>,
}

impl Service {
    /// With `upload_memory` bytes for bodies, all together. With `keys` a request needs one of them.
    pub fn new(
        models: Registry,
        limits: RequestLimits,
        keys: Option<KeyRing>,
        upload_memory: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            models,
            limits,
            keys,
            uploads: UploadBudget::new(upload_memory),
            metrics,
        }
    }

    /// The caller that presents this API key.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when keys are configured and it is none of them.
    pub fn authenticate(&self, presented: Option<&[u8]>) -> Result<Caller> {
        match &self.keys {
            None => Ok(Caller::anyone()),
            Some(keys) => presented
                .and_then(|key| keys.caller(key))
                .ok_or(Error::Unauthorized),
        }
    }
}

#[cfg(test)]
mod tests;
