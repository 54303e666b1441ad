//! One image through all stages: decode, preprocess, batch, labels, and its map into the store.
//!
//! A [`Classifier`] is what the HTTP layer calls. It gives up at the request's deadline in any
//! stage. When its future is dropped (the client left), the stage it was in is counted, a decode
//! that has not begun does not begin, and a tensor that waits leaves the queue.

mod answer;
mod confidence;
mod decode_job;
mod model_result;
mod observed;
mod options;
mod raw_inference;
mod result_cache;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use patchlight_engine::Devices;
use patchlight_imaging::{
    decode::{self, JpegScaling, Limits},
    preprocess::{ImageTensor, Pipeline, TensorForm},
};
use patchlight_model::{
    ModelDescriptor, ModelInfo,
    scores::{self, ScoreFunction},
};
use tokio::{sync::oneshot, task, time::timeout_at};

pub(crate) use self::decode_job::preview_of;
pub use self::{
    answer::{Attention, Classification, ImageInfo, Timing},
    confidence::{AbstainRule, Confidence, NoSuchLevel, level},
    model_result::ResultCache,
    options::{MapRetention, Options},
};
use self::{
    decode_job::{DecodeJob, ImageMeta},
    model_result::ModelResult,
    observed::Observed,
    result_cache::ResultKey,
};
use crate::{
    Error, Result,
    batch::{BatchItem, Batcher, Deadline, RequestContext, Reservation},
    decode_budget::DecodeBudget,
    metrics::{Metrics, ShedReason, Stage},
    request_log::RequestLog,
    store::{AttentionMap, Owner, Store, StoreError, StoredMap},
};

/// A loaded model with everything an image passes on its way.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// What is served.
    pub model: Arc<ModelInfo>,
    /// What is stored with its maps to describe the model.
    pub descriptor: Arc<ModelDescriptor>,
    /// What computes, as it turned out.
    pub devices: Devices,
    /// How its input tensors are made.
    pub pipeline: Arc<Pipeline>,
    /// The form of that tensor that its sessions take.
    pub form: TensorForm,
    /// Its queue.
    pub batcher: Batcher,
    /// Limits on an image's size.
    pub limits: Limits,
    /// Whether large JPEGs are decoded at a fraction of their size.
    pub jpeg_scaling: JpegScaling,
    /// Memory for images being decoded.
    pub budget: DecodeBudget,
    /// Where maps go.
    pub store: Store,
    /// Whether previews are stored for overlays.
    pub keep_previews: bool,
    /// Results for identical requests, if they are kept.
    pub results: Option<ResultCache>,
    /// When an answer is marked as one not to act on.
    pub abstain: AbstainRule,
    /// Events about answers, if they are wanted.
    pub request_log: RequestLog,
    /// Counts and times everything.
    pub metrics: Arc<Metrics>,
}

impl Classifier {
    /// Whether a new request with this deadline would be answered in time; asked before its body is
    /// read, since it may never come.
    ///
    /// # Errors
    /// [`Error::Overloaded`] with the time after which a retry would be let in.
    pub fn has_time(&self, deadline: Deadline) -> Result<()> {
        let load = self.batcher.load();
        let decoding = self.budget.predicted_wait();
        let Some(excess) = load.excess(decoding, deadline.left()) else {
            return Ok(());
        };
        self.metrics.shed(match decoding > load.predicted_wait {
            true => ShedReason::DecodeWait,
            false => ShedReason::PredictedWait,
        });
        Err(Error::Overloaded {
            retry_after: excess,
        })
    }

    /// Lets a new request in whose body is here. It counts as reserved until its images are queued,
    /// or the reservation is dropped.
    ///
    /// # Errors
    /// Those of [`has_time`](Self::has_time); [`Error::DeadlinePassed`] when the body took it all.
    pub fn admit(&self, deadline: Deadline) -> Result<Reservation> {
        if deadline.has_passed() {
            return Err(deadline.error());
        }
        self.has_time(deadline)?;
        Ok(self.batcher.reserve())
    }

    /// Classifies one encoded image.
    ///
    /// # Errors
    /// What is wrong with the image, the load, or the model; see [`Error`].
    pub async fn classify(
        &self,
        upload: Bytes,
        options: Options,
        request: RequestContext,
    ) -> Result<Classification> {
        let arrived = Instant::now();
        let deadline = request.deadline();
        let keep = options.attention;
        // A copy of the handle, for the request log.
        let content = upload.clone();
        let (result, reused, result_key) = match &self.results {
            None => {
                let result = self.infer(upload, keep, request).await?;
                (Arc::new(result), false, None)
            }
            Some(results) => {
                let key = self.key(&upload, keep, options.owner).await?;
                let infer = || {
                    let (classifier, upload) = (self.clone(), upload.clone());
                    async move { classifier.infer(upload, keep, request).await }
                };
                let (result, reused) = timeout_at(deadline.at().into(), results.0.get(key, infer))
                    .await
                    .map_err(|_| deadline.error())??;
                (result, reused, Some(key))
            }
        };
        self.metrics.count_image(&self.model.name);

        let predictions = scores::best(
            &self.model,
            &result.logits,
            options
                .scores
                .unwrap_or_else(|| ScoreFunction::of(self.model.manifest.task.kind)),
            options.top_k,
            options.min_score,
        );
        let outcome = match keep {
            MapRetention::None => Attention::NotRequested,
            _ if !result.has_map() => Attention::Unsupported,
            MapRetention::Rollout | MapRetention::Heads => {
                let result_key = result_key.map(Into::into);
                let map = result.map(options.owner, &self.descriptor, result_key);
                self.store_map(map, result.preview.clone(), deadline)
                    .await
                    .into()
            }
        };
        let mut timing = match reused {
            false => result.timing,
            true => Timing::default(),
        };
        timing.total = arrived.elapsed();
        self.observe(Observed {
            logits: &result.logits,
            predictions: &predictions,
            image: Some((&result.image, &content)),
            rollout: Some(result.rollout()).filter(|_| keep != MapRetention::None),
            cached: reused,
            took: timing.total,
        });
        let image = result.image.clone();
        let (logits, best) = (&result.logits, predictions.first());
        let confidence = Confidence::of(&self.model, logits, best, options.coverage);
        let abstain = confidence
            .as_ref()
            .is_some_and(|of| self.abstain.applies(of));
        self.count_confidence(confidence.as_ref(), abstain);
        let answer = Classification::new(&self.model, predictions, outcome, image, timing);
        Ok(answer.reused(reused).with_confidence(confidence, abstain))
    }

