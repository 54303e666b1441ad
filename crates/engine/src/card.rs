//! Engines that share one session on a card.

use std::sync::{Arc, Mutex, PoisonError};

use ort::session::Session;
use patchlight_imaging::preprocess::ImageTensorRef;
use patchlight_kernels::cuda::{
    Batch, CardSession, ComputeStream, HostBatch, OutputElement, OutputSpec, SessionTensors,
};
use patchlight_model::manifest::Manifest;
use patchlight_onnx::vit::fused::{MAPS, PIXELS};

use super::{
    EngineError, Input, Output, cpu,
    outputs::{BatchOutputs, OutputValues, TensorNames},
};

/// One engine's part in a session on a card: memory for a batch of its own.
#[derive(Debug)]
pub(super) struct CardRunner {
    /// The session that all parts use from their next batch on.
    current: Arc<Mutex<Arc<CardSession>>>,
    /// Dropped before the session, on whose stream its copies are.
    host: HostBatch,
    session: Arc<CardSession>,
    /// Names of the outputs, in the session's order.
    outputs: Arc<[String]>,
    /// Values of an image.
    values: usize,
}

impl CardRunner {
    /// The first part in a session that was opened with this stream.
    pub(super) fn new(
        session: Session,
        stream: ComputeStream,
        card: u32,
        names: &TensorNames,
        manifest: &Manifest,
        record: bool,
    ) -> Result<Self, EngineError> {
        let (height, width) = manifest.input_size().unwrap_or_default();
        let tensors = SessionTensors {
            pixels: PIXELS.to_owned(),
            values: names.input.clone(),
            maps: MAPS.to_owned(),
            image: [height, width],
            outputs: output_specs(names, manifest),
        };
        let outputs = tensors.outputs.iter().map(|output| output.name.clone());
        let outputs = outputs.collect();
        let session = Arc::new(CardSession::new(session, stream, card, tensors, record)?);
        Ok(Self {
            current: Arc::new(Mutex::new(Arc::clone(&session))),
            host: session.host_batch()?,
            session,
            outputs,
            values: 3 * height * width,
        })
    }

    /// Another part in the same session.
    pub(super) fn another(&self) -> Result<Self, EngineError> {
        Ok(Self {
            current: Arc::clone(&self.current),
            host: self.session.host_batch()?,
            session: Arc::clone(&self.session),
            outputs: Arc::clone(&self.outputs),
            values: self.values,
        })
    }

    pub(super) fn run(
        &mut self,
        names: &TensorNames,
        inputs: &[Input<'_>],
    ) -> Result<Vec<Output>, EngineError> {
        let current = Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner));
        self.adopt(current)?;
        let (batch, rows) = self.gather(names, inputs)?;
        self.session.run(&mut self.host, batch)?;
        let outputs = CardOutputs {
            host: &self.host,
            names: &self.outputs,
        };
        let batch = BatchOutputs {
            outputs: &outputs,
            count: inputs.len(),
        };
        batch.of_inputs(names, inputs, &rows)
    }

    /// Puts the images into the memory that the card copies from: those in bytes first.
    fn gather(
        &mut self,
        names: &TensorNames,
        inputs: &[Input<'_>],
    ) -> Result<(Batch, Vec<usize>), EngineError> {
        let mut bytes = Vec::with_capacity(inputs.len());
        let mut floats = Vec::new();
        for input in inputs {
            let length = match input.tensor {
                ImageTensorRef::Pixels(image) => {
                    bytes.push(image);
                    image.len()
                }
                ImageTensorRef::Normalized(image) => {
                    floats.push(image);
                    image.len()
                }
            };
            if length != self.values {
                return Err(EngineError::Graph(format!(
                    "an image has {length} values, expected {}",
                    self.values
                )));
            }
        }
        let places = self.host.pixels(bytes.len())?;
        for (place, image) in places.chunks_exact_mut(self.values).zip(&bytes) {
            place.copy_from_slice(image);
        }
        let places = self.host.values(floats.len())?;
        for (place, image) in places.chunks_exact_mut(self.values).zip(&floats) {
            for (place, &value) in place.iter_mut().zip(*image) {
                *place = cpu::flush_tiny(value);
            }
        }
        let (mut byte_row, mut float_row) = (0..bytes.len(), bytes.len()..inputs.len());
        let rows = inputs.iter().filter_map(|input| match input.tensor {
            ImageTensorRef::Pixels(_) => byte_row.next(),
            ImageTensorRef::Normalized(_) => float_row.next(),
        });
        let batch = Batch {
            pixels: bytes.len(),
            values: floats.len(),
            maps: inputs.iter().any(|input| input.maps),
            outputs: names.wanted(inputs).len(),
        };
        Ok((batch, rows.collect()))
    }

    /// Takes the session that another part has rebuilt meanwhile, or else rebuilds it with `load`
    /// for all of them.
    pub(super) fn rebuild(
        &mut self,
        load: impl FnOnce() -> Result<Self, EngineError>,
    ) -> Result<(), EngineError> {
        let rebuilt = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&current, &self.session) {
                *current = load()?.session;
            }
            Arc::clone(&current)
        };
        self.adopt(rebuilt)
    }

    fn adopt(&mut self, session: Arc<CardSession>) -> Result<(), EngineError> {
        if !Arc::ptr_eq(&session, &self.session) {
            self.host = session.host_batch()?;
            self.session = session;
        }
        Ok(())
    }
}

/// What the runtime is given memory for: the outputs in the order in which they are wanted.
fn output_specs(names: &TensorNames, manifest: &Manifest) -> Vec<OutputSpec> {
    let (layers, tokens) = (manifest.architecture.layers, manifest.tokens.total());
    let output = |name: &str, element, dims: &[usize]| OutputSpec {
        name: name.to_owned(),
        element,
        dims: dims.to_vec(),
    };
    let float = |name: &str, dims: &[usize]| output(name, OutputElement::Float, dims);
    let mut outputs = vec![float(&names.logits, &[manifest.task.classes])];
    if let Some(name) = &names.rollout {
        outputs.push(float(name, &[layers, tokens]));
    }
    if let Some(names) = &names.attribution {
        let (labels, patches) = (names.labels, manifest.tokens.patches());
        outputs.extend([
            float(&names.patches, &[labels + 1, patches]),
            float(&names.rest, &[labels + 1]),
            output(&names.classes, OutputElement::Integer, &[labels]),
        ]);
    }
    if let Some(name) = &names.class_attention {
        let heads = manifest.architecture.heads;
        outputs.push(float(name, &[layers, heads, tokens]));
    }
    outputs
}

struct CardOutputs<'a> {
    host: &'a HostBatch,
    names: &'a [String],
}

impl CardOutputs<'_> {
    fn at(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

impl OutputValues for CardOutputs<'_> {
    fn floats(&self, name: &str) -> Result<&[f32], EngineError> {
        let values = self.at(name).and_then(|at| self.host.floats(at));
        values.ok_or_else(|| missing(name))
    }

    fn integers(&self, name: &str) -> Result<&[i64], EngineError> {
        let values = self.at(name).and_then(|at| self.host.integers(at));
        values.ok_or_else(|| missing(name))
    }
}

fn missing(name: &str) -> EngineError {
    EngineError::Graph(format!("the run gave no `{name}`"))
}
