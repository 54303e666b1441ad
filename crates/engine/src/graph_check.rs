//! Whether a graph has the tensors that its manifest names.

use ort::session::Session;
use patchlight_imaging::preprocess::TensorForm;
use patchlight_model::manifest::Manifest;
use patchlight_onnx::vit::fused::PIXELS;

use super::{EngineError, outputs::TensorNames};

/// Compares the declared shapes; −1 stands for the batch. `input` is an image's shape.
pub(super) fn check_tensors(
    session: &Session,
    names: &TensorNames,
    input: [usize; 3],
    form: TensorForm,
    manifest: &Manifest,
) -> Result<(), EngineError> {
    let inputs = session
        .inputs()
        .iter()
        .map(|o| (o.name(), o.dtype().tensor_shape()));
    let outputs = session
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
    expect(&names.input, &input)?;
    if form == TensorForm::Pixels {
        let [channels, height, width] = input;
        expect(PIXELS, &[height, width, channels])?;
    }
    expect(&names.logits, &[manifest.task.classes])?;
    let (layers, tokens) = (manifest.architecture.layers, manifest.tokens.total());
    if let Some(rollout) = &names.rollout {
        expect(rollout, &[layers, tokens])?;
    }
    if let Some(attribution) = &names.attribution {
        let labels = attribution.labels;
        let patches = manifest.tokens.patches();
        expect(&attribution.patches, &[labels + 1, patches])?;
        expect(&attribution.rest, &[labels + 1])?;
        expect(&attribution.classes, &[labels])?;
    }
    if let Some(name) = &names.class_attention {
        expect(name, &[layers, manifest.architecture.heads, tokens])?;
    }
    Ok(())
}
