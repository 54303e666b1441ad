//! The real engine: a graph, loaded into ONNX Runtime.

use std::path::PathBuf;

use ort::{
    session::{
        Session, SessionOutputs,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{PrimitiveTensorElementType, TensorRef},
};

use super::{Device, Engine, EngineError, Evidence, Input, Output, Runtime, cpu};
use crate::model::manifest::{EvidenceOutputs, Manifest, Precision};

/// What a session is made of.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The device that is asked for.
    pub device: Device,
    /// Threads that compute; set explicitly because ONNX Runtime does not know of cgroups.
    pub threads: usize,
    /// Whether those threads may spin for a moment before they sleep.
    pub spin: bool,
    /// The ONNX file; external data lies beside it.
    pub graph: PathBuf,
}

/// A session and the names and sizes of its tensors.
#[derive(Debug)]
pub struct OrtEngine {
    session: Session,
    device: Device,
    names: Names,
    input: [usize; 3],
    /// What [`rebuild`](Engine::rebuild) starts from.
    origin: Origin,
    /// The batch's input, kept so that a run allocates nothing of this size.
    buffer: Vec<f32>,
}

#[derive(Debug)]
struct Origin {
    runtime: Runtime,
    manifest: Manifest,
    options: SessionOptions,
}

#[derive(Debug)]
struct Names {
    input: String,
    logits: String,
    rollout: Option<String>,
    evidence: Option<EvidenceOutputs>,
    class_attention: Option<String>,
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
            match open(runtime, options, device, precision) {
                Ok(session) => {
                    let origin = Origin {
                        runtime: runtime.clone(),
                        manifest: manifest.clone(),
                        options: options.clone(),
                    };
                    return Self::new(session, device, origin);
                }
                Err(why) => {
                    tracing::warn!(%device, %why, "the device cannot be used");
                    failure = Some(why);
                }
            }
        }
        Err(failure.unwrap_or_else(|| EngineError::Graph("no device to try".to_owned())))
    }

    fn new(session: Session, device: Device, origin: Origin) -> Result<Self, EngineError> {
        let manifest = &origin.manifest;
        let graph = &manifest.graph;
        let (height, width) = manifest.input_size();
        let engine = Self {
            session,
            device,
            names: Names {
                input: graph.input.clone(),
                logits: graph.logits.clone(),
                rollout: graph.rollout_by_start.clone(),
                evidence: graph.evidence.clone(),
                class_attention: graph.class_attention.clone(),
            },
            input: [3, height, width],
            origin,
            buffer: Vec::new(),
        };
        engine.check_tensors(&engine.origin.manifest)?;
        Ok(engine)
    }

    /// The device that really runs the session.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs a batch for the sake of one float32 output that the manifest does not name.
    ///
    /// # Errors
    /// If the graph has no such output, or the run fails.
    pub fn read(&mut self, inputs: &[&[f32]], output: &str) -> Result<Vec<f32>, EngineError> {
        let shape = self.fill(inputs.iter().copied());
        let tensor = TensorRef::from_array_view((shape, &*self.buffer))?;
        let outputs = self
            .session
            .run(ort::inputs![self.names.input.as_str() => tensor])?;
        let Some(value) = outputs.get(output) else {
            return Err(EngineError::Graph(format!("it has no output `{output}`")));
        };
        Ok(value.try_extract_tensor::<f32>()?.1.to_vec())
    }

    /// Puts a batch into the buffer; its shape.
    fn fill<'a>(&mut self, inputs: impl ExactSizeIterator<Item = &'a [f32]>) -> [usize; 4] {
        let count = inputs.len();
        self.buffer.clear();
        for input in inputs {
            let values = input.iter().copied().map(cpu::flush_tiny);
            self.buffer.extend(values);
        }
        let [channels, height, width] = self.input;
        [count, channels, height, width]
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
        expect(&self.names.logits, &[manifest.task.classes])?;
        let (layers, tokens) = (manifest.architecture.layers, manifest.tokens.total());
        if let Some(rollout) = &self.names.rollout {
            expect(rollout, &[layers, tokens])?;
        }
        if let Some(evidence) = &self.names.evidence {
            let labels = evidence.labels;
            let patches = manifest.tokens.patches();
            expect(&evidence.patches, &[labels + 1, patches])?;
            expect(&evidence.rest, &[labels + 1])?;
            expect(&evidence.classes, &[labels])?;
        }
        if let Some(name) = &self.names.class_attention {
            expect(name, &[layers, manifest.architecture.heads, tokens])?;
        }
        Ok(())
    }
}

