//! `patchlight classify`: pictures on disk through the same stages as the service, without one.

mod output;
mod table;

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use tokio::{runtime, sync::Semaphore, task::JoinSet};

use self::output::Output;
use super::{BAD_CONFIGURATION, USAGE, fail, pictures, progress};
use crate::{
    app::{self, StartError},
    args::ClassifyArgs,
    batch::Deadline,
    classify::{Classification, Classifier, Keep, Options},
    config::Config,
    engine::Runtime,
    store::{Found, Owner},
    telemetry::{self, LogFormat},
};

/// Nobody waits for a single picture here.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Exit status 0 if every picture got its labels, 1 if any did not.
pub(super) fn run(args: ClassifyArgs) -> ExitCode {
    let config = match Config::for_classify(&args) {
        Ok(config) => config,
        Err(why) => return fail(BAD_CONFIGURATION, why),
    };
    let _installed = match telemetry::install(LogFormat::Text, "warn", None) {
        Ok(installed) => installed,
        Err(why) => return fail(1, why),
    };
    let pictures = match pictures::find(&args.images) {
        Ok(pictures) if !pictures.is_empty() => pictures,
        Ok(_) => return fail(USAGE, "there is no picture in the folders that were named"),
        Err(why) => return fail(USAGE, why),
    };
    let outcome = runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .enable_all()
        .build()
        .map_err(StartError::from)
        .and_then(|runtime| runtime.block_on(classify_all(args, &config, pictures)));
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => fail(1, format!("{failed} pictures got no labels")),
        Err(why) => fail(1, why),
    }
}

/// Keeps the engine's queue full and answers in the order of the pictures; how many failed.
async fn classify_all(
    args: ClassifyArgs,
    config: &Config,
    pictures: Vec<PathBuf>,
) -> Result<usize, StartError> {
    let runtime = Runtime::load()?;
    let keeper = tokio::task::block_in_place(|| app::load_models(config, &runtime))?;
    let classifier = keeper.registry().default_model();
    let classes = classifier.model.manifest.task.classes;
    let options = Options {
        top_k: args.top_k.get().min(classes),
        min_score: 0.0,
        attention: match args.overlay {
            Some(_) => Keep::Rollout,
            None => Keep::Nothing,
        },
        owner: Owner::ANYONE,
    };
    let bar = progress(pictures.len());
    let mut output = Output::new(&pictures, args.json, args.overlay)?;

    // Twice the largest batch: one runs while the next is decoded.
    let places = Arc::new(Semaphore::new(2 * config.policy.max_batch.get()));
    let mut tasks = JoinSet::new();
    let mut failed = 0;
    for (number, path) in pictures.into_iter().enumerate() {
        let classifier = Arc::clone(&classifier);
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire().await;
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
    keeper.close();
    Ok(failed)
}

async fn classify_one(
    classifier: &Classifier,
    path: &PathBuf,
    options: Options,
) -> Result<Labelled, String> {
    let bytes = fs::read(path).map_err(|why| why.to_string())?;
    let answer = classifier
        .classify(bytes.into(), options, Deadline::after(PATIENCE))
        .await
        .map_err(|why| why.to_string())?;
    let mut map = None;
    if let Some(id) = &answer.id {
        // Taken out at once, so that no number of pictures fills the store.
        let store = &classifier.store;
        map = store.find(id, options.owner).await.ok();
        store
            .forget(id, options.owner)
            .await
            .map_err(|why| why.to_string())?;
    }
    Ok(Labelled { answer, map })
}

/// A picture's labels, and its map if it is to be drawn.
struct Labelled {
    answer: Classification,
    map: Option<Found>,
}
