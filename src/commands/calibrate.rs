//! `patchlight calibrate`: what a model's scores are worth, measured on labelled images.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use patchlight_engine::{
    Device, Engine, EngineError, Input, Kernels, OrtEngine, Runtime, SessionOptions,
    TensorRtOptions, threads,
};
use patchlight_escape::Escaped;
use patchlight_imaging::{
    decode::{self, Limits},
    preprocess::{ImageTensor, Pipeline, TensorForm},
};
use patchlight_model::{
    MANIFEST, Manifest, ModelInfo,
    calibration::{Calibration, Measured},
    manifest::TaskKind,
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{USAGE, fail, progress};
use crate::{
    args::CalibrateArgs,
    calibrate::{Dataset, Fitted, LabelledImage, Records, Settings, Truth, fit},
    telemetry::{self, LogFormat},
};

/// Images that are decoded and run together.
const BATCH: usize = 8;

/// Records of an interrupted run, in the model's directory.
const RECORDS: [&str; 2] = [".calibration-data", ".calibration-unlike"];

/// Exit status 0 if something was measured and every image could be read.
pub(super) fn run(args: &CalibrateArgs) -> ExitCode {
    if let Err(error) = telemetry::install(LogFormat::Text, "warn", None) {
        return fail(1, error);
    }
    if !(args.flag_rate > 0.0 && args.flag_rate <= 0.5) {
        let rate = args.flag_rate;
        let error = format!("--flag-rate: {rate} is not a share above 0 and up to 0.5");
        return fail(USAGE, error);
    }
    let device = match args.device.parse() {
        Ok(device) => device,
        Err(error) => return fail(USAGE, format!("--device: {error}")),
    };
    match calibrate(args, device) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => fail(
            1,
            format!("{failed} images could not be read; the others were used"),
        ),
        Err(error) => fail(1, error),
    }
}

