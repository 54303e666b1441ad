//! `patchlight bench`: how fast is a model on this machine, without a server around it?

use std::{
    io::{self, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use patchlight_engine::{
    Device, Engine, EngineError, Input, Kernels, OrtEngine, Output, Runtime, SessionOptions,
    threads,
};
use patchlight_imaging::preprocess::{ImageTensor, TensorForm};
use patchlight_model::{ModelInfo, scores};
use patchlight_splitmix::SplitMix64;
use serde::Serialize;

use super::{USAGE, fail};
use crate::{
    args::BenchArgs,
    config::demo,
    telemetry::{self, LogFormat},
};

/// What was measured.
#[derive(Serialize)]
struct Report {
    model: String,
    precision: String,
    device: String,
    threads: usize,
    /// Batches that run at a time.
    sessions: usize,
    /// Whether they share one session.
    shared: bool,
    /// What an image is sent as: bytes where the graph normalises.
    input: &'static str,
    maps: bool,
    /// Seconds from opening the directory to the end of the first run.
    ready_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
    batches: Vec<BatchTime>,
}

/// Largest differences from the CPU's stock operators.
#[derive(Default, Serialize)]
struct Difference {
    images: usize,
    score: f32,
    /// Of a patch's share of the rollout.
    rollout: f32,
    /// Of a patch's part of a logit.
    attribution: f32,
    same_best_class: usize,
}

/// One batch size.
#[derive(Serialize)]
struct BatchTime {
    batch: usize,
    /// Median and 95th percentile of a run, inputs and outputs in the host's memory.
    median_ms: f64,
    p95_ms: f64,
    /// Of all sessions together.
    images_per_s: f64,
    runs: usize,
}

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
        Ok(report) => match write(&report, args.json) {
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
    let threads = args.threads.unwrap_or_else(threads::available).max(1);
    let sessions = usize::from(args.sessions);
    let load = |device, kernels| {
        let options = SessionOptions {
            device,
            threads: (threads / sessions).max(1),
            spin: threads::may_spin(),
            kernels,
            replay: !args.no_replay,
            graph: model.graph(),
        };
        OrtEngine::load(&runtime, &model.manifest, &options)
    };
    let failed = |error: EngineError| error.to_string();
    let mut engine = load(device, kernels).map_err(failed)?;
    let form = engine.tensor_form();
    let images = images(form, 32, engine.image_len());
    engine
        .run(&inputs(&images, 1, !args.no_maps))
        .map_err(failed)?;
    let ready_s = started.elapsed().as_secs_f64();

    let difference = match args.compare {
        0 => None,
        count => {
            let mut reference = load(Device::Cpu, Kernels::Stock).map_err(failed)?;
            let mut difference = Difference::default();
            for at in 0..count {
                let image = &images[at % images.len()..][..1];
                let inputs = inputs(image, 1, true);
                let expected = reference.run(&inputs).map_err(failed)?;
                let found = engine.run(&inputs).map_err(failed)?;
                for (found, expected) in found.iter().zip(&expected) {
                    difference.add(&model, found, expected);
                }
            }
            Some(difference)
        }
    };

    let (device, shared) = (engine.device(), engine.shares_device());
    let mut engines = vec![engine];
    while engines.len() < sessions {
        let more = engines[0].another().map_err(failed)?;
        engines.push(more);
    }
    let mut batches = Vec::with_capacity(args.batch.len());
    for &batch in &args.batch {
        let inputs = inputs(&images, batch.into(), !args.no_maps);
        let seconds = Duration::from_secs(args.seconds.into());
        batches.push(time(&mut engines, &inputs, seconds).map_err(failed)?);
    }
    Ok(Report {
        model: model.manifest.architecture.name.clone(),
        precision: model.manifest.graph.precision.to_string(),
        device: device.to_string(),
        threads,
        sessions,
        shared,
        input: match form {
            TensorForm::Normalized => "float32",
            TensorForm::Pixels => "uint8",
        },
        maps: !args.no_maps,
        ready_s,
        difference,
        batches,
    })
}

/// Every engine runs the same batch again and again, all at the same time.
fn time(
    engines: &mut [OrtEngine],
    inputs: &[Input<'_>],
    least: Duration,
) -> Result<BatchTime, EngineError> {
    // A size is new to the session in its first run, and recorded in its second.
    for _ in 0..3 {
        for engine in &mut *engines {
            engine.run(inputs)?;
        }
    }
    let started = Instant::now();
    let run = |engine: &mut OrtEngine| -> Result<Vec<f64>, EngineError> {
        let mut times = Vec::new();
        while started.elapsed() < least || times.len() < 5 {
            let started = Instant::now();
            engine.run(inputs)?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    };
    let times = thread::scope(|scope| {
        let threads = engines.iter_mut().map(|engine| scope.spawn(|| run(engine)));
        let threads: Vec<_> = threads.collect();
        let times = threads.into_iter().map(|thread| {
            let panicked = |_| EngineError::Graph("the engine panicked".to_owned());
            thread.join().map_err(panicked)?
        });
        times.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(BatchTime::of(
        inputs.len(),
        times.concat(),
        started.elapsed(),
    ))
}

/// Noise over the whole range of images.
fn images(form: TensorForm, count: usize, values: usize) -> Vec<ImageTensor> {
    let mut random = SplitMix64::new(1);
    let mut image = || match form {
        TensorForm::Normalized => {
            let mut value = || (random.next_u64() >> 40) as f32 / (1 << 22) as f32 - 2.0;
            ImageTensor::Normalized((0..values).map(|_| value()).collect())
        }
        TensorForm::Pixels => {
            let mut value = || (random.next_u64() >> 56) as u8;
            ImageTensor::Pixels((0..values).map(|_| value()).collect())
        }
    };
    (0..count).map(|_| image()).collect()
}

fn inputs(images: &[ImageTensor], batch: usize, maps: bool) -> Vec<Input<'_>> {
    let images = images.iter().cycle().take(batch);
    images
        .map(|tensor| Input {
            tensor: tensor.view(),
            class_attention: false,
            maps,
        })
        .collect()
}

impl Difference {
    fn add(&mut self, model: &ModelInfo, found: &Output, expected: &Output) {
        let largest = |a: &[f32], b: &[f32]| {
            let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            // Not a number is the largest difference there is.
            differences.fold(0.0, |most: f32, d| if d <= most { most } else { d })
        };
        let kind = model.manifest.task.kind;
        let [of_found, of_expected] =
            [found, expected].map(|output| scores::of_all(kind, &output.logits));
        let best = |scores: &[f32]| scores::ranking(scores, 1);
        self.images += 1;
        self.score = self.score.max(largest(&of_found, &of_expected));
        self.same_best_class += usize::from(best(&of_found) == best(&of_expected));
        let tokens = model.manifest.tokens.total().min(found.rollout.len());
        let rollout = largest(&found.rollout[..tokens], &expected.rollout[..tokens]);
        self.rollout = self.rollout.max(rollout);
        if let (Some(a), Some(b)) = (&found.attribution, &expected.attribution)
            && a.classes == b.classes
        {
            self.attribution = self.attribution.max(largest(&a.patches, &b.patches));
        }
    }
}

impl BatchTime {
    /// `times` holds at least one, in milliseconds; all of them took `elapsed` together.
    fn of(batch: usize, mut times: Vec<f64>, elapsed: Duration) -> Self {
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        Self {
            batch,
            median_ms: at(0.5),
            p95_ms: at(0.95),
            images_per_s: (batch * times.len()) as f64 / elapsed.as_secs_f64(),
            runs: times.len(),
        }
    }
}

fn write(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return writeln!(out, "{}", serde_json::to_string(report)?);
    }
    let Report {
        model,
        precision,
        device,
        input,
        maps,
        sessions,
        shared,
        ..
    } = report;
    let what = if *maps { "with maps" } else { "logits alone" };
    writeln!(
        out,
        "{model}, {precision}, on {device}, {input} images, {what}{}; ready after {:.2} s",
        match (sessions, shared) {
            (1, _) => String::new(),
            (_, true) => format!(", {sessions} batches at a time in one session"),
            (_, false) => format!(", {sessions} sessions"),
        },
        report.ready_s
    )?;
    if let Some(difference) = &report.difference {
        writeln!(
            out,
            "largest difference from the CPU over {} images: score {:.1e}, rollout {:.1e}, attribution {:.1e}; same best class {}",
            difference.images,
            difference.score,
            difference.rollout,
            difference.attribution,
            difference.same_best_class
        )?;
    }
    writeln!(
        out,
        "{:>6} {:>10} {:>10} {:>10}",
        "batch", "median ms", "p95 ms", "images/s"
    )?;
    for time in &report.batches {
        writeln!(
            out,
            "{:>6} {:>10.2} {:>10.2} {:>10.1}",
            time.batch, time.median_ms, time.p95_ms, time.images_per_s
        )?;
    }
    Ok(())
}
