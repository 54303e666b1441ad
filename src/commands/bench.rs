//! `patchlight bench`: how fast is a model on this machine, without a server around it?

mod difference;
mod inputs;
mod memory;
mod report;
mod timing;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use patchlight_engine::{
    Device, Engine, EngineError, Kernels, OrtEngine, Runtime, SessionOptions, TensorRtOptions,
    threads,
};
use patchlight_imaging::preprocess::TensorForm;
use patchlight_import::CancelFlag;
use patchlight_model::ModelInfo;
use patchlight_sources::PrecisionChoice;

use self::{
    difference::Difference,
    inputs::{inputs, noise},
    memory::Memory,
    report::Report,
};
use super::{USAGE, fail};
use crate::{
    args::BenchArgs,
    config::{ModelSource, demo},
    sources::SourceSettings,
    telemetry::{self, LogFormat},
};

/// How many different images a batch is made of.
const IMAGES: usize = 32;

/// Exit status 0 if everything ran.
pub(super) fn run(args: &BenchArgs) -> ExitCode {
    if let Err(error) = telemetry::install(LogFormat::Text, "info", None) {
        return fail(1, error);
    }
    let device = match args.device.parse::<Device>() {
        Ok(device) => device,
        Err(error) => return fail(USAGE, format!("--device: {error}")),
    };
    let kernels = match args.kernels.as_str() {
        "auto" => Kernels::Auto,
        "stock" => Kernels::Stock,
        other => {
            return fail(
                USAGE,
                format!("--kernels: `{other}` is not one of auto, stock"),
            );
        }
    };
    match measure(args, device, kernels) {
        Ok(report) => match report.write(args.json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, error),
        },
        Err(error) => fail(1, error),
    }
}

/// The model directory, fetched and imported if an address was named.
fn directory(args: &BenchArgs, device: Device, runtime: &Runtime) -> Result<PathBuf, String> {
    let Some(typed) = &args.model else {
        return demo::find();
    };
    let model = ModelSource::parse(typed).map_err(|error| error.to_string())?;
    let settings = SourceSettings {
        cache_dir: args.cache_dir.clone(),
        precision: PrecisionChoice::Auto,
        check: None,
    };
    settings
        .model_dir(&model.source, device, Some(runtime), &CancelFlag::default())
        .map_err(|error| error.to_string())
}

fn measure(args: &BenchArgs, device: Device, kernels: Kernels) -> Result<Report, String> {
    let started = Instant::now();
    let runtime = Runtime::load().map_err(|error| error.to_string())?;
    let loading = started.elapsed();
    let directory = directory(args, device, &runtime)?;
    let started = Instant::now();
    let model = ModelInfo::open(&directory).map_err(|error| error.to_string())?;
    let sessions = usize::from(args.sessions);
    let threads = args.threads.unwrap_or_else(threads::available).max(1);
    let load = |device, kernels| {
        let options = SessionOptions {
            device,
            threads,
            sessions,
            spin: threads::may_spin(),
            kernels,
            replay: !args.no_replay,
            tensorrt: TensorRtOptions {
                max_batch: args
                    .batch
                    .iter()
                    .copied()
                    .map(usize::from)
                    .max()
                    .unwrap_or(1),
                ..TensorRtOptions::default()
            },
            graph: model.graph(),
        };
        OrtEngine::load(&runtime, &model.manifest, &options)
    };
    let failed = |error: EngineError| error.to_string();
    let mut engines = Vec::with_capacity(sessions);
    let mut engine = load(device, kernels).map_err(failed)?;
    let (form, values) = (engine.tensor_form(), engine.image_len());
    engine
        .run(&inputs(&noise(form, 1, values), 1, !args.no_maps))
        .map_err(failed)?;
    let ready_s = (loading + started.elapsed()).as_secs_f64();
    let (device, shared) = (engine.device(), engine.shares_device());
    let instructions = engine.instruction_set();
    engines.push(engine);
    while engines.len() < sessions {
        let more = engines[0].another().map_err(failed)?;
        engines.push(more);
    }

    let (images, decode) = match args.images.is_empty() {
        true => (noise(form, IMAGES, values), None),
        false => {
            let (images, decode) = inputs::decoded(&args.images, &model, form)?;
            (images, Some(decode))
        }
    };
    let difference = match args.compare {
        0 => None,
        count => {
            let mut reference = load(Device::Cpu, Kernels::Stock).map_err(failed)?;
            let found =
                Difference::measure(&mut engines[0], &mut reference, &model, &images, count);
            Some(found.map_err(failed)?)
        }
    };
    let memory = Memory::read(&model);
    let mut batches = Vec::with_capacity(args.batch.len());
    let seconds = Duration::from_secs(args.seconds.into());
    for &batch in &args.batch {
        let inputs = inputs(&images, batch.into(), !args.no_maps);
        let time = timing::measure(&mut engines, &inputs, seconds).map_err(failed)?;
        batches.push(time);
    }
    Ok(Report {
        model: model.manifest.architecture.name.clone(),
        precision: model.manifest.graph.precision.to_string(),
        device: device.to_string(),
        kernels: args.kernels.clone(),
        instructions,
        threads,
        sessions,
        shared,
        input: match form {
            TensorForm::Normalized => "float32",
            TensorForm::Pixels => "uint8",
        },
        maps: !args.no_maps,
        ready_s,
        decode,
        difference,
        memory: memory.map(Memory::with_peak),
        batches,
    })
}