/// Runs all images, fits, and writes; how many images failed.
fn calibrate(args: &CalibrateArgs, device: Device) -> Result<usize, String> {
    let model = ModelInfo::open(&args.directory).map_err(|error| error.to_string())?;
    let data = Dataset::read(&args.data, &model)?;
    let unlike = args.unlike.as_deref().map(Dataset::without_labels);
    let unlike = unlike.transpose()?;
    let mut runner = Runner::new(&model, device).map_err(|error| error.to_string())?;

    let (mut records, mut failed, digest) = runner.run(&data, RECORDS[0])?;
    let mut others = match &unlike {
        None => None,
        Some(images) => {
            let (records, more, _) = runner.run(images, RECORDS[1])?;
            failed += more;
            Some(records)
        }
    };
    let settings = Settings {
        kind: model.manifest.task.kind,
        classes: model.manifest.task.classes,
        flag_rate: args.flag_rate,
        digest,
    };
    let unreadable = |error: io::Error| format!("the records cannot be read: {error}");
    let fitted = fit(&mut records, others.as_mut(), &settings).map_err(unreadable)?;
    let Fitted {
        calibration,
        too_few,
    } = fitted;
    for claim in &too_few {
        eprintln!("patchlight: left out: {claim}");
    }
    let nothing = calibration.temperature.is_none() && calibration.familiarity.is_none();
    if nothing {
        return Err("there are too few images for anything; nothing was written".to_owned());
    }
    let said = described(&calibration, settings.kind);
    write!(io::stdout().lock(), "{said}").map_err(|error| error.to_string())?;
    if !args.dry_run {
        write(&model, calibration)?;
        for records in others.into_iter().chain([records]) {
            let path = records.path().to_owned();
            let removed = records.remove();
            removed.map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(failed)
}

/// Runs images through the model, as the server does.
struct Runner<'a> {
    model: &'a ModelInfo,
    pipeline: Pipeline,
    engine: OrtEngine,
}

impl<'a> Runner<'a> {
    fn new(model: &'a ModelInfo, device: Device) -> Result<Self, EngineError> {
        let options = SessionOptions {
            device,
            threads: threads::available(),
            spin: threads::may_spin(),
            kernels: Kernels::default(),
            replay: true,
            sessions: 1,
            tensorrt: TensorRtOptions {
                max_batch: BATCH,
                ..TensorRtOptions::default()
            },
            graph: model.graph(),
        };
        let engine = OrtEngine::load(&Runtime::load()?, &model.manifest, &options)?;
        let pipeline = Pipeline::new(&model.manifest.preprocess);
        let pipeline = pipeline.map_err(|errors| EngineError::Graph(errors.join("; ")))?;
        Ok(Self {
            model,
            pipeline,
            engine,
        })
    }

    /// The records of all images, how many could not be used, and the digest of what was used. What
    /// an interrupted run left is not run again.
    fn run(&mut self, data: &Dataset, name: &str) -> Result<(Records, usize, String), String> {
        let path = self.model.directory.join(name);
        let with_path = |error: io::Error| format!("{}: {error}", path.display());
        let classes = self.model.manifest.task.classes;
        let key = key(self.model, self.engine.device(), data);
        let mut records = Records::open(path.clone(), key, classes).map_err(with_path)?;
        let form = self.engine.tensor_form();
        let bar = progress(data.images.len());
        bar.set_position(records.count() as u64);
        let left = data.images.get(records.count()..).unwrap_or_default();
        for images in left.chunks(BATCH) {
            let prepared: Vec<_> = images
                .par_iter()
                .map(|image| prepare(&self.pipeline, form, &image.path))
                .collect();
            let tensors = prepared.iter().flatten();
            let inputs: Vec<Input<'_>> = tensors
                .map(|(_, tensor)| Input {
                    tensor: tensor.view(),
                    maps: false,
                    class_attention: false,
                })
                .collect();
            let outputs = match inputs.is_empty() {
                true => Vec::new(),
                false => self
                    .engine
                    .run(&inputs)
                    .map_err(|error| error.to_string())?,
            };
            let mut logits = outputs.into_iter().map(|output| output.logits);
            for (image, prepared) in images.iter().zip(&prepared) {
                let complain = |error: &str| {
                    let path = Escaped(image.path.display());
                    bar.suspend(|| eprintln!("patchlight: {path}: {}", Escaped(error)));
                };
                let (digest, logits) = match prepared {
                    Ok((digest, _)) => (*digest, logits.next()),
                    Err(error) => {
                        complain(error);
                        ([0; 32], None)
                    }
                };
                let finite = |logits: &Vec<f32>| logits.iter().all(|value| value.is_finite());
                if logits.as_ref().is_some_and(|logits| !finite(logits)) {
                    complain("the model's logits are not finite");
                }
                let logits = logits.filter(finite);
                let added = records.add(digest, &image.truth, logits.as_deref());
                added.map_err(with_path)?;
            }
            bar.inc(images.len() as u64);
        }
        bar.finish_and_clear();
        let (mut used, mut count) = (Sha256::new(), 0);
        for record in records.read().map_err(with_path)? {
            let record = record.map_err(with_path)?;
            used.update(record.digest);
            used.update(described_truth(&record.truth));
            count += 1;
        }
        // Those of the run that was interrupted are among them.
        let failed = records.count() - count;
        Ok((records, failed, hex(&used.finalize())))
    }
}

/// Of all that logits depend on: the model without its calibration, what computes it, and the
/// images' places, labels, sizes and times.
fn key(model: &ModelInfo, device: Device, data: &Dataset) -> [u8; 32] {
    let mut key = Sha256::new();
    let manifest = Manifest {
        calibration: None,
        ..model.manifest.clone()
    };
    key.update(format!("{manifest:?} {device}"));
    for LabelledImage { path, truth } in &data.images {
        key.update(path.as_os_str().as_encoded_bytes());
        if let Ok(file) = fs::metadata(path) {
            key.update(format!("{} {:?}", file.len(), file.modified().ok()));
        }
        key.update(described_truth(truth));
    }
    key.finalize().into()
}

fn described_truth(truth: &Truth) -> String {
    match truth {
        Truth::Unknown => "?;".to_owned(),
        Truth::Classes(classes) => format!("{classes:?};"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image's digest and its input tensor.
fn prepare(
    pipeline: &Pipeline,
    form: TensorForm,
    path: &Path,
) -> Result<([u8; 32], ImageTensor), String> {
    let upload = fs::read(path).map_err(|error| error.to_string())?;
    let header = decode::peek(&upload, &Limits::default()).map_err(|error| error.to_string())?;
    let (width, height) = pipeline.resized(header.width, header.height);
    let reduction = header.reduction_for(width, height);
    let image = decode::decode_reduced(&upload, &header, reduction);
    let image = image.map_err(|error| error.to_string())?;
    let size = (header.width, header.height);
    let prepared = pipeline.run_reduced(&image.rgb, size, image.reduction, form);
    Ok((Sha256::digest(&upload).into(), prepared.tensor))
}

/// Replaces the manifest in one step: a server that starts meanwhile reads the old or the new one.
fn write(model: &ModelInfo, calibration: Calibration) -> Result<(), String> {
    let path = model.directory.join(MANIFEST);
    let mut manifest = model.manifest.clone();
    manifest.calibration = Some(calibration);
    let with_path = |path: &PathBuf, error: io::Error| format!("{}: {error}", path.display());
    let before = fs::read_to_string(&path).map_err(|error| with_path(&path, error))?;
    // Who wrote it, and why it should not be edited.
    let comment = before
        .lines()
        .take_while(|line| line.starts_with('#') || line.is_empty());
    let mut text: String = comment.flat_map(|line| [line, "\n"]).collect();
    text += &toml::to_string(&manifest).map_err(|error| error.to_string())?;
    let partial = model.directory.join(format!("{MANIFEST}.new"));
    fs::write(&partial, text).map_err(|error| with_path(&partial, error))?;
    fs::rename(&partial, &path).map_err(|error| with_path(&path, error))
}

/// What was found, for a person.
fn described(calibration: &Calibration, kind: TaskKind) -> String {
    let value =
        |Measured { value, low, high }: Measured| format!("{value:.4} ({low:.4} to {high:.4})");
    let data = &calibration.data;
    let mut text = format!(
        "images: {} to fit, {} for thresholds, {} measured; 95 % intervals in brackets\n",
        data.fit, data.calibrate, data.measure
    );
    let mut line = |what: &str, found: String| text.push_str(&format!("{what:<34}{found}\n"));
    if let Some(found) = &calibration.temperature {
        if kind == TaskKind::SingleLabel {
            line("temperature", format!("{:.4}", found.values[0]));
        }
        line("calibration error as it was", value(found.ece_before));
        line("calibration error, calibrated", value(found.ece_after));
        line("log loss as it was", value(found.log_loss_before));
        line("log loss, calibrated", value(found.log_loss_after));
    }
    for level in calibration.sets.iter().flat_map(|sets| &sets.levels) {
        let found = format!("{}, {:.2} labels", value(level.coverage), level.mean_size);
        line(
            &format!("sets at {} hold the right label", level.level),
            found,
        );
    }
    if let Some(found) = &calibration.familiarity {
        line("familiar images flagged as unlike", value(found.flagged));
        if let Some(unlike) = &found.unlike {
            line("others flagged as unlike", value(unlike.flagged));
            line(
                "AUROC, FPR95",
                format!("{:.4}, {:.4}", unlike.auroc, unlike.fpr95),
            );
        }
    }
    text
}
