//! One row of a request of the Open Inference Protocol: the same stages, with the model's raw
//! output at their end instead of labels and a kept map.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Classifier, Decoded, ImageInfo, observed::Observed};
use crate::{
    Result,
    batch::{BatchItem, Inference, RequestContext},
    metrics::Stage,
};

impl Classifier {
    /// Runs an image's input tensor.
    ///
    /// # Errors
    /// As [`Batcher::run`](crate::batch::Batcher::run).
    pub async fn run_tensor(
        &self,
        tensor: impl Into<BatchItem>,
        request: RequestContext,
    ) -> Result<Inference> {
        self.run_item(tensor.into(), None, Instant::now(), request)
            .await
    }

    /// The same, for what became of `image` and has been on its way since `arrived`.
    async fn run_item(
        &self,
        item: BatchItem,
        image: Option<(&ImageInfo, &Bytes)>,
        arrived: Instant,
        request: RequestContext,
    ) -> Result<Inference> {
        let inference = self.batcher.run(item, request).await?;
        self.metrics.stage(Stage::Queue, inference.queued);
        self.metrics.count_image(&self.model.name);
        self.observe(Observed {
            logits: &inference.output.logits,
            predictions: &[],
            image,
            rollout: None,
            cached: false,
            took: arrived.elapsed(),
        });
        Ok(inference)
    }

    /// Decodes, prepares and runs an encoded image; also how long it took to become a tensor.
    ///
    /// # Errors
    /// As [`classify`](Self::classify).
    pub async fn run_image(
        &self,
        upload: Bytes,
        request: RequestContext,
    ) -> Result<(Inference, Duration)> {
        let arrived = Instant::now();
        let content = upload.clone();
        let reservation = self.batcher.reserve();
        let guard = self.metrics.abandon_guard("decode");
        let decoded = self.decode(upload, false, request.deadline()).await;
        guard.disarm();
        let Decoded { tensor, meta, .. } = decoded?;
        drop(reservation);
        let image = Some((&meta.image, &content));
        let inference = self
            .run_item(tensor.into(), image, arrived, request)
            .await?;
        Ok((inference, meta.decoding + meta.preprocessing))
    }
}
