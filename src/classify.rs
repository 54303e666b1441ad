//! One picture through all stages: decode, preprocess, batch, labels, and its map into the store.
//!
//! A [`Classifier`] is what the HTTP layer calls. It gives up at the request's deadline in any
//! stage. When its future is dropped (the client left), the stage it was in is counted, a decode
//! that has not begun does not begin, and a tensor that waits leaves the queue.

mod answer;
mod options;
mod reading;
mod results;
mod rows;
mod work;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::{sync::oneshot, task, time::timeout_at};

pub use self::{
    answer::{Attention, Classification, ImageInfo, Timing},
    options::{Keep, Options},
    results::ResultCache,
};
use self::{
    reading::Reading,
    results::Key,
    work::{Seen, Work},
};
use crate::{
    Error, Result,
    batch::{Announced, Ask, Batcher, Deadline},
    decode::{self, DecodeBudget, JpegScaling, Limits},
    engine::Device,
    metrics::{Metrics, ShedReason, Stage},
    model::{ModelInfo, Outline, scores},
    preprocess::Pipeline,
    store::{NotKept, Owner, Receipt, Store},
};

/// A loaded model with everything a picture passes on its way.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// What is served.
    pub model: Arc<ModelInfo>,
    /// What its maps take along.
    pub outline: Arc<Outline>,
    /// What computes.
    pub device: Device,
    /// Its input tensor's making.
    pub pipeline: Arc<Pipeline>,
    /// Its queue.
    pub batcher: Batcher,
    /// What a picture may measure.
    pub limits: Limits,
    /// Whether large JPEGs are decoded at a fraction of their size.
    pub jpeg_scaling: JpegScaling,
    /// Memory for pictures being decoded.
    pub budget: DecodeBudget,
    /// Where maps go.
    pub store: Store,
    /// Whether overlays get their picture.
    pub keep_pictures: bool,
    /// Results for identical requests, if they are kept.
    pub results: Option<ResultCache>,
    /// Counts and times everything.
    pub metrics: Arc<Metrics>,
}

impl Classifier {
    /// Whether a newcomer with this deadline will be answered in time; asked before its body is
    /// read. It counts among those who come until its pictures do, or the answer is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`] with the time after which a retry would be let in.
    pub fn admit(&self, deadline: Deadline) -> Result<Announced> {
        let load = self.batcher.load();
        let (engine, decoding) = (load.predicted_wait, self.budget.predicted_wait());
        let wait = engine + decoding;
        let bearable = load.bearable(deadline.left());
        if wait <= bearable {
            return Ok(self.batcher.announce());
        }
        self.metrics.shed(match decoding > engine {
            true => ShedReason::DecodeWait,
            false => ShedReason::PredictedWait,
        });
        Err(Error::Overloaded {
            retry_after: wait - bearable,
        })
    }

    /// Classifies one encoded picture.
    ///
    /// # Errors
    /// What is wrong with the picture, the load, or the model; see [`Error`].
    pub async fn classify(
        &self,
        upload: Bytes,
        options: Options,
        deadline: Deadline,
    ) -> Result<Classification> {
        let arrived = Instant::now();
        let keep = options.attention;
        let (reading, reused) = match &self.results {
            None => (Arc::new(self.read(upload, keep, deadline).await?), false),
            Some(results) => {
                let key = self.key(&upload, keep, options.owner).await?;
                let read = || {
                    let (classifier, upload) = (self.clone(), upload.clone());
                    async move { classifier.read(upload, keep, deadline).await }
                };
                timeout_at(deadline.at().into(), results.0.get(key, read))
                    .await
                    .map_err(|_| deadline.error())??
            }
        };
        self.metrics.picture(&self.model.name);

        let predictions = scores::best(
            &self.model,
            &reading.logits,
            options.top_k,
            options.min_score,
        );
        let kept = match keep {
            Keep::Nothing => Attention::NotAskedFor,
            _ if !reading.has_map() => Attention::NotMade,
            Keep::Rollout | Keep::Heads => {
                self.keep(&reading, options.owner, deadline).await.into()
            }
        };
        let mut timing = match reused {
            false => reading.timing,
            true => Timing::default(),
        };
        timing.total = arrived.elapsed();
        let image = reading.image.clone();
        let answer = Classification::new(&self.model, predictions, kept, image, timing);
        Ok(answer.reused(reused))
    }

