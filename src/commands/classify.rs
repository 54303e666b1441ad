//! `patchlight classify`: images on disk through the same stages as the service, without one.

mod output;
mod table;

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use patchlight_engine::Runtime;
use patchlight_import::CancelFlag;
use tokio::{runtime, sync::Semaphore, task::JoinSet};

use self::output::Output;
use super::{BAD_CONFIGURATION, USAGE, fail, progress};
use crate::{
    app::{self, StartError},
    args::ClassifyArgs,
    batch::Deadline,
    classify::{Classification, Classifier, MapRetention, Options, level},
    config::Config,
    images,
    store::{FoundMap, Owner},
    telemetry::{self, LogFormat},
};

/// The deadline of one image: no client waits for it.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Exit status 0 if every image got its labels, 1 if any did not.
pub(super) fn run(args: ClassifyArgs) -> ExitCode {
    let config = match Config::for_classify(&args) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    let _installed = match telemetry::install(LogFormat::Text, "warn", None) {
        Ok(installed) => installed,
        Err(error) => return fail(1, error),
    };
    let images = match images::find(&args.images) {
        Ok(images) if !images.is_empty() => images,
        Ok(_) => return fail(USAGE, "there is no image in the folders that were named"),
        Err(error) => return fail(USAGE, error),
    };
    let outcome = runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .enable_all()
        .build()
        .map_err(StartError::from)
        .and_then(|runtime| runtime.block_on(classify_all(args, &config, images)));
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => fail(1, format!("{failed} images got no labels")),
        Err(error) => fail(1, error),
    }
}

/// Keeps the engine's queue full and answers in the order of the images; how many failed.
async fn classify_all(
    args: ClassifyArgs,
    config: &Config,
    images: Vec<PathBuf>,
) -> Result<usize, StartError> {
    let runtime = Runtime::load()?;
    let manager = tokio::task::block_in_place(|| {
        let models = app::fetch_models(config, &CancelFlag::default())?;
        app::load_models(config, &models, &runtime)
    })?;
    let classifier = manager.registry().default_model();
    let classes = classifier.model.manifest.task.classes;
    let options = Options {
        coverage: level(&classifier.model, None).ok().flatten(),
        top_k: args.top_k.get().min(classes),
        min_score: 0.0,
        scores: None,
        attention: match args.overlay {
            Some(_) => MapRetention::Rollout,
            None => MapRetention::None,
        },
        owner: Owner::ANYONE,
    };
    let bar = progress(images.len());
    let mut output = Output::new(&images, args.json, args.overlay)?;

    // Twice the largest batch: one runs while the next is decoded.
    let permits = Arc::new(Semaphore::new(2 * config.policy.max_batch.get()));
    let mut tasks = JoinSet::new();
    let mut failed = 0;
    for (number, path) in images.into_iter().enumerate() {
        let classifier = Arc::clone(&classifier);
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let answer = classify_one(&classifier, &path, options).await;
            (number, path, answer)
        });
    }
    while let Some(done) = tasks.join_next().await {
        bar.inc(1);
        let Ok((number, path, answer)) = done else {
            failed += 1;
            continue;
        };
        failed += usize::from(answer.is_err());
        bar.suspend(|| output.take(number, path, answer))?;
    }
    bar.finish_and_clear();
    manager.close();
    Ok(failed)
}

async fn classify_one(
    classifier: &Classifier,
    path: &PathBuf,
    options: Options,
) -> Result<Labelled, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let deadline = Deadline::after(IMAGE_TIMEOUT);
    let request = classifier.batcher.new_request(deadline);
    let answer = classifier
        .classify(bytes.into(), options, request)
        .await
        .map_err(|error| error.to_string())?;
    let mut map = None;
    if let Some(id) = &answer.id {
        // Taken out at once, so that no number of images fills the store.
        let store = &classifier.store;
        map = store.get(id, options.owner).await.ok();
        store
            .delete(id, options.owner)
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(Labelled { answer, map })
}

/// An image's labels, and its map if it is to be drawn.
struct Labelled {
    answer: Classification,
    map: Option<FoundMap>,
}
