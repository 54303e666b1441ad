//! `patchlight classify`: images on disk through the same stages as the service, without one.

mod inputs;
mod line;
mod output;
mod parts;
mod shard;
mod table;

use std::{env, fs, io, path::Path, process::ExitCode, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;
use patchlight_engine::Runtime;
use patchlight_import::CancelFlag;
use tokio::runtime;

use self::{
    inputs::Inputs,
    output::{Columns, Output},
    parts::{Done, Parts},
    shard::Shard,
};
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

/// What Kubernetes calls the number of a pod in an indexed Job.
const JOB_INDEX: &str = "JOB_COMPLETION_INDEX";

/// Exit status 0 if every image got its labels, but for the share that may fail; 1 otherwise.
pub(super) fn run(args: ClassifyArgs) -> ExitCode {
    let mut config = match Config::for_classify(&args) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    // They are for overlays alone.
    config.keep_previews = args.overlay.is_some();
    let _installed = match telemetry::install(LogFormat::Text, "warn", None) {
        Ok(installed) => installed,
        Err(error) => return fail(1, error),
    };
    let work = match Work::read(&args) {
        Ok(work) => work,
        Err(error) => return fail(USAGE, error),
    };
    let max_failures = work.max_failures;
    let outcome = runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .enable_all()
        .build()
        .map_err(|error| ClassifyError::Start(error.into()))
        .and_then(|runtime| runtime.block_on(classify_all(&args, &config, work)));
    match outcome {
        Ok(done) if done.failed as f64 <= max_failures * done.images as f64 => ExitCode::SUCCESS,
        Ok(Done { failed, images }) => fail(
            1,
            format!("{failed} images got no labels, of {images}; --max-failures bears some"),
        ),
        Err(error) => fail(1, error),
    }
}

/// Why it ended before its last image.
#[derive(Debug, thiserror::Error)]
enum ClassifyError {
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Parts of an earlier run do not belong to this one.
    #[error("{0}")]
    Resume(String),
}

/// What is to be done, found before any model is loaded.
struct Work {
    /// Names of images that were named, for a table of them.
    names: Vec<String>,
    /// How many images this shard has, if that is known before.
    expected: Option<u64>,
    inputs: Inputs,
    parts: Option<Parts>,
    max_failures: f64,
}

impl Work {
    fn read(args: &ClassifyArgs) -> Result<Self, String> {
        let share = args.max_failures.parse::<f64>().ok();
        let max_failures = share
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or_else(|| {
                let typed = &args.max_failures;
                format!("--max-failures: `{typed}` is not a share from 0 to 1, such as 0.01")
            })?;
        let index = env::var(JOB_INDEX).ok();
        let shard = Shard::read(
            args.shard.as_deref(),
            args.shard_count.map(Into::into),
            index.as_deref(),
        )?;
        let named = images::find(&args.images)?;
        if named.is_empty() && args.list.is_none() {
            return Err("there is no image in the folders that were named".to_owned());
        }
        let names = match (&args.out, args.json) {
            (None, false) => {
                let names = named.iter().map(|path| path.to_string_lossy().into_owned());
                names.collect()
            }
            _ => Vec::new(),
        };
        let of_shard = (0..named.len() as u64).filter(|&number| shard.takes(number));
        let expected = args.list.is_none().then(|| of_shard.count() as u64);
        let inputs = Inputs::open(named, args.list.as_deref(), shard)?;
        let parts = args
            .out
            .as_deref()
            .map(|out| Parts::open(out, shard, args.part_size));
        Ok(Self {
            names,
            expected,
            inputs,
            parts: parts.transpose()?,
            max_failures,
        })
    }
}

/// Keeps the engine's queue full and answers in the order of the images; how many there were, and
/// how many failed. However many there are, twice the largest batch of them is in memory.
async fn classify_all(
    args: &ClassifyArgs,
    config: &Config,
    mut work: Work,
) -> Result<Done, ClassifyError> {
    let runtime = Runtime::load().map_err(StartError::from)?;
    let manager = tokio::task::block_in_place(|| {
        let models = app::fetch_models(config, &runtime, &CancelFlag::default())?;
        app::load_models(config, &models, &runtime)
    })?;
    let classifier = manager.registry().default_model();
    let digest = classifier.model.digest.as_str();
    let mut done = match &mut work.parts {
        Some(parts) => parts
            .resume(args.resume, &mut work.inputs, digest)
            .map_err(ClassifyError::Resume)?,
        None => Done::default(),
    };
    let columns = Columns {
        model_digest: work.parts.is_some().then(|| digest.to_owned()),
        maps: args.maps,
        evidence: args.evidence,
    };
    let options = Options {
        coverage: level(&classifier.model, None).ok().flatten(),
        top_k: args.top_k.get().min(classifier.model.manifest.task.classes),
        min_score: 0.0,
        scores: None,
        attention: match args.overlay.is_some() || args.maps || args.evidence {
            true => MapRetention::Rollout,
            false => MapRetention::None,
        },
        owner: Owner::ANYONE,
    };
    let bar = match work.expected {
        Some(images) => progress(usize::try_from(images).unwrap_or(usize::MAX)),
        None => ProgressBar::hidden(),
    };
    bar.inc(done.images);
    let mut output = Output::new(
        &work.names,
        args.json,
        columns,
        args.overlay.clone(),
        work.parts,
    )?;

    // One batch runs while the next is decoded.
    let depth = 2 * config.policy.max_batch.get();
    let answers = stream::iter(work.inputs).map(|path| {
        let classifier = Arc::clone(&classifier);
        async move {
            let path = path?;
            let task = tokio::spawn(async move {
                let answer = classify_one(&classifier, &path, options).await;
                (path, answer)
            });
            task.await.map_err(io::Error::other)
        }
    });
    let mut answers = answers.buffered(depth);
    while let Some(answered) = answers.next().await {
        let (path, answer) = answered?;
        bar.inc(1);
        done.images += 1;
        done.failed += u64::from(answer.is_err());
        bar.suspend(|| output.take(&path, answer))?;
    }
    output.finish()?;
    bar.finish_and_clear();
    manager.close();
    Ok(done)
}

async fn classify_one(
    classifier: &Classifier,
    path: &Path,
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

/// An image's labels, and its map if one was wanted.
struct Labelled {
    answer: Classification,
    map: Option<FoundMap>,
}