    fn count_confidence(&self, confidence: Option<&Confidence>, abstain: bool) {
        let Some(confidence) = confidence else { return };
        if confidence.familiar == Some(false) {
            self.metrics.unfamiliar(&self.model.name);
        }
        if abstain {
            self.metrics.abstained(&self.model.name);
        }
    }

    /// Deletes a map, and the result that it was made of: nothing of the image comes back with the
    /// next one like it. Whichever model made the map.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub async fn delete_map(&self, id: &str, owner: Owner) -> Result<()> {
        let result = self.store.delete(id, owner).await?;
        if let (Some(results), Some(key)) = (&self.results, result) {
            results.0.remove(key.into());
        }
        Ok(())
    }

    /// Digests an image on a blocking thread.
    async fn key(&self, upload: &Bytes, keep: MapRetention, owner: Owner) -> Result<ResultKey> {
        let (upload, model) = (upload.clone(), Arc::clone(&self.model));
        task::spawn_blocking(move || ResultKey::new(&upload, &model.digest, keep, owner))
            .await
            .map_err(|error| {
                tracing::error!(%error, "an image could not be digested");
                Error::Internal
            })
    }

    /// Runs the model on an image, independently of owner and answer options.
    async fn infer(
        &self,
        upload: Bytes,
        keep: MapRetention,
        request: RequestContext,
    ) -> Result<ModelResult> {
        let deadline = request.deadline();
        let reservation = self.batcher.reserve();
        let guard = self.metrics.abandon_guard("decode");
        let decoded = self
            .decode(upload, keep != MapRetention::None, deadline)
            .await;
        guard.disarm();
        let Decoded {
            tensor,
            meta,
            preview,
        } = decoded?;

        drop(reservation);
        let item = BatchItem {
            tensor,
            class_attention: keep == MapRetention::Heads,
            maps: keep != MapRetention::None,
        };
        let inference = self.batcher.run(item, request).await?;
        self.metrics.stage(Stage::Queue, inference.queued);
        // The copy was made while the batch ran and is usually there already. A failed one only
        // means that the overlay will be a heat map.
        let preview = async { timeout_at(deadline.at().into(), preview?).await.ok()?.ok() };
        let preview = preview.await;
        let labels = &self.model.labels;
        Ok(ModelResult::new(inference, meta, keep, preview, labels))
    }

    /// Decodes and prepares on a blocking thread, within the budget.
    async fn decode(&self, upload: Bytes, keep: bool, deadline: Deadline) -> Result<Decoded> {
        let header = decode::peek(&upload, &self.limits)?;
        let permit = timeout_at(deadline.at().into(), self.budget.admit(&header))
            .await
            .map_err(|_| deadline.error())??;

        let (done, ready) = oneshot::channel();
        let (preview_sender, preview) = oneshot::channel();
        let reduction = match self.jpeg_scaling {
            JpegScaling::Auto => {
                let (width, height) = self.pipeline.resized(header.width, header.height);
                header.reduction_for(width, height)
            }
            JpegScaling::Off => 1,
        };
        let work = DecodeJob {
            upload,
            header,
            reduction,
            pipeline: Arc::clone(&self.pipeline),
            form: self.form,
            metrics: Arc::clone(&self.metrics),
            permit,
        };
        let keep = keep && self.keep_previews && self.store.keeps_previews();
        let span = tracing::Span::current();
        task::spawn_blocking(move || span.in_scope(|| work.run(keep, done, preview_sender)));

        let (tensor, meta) = timeout_at(deadline.at().into(), ready)
            .await
            .map_err(|_| deadline.error())?
            // The thread always answers unless it panicked outside the decoder's fence.
            .map_err(|_| Error::Internal)??;
        Ok(Decoded {
            tensor,
            meta,
            preview: keep.then_some(preview),
        })
    }

    /// Puts the map, and the image if it is kept, into the store under an id of their own. Takes
    /// the deadline's time at most: the answer itself is ready.
    async fn store_map(
        &self,
        map: AttentionMap,
        image: Option<Bytes>,
        deadline: Deadline,
    ) -> std::result::Result<StoredMap, StoreError> {
        let storing = self.store.put(map, image);
        let kept = timeout_at(deadline.at().into(), storing).await;
        kept.unwrap_or(Err(StoreError::Unavailable))
    }
}

/// An image on its way to the model.
struct Decoded {
    /// The model's input.
    tensor: ImageTensor,
    meta: ImageMeta,
    /// Brings the copy for the overlay, if one is made.
    preview: Option<oneshot::Receiver<Bytes>>,
}