    /// Digests a picture where computing holds nobody up.
    async fn key(&self, upload: &Bytes, keep: Keep, owner: Owner) -> Result<Key> {
        let (upload, model) = (upload.clone(), Arc::clone(&self.model));
        task::spawn_blocking(move || Key::new(&upload, &model.digest, keep, owner))
            .await
            .map_err(|why| {
                tracing::error!(%why, "a picture could not be digested");
                Error::Internal
            })
    }

    /// Has the model look at a picture, for nobody in particular.
    async fn read(&self, upload: Bytes, keep: Keep, deadline: Deadline) -> Result<Reading> {
        let announced = self.batcher.announce();
        let leaving = self.metrics.leaving("decode");
        let decoded = self.decode(upload, keep != Keep::Nothing, deadline).await;
        leaving.stayed();
        let Decoded { tensor, seen, copy } = decoded?;

        drop(announced);
        let ask = Ask {
            tensor,
            class_attention: keep == Keep::Heads,
        };
        let inference = self.batcher.run(ask, deadline).await?;
        self.metrics.stage(Stage::Queue, inference.queued);
        // The copy was made while the batch ran and is usually there already. A failed one only
        // means that the overlay will be a heat map.
        let copy = async { timeout_at(deadline.at().into(), copy?).await.ok()?.ok() };
        let picture = copy.await;
        let labels = &self.model.labels;
        Ok(Reading::new(inference, seen, keep, picture, labels))
    }

    /// Decodes and prepares on a blocking thread, within the budget.
    async fn decode(&self, upload: Bytes, keep: bool, deadline: Deadline) -> Result<Decoded> {
        let header = decode::peek(&upload, &self.limits)?;
        let permit = timeout_at(deadline.at().into(), self.budget.admit(&header))
            .await
            .map_err(|_| deadline.error())??;

        let (done, ready) = oneshot::channel();
        let (copied, copy) = oneshot::channel();
        let reduction = match self.jpeg_scaling {
            JpegScaling::Auto => {
                let (width, height) = self.pipeline.resized(header.width, header.height);
                header.reduction_for(width, height)
            }
            JpegScaling::Off => 1,
        };
        let work = Work {
            upload,
            header,
            reduction,
            pipeline: Arc::clone(&self.pipeline),
            metrics: Arc::clone(&self.metrics),
            permit,
        };
        let keep = keep && self.keep_pictures && self.store.takes_pictures();
        let span = tracing::Span::current();
        task::spawn_blocking(move || span.in_scope(|| work.run(keep, done, copied)));

        let (tensor, seen) = timeout_at(deadline.at().into(), ready)
            .await
            .map_err(|_| deadline.error())?
            // The thread always answers unless it panicked outside the decoder's fence.
            .map_err(|_| Error::Internal)??;
        Ok(Decoded {
            tensor,
            seen,
            copy: keep.then_some(copy),
        })
    }

    /// Puts the map, and the picture if it is kept, into the store under an id of their own. Takes
    /// the deadline's time at most: the answer itself is ready.
    async fn keep(
        &self,
        reading: &Reading,
        owner: Owner,
        deadline: Deadline,
    ) -> std::result::Result<Receipt, NotKept> {
        let map = reading.map(owner, &self.outline);
        let keeping = self.store.keep(map, reading.picture.clone());
        let kept = timeout_at(deadline.at().into(), keeping).await;
        kept.unwrap_or(Err(NotKept::Away))
    }
}

/// A picture on its way to the model.
struct Decoded {
    /// The model's input.
    tensor: Vec<f32>,
    seen: Seen,
    /// Brings the copy for the overlay, if one is made.
    copy: Option<oneshot::Receiver<Bytes>>,
}
