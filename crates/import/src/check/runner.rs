//! Runs images through a model directory as the server does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use patchlight_engine::{
    Device, Engine, Input, Kernels, OrtEngine, Runtime, SessionOptions, TensorRtOptions, threads,
};
use patchlight_imaging::{
    decode::{self, Limits},
    preprocess::Pipeline,
};
use patchlight_model::{ModelInfo, scores};
use patchlight_onnx::vit::{LAYER_ERRORS, LinearKind, LinearLayer};

use crate::{CancelFlag, ImportError, ImportOptions, Progress};

/// Images that run together.
const BATCH: usize = 8;

/// For each layer's own error this many images are enough: it is a mean over thousands of tokens.
const PROBE_IMAGES: usize = 16;

/// Runs images through models.
pub(super) struct ModelRunner {
    runtime: Runtime,
    cancel: CancelFlag,
    images: Vec<PathBuf>,
}

/// A model's output for one image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prediction {
    /// One a class.
    pub(super) scores: Vec<f32>,
    /// From every block, over all tokens.
    pub(super) rollout: Vec<f32>,
}

impl Prediction {
    /// The best class; the first of equal ones.
    pub(super) fn best(&self) -> Option<usize> {
        let scores = self.scores.iter().enumerate().rev();
        scores.max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id)
    }
}

impl ModelRunner {
    pub(super) fn new(options: &ImportOptions, images: &[PathBuf]) -> Result<Self, ImportError> {
        if images.is_empty() {
            let error = "there is no image in the folder that --check names";
            return Err(ImportError::Check(error.to_owned()));
        }
        Ok(Self {
            runtime: options.loaded_runtime()?,
            cancel: options.cancel.clone(),
            images: images.to_vec(),
        })
    }

    /// The model's outputs for every image, in their order.
    pub(super) fn predictions(
        &self,
        model: &ModelInfo,
        phase: &'static str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Prediction>, ImportError> {
        let mut engine = self.engine(model)?;
        let pipeline = pipeline(model)?;
        let mut predictions = Vec::with_capacity(self.images.len());
        for images in self.images.chunks(BATCH) {
            self.cancel.check_cancelled()?;
            progress(Progress {
                phase,
                done: predictions.len(),
                total: self.images.len(),
            });
            let inputs = inputs(&pipeline, images)?;
            let inputs = inputs.iter().map(|tensor| Input {
                tensor: tensor.as_slice().into(),
                class_attention: false,
                maps: true,
            });
            let inputs: Vec<Input<'_>> = inputs.collect();
            let outputs = engine.run(&inputs).map_err(check_error)?;
            predictions.extend(outputs.into_iter().map(|output| Prediction {
                scores: scores::of_all(model.manifest.task.kind, &output.logits),
                rollout: output.rollout,
            }));
        }
        Ok(predictions)
    }

    /// What eight bits change in each layer by itself, given what float32 gives it to read:
    /// ‖int8 − float32‖ / ‖float32‖ over all tokens, a mean over some of the images; largest first.
    pub(super) fn errors(
        &self,
        probe: &ModelInfo,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<(LinearLayer, f32)>, ImportError> {
        let mut engine = self.engine(probe)?;
        let pipeline = pipeline(probe)?;
        let images = &self.images[..PROBE_IMAGES.min(self.images.len())];
        let mut sums: Vec<f32> = Vec::new();
        for (done, image) in images.chunks(1).enumerate() {
            self.cancel.check_cancelled()?;
            progress(Progress {
                phase: "each layer",
                done,
                total: images.len(),
            });
            let input = inputs(&pipeline, image)?;
            let errors = engine
                .read(&[&input[0]], LAYER_ERRORS)
                .map_err(check_error)?;
            sums.resize(errors.len(), 0.0);
            let pairs = sums.iter_mut().zip(errors);
            pairs.for_each(|(sum, error)| *sum += error / images.len() as f32);
        }
        let layers = (0..probe.manifest.architecture.layers)
            .flat_map(|block| LinearKind::ALL.map(|part| LinearLayer { block, part }));
        let mut errors: Vec<(LinearLayer, f32)> = layers.zip(sums).collect();
        errors.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(errors)
    }

    fn engine(&self, model: &ModelInfo) -> Result<OrtEngine, ImportError> {
        let options = SessionOptions {
            device: Device::Cpu,
            threads: threads::available(),
            spin: threads::may_spin(),
            kernels: Kernels::default(),
            replay: false,
            tensorrt: TensorRtOptions::default(),
            sessions: 1,
            graph: model.graph(),
        };
        OrtEngine::load(&self.runtime, &model.manifest, &options).map_err(check_error)
    }
}

fn pipeline(model: &ModelInfo) -> Result<Pipeline, ImportError> {
    Pipeline::new(&model.manifest.preprocess)
        .map_err(|errors| ImportError::Preprocess(errors.join("; ")))
}

fn inputs(pipeline: &Pipeline, images: &[PathBuf]) -> Result<Vec<Vec<f32>>, ImportError> {
    images.iter().map(|path| input(pipeline, path)).collect()
}

fn input(pipeline: &Pipeline, path: &Path) -> Result<Vec<f32>, ImportError> {
    let bytes = fs::read(path).map_err(ImportError::file(path, "read it"))?;
    let decoded = decode::peek(&bytes, &Limits::default())
        .and_then(|header| decode::decode(&bytes, &header))
        .map_err(|error| ImportError::malformed(path, error))?;
    Ok(pipeline.run(&decoded.rgb).tensor)
}

fn check_error(error: impl ToString) -> ImportError {
    ImportError::Check(error.to_string())
}
