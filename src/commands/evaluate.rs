//! `patchlight evaluate`: are the maps true, on images whose object's place is known?

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use patchlight_engine::{
    Engine, Kernels, OrtEngine, Runtime, SessionOptions, TensorRtOptions, threads,
};
use patchlight_imaging::preprocess::Pipeline;
use patchlight_import::CancelFlag;
use patchlight_model::ModelInfo;
use serde::Serialize;

use super::{BAD_CONFIGURATION, USAGE, fail, progress};
use crate::{
    args::EvaluateArgs,
    config::Config,
    evaluate::{self, Evaluator, ImageEvaluation, Listing, Protocol, Summary},
    perturb::Fill,
    registry::LoadError,
    telemetry::{self, LogFormat},
};
use patchlight_escape::Escaped;

/// Perturbed images that run together: no batch is much quicker for being larger on a CPU.
const BATCH: usize = 8;

/// `evaluation.json`.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    digest: &'a str,
    device: String,
    fill: String,
    steps: usize,
    seed: u64,
    measures: [evaluate::Measure; 5],
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Exit status 0 if every image was measured, 1 if any was not.
pub(super) fn run(args: &EvaluateArgs) -> ExitCode {
    let config = match Config::for_evaluate(args) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    if let Err(error) = telemetry::install(LogFormat::Text, "warn", None) {
        return fail(1, error);
    }
    let fill: Fill = match args.fill.parse() {
        Ok(fill) => fill,
        Err(error) => return fail(USAGE, format!("--fill: {error}")),
    };
    let listing = match Listing::read(&args.listing) {
        Ok(listing) => listing,
        Err(error) => return fail(USAGE, error),
    };
    let protocol = Protocol {
        fill,
        steps: args.steps.into(),
        seed: args.seed,
        batch: BATCH,
    };
    match evaluate_all(args, &config, listing, protocol) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => fail(1, format!("{failed} images could not be measured")),
        Err(error) => fail(1, error),
    }
}

/// Measures every image and says what came of it; how many failed.
fn evaluate_all(
    args: &EvaluateArgs,
    config: &Config,
    Listing(mut listed): Listing,
    protocol: Protocol,
) -> Result<usize, LoadError> {
    if let Some(images) = args.pictures {
        listed.truncate(images.get());
    }
    let runtime = Runtime::load()?;
    let source = &config.model.source;
    let cancel = CancelFlag::default();
    let directory =
        config
            .sources
            .model_dir(source, config.devices.first(), Some(&runtime), &cancel)?;
    let model = ModelInfo::open(&directory)?;
    if let Some(reason) = model.manifest.graph.no_map_reason() {
        return Err(LoadError::WithoutMap(reason.to_owned()));
    }
    let pipeline = Pipeline::new(&model.manifest.preprocess).map_err(LoadError::Preprocess)?;
    let options = SessionOptions {
        device: config.devices.first(),
        threads: config.threads,
        spin: threads::may_spin(),
        kernels: Kernels::default(),
        replay: true,
        tensorrt: TensorRtOptions {
            max_batch: BATCH,
            ..TensorRtOptions::default()
        },
        sessions: 1,
        graph: model.graph(),
    };
    let mut engine = OrtEngine::load(&runtime, &model.manifest, &options)?;
    let device = engine.device().to_string();
    let mut evaluator = Evaluator {
        model: &model,
        pipeline: &pipeline,
        engine: &mut engine,
        protocol,
    };

    let bar = progress(listed.len());
    let mut measured: Vec<ImageEvaluation> = Vec::with_capacity(listed.len());
    let mut failed = 0;
    for image in &listed {
        match evaluator.measure(image) {
            Ok(found) => measured.push(found),
            Err(error) => {
                failed += 1;
                let path = Escaped(image.path.display());
                bar.suspend(|| eprintln!("patchlight: {path}: {}", Escaped(error)));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if measured.is_empty() {
        return Ok(failed);
    }

    let summary = Summary::new(&measured);
    let text = described(&summary, &model, protocol);
    writeln!(io::stdout().lock(), "{text}")?;
    if let Some(folder) = &args.out {
        let report = Report {
            model: &model.name,
            digest: &model.digest,
            device,
            fill: protocol.fill.to_string(),
            steps: protocol.steps,
            seed: protocol.seed,
            measures: evaluate::Measure::ALL,
            summary: &summary,
        };
        write(folder, &text, &report)?;
    }
    Ok(failed)
}

fn write(folder: &Path, text: &str, report: &Report<'_>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let page = format!(
        "# What the maps are worth\n{text}\n![Deletion and insertion curves](evaluation.svg)\n"
    );
    fs::write(folder.join("evaluation.md"), page)?;
    fs::write(
        folder.join("evaluation.svg"),
        evaluate::plot(report.summary),
    )?;
    let mut json = serde_json::to_string_pretty(report)?;
    json.push('\n');
    fs::write(folder.join("evaluation.json"), json)
}

/// The table under a line that says how it came about.
fn described(summary: &Summary, model: &ModelInfo, protocol: Protocol) -> String {
    let right = summary.right.map_or_else(String::new, |right| {
        format!(" (of which it names {:.1} % rightly)", 100.0 * right)
    });
    format!(
        "Model `{}` ({}); images: {}{right}; patches replaced by {} in {} steps; seed {}.\n\n{}",
        model.name,
        model.digest.get(..12).unwrap_or(&model.digest),
        summary.images,
        match protocol.fill {
            Fill::Mean => "the image's mean color",
            Fill::Blur => "the blurred image",
            Fill::Zero => "zero",
        },
        protocol.steps,
        protocol.seed,
        evaluate::table(summary)
    )
}
