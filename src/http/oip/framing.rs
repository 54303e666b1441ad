//! The body of an inference request over HTTP: unpacked, and split into JSON and binary tensors.

use bytes::Bytes;
use patchlight_model::ModelInfo;

use crate::{
    Result,
    http::{content_encoding::ContentEncoding, upload},
    oip::{ModelVariant, ParsedInferRequest, request},
};

/// How a body is framed, from its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    pub(super) encoding: ContentEncoding,
    /// `Inference-Header-Content-Length`.
    pub(super) json_length: Option<usize>,
    /// The most bytes, unpacked.
    pub(super) limit: u64,
    /// The most rows.
    pub(super) max_rows: usize,
}

impl Framing {
    /// Parses a body for one variant of a model. Computes for milliseconds on a large body.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`](crate::Error::MalformedRequest) for whatever this model cannot
    /// take, [`Error::BodyTooLarge`](crate::Error::BodyTooLarge) for a body that unpacks to too much.
    pub(super) fn read(
        self,
        body: Bytes,
        variant: ModelVariant,
        model: &ModelInfo,
    ) -> Result<ParsedInferRequest> {
        let body = self.encoding.decompress(body, self.limit)?;
        if self.json_length == Some(0) {
            return ParsedInferRequest::raw(body, variant, model);
        }
        let request = request::decode(&body, self.json_length)?;
        let text = upload::base64::decode;
        ParsedInferRequest::new(request, variant, model, self.max_rows, text)
    }
}

#[cfg(test)]
mod tests;
