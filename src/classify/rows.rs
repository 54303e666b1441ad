//! One row of a request of the Open Inference Protocol: the same stages, with the model's raw
//! output at their end instead of labels and a kept map.

use std::time::Duration;

use bytes::Bytes;

use super::{Classifier, Decoded};
use crate::{
    Result,
    batch::{Deadline, Inference},
    metrics::Stage,
};

impl Classifier {
    /// Runs a picture's input tensor (`3·height·width` values, NCHW).
    ///
    /// # Errors
    /// As [`Batcher::run`](crate::batch::Batcher::run).
    pub async fn run_tensor(&self, tensor: Vec<f32>, deadline: Deadline) -> Result<Inference> {
        let inference = self.batcher.run(tensor, deadline).await?;
        self.metrics.stage(Stage::Queue, inference.queued);
        self.metrics.picture(&self.model.name);
        Ok(inference)
    }

    /// Decodes, prepares and runs an encoded picture; also how long it took to become a tensor.
    ///
    /// # Errors
    /// As [`classify`](Self::classify).
    pub async fn run_picture(
        &self,
        upload: Bytes,
        deadline: Deadline,
    ) -> Result<(Inference, Duration)> {
        let announced = self.batcher.announce();
        let leaving = self.metrics.leaving("decode");
        let decoded = self.decode(upload, false, deadline).await;
        leaving.stayed();
        let Decoded { tensor, seen, .. } = decoded?;
        drop(announced);
        let inference = self.run_tensor(tensor, deadline).await?;
        Ok((inference, seen.decoding + seen.preprocessing))
    }
}
