//! What several modules of tests need.

use std::{borrow::Cow, fs, path::Path, sync::OnceLock};

use patchlight_engine::Runtime;
use patchlight_onnx::proto::ModelProto;

use ort::{
    environment::Environment,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::TensorRef,
};
use prost::Message;

/// ONNX Runtime allows one environment per process, ever.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::load().expect("the ONNX Runtime library loads"))
}

pub(crate) fn environment() -> &'static Environment {
    runtime().environment()
}

/// The graph as ONNX Runtime runs it, after its own rewriting.
pub(crate) fn optimized(path: &Path) -> ModelProto {
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("optimized.onnx");
    let load = || -> ort::Result<Session> {
        Session::builder(environment())?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_optimized_model_path(&written)?
            .commit_from_file(path)
    };
    load().expect("ONNX Runtime takes the graph");
    ModelProto::decode(fs::read(written).unwrap().as_slice()).unwrap()
}

/// A graph in ONNX Runtime, on one thread if nothing else is said.
pub(crate) struct GraphRunner(Session);

impl GraphRunner {
    pub(crate) fn from_file(path: &Path) -> Self {
        Self::from_file_with_threads(path, 1)
    }

    pub(crate) fn from_file_with_threads(path: &Path, threads: usize) -> Self {
        let load = || -> ort::Result<Session> {
            Session::builder(environment())?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(threads)?
                .commit_from_file(path)
        };
        Self(load().expect("ONNX Runtime takes the graph"))
    }

    pub(crate) fn from_model(model: &ModelProto) -> Self {
        let load = || -> ort::Result<Session> {
            Session::builder(environment())?
                .with_intra_threads(1)?
                .commit_from_memory(&model.encode_to_vec())
        };
        Self(load().expect("ONNX Runtime takes the graph"))
    }

    /// Names of the outputs, in their order.
    pub(crate) fn outputs(&self) -> Vec<String> {
        self.0
            .outputs()
            .iter()
            .map(|output| output.name().to_owned())
            .collect()
    }

    /// Shape and values of every output, in their order; class ids become floats.
    pub(crate) fn run(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Vec<(Vec<i64>, Vec<f32>)> {
        let input = TensorRef::from_array_view((shape, values)).expect("values fill the shape");
        self.run_with(ort::inputs![name => input])
    }

    /// The same with other inputs.
    pub(crate) fn run_with(
        &mut self,
        inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)>,
    ) -> Vec<(Vec<i64>, Vec<f32>)> {
        let outputs = self.0.run(inputs).expect("the graph runs");
        outputs
            .values()
            .map(|value| {
                if let Ok((shape, ids)) = value.try_extract_tensor::<i64>() {
                    return (shape.to_vec(), ids.iter().map(|&id| id as f32).collect());
                }
                let (shape, values) = value.try_extract_tensor::<f32>().expect("float32");
                (shape.to_vec(), values.to_vec())
            })
            .collect()
    }
}
