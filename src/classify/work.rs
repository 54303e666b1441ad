//! A picture on a blocking thread: decoded, prepared, and copied for the overlay.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::ImageInfo;
use crate::{
    Error, Result,
    decode::{self, Header, Permit},
    explain::{self, Invalid, Placement, RgbView},
    metrics::{Metrics, Stage},
    preprocess::Pipeline,
};

/// What is known of a picture besides its pixels.
pub(super) struct Seen {
    pub(super) placement: Placement,
    pub(super) image: ImageInfo,
    pub(super) decoding: Duration,
    pub(super) preprocessing: Duration,
}

/// What the blocking thread needs; the permit goes back when it is dropped.
pub(super) struct Work {
    pub(super) upload: Bytes,
    pub(super) header: Header,
    /// See [`decode::decode_reduced`].
    pub(super) reduction: u32,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) permit: Permit,
}

impl Work {
    /// Sends the prepared picture as soon as it is ready, then makes the copy for the overlay.
    pub(super) fn run(
        mut self,
        keep: bool,
        done: oneshot::Sender<Result<(Vec<f32>, Seen)>>,
        copied: oneshot::Sender<Bytes>,
    ) {
        if done.is_closed() {
            return;
        }
        self.permit.begin();
        let (picture, tensor, seen) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(why) => {
                if matches!(why, Error::DecoderPanicked { .. }) {
                    self.metrics.decode_panicked();
                }
                // Whoever has left needs no reason.
                let _ = done.send(Err(why));
                return;
            }
        };
        if done.send(Ok((tensor, seen))).is_err() || !keep {
            return;
        }
        match self.copy(&picture) {
            // Nobody waits any more if the client left.
            Ok(jpeg) => drop(copied.send(jpeg.into())),
            Err(why) => tracing::warn!(%why, "the picture could not be kept for the overlay"),
        }
        drop(self.permit);
    }

    /// A JPEG to draw maps on. A small one that was sent is kept as it is but for its metadata:
    /// making another would cost as much as decoding it did.
    fn copy(&self, picture: &decode::Picture) -> std::result::Result<Vec<u8>, Invalid> {
        let (header, max_side) = (&self.header, explain::KEPT_SIDE);
        if let Some(plain) = picture.plain_copy(header, &self.upload, max_side) {
            return Ok(plain);
        }
        let (width, height) = (picture.rgb.width(), picture.rgb.height());
        let view = RgbView::new(width, height, picture.rgb.pixels())?;
        explain::keep(view, explain::KEPT_SIDE)
    }

    fn prepare(&self) -> Result<(decode::Picture, Vec<f32>, Seen)> {
        let span = tracing::debug_span!("decode", bytes = self.upload.len()).entered();
        let started = Instant::now();
        let picture = decode::decode_reduced(&self.upload, &self.header, self.reduction)?;
        drop(span);
        let decoding = started.elapsed();
        self.metrics.stage(Stage::Decode, decoding);

        let span = tracing::debug_span!("preprocess").entered();
        let started = Instant::now();
        let (width, height) = (self.header.width, self.header.height);
        let prepared = self
            .pipeline
            .run_reduced(&picture.rgb, (width, height), picture.reduction);
        drop(span);
        let preprocessing = started.elapsed();
        self.metrics.stage(Stage::Preprocess, preprocessing);

        let seen = prepared.exact_region.into();
        let placement = Placement::new((width, height), seen).map_err(|why| {
            tracing::error!(%why, "no place for the map");
            Error::Internal
        })?;
        let image = ImageInfo {
            width,
            height,
            format: picture.format,
            region: prepared.region,
        };
        Ok((
            picture,
            prepared.tensor,
            Seen {
                placement,
                image,
                decoding,
                preprocessing,
            },
        ))
    }
}
