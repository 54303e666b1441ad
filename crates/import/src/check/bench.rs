//! Runs pictures through a model directory as the server does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use patchlight_engine::{Device, Engine, Input, OrtEngine, Runtime, SessionOptions, threads};
use patchlight_imaging::{
    decode::{self, Limits},
    preprocess::Pipeline,
};
use patchlight_model::{ModelInfo, scores};
use patchlight_onnx::vit::{LAYER_ERRORS, Layer, Part};

use crate::{Cancel, ImportError, ImportOptions, Progress};

/// Pictures that run together.
const BATCH: usize = 8;

/// For each layer's own error this many pictures are enough: it is a mean over thousands of tokens.
const PROBED: usize = 16;

/// Pictures, and what runs them.
pub(super) struct Bench {
    runtime: Runtime,
    cancel: Cancel,
    pictures: Vec<PathBuf>,
}

/// What a graph says of one picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// One a class.
    pub(super) scores: Vec<f32>,
    /// From every block, over all tokens.
    pub(super) rollout: Vec<f32>,
}

impl Answer {
    /// The best class; the first of equal ones.
    pub(super) fn best(&self) -> Option<usize> {
        let scores = self.scores.iter().enumerate().rev();
        scores.max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id)
    }
}

impl Bench {
    pub(super) fn new(options: &ImportOptions, pictures: &[PathBuf]) -> Result<Self, ImportError> {
        if pictures.is_empty() {
            let why = "there is no picture in the folder that --check names";
            return Err(ImportError::Check(why.to_owned()));
        }
        Ok(Self {
            runtime: options.loaded_runtime()?,
            cancel: options.cancel.clone(),
            pictures: pictures.to_vec(),
        })
    }

    /// What the model says of every picture, in their order.
    pub(super) fn answers(
        &self,
        model: &ModelInfo,
        phase: &'static str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Answer>, ImportError> {
        let mut engine = self.engine(model)?;
        let pipeline = pipeline(model)?;
        let mut answers = Vec::with_capacity(self.pictures.len());
        for pictures in self.pictures.chunks(BATCH) {
            self.cancel.go_on()?;
            progress(Progress {
                phase,
                done: answers.len(),
                total: self.pictures.len(),
            });
            let inputs = inputs(&pipeline, pictures)?;
            let inputs = inputs.iter().map(|tensor| Input {
                tensor,
                class_attention: false,
            });
            let inputs: Vec<Input<'_>> = inputs.collect();
            let outputs = engine.run(&inputs).map_err(failed)?;
            answers.extend(outputs.into_iter().map(|output| Answer {
                scores: scores::of_all(model.manifest.task.kind, &output.logits),
                rollout: output.rollout,
            }));
        }
        Ok(answers)
    }

    /// What eight bits change in each layer by itself, given what float32 gives it to read:
    /// ‖int8 − float32‖ / ‖float32‖ over all tokens, a mean over some of the pictures; largest first.
    pub(super) fn errors(
        &self,
        probe: &ModelInfo,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<(Layer, f32)>, ImportError> {
        let mut engine = self.engine(probe)?;
        let pipeline = pipeline(probe)?;
        let pictures = &self.pictures[..PROBED.min(self.pictures.len())];
        let mut sums: Vec<f32> = Vec::new();
        for (done, picture) in pictures.chunks(1).enumerate() {
            self.cancel.go_on()?;
            progress(Progress {
                phase: "each layer",
                done,
                total: pictures.len(),
            });
            let input = inputs(&pipeline, picture)?;
            let errors = engine.read(&[&input[0]], LAYER_ERRORS).map_err(failed)?;
            sums.resize(errors.len(), 0.0);
            let pairs = sums.iter_mut().zip(errors);
            pairs.for_each(|(sum, error)| *sum += error / pictures.len() as f32);
        }
        let layers = (0..probe.manifest.architecture.layers)
            .flat_map(|block| Part::ALL.map(|part| Layer { block, part }));
        let mut errors: Vec<(Layer, f32)> = layers.zip(sums).collect();
        errors.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(errors)
    }

    fn engine(&self, model: &ModelInfo) -> Result<OrtEngine, ImportError> {
        let options = SessionOptions {
            device: Device::Cpu,
            threads: threads::available(),
            spin: threads::may_spin(),
            graph: model.graph(),
        };
        OrtEngine::load(&self.runtime, &model.manifest, &options).map_err(failed)
    }
}

fn pipeline(model: &ModelInfo) -> Result<Pipeline, ImportError> {
    Pipeline::new(&model.manifest.preprocess)
        .map_err(|faults| ImportError::Preprocess(faults.join("; ")))
}

fn inputs(pipeline: &Pipeline, pictures: &[PathBuf]) -> Result<Vec<Vec<f32>>, ImportError> {
    pictures.iter().map(|path| input(pipeline, path)).collect()
}

fn input(pipeline: &Pipeline, path: &Path) -> Result<Vec<f32>, ImportError> {
    let bytes = fs::read(path).map_err(ImportError::file(path, "read it"))?;
    let decoded = decode::peek(&bytes, &Limits::default())
        .and_then(|header| decode::decode(&bytes, &header))
        .map_err(|why| ImportError::malformed(path, why))?;
    Ok(pipeline.run(&decoded.rgb).tensor)
}

fn failed(why: impl ToString) -> ImportError {
    ImportError::Check(why.to_string())
}
