//! Runs any graph without a manifest: for checks at import.

use std::{collections::BTreeMap, path::Path};

use half::f16;
use ort::{
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{DynValue, Tensor, TensorElementType},
};

use super::{EngineError, Runtime, threads};

/// A session on the CPU that knows nothing of manifests.
#[derive(Debug)]
pub struct BareSession {
    session: Session,
}

/// Shape and values of an output; 16-bit floats are widened, integers become floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl BareSession {
    /// Loads a graph; external data lies beside it.
    ///
    /// # Errors
    /// If the runtime does not take it.
    pub fn open(runtime: &Runtime, graph: &Path) -> Result<Self, EngineError> {
        let load = || -> ort::Result<Session> {
            Session::builder(runtime.environment())?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(threads::available())?
                .with_intra_op_spinning(threads::may_spin())?
                .with_memory_pattern(false)?
                .commit_from_file(graph)
        };
        Ok(Self { session: load()? })
    }

    /// Names of the outputs whose elements are 16-bit floats.
    pub fn half_outputs(&self) -> Vec<String> {
        let outputs = self.session.outputs().iter();
        let half = outputs.filter(|o| o.dtype().tensor_type() == Some(TensorElementType::Float16));
        half.map(|output| output.name().to_owned()).collect()
    }

    /// Runs the graph on float inputs, given by name with shape and values.
    ///
    /// # Errors
    /// If an input is missing or does not fit, or an output is no tensor of floats or integers.
    pub fn run(
        &mut self,
        inputs: &[(&str, &[usize], &[f32])],
    ) -> Result<BTreeMap<String, Values>, EngineError> {
        let inputs = inputs
            .iter()
            .map(|&(name, shape, values)| {
                let value = self.input(name, shape, values)?;
                Ok((name.to_owned(), SessionInputValue::from(value)))
            })
            .collect::<ort::Result<Vec<_>>>()?;
        let outputs = self.session.run(inputs)?;
        outputs
            .iter()
            .map(|(name, value)| {
                let (shape, values) = match value.dtype().tensor_type() {
                    Some(TensorElementType::Float16) => {
                        let (shape, values) = value.try_extract_tensor::<f16>()?;
                        (shape, values.iter().map(|v| v.to_f32()).collect())
                    }
                    Some(TensorElementType::Int64) => {
                        let (shape, values) = value.try_extract_tensor::<i64>()?;
                        (shape, values.iter().map(|&v| v as f32).collect())
                    }
                    _ => {
                        let (shape, values) = value.try_extract_tensor::<f32>()?;
                        (shape, values.to_vec())
                    }
                };
                let shape = shape.iter().map(|&length| length as usize).collect();
                Ok((name.to_owned(), Values { shape, values }))
            })
            .collect()
    }

    /// In the element type that the graph wants.
    fn input(&self, name: &str, shape: &[usize], values: &[f32]) -> ort::Result<DynValue> {
        let wanted = self
            .session
            .inputs()
            .iter()
            .find(|input| input.name() == name)
            .and_then(|input| input.dtype().tensor_type());
        let shape = shape.to_vec();
        Ok(match wanted {
            Some(TensorElementType::Float16) => {
                let values: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
                Tensor::from_array((shape, values))?.into_dyn()
            }
            _ => Tensor::from_array((shape, values.to_vec()))?.into_dyn(),
        })
    }
}
