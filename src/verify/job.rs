//! What one job does.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use patchlight_imaging::decode::{self, Limits};
use patchlight_model::scores;
use tokio::task;

use super::{
    Report,
    report::{Progress, Tested},
};
use crate::{
    Error, Result,
    batch::RequestContext,
    classify::Classifier,
    perturb::{Fill, PatchLayout, PatchOrder, PerturbationPlan},
    store::{AttentionMap, MapKind},
};

const ABOUT: &str = "patches were replaced in the order of each map, strongest first (deletion), or \
                     put back in that order (insertion); scores are the label's, from no patch to \
                     all, on the kept copy of the image; a map says something if its deletion \
                     area is smaller and its insertion area larger than the random order's";

/// Nine steps between the ends.
const STEPS: usize = 10;

const FILL: Fill = Fill::Mean;

/// The same random order for everyone, so that asking again gives the same answer.
const SEED: u64 = 1;

/// What is tested.
#[derive(Debug)]
pub struct Subject {
    /// The model that made the map, and the way to it.
    pub classifier: Arc<Classifier>,
    /// The map.
    pub map: AttentionMap,
    /// The kept copy of the image.
    pub preview: Bytes,
}

/// Runs the whole test. Dropping the future takes what waits out of the queue.
pub(super) async fn run(
    subject: &Subject,
    progress: &Progress,
    request: RequestContext,
) -> Result<Report> {
    let Subject {
        classifier, map, ..
    } = subject;
    let manifest = &classifier.model.manifest;
    let (kinds, orders): (Vec<MapKind>, Vec<PatchOrder>) = orders(map)?.into_iter().unzip();
    let plan = PerturbationPlan::new(orders, manifest.tokens.patches(), STEPS, SEED);
    progress.expect(plan.images());

    let input = prepare(subject).await?;
    let layout = PatchLayout::of(&classifier.model);
    let (input, fill) = (&input.0, &input.1);
    let scored = |replaced: Vec<bool>| async move {
        let perturbed = layout.replace(input, fill, &replaced);
        let ran = classifier
            .batcher
            .run_in_background(perturbed, request)
            .await?;
        progress.advance();
        Ok::<_, Error>(scores::of_all(manifest.task.kind, &ran.output.logits))
    };
    // No more tensors at a time than one batch could take.
    let scores: Vec<Vec<f32>> = stream::iter(plan.masks().map(scored))
        .buffered(classifier.batcher.max_batch())
        .try_collect()
        .await?;

    let class = target_class(map, scores.first().map_or(&[], Vec::as_slice));
    let of_class: Vec<f64> = scores
        .iter()
        .filter_map(|scores| scores.get(class).copied().map(f64::from))
        .collect();
    let outcome = plan.outcome(&of_class).ok_or(Error::Internal)?;
    let tested = kinds
        .into_iter()
        .zip(&outcome.maps)
        .map(|(kind, curves)| Tested::new(kind, curves, &outcome.random));
    Ok(Report {
        about: ABOUT,
        class_id: class,
        label: classifier.model.labels.name(class).to_owned(),
        fill: FILL.to_string(),
        steps: STEPS,
        maps: tested.collect(),
        random: (&outcome.random).into(),
    })
}

/// The orders of the maps that every image has.
fn orders(map: &AttentionMap) -> Result<Vec<(MapKind, PatchOrder)>> {
    let mut orders = Vec::new();
    if !map.rollout.is_empty() {
        let rollout = map.patches(0).map_err(|error| {
            tracing::error!(%error, "a kept map is not whole");
            Error::Internal
        })?;
        orders.push((
            MapKind::Rollout,
            PatchOrder::strongest_first(rollout.values(), SEED),
        ));
    }
    let attribution = map.attribution.as_ref().and_then(|attribution| {
        let best = *attribution.classes.first()?;
        attribution.of(best, true)
    });
    if let Some(account) = attribution {
        orders.push((
            MapKind::Class,
            PatchOrder::strongest_first(&account.values, SEED),
        ));
    }
    Ok(orders)
}

/// The class that the answer put first, which attribution knows; else the best for the kept copy.
fn target_class(map: &AttentionMap, whole: &[f32]) -> usize {
    let best = map
        .attribution
        .as_ref()
        .and_then(|kept| kept.classes.first());
    let of_copy = || {
        let order = |&a: &usize, &b: &usize| whole[a].total_cmp(&whole[b]).then(b.cmp(&a));
        (0..whole.len()).max_by(order).unwrap_or_default()
    };
    best.copied().unwrap_or_else(of_copy)
}

/// The kept image's input tensor and its fill, made on a blocking thread.
async fn prepare(subject: &Subject) -> Result<(Vec<f32>, Vec<f32>)> {
    let preview = subject.preview.clone();
    let classifier = Arc::clone(&subject.classifier);
    let work = move || {
        let header = decode::peek(&preview, &Limits::default())?;
        let decoded = decode::decode(&preview, &header)?;
        let tensor = classifier.pipeline.run(&decoded.rgb).tensor;
        let fill = FILL.of(&tensor, &PatchLayout::of(&classifier.model));
        Ok((tensor, fill))
    };
    task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "preparing an image panicked");
        Err(Error::Internal)
    })
}
