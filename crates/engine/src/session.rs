//! The real engine: a graph, loaded into ONNX Runtime.

use ort::{
    session::{
        OutputSelector, RunOptions, Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::TensorRef,
};
use patchlight_imaging::preprocess::{ImageTensorRef, TensorForm};
use patchlight_model::manifest::{Manifest, Precision};
use patchlight_onnx::vit::fused::{MAPS, PIXELS};

use super::{
    Device, Engine, EngineError, Input, Kernels, Output, Runtime, SessionOptions,
    batch_input::{BatchInput, Gathered},
    cpu,
    encoder::SharedEncoder,
    outputs::{BatchOutputs, TensorNames},
};

/// A session and the names and sizes of its tensors.
#[derive(Debug)]
pub struct OrtEngine {
    /// Dropped before the session, whose allocator it may hold.
    batch_input: BatchInput,
    session: Session,
    device: Device,
    names: TensorNames,
    input: [usize; 3],
    /// Whether the graph can be told that only the logits are wanted.
    takes_maps: bool,
    /// What [`rebuild`](Engine::rebuild) starts from.
    spec: SessionSpec,
}

#[derive(Debug)]
struct SessionSpec {
    runtime: Runtime,
    manifest: Manifest,
    options: SessionOptions,
    /// Of a CPU session whose encoder is ours.
    encoder: Option<SharedEncoder>,
}

impl OrtEngine {
    /// Loads the graph on the first device that takes it, and checks its tensors against the
    /// manifest.
    ///
    /// # Errors
    /// With a named device, its failure; with [`Device::Auto`], the CPU's.
    pub fn load(
        runtime: &Runtime,
        manifest: &Manifest,
        options: &SessionOptions,
    ) -> Result<Self, EngineError> {
        let precision = manifest.graph.precision;
        let mut failure = None;
        for device in options.device.candidates(precision) {
            let encoder = encoder(options, device, manifest);
            match open(runtime, options, device, manifest, encoder.as_ref()) {
                Ok(session) => {
                    let spec = SessionSpec {
                        runtime: runtime.clone(),
                        manifest: manifest.clone(),
                        options: options.clone(),
                        encoder,
                    };
                    return Self::new(session, device, spec);
                }
                Err(error) => {
                    tracing::warn!(%device, %error, "the device cannot be used");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| EngineError::Graph("no device to try".to_owned())))
    }

    /// A further session of the same graph on the same device. Where the encoder is ours, both share
    /// its weights and threads.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn another(&self) -> Result<Self, EngineError> {
        let SessionSpec {
            runtime,
            manifest,
            options,
            encoder,
        } = &self.spec;
        let session = open(runtime, options, self.device, manifest, encoder.as_ref())?;
        let spec = SessionSpec {
            runtime: runtime.clone(),
            manifest: manifest.clone(),
            options: options.clone(),
            encoder: encoder.clone(),
        };
        Self::new(session, self.device, spec)
    }

    fn new(session: Session, device: Device, spec: SessionSpec) -> Result<Self, EngineError> {
        let manifest = &spec.manifest;
        let graph = &manifest.graph;
        let (height, width) = manifest.input_size().ok_or_else(|| {
            EngineError::Graph("the manifest does not fix the size of its input".to_owned())
        })?;
        let takes = |name: &str| session.inputs().iter().any(|input| input.name() == name);
        let takes_maps = takes(MAPS);
        let form = match takes(PIXELS) {
            true => TensorForm::Pixels,
            false => TensorForm::Normalized,
        };
        let mut batch_input = BatchInput::new(form, [height, width], &manifest.preprocess);
        if let (TensorForm::Pixels, Device::Cuda(card)) = (form, device) {
            batch_input.pin(&session, card);
        }
        let engine = Self {
            batch_input,
            session,
            device,
            names: TensorNames {
                input: graph.input.clone(),
                logits: graph.logits.clone(),
                rollout: graph.rollout_by_start.clone(),
                attribution: graph.attribution.clone(),
                class_attention: graph.class_attention.clone(),
            },
            input: [3, height, width],
            takes_maps,
            spec,
        };
        engine.check_tensors(&engine.spec.manifest)?;
        Ok(engine)
    }

    /// How many values an image's tensor has.
    pub fn image_len(&self) -> usize {
        self.input.iter().product()
    }

    /// The device that really runs the session.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The instruction set of our own kernels, where they compute the encoder.
    pub fn instruction_set(&self) -> Option<&'static str> {
        self.spec
            .encoder
            .as_ref()
            .map(SharedEncoder::instruction_set)
    }

    /// The form of an image that it runs without converting it.
    pub fn tensor_form(&self) -> TensorForm {
        self.batch_input.form()
    }

    /// Runs a batch for the sake of one float32 output that the manifest does not name.
    ///
    /// # Errors
    /// If the graph has no such output, or the run fails.
    pub fn read(&mut self, inputs: &[&[f32]], output: &str) -> Result<Vec<f32>, EngineError> {
        let images: Vec<ImageTensorRef<'_>> = inputs.iter().map(|&values| values.into()).collect();
        let gathered = self.batch_input.gather(&self.names.input, &images)?;
        let outputs = self.session.run(gathered.values)?;
        let Some(value) = outputs.get(output) else {
            return Err(EngineError::Graph(format!("it has no output `{output}`")));
        };
        Ok(value.try_extract_tensor::<f32>()?.1.to_vec())
    }

    /// Compares the declared shapes; −1 stands for the batch.
    fn check_tensors(&self, manifest: &Manifest) -> Result<(), EngineError> {
        let inputs = self
            .session
            .inputs()
            .iter()
            .map(|o| (o.name(), o.dtype().tensor_shape()));
        let outputs = self
            .session
            .outputs()
            .iter()
            .map(|o| (o.name(), o.dtype().tensor_shape()));
        let found: Vec<_> = inputs.chain(outputs).collect();
        let expect = |name: &str, dims: &[usize]| -> Result<(), EngineError> {
            let Some((_, shape)) = found.iter().find(|(found, _)| *found == name) else {
                return Err(EngineError::Graph(format!("it has no tensor `{name}`")));
            };
            let Some(shape) = shape else {
                return Err(EngineError::Graph(format!("`{name}` is not a tensor")));
            };
            let fits = shape.len() == dims.len() + 1
                && shape[1..]
                    .iter()
                    .zip(dims)
                    .all(|(&found, &want)| found < 0 || found as usize == want);
            if fits {
                return Ok(());
            }
            Err(EngineError::Graph(format!(
                "`{name}` has shape {shape:?}, the manifest says [batch, {}]",
                dims.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )))
        };
        expect(&self.names.input, &self.input)?;
        if self.tensor_form() == TensorForm::Pixels {
            let [channels, height, width] = self.input;
            expect(PIXELS, &[height, width, channels])?;
        }
        expect(&self.names.logits, &[manifest.task.classes])?;
        let (layers, tokens) = (manifest.architecture.layers, manifest.tokens.total());
        if let Some(rollout) = &self.names.rollout {
            expect(rollout, &[layers, tokens])?;
        }
        if let Some(attribution) = &self.names.attribution {
            let labels = attribution.labels;
            let patches = manifest.tokens.patches();
            expect(&attribution.patches, &[labels + 1, patches])?;
            expect(&attribution.rest, &[labels + 1])?;
            expect(&attribution.classes, &[labels])?;
        }
        if let Some(name) = &self.names.class_attention {
            expect(name, &[layers, manifest.architecture.heads, tokens])?;
        }
        Ok(())
    }
}

