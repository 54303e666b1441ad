//! Which requests are let in: one order for all front ends.
//!
//! | | step | where | refused with |
//! |---|---|---|---|
//! | 1 | the caller is known | [`Service::authenticate`] | [`Error::Unauthorized`] |
//! | 2 | the parameters are valid | the front end, [`RequestedOptions::resolve`](super::RequestedOptions::resolve) | [`Error::InvalidParameter`], [`Error::NoSuchModel`], … |
//! | 3 | the quota has an image left | [`Service::admit`] | [`Error::QuotaExceeded`] |
//! | 4 | the deadline is set | [`Service::admit`] | |
//! | 5 | there is time to answer before it | [`Service::admit`] | [`Error::Overloaded`] |
//! | 6 | there is memory for the body | [`Service::admit`] | [`Error::Overloaded`] |
//! | 7 | the body comes, within its limits | [`Admitted::receive`] | [`Error::BodyTooLarge`], [`Error::UploadTooSlow`], … |
//! | 8 | there still is time | [`Admitted::receive`] | [`Error::Overloaded`], [`Error::DeadlinePassed`] |
//!
//! Where the body itself names the model (gRPC), what needs one comes after it: steps 1, 3, 4, 6 and 7
//! ([`Service::admit_unaddressed`]), then 2, 5 and 8 ([`Unaddressed::address`]).
//!
//! A caller that is not known learns nothing else, not even which models there are, and a request
//! that cannot be answered costs no quota. What costs the server something comes last: memory is
//! taken as the body comes, and only a body that is there is something that others wait for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;

use super::{Caller, Service, client::Client, upload::Upload};
use crate::{
    Result,
    batch::{Deadline, RequestContext, Reservation},
    classify::Classifier,
    metrics::ShedReason,
};

/// What a front end knows of a request before its body is received. Its parameters are valid.
#[derive(Clone, Copy, Debug)]
pub struct RequestDescriptor<'a> {
    /// The client.
    pub caller: &'a Caller,
    /// The other end of the connection, where there is one.
    pub address: Option<IpAddr>,
    /// The requested model.
    pub classifier: &'a Arc<Classifier>,
    /// How long the client wants to wait; can only shorten the server's time-out.
    pub timeout: Option<Duration>,
    /// How many bytes of body the client announces.
    pub content_length: Option<u64>,
}

/// A request that is let in. Its memory is given back when this is dropped, so it is held until the
/// answer is ready.
#[derive(Debug)]
pub struct Admitted {
    /// The requested model, even if it is replaced meanwhile.
    pub(super) classifier: Arc<Classifier>,
    pub(super) caller: Caller,
    pub(super) request: RequestContext,
    upload: Upload,
    /// Counts the request as one that waits, from its body being there until its rows are known.
    pub(super) reservation: Option<Reservation>,
}

/// A request that is let in although its body has yet to say which model it means. Its memory is
/// given back when this is dropped.
#[derive(Debug)]
pub struct Unaddressed {
    caller: Caller,
    deadline: Deadline,
    upload: Upload,
}

impl Unaddressed {
    /// Receives the body. Step 7 of the [order](self).
    ///
    /// # Errors
    /// Those of [`Upload::receive`].
    pub async fn receive<E: std::fmt::Display>(
        &mut self,
        chunks: impl Stream<Item = std::result::Result<Bytes, E>>,
        is_compressed: bool,
    ) -> Result<Bytes> {
        self.upload.receive(chunks, is_compressed).await
    }

    /// When its answer is no longer wanted.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The body has named a model: from now on the request counts as one that others wait for.
    /// Steps 5 and 8 of the [order](self).
    ///
    /// # Errors
    /// Those of [`Classifier::admit`].
    pub fn address(self, classifier: &Arc<Classifier>) -> Result<Admitted> {
        let reservation = classifier.admit(self.deadline)?;
        Ok(Admitted {
            classifier: Arc::clone(classifier),
            caller: self.caller,
            request: classifier.batcher.new_request(self.deadline),
            upload: self.upload,
            reservation: Some(reservation),
        })
    }
}

impl Service {
    /// Lets in a request that is to bring at least one image: steps 3 to 6 of the [order](self).
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`](crate::Error::QuotaExceeded), [`Error::Overloaded`](crate::Error::Overloaded).
    pub fn admit(&self, request: RequestDescriptor<'_>) -> Result<Admitted> {
        let RequestDescriptor {
            caller,
            address,
            classifier,
            timeout,
            content_length,
        } = request;
        caller.rate_limit().admit(&self.metrics)?;
        let longest = self.limits.request_timeout;
        let timeout = timeout.map_or(longest, |timeout| timeout.min(longest));
        let deadline = Deadline::after(timeout);
        classifier.has_time(deadline)?;
        let upload = self.admit_upload(caller, address, content_length)?;
        Ok(Admitted {
            classifier: Arc::clone(classifier),
            caller: caller.clone(),
            request: classifier.batcher.new_request(deadline),
            upload,
            reservation: None,
        })
    }

    /// Lets in a request of which only the body says which model it means: steps 3, 4 and 6 of the
    /// [order](self).
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`](crate::Error::QuotaExceeded), [`Error::Overloaded`](crate::Error::Overloaded).
    pub fn admit_unaddressed(
        &self,
        caller: &Caller,
        address: Option<IpAddr>,
        timeout: Option<Duration>,
        content_length: u64,
    ) -> Result<Unaddressed> {
        caller.rate_limit().admit(&self.metrics)?;
        let longest = self.limits.request_timeout;
        let timeout = timeout.map_or(longest, |timeout| timeout.min(longest));
        Ok(Unaddressed {
            caller: caller.clone(),
            deadline: Deadline::after(timeout),
            upload: self.admit_upload(caller, address, Some(content_length))?,
        })
    }

    /// Room for the body of a request that brings no image: step 6 alone.
    ///
    /// # Errors
    /// [`Error::Overloaded`](crate::Error::Overloaded) when a body as long as announced would not
    /// fit now.
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

impl Admitted {
    /// Receives the body; from then on the request counts as one that others wait for. Steps 7 and
    /// 8 of the [order](self).
    ///
    /// # Errors
    /// Those of [`Upload::receive`] and [`Classifier::admit`].
    pub async fn receive<E: std::fmt::Display>(
        &mut self,
        chunks: impl Stream<Item = std::result::Result<Bytes, E>>,
        is_compressed: bool,
    ) -> Result<Bytes> {
        let body = self.upload.receive(chunks, is_compressed).await?;
        self.reservation = Some(self.classifier.admit(self.deadline())?);
        Ok(body)
    }

    /// When its answer is no longer wanted.
    pub fn deadline(&self) -> Deadline {
        self.request.deadline()
    }

    /// Takes memory for an answer of so many bytes that waits until its client takes it.
    ///
    /// # Errors
    /// [`Error::Overloaded`](crate::Error::Overloaded) when there is no room for it.
    pub fn hold(&mut self, bytes: u64) -> Result<()> {
        self.upload.hold(bytes)
    }

    /// Its body says that the client wants to wait no longer than this from now.
    pub fn shorten(&mut self, timeout: Duration) {
        self.request = self.request.within(timeout);
    }
}

#[cfg(test)]
mod tests;