impl Engine for OrtEngine {
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
        let shape = self.fill(inputs.iter().map(|input| input.tensor));
        let tensor = TensorRef::from_array_view((shape, &*self.buffer))?;
        let outputs = self
            .session
            .run(ort::inputs![self.names.input.as_str() => tensor])?;

        let names = &self.names;
        let pictures = Pictures {
            outputs: &outputs,
            count: inputs.len(),
        };
        let inputs = inputs.iter().enumerate();
        inputs
            .map(|(at, input)| {
                let evidence = names.evidence.as_ref();
                let attention = names.class_attention.as_ref();
                let attention = attention.filter(|_| input.class_attention);
                let logits: Vec<f32> = pictures.values(&names.logits, at)?;
                Ok(Output {
                    rollout: match &names.rollout {
                        Some(name) => pictures.values(name, at)?,
                        None => Vec::new(),
                    },
                    evidence: evidence
                        .map(|names| pictures.evidence(names, at, logits.len()))
                        .transpose()?,
                    class_attention: attention
                        .map(|name| pictures.values(name, at))
                        .transpose()?,
                    logits,
                })
            })
            .collect()
    }

    /// The old session goes only when the new one is there: for a moment there are two.
    fn rebuild(&mut self) -> Result<(), EngineError> {
        let Origin {
            runtime,
            manifest,
            options,
        } = &self.origin;
        *self = Self::load(runtime, manifest, options)?;
        Ok(())
    }
}

/// A batch's outputs, taken apart by picture.
struct Pictures<'a, 'run> {
    outputs: &'a SessionOutputs<'run>,
    count: usize,
}

impl Pictures<'_, '_> {
    fn values<T>(&self, name: &str, at: usize) -> Result<Vec<T>, EngineError>
    where
        T: PrimitiveTensorElementType + Clone,
    {
        let (_, values) = self.outputs[name].try_extract_tensor::<T>()?;
        let each = values.len() / self.count;
        Ok(values[at * each..][..each].to_vec())
    }

    fn evidence(
        &self,
        names: &EvidenceOutputs,
        at: usize,
        classes: usize,
    ) -> Result<Evidence, EngineError> {
        let found = self.values::<i64>(&names.classes, at)?.into_iter();
        let found = found.map(|class| usize::try_from(class).ok().filter(|&c| c < classes));
        Ok(Evidence {
            classes: found.collect::<Option<_>>().ok_or_else(|| {
                EngineError::Graph(format!("`{}` names a class that is none", names.classes))
            })?,
            patches: self.values(&names.patches, at)?,
            rest: self.values(&names.rest, at)?,
        })
    }
}

fn open(
    runtime: &Runtime,
    options: &SessionOptions,
    device: Device,
    precision: Precision,
) -> Result<Session, EngineError> {
    let builder = configure(runtime, options)?;
    let builder = match precision {
        Precision::Int8 => exact_in_int8(builder)?,
        Precision::Fp32 | Precision::Fp16 => builder,
    };
    let mut builder = device.add_to(builder, precision)?;
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

fn configure(runtime: &Runtime, options: &SessionOptions) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(options.spin)?
        // Subnormal numbers that arise within the graph count as zero on the session's threads. The
        // calling thread is not among them, so tiny inputs are set to zero before.
        .with_flush_to_zero()?
        // The pattern is planned for one batch size and re-planned for every other.
        .with_memory_pattern(false)?)
}
