//! Decodes and preprocesses an image on a blocking thread, and makes its preview.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use patchlight_imaging::{
    Error as ImageError,
    decode::{self, Header},
    preprocess::{ImageTensor, Pipeline, TensorForm},
};
use tokio::sync::oneshot;

use super::ImageInfo;
use crate::{
    Error, Result,
    decode_budget::DecodePermit,
    explain::{self, Placement, RenderError, RgbView},
    metrics::{Metrics, Stage},
};

/// What is known of an image besides its pixels.
pub(super) struct ImageMeta {
    pub(super) placement: Placement,
    pub(super) image: ImageInfo,
    pub(super) decoding: Duration,
    pub(super) preprocessing: Duration,
}

/// What the blocking thread needs; the permit goes back when it is dropped.
pub(super) struct DecodeJob {
    pub(super) upload: Bytes,
    pub(super) header: Header,
    /// See [`decode::decode_reduced`].
    pub(super) reduction: u32,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) form: TensorForm,
    pub(super) metrics: Arc<Metrics>,
    pub(super) permit: DecodePermit,
}

impl DecodeJob {
    /// Sends the tensor as soon as it is ready, then makes the preview.
    pub(super) fn run(
        mut self,
        keep: bool,
        done: oneshot::Sender<Result<(ImageTensor, ImageMeta)>>,
        preview_sender: oneshot::Sender<Bytes>,
    ) {
        if done.is_closed() {
            return;
        }
        self.permit.begin();
        let (decoded, tensor, meta) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => {
                if matches!(error, Error::Image(ImageError::DecoderPanicked { .. })) {
                    self.metrics.decode_panicked();
                }
                // A client that has left needs no reason.
                let _ = done.send(Err(error));
                return;
            }
        };
        if done.send(Ok((tensor, meta))).is_err() || !keep {
            return;
        }
        match preview_of(&decoded, &self.header, &self.upload) {
            // The receiver is gone if the client left.
            Ok(jpeg) => drop(preview_sender.send(jpeg.into())),
            Err(error) => tracing::warn!(%error, "the image could not be kept for the overlay"),
        }
        drop(self.permit);
    }

    fn prepare(&self) -> Result<(decode::Image, ImageTensor, ImageMeta)> {
        let span = tracing::debug_span!("decode", bytes = self.upload.len()).entered();
        let started = Instant::now();
        let decoded = decode::decode_reduced(&self.upload, &self.header, self.reduction)?;
        drop(span);
        let decoding = started.elapsed();
        self.metrics.stage(Stage::Decode, decoding);

        let span = tracing::debug_span!("preprocess").entered();
        let started = Instant::now();
        let (width, height) = (self.header.width, self.header.height);
        let prepared =
            self.pipeline
                .run_reduced(&decoded.rgb, (width, height), decoded.reduction, self.form);
        drop(span);
        let preprocessing = started.elapsed();
        self.metrics.stage(Stage::Preprocess, preprocessing);

        let region = prepared.exact_region.into();
        let placement = Placement::new((width, height), region).map_err(|error| {
            tracing::error!(%error, "no place for the map");
            Error::Internal
        })?;
        let image = ImageInfo {
            width,
            height,
            format: decoded.format,
            region: prepared.region,
        };
        Ok((
            decoded,
            prepared.tensor,
            ImageMeta {
                placement,
                image,
                decoding,
                preprocessing,
            },
        ))
    }
}

/// A JPEG to draw maps on. A small one that was sent is kept as it is but for its metadata: making
/// another would cost as much as decoding it did. `header` and `upload` are those that the image
/// was decoded from.
///
/// # Errors
/// When the encoder fails.
pub(crate) fn preview_of(
    decoded: &decode::Image,
    header: &Header,
    upload: &[u8],
) -> std::result::Result<Vec<u8>, RenderError> {
    if let Some(plain) = decoded.stripped_copy(header, upload, explain::PREVIEW_SIDE) {
        return Ok(plain);
    }
    let (width, height) = (decoded.rgb.width(), decoded.rgb.height());
    let view = RgbView::new(width, height, decoded.rgb.pixels())?;
    explain::encode_preview(view, explain::PREVIEW_SIDE)
}