impl Engine for OrtEngine {
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
        let images: Vec<ImageTensorRef<'_>> = inputs.iter().map(|input| input.tensor).collect();
        let Gathered { mut values, rows } = self.batch_input.gather(&self.names.input, &images)?;
        let maps = [i64::from(inputs.iter().any(|input| input.maps))];
        if self.takes_maps {
            let maps = TensorRef::from_array_view(([1_usize], &maps[..]))?;
            values.push((MAPS, maps.into()));
        }
        let wanted = self.names.wanted(inputs);
        let selected = wanted
            .into_iter()
            .fold(OutputSelector::no_default(), OutputSelector::with);
        let options = RunOptions::new()?.with_outputs(selected);
        let outputs = self.session.run_with_options(values, &options)?;
        let batch = BatchOutputs {
            outputs: &outputs,
            count: inputs.len(),
        };
        let rows = inputs.iter().zip(rows);
        rows.map(|(input, row)| batch.output(&self.names, input, row))
            .collect()
    }

    /// The old session goes only when the new one is there: for a moment there are two.
    fn rebuild(&mut self) -> Result<(), EngineError> {
        let SessionSpec {
            runtime,
            manifest,
            options,
            encoder,
        } = &self.spec;
        *self = match encoder {
            Some(_) => self.another()?,
            None => Self::load(runtime, manifest, options)?,
        };
        Ok(())
    }
}

fn open(
    runtime: &Runtime,
    options: &SessionOptions,
    device: Device,
    manifest: &Manifest,
    encoder: Option<&SharedEncoder>,
) -> Result<Session, EngineError> {
    let precision = manifest.graph.precision;
    if let Some(encoder) = encoder {
        // What is left is too little for more threads than the one that runs the session.
        return encoder.open(configure(runtime, 1, false)?);
    }
    let (threads, spin) = match device {
        Device::Auto | Device::Cpu => (options.threads, options.spin),
        // The card computes: more threads would only spin beside the one that launches.
        Device::Cuda(_) | Device::TensorRt(_) => (1, false),
    };
    let builder = configure(runtime, threads, spin)?;
    let builder = match precision {
        Precision::Int8 => exact_in_int8(builder)?,
        Precision::Fp32 | Precision::Fp16 => builder,
    };
    let mut builder = device.add_to(builder, precision)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(index) = device {
        return super::fused::open(builder, options, manifest, index);
    }
    Ok(builder.commit_from_file(&options.graph)?)
}

/// Where the fast products of bytes saturate, the runtime is told to take slower ones, which give
/// the same sums as everywhere else.
fn exact_in_int8(builder: SessionBuilder) -> ort::Result<SessionBuilder> {
    if !cpu::byte_products_saturate() {
        return Ok(builder);
    }
    tracing::warn!(
        "this CPU has no VNNI: int8 products are taken by slower instructions, so that they stay \
         exact; float32 may be as fast"
    );
    Ok(builder.with_precise_qmm()?)
}

/// The encoder in kernels of our own, where the processor and the graph allow it.
fn encoder(options: &SessionOptions, device: Device, manifest: &Manifest) -> Option<SharedEncoder> {
    if device != Device::Cpu || options.kernels == Kernels::Stock {
        return None;
    }
    match SharedEncoder::load(&options.graph, manifest, options.threads) {
        Ok(encoder) => Some(encoder),
        Err(reason) => {
            tracing::info!("the runtime's operators compute the graph, because {reason}");
            None
        }
    }
}

fn configure(runtime: &Runtime, threads: usize, spin: bool) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(spin)?
        // Subnormal numbers that arise within the graph count as zero on the session's threads. The
        // calling thread is not among them, so tiny inputs are set to zero before.
        .with_flush_to_zero()?
        // The pattern is planned for one batch size and re-planned for every other.
        .with_memory_pattern(false)?)
}
