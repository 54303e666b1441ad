//! Runs the images of an admitted request: decode, batch, and what is made of the model's output.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, future::try_join_all, stream};

use super::Admitted;
use crate::{
    Error, Result,
    batch::Inference,
    classify::{Classification, Classifier, Options},
};

/// The most images that one request may bring.
pub const MAX_IMAGES: usize = 16;

/// How many images of one request are classified at a time, so that it takes no more than its
/// share of the decode threads.
const MAX_CONCURRENT_IMAGES: usize = 8;

/// What is run for raw output: each row is an item of its own in the queue.
#[derive(Debug)]
pub enum Rows {
    /// Input tensors of one image each.
    Tensors(Vec<Vec<f32>>),
    /// Encoded images.
    Images(Vec<Bytes>),
}

impl Rows {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Tensors(rows) => rows.len(),
            Self::Images(rows) => rows.len(),
        }
    }
}

/// How many rows one request may have: what it may bring as images, or one whole batch.
pub fn max_rows(classifier: &Classifier) -> usize {
    classifier.batcher.max_batch().max(MAX_IMAGES)
}

impl Admitted {
    /// Labels of each encoded image, and its map into the store. Each has an outcome of its own, in
    /// their order.
    pub async fn classify(
        &mut self,
        images: Vec<Bytes>,
        options: Options,
    ) -> Vec<Result<Classification>> {
        self.start(images.len());
        let (classifier, request) = (&self.classifier, self.request);
        let images = images.into_iter();
        let outcomes = images.map(|image| classifier.classify(image, options, request));
        let outcomes = stream::iter(outcomes).buffered(MAX_CONCURRENT_IMAGES);
        outcomes.collect().await
    }

    /// The model's raw output for each row, all of them at a time; and how long the slowest took to
    /// become a tensor. The first error is the request's, and its other rows leave the queue.
    ///
    /// # Errors
    /// Those of [`Classifier::run_tensor`] and [`Classifier::run_image`].
    pub async fn infer(&mut self, rows: Rows) -> Result<(Vec<Inference>, Duration)> {
        self.start(rows.count());
        let (classifier, request) = (&self.classifier, self.request);
        match rows {
            Rows::Tensors(tensors) => {
                let rows = tensors.into_iter();
                let rows = rows.map(|tensor| classifier.run_tensor(tensor, request));
                let inferences = try_join_all(rows).await.map_err(|error| match error {
                    // The model is sound, so it is the tensor that overflows its arithmetic.
                    Error::NotFinite => Error::MalformedRequest(
                        "the model's output for this input is not finite".into(),
                    ),
                    error => error,
                })?;
                Ok((inferences, Duration::ZERO))
            }
            Rows::Images(images) => {
                let rows = images.into_iter();
                let rows = rows.map(|image| classifier.run_image(image, request));
                let all = try_join_all(rows).await?;
                let slowest = all.iter().map(|(_, prepared)| *prepared).max();
                let inferences = all.into_iter().map(|(inference, _)| inference);
                Ok((inferences.collect(), slowest.unwrap_or_default()))
            }
        }
    }

    /// The request turns out to bring so many rows: they count against the quota, and each has a
    /// reservation of its own from here on.
    fn start(&mut self, rows: usize) {
        self.caller.rate_limit().charge_images(rows);
        self.reservation = None;
    }
}

#[cfg(test)]
mod tests;
