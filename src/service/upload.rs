//! The body of a request while it comes in: how long it may be, how slow, and the memory for it.

use std::{fmt::Display, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use patchlight_escape::Excerpt;
use tokio::time::{Instant, timeout_at};

use super::{upload_budget::UploadReservation, upload_pace::Pace};
use crate::{
    Error, Result,
    config::RequestLimits,
    metrics::{Metrics, ShedReason},
};

/// How long a body may keep us waiting for its first bytes.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes a second that a body has to come with after that.
const MIN_BYTES_PER_SECOND: u64 = 4 << 10;

/// Room for the body of one request, given back when dropped.
#[derive(Debug)]
pub struct Upload {
    memory: UploadReservation,
    content_length: Option<u64>,
    limits: RequestLimits,
    metrics: Arc<Metrics>,
}

impl Upload {
    pub(super) fn new(
        memory: UploadReservation,
        content_length: Option<u64>,
        limits: RequestLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            memory,
            content_length,
            limits,
            metrics,
        }
    }

    /// Receives a body to its end, within the limits on bytes and time, and takes room for it as it
    /// comes; for a compressed one also for what it may become.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`], before anything is received if the client announces it;
    /// [`Error::UploadTooSlow`]; [`Error::Overloaded`] when there is no room;
    /// [`Error::MalformedRequest`] when the connection breaks.
    pub async fn receive<E: Display>(
        &mut self,
        chunks: impl Stream<Item = std::result::Result<Bytes, E>>,
        is_compressed: bool,
    ) -> Result<Bytes> {
        let limit = self.limits.max_body;
        if self.content_length.is_some_and(|length| length > limit) {
            return Err(Error::BodyTooLarge { limit });
        }
        let guard = self.metrics.abandon_guard("upload");
        let outcome = self.collect(chunks).await;
        guard.disarm();
        let whole = match outcome {
            Ok(bytes) if is_compressed => self.memory.take_up_to(limit).map(|()| bytes),
            other => other,
        };
        if matches!(whole, Err(Error::Overloaded { .. })) {
            self.metrics.shed(ShedReason::UploadMemory);
        }
        whole
    }

    /// Takes so many bytes more, for what is made of the body.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<()> {
        self.memory.take(bytes)
    }

    async fn collect<E: Display>(
        &mut self,
        chunks: impl Stream<Item = std::result::Result<Bytes, E>>,
    ) -> Result<Bytes> {
        let began = Instant::now();
        let pace = Pace {
            grace: GRACE,
            bytes_per_second: MIN_BYTES_PER_SECOND,
            limit: self.limits.upload_timeout,
        };
        let mut chunks = pin!(chunks);
        let mut bytes = BytesMut::new();
        loop {
            let limit = pace.due(bytes.len() as u64);
            let data = match timeout_at(began + limit, chunks.next()).await {
                Ok(Some(Ok(data))) => data,
                Ok(None) => return Ok(bytes.freeze()),
                Ok(Some(Err(error))) => {
                    let error = format_args!("the body broke off: {}", Excerpt(error)).into();
                    return Err(Error::MalformedRequest(error));
                }
                Err(_) => return Err(Error::UploadTooSlow { limit }),
            };
            if (bytes.len() + data.len()) as u64 > self.limits.max_body {
                let limit = self.limits.max_body;
                return Err(Error::BodyTooLarge { limit });
            }
            self.memory.take(data.len() as u64)?;
            bytes.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests;
