//! `patchlight bench`: how fast is a model on this machine, without a server around it?

mod difference;
mod inputs;
mod memory;
mod report;
mod timing;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use patchlight_engine::{
    Device, Engine, EngineError, Kernels, OrtEngine, Runtime, SessionOptions, threads,
};
use patchlight_imaging::preprocess::TensorForm;
use patchlight_model::ModelInfo;

use self::{
    difference::Difference,
    inputs::{inputs, noise},
    memory::Memory,
    report::Report,
};
use super::{USAGE, fail};
use crate::{
    args::BenchArgs,
    config::demo,
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

fn measure(args: &BenchArgs, device: Device, kernels: Kernels) -> Result<Report, String> {
    let started = Instant::now();
    let directory = args.model.clone().map_or_else(demo::find, Ok)?;
    let model = ModelInfo::open(&directory).map_err(|error| error.to_string())?;
    let runtime = Runtime::load().map_err(|error| error.to_string())?;
    let sessions = usize::from(args.sessions);
    let threads = args.threads.unwrap_or_else(threads::available);
    let threads = (threads / sessions).max(1);
    let load = |device, kernels| {
        let options = SessionOptions {
            device,
            threads,
            spin: threads::may_spin(),
            kernels,
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
    let ready_s = started.elapsed().as_secs_f64();
    let device = engine.device();
    engines.push(engine);
    while engines.len() < sessions {
        engines.push(load(device, kernels).map_err(failed)?);
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
        sessions,
        threads,
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
