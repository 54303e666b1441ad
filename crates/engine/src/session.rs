//! The real engine: a graph, loaded into ONNX Runtime.

use ort::session::{
    Session,
    builder::{GraphOptimizationLevel, SessionBuilder},
};
use patchlight_imaging::preprocess::{ImageTensorRef, TensorForm};
use patchlight_model::manifest::{Manifest, Precision};
use patchlight_onnx::vit::fused::{MAPS, PIXELS};

#[cfg(feature = "cuda")]
use super::card::CardRunner;
use super::{
    Device, Engine, EngineError, Input, Kernels, Output, Runtime, SessionOptions,
    batch_input::BatchInput, cpu, encoder::SharedEncoder, graph_check::check_tensors,
    opened::Opened, outputs::TensorNames, own_session::OwnSession,
};

/// A session, or a part in one that several engines share, and the names and sizes of its tensors.
#[derive(Debug)]
pub struct OrtEngine {
    runner: Runner,
    device: Device,
    names: TensorNames,
    input: [usize; 3],
    /// What [`rebuild`](Engine::rebuild) starts from.
    spec: SessionSpec,
}

/// What runs batches.
#[derive(Debug)]
enum Runner {
    Own(Box<OwnSession>),
    #[cfg(feature = "cuda")]
    Card(CardRunner),
}

#[derive(Clone, Debug)]
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
        let spec = SessionSpec {
            runtime: runtime.clone(),
            manifest: manifest.clone(),
            options: options.clone(),
            encoder: None,
        };
        Self::load_spec(spec)
    }

    fn load_spec(spec: SessionSpec) -> Result<Self, EngineError> {
        let mut failure = None;
        let precision = spec.manifest.graph.precision;
        for (device, reason) in spec.options.device.passed_over(precision) {
            tracing::info!(%device, reason, "not tried");
        }
        for device in spec.options.device.candidates(precision) {
            let encoder = encoder(&spec.options, device, &spec.manifest);
            let spec = SessionSpec {
                encoder,
                ..spec.clone()
            };
            match open(&spec, device) {
                Ok(opened) => return Self::new(opened, device, spec),
                Err(error) => {
                    tracing::warn!(%device, %error, "the device cannot be used");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| EngineError::Graph("no device to try".to_owned())))
    }

    fn new(opened: Opened, device: Device, spec: SessionSpec) -> Result<Self, EngineError> {
        let Opened { session, .. } = &opened;
        let manifest = &spec.manifest;
        let (height, width) = manifest.input_size().ok_or_else(|| {
            EngineError::Graph("the manifest does not fix the size of its input".to_owned())
        })?;
        let takes = |name: &str| session.inputs().iter().any(|input| input.name() == name);
        let form = match takes(PIXELS) {
            true => TensorForm::Pixels,
            false => TensorForm::Normalized,
        };
        let (names, input) = (TensorNames::of(&manifest.graph), [3, height, width]);
        check_tensors(session, &names, input, form, manifest)?;
        let takes_maps = takes(MAPS);
        let runner = runner(opened, device, form, takes_maps, &names, &spec)?;
        Ok(Self {
            runner,
            device,
            names,
            input,
            spec,
        })
    }

    /// An engine for another thread, on the same device. Where batches can be queued on one session
    /// it is a part in that; where the encoder is ours, both share its weights and threads; otherwise
    /// it has a session and weights of its own.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn another(&self) -> Result<Self, EngineError> {
        match &self.runner {
            Runner::Own(_) => {
                let opened = open(&self.spec, self.device)?;
                Self::new(opened, self.device, self.spec.clone())
            }
            #[cfg(feature = "cuda")]
            Runner::Card(card) => Ok(Self {
                runner: Runner::Card(card.another()?),
                device: self.device,
                names: self.names.clone(),
                input: self.input,
                spec: self.spec.clone(),
            }),
        }
    }

    /// Runs a batch for the sake of one float32 output that the manifest does not name.
    ///
    /// # Errors
    /// If the graph has no such output, the run fails, or the session is shared.
    pub fn read(&mut self, inputs: &[&[f32]], output: &str) -> Result<Vec<f32>, EngineError> {
        let images: Vec<ImageTensorRef<'_>> = inputs.iter().map(|&values| values.into()).collect();
        match &mut self.runner {
            Runner::Own(own) => own.read(&self.names, &images, output),
            #[cfg(feature = "cuda")]
            Runner::Card(_) => Err(EngineError::Graph(format!(
                "a session that is shared gives no output `{output}`"
            ))),
        }
    }

    /// How many values an image's tensor has.
    pub fn image_len(&self) -> usize {
        self.input.iter().product()
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
        match &self.runner {
            Runner::Own(own) => own.batch_input.form(),
            #[cfg(feature = "cuda")]
            Runner::Card(_) => TensorForm::Pixels,
        }
    }
}

