//! What every front end asks before and while it works on a request: who the caller is, what it may
//! still ask for, how long it has, and whether there is room for its upload.
//!
//! Nothing here knows a wire protocol. A front end ([`http`](crate::http), with the Open Inference
//! Protocol in it) reads headers and bodies, hands plain values over, and says what became of them
//! in its own way.

mod api_keys;
mod client;
mod upload;
mod upload_budget;
mod upload_pace;

use std::{net::IpAddr, sync::Arc};

use self::client::Client;
pub(crate) use self::upload_pace::Pace;
pub use self::{
    api_keys::{Caller, KeyRing},
    upload::Upload,
    upload_budget::UploadBudget,
};
use crate::{
    Error, Result,
    config::RequestLimits,
    metrics::{Metrics, ShedReason},
    registry::Registry,
};

/// The service behind its front ends. A handle; clones share the content.
#[derive(Clone, Debug)]
pub struct Service {
    /// The models and the way to them.
    pub models: Registry,
    /// Bounds of requests.
    pub limits: RequestLimits,
    /// A request needs one of these; none is needed without them.
    pub keys: Option<KeyRing>,
    /// Memory for bodies.
    pub uploads: UploadBudget,
    /// Counts and times everything.
    pub metrics: Arc<Metrics>,
}

impl Service {
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

    /// Room for the body of a request, before it is received. `address` is the other end of the
    /// connection, where there is one; `content_length` what the client announces.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when a body as long as announced would not fit now.
    pub fn admit_upload(
        &self,
        caller: &Caller,
        address: Option<IpAddr>,
        content_length: Option<u64>,
    ) -> Result<Upload> {
        let client = Client::new(caller.owner(), address);
        let single = self.limits.max_body;
        let expected = content_length.unwrap_or_default().min(single);
        let memory = self
            .uploads
            .open(client, expected, single)
            .inspect_err(|_| self.metrics.shed(ShedReason::UploadMemory))?;
        let metrics = Arc::clone(&self.metrics);
        Ok(Upload::new(memory, content_length, self.limits, metrics))
    }
}
