//! A session that one engine has to itself.

use ort::{
    session::{OutputSelector, RunOptions, Session},
    value::TensorRef,
};
use patchlight_imaging::preprocess::ImageTensorRef;
use patchlight_onnx::vit::fused::MAPS;

use super::{
    EngineError, Input, Output,
    batch_input::{BatchInput, Gathered},
    outputs::{BatchOutputs, TensorNames},
};

/// A session that only this engine uses.
#[derive(Debug)]
pub(super) struct OwnSession {
    /// Dropped before the session, whose allocator it may hold.
    pub(super) batch_input: BatchInput,
    pub(super) session: Session,
    /// Whether the graph can be told that only the logits are wanted.
    pub(super) takes_maps: bool,
}

impl OwnSession {
    pub(super) fn run(
        &mut self,
        names: &TensorNames,
        inputs: &[Input<'_>],
    ) -> Result<Vec<Output>, EngineError> {
        let images: Vec<ImageTensorRef<'_>> = inputs.iter().map(|input| input.tensor).collect();
        let Gathered { mut values, rows } = self.batch_input.gather(&names.input, &images)?;
        let maps = [i64::from(inputs.iter().any(|input| input.maps))];
        if self.takes_maps {
            let maps = TensorRef::from_array_view(([1_usize], &maps[..]))?;
            values.push((MAPS, maps.into()));
        }
        let wanted = names.wanted(inputs);
        let selected = wanted
            .into_iter()
            .fold(OutputSelector::no_default(), OutputSelector::with);
        let options = RunOptions::new()?.with_outputs(selected);
        let outputs = self.session.run_with_options(values, &options)?;
        let batch = BatchOutputs {
            outputs: &outputs,
            count: inputs.len(),
        };
        batch.of_inputs(names, inputs, &rows)
    }

    /// See [`OrtEngine::read`](super::OrtEngine::read).
    pub(super) fn read(
        &mut self,
        names: &TensorNames,
        images: &[ImageTensorRef<'_>],
        output: &str,
    ) -> Result<Vec<f32>, EngineError> {
        let gathered = self.batch_input.gather(&names.input, images)?;
        let outputs = self.session.run(gathered.values)?;
        let Some(value) = outputs.get(output) else {
            return Err(EngineError::Graph(format!("it has no output `{output}`")));
        };
        Ok(value.try_extract_tensor::<f32>()?.1.to_vec())
    }
}