impl Engine for OrtEngine {
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
        let outputs = match &mut self.runner {
            Runner::Own(own) => own.run(&self.names, inputs),
            #[cfg(feature = "cuda")]
            Runner::Card(card) => card.run(&self.names, inputs),
        };
        outputs.map_err(|error| error.of_batch(inputs.len()))
    }

    /// The device that really runs the session.
    fn device(&self) -> Device {
        self.device
    }

    /// Whether [`another`](Self::another) is a part in the same session.
    fn shares_device(&self) -> bool {
        match &self.runner {
            Runner::Own(_) => false,
            #[cfg(feature = "cuda")]
            Runner::Card(_) => true,
        }
    }

    /// The old session goes only when the new one is there: for a moment there are two.
    fn rebuild(&mut self) -> Result<(), EngineError> {
        #[cfg(feature = "cuda")]
        if let Runner::Card(card) = &mut self.runner {
            let spec = self.spec.clone();
            let load = || match Self::load_spec(spec)?.runner {
                Runner::Card(card) => Ok(card),
                Runner::Own(_) => Err(EngineError::Graph(
                    "the card does not take our kernels any more".to_owned(),
                )),
            };
            return card.rebuild(load);
        }
        *self = match self.spec.encoder {
            Some(_) => self.another()?,
            None => Self::load_spec(self.spec.clone())?,
        };
        Ok(())
    }
}

fn runner(
    opened: Opened,
    device: Device,
    form: TensorForm,
    takes_maps: bool,
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, reason = "a card's alone")
    )]
    names: &TensorNames,
    spec: &SessionSpec,
) -> Result<Runner, EngineError> {
    let manifest = &spec.manifest;
    #[cfg(feature = "cuda")]
    if let (Some(stream), Device::Cuda(card)) = (opened.stream, device) {
        let record = spec.options.replay;
        let card = CardRunner::new(opened.session, stream, card, names, manifest, record)?;
        return Ok(Runner::Card(card));
    }
    let image = manifest.input_size().unwrap_or_default().into();
    let mut batch_input = BatchInput::new(form, image, &manifest.preprocess);
    if let (TensorForm::Pixels, Device::Cuda(card)) = (form, device) {
        batch_input.pin(&opened.session, card);
    }
    Ok(Runner::Own(Box::new(OwnSession {
        batch_input,
        session: opened.session,
        takes_maps,
    })))
}

fn open(spec: &SessionSpec, device: Device) -> Result<Opened, EngineError> {
    let SessionSpec {
        runtime,
        manifest,
        options,
        encoder,
    } = spec;
    let precision = manifest.graph.precision;
    if let Some(encoder) = encoder {
        // What is left is too little for more threads than the one that runs the session.
        let session = encoder.open(configure(runtime, 1, false)?)?;
        return Ok(Opened::alone(session));
    }
    let (threads, spin) = match device {
        Device::Auto | Device::Cpu => (
            (options.threads / options.sessions.max(1)).max(1),
            options.spin,
        ),
        // The card computes: more threads would only spin beside the one that launches.
        Device::Cuda(_) | Device::TensorRt(_) => (1, false),
    };
    let builder = configure(runtime, threads, spin)?;
    let builder = match precision {
        Precision::Int8 => exact_in_int8(builder)?,
        Precision::Fp32 | Precision::Fp16 | Precision::Bf16 => builder,
    };
    #[cfg(feature = "cuda")]
    if let Device::Cuda(index) = device {
        return super::fused::open(builder, options, manifest, index);
    }
    #[cfg(feature = "tensorrt")]
    if let Device::TensorRt(card) = device
        && precision != Precision::Int8
    {
        let version = runtime.version();
        let mut builder =
            super::tensorrt::add_to(builder, card, &options.tensorrt, manifest, version)?;
        return Ok(Opened::alone(builder.commit_from_file(&options.graph)?));
    }
    let session = device
        .add_to(builder, precision)?
        .commit_from_file(&options.graph)?;
    Ok(Opened::alone(session))
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
