//! An inference request of gRPC from its bytes to those of its answer: what a call with one and a
//! stream have in common.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use patchlight_model::ModelInfo;

use super::{
    messages::{MessageHead, MessageReader},
    metadata::target,
};
use crate::{
    Error, Result,
    http::AppState,
    oip::{InferResponse, ParsedInferRequest, proto::ModelInferRequest},
    service::{Admitted, Caller, Unaddressed, max_rows},
};

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) state: AppState,
    pub(super) caller: Caller,
    pub(super) address: Option<IpAddr>,
}

/// A message that is let in, whole, as it came.
#[derive(Debug)]
pub(super) struct Received {
    request: Unaddressed,
    message: Bytes,
    head: MessageHead,
}

impl Call {
    /// The next message, if one comes within `rest`: steps 3 to 7 of the order of admission.
    ///
    /// # Errors
    /// Those of [`MessageReader`], of [`Service::admit_unaddressed`](crate::service::Service) and
    /// of [`Unaddressed::receive`].
    pub(super) async fn receive(
        &self,
        messages: &mut MessageReader,
        timeout: Option<Duration>,
        rest: Duration,
    ) -> Result<Option<Received>> {
        let Some(head) = messages.head(rest).await? else {
            return Ok(None);
        };
        let service = &self.state.service;
        let mut request =
            service.admit_unaddressed(&self.caller, self.address, timeout, head.length)?;
        let content = messages.content(head);
        let message = request.receive(content, head.is_compressed()).await?;
        Ok(Some(Received {
            request,
            message,
            head,
        }))
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// Those of [`ModelInferRequest::read`].
    pub(super) async fn read(
        &self,
        received: Received,
    ) -> Result<(Unaddressed, ModelInferRequest)> {
        let Received {
            request,
            message,
            head,
        } = received;
        let limit = self.state.service.limits.max_body;
        let read = move || ModelInferRequest::read(head.unpack(message, limit)?);
        let message = self.state.oip.run_blocking(request.deadline(), read);
        let message = message.await??;
        Ok((request, message))
    }

    /// Runs what a message asks for; `write` makes the bytes of the answer.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], and those of [`Unaddressed::address`] and of
    /// [`Oip::infer`](crate::http::Oip).
    pub(super) async fn run(
        &self,
        (request, message): (Unaddressed, ModelInferRequest),
        write: impl FnOnce(InferResponse) -> Result<Bytes> + Send + 'static,
    ) -> Result<(Bytes, Admitted)> {
        let target = target(&self.state, &message.model_name, &message.model_version)?;
        let mut admitted = request.address(&target.classifier)?;
        let (variant, rows) = (target.variant, max_rows(&target.classifier));
        let no_text = |_: &str| Err(Error::Internal);
        let read = move |model: &ModelInfo| {
            ParsedInferRequest::new(message.into_request()?, variant, model, rows, no_text)
        };
        let frame = self.state.oip.infer(&target, &mut admitted, read, write);
        let frame = frame.await?;
        Ok((frame, admitted))
    }
}
