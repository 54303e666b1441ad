//! A parsed inference request for one variant of a model, whichever protocol brought it: rows to run
//! and outputs to write.

use std::time::Duration;

use bytes::Bytes;
use patchlight_model::{ModelInfo, scores};

use super::{
    Data, Input, ModelVariant, RequestedOutput, Tensor, Values,
    bound::{self, MAX_RESPONSE_BYTES},
    request::InferRequest,
    response::classification,
    variant::{LOGITS, ROLLOUT},
};
use crate::{Error, Result, batch::Inference, error::Detail, service::Rows};
use patchlight_escape::Excerpt;

/// A parsed inference request.
#[derive(Debug)]
pub struct ParsedInferRequest {
    /// To be echoed.
    pub id: Option<String>,
    /// What the client wants to wait at most.
    pub timeout: Option<Duration>,
    /// Each becomes an entry of its own in the queue.
    pub rows: Rows,
    /// What is written, in this order.
    pub outputs: Vec<OutputSpec>,
}

/// An output in the form that is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutputSpec {
    /// Its name.
    pub name: &'static str,
    /// Whether it goes out as binary.
    pub binary: bool,
    /// As the best so many classes.
    pub classes: Option<usize>,
}

impl OutputSpec {
    /// This output of all rows.
    pub fn tensor(self, inferences: &[Inference], model: &ModelInfo) -> Tensor {
        let outputs = inferences.iter().map(|inference| &inference.output);
        let Self {
            name,
            binary,
            classes,
        } = self;
        if let Some(count) = classes {
            let rows: Vec<Vec<f32>> = outputs.map(|output| output.logits.clone()).collect();
            let label = |class| model.labels.name(class);
            return classification(name, &rows, count, scores::ranking, label, binary);
        }
        let tokens = &model.manifest.tokens;
        let values: Vec<f32> = match name {
            // The product over all blocks comes first; the prefix tokens first in it.
            ROLLOUT => outputs
                .filter_map(|output| output.rollout.get(tokens.prefix..tokens.total()))
                .flatten()
                .copied()
                .collect(),
            _ => outputs.flat_map(|output| &output.logits).copied().collect(),
        };
        let mut shape = ModelVariant::output_shape(&model.manifest, name);
        shape.insert(0, inferences.len());
        Tensor {
            name,
            shape,
            values: Values::Fp32(values),
            binary,
        }
    }
}

impl ParsedInferRequest {
    /// Reads the tensors of a request for one variant of a model, of at most so many rows. `text`
    /// makes the bytes of an image that came as text. Computes for milliseconds on a large request.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`] for whatever this model cannot take, and those of `text`.
    pub fn new(
        request: InferRequest,
        variant: ModelVariant,
        model: &ModelInfo,
        max_rows: usize,
        text: impl Fn(&str) -> Result<Bytes>,
    ) -> Result<Self> {
        let outputs = outputs(&request, variant)?;
        let [input] = request.inputs.as_slice() else {
            let found = request.inputs.len();
            return Err(Error::MalformedRequest(
                format_args!("the model has one input, the request has {found}").into(),
            ));
        };
        let rows = rows(input, variant, model, max_rows, text)?;
        check_length(&outputs, rows.count(), model)?;
        Ok(Self {
            rows,
            id: request.id,
            timeout: request.timeout,
            outputs,
        })
    }

    /// The whole body is the only input: one row, answered in binary.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`] when it is not as long as the model's input.
    pub fn raw(body: Bytes, variant: ModelVariant, model: &ModelInfo) -> Result<Self> {
        let rows = match variant {
            ModelVariant::Image => Rows::Images(vec![body]),
            ModelVariant::Plain | ModelVariant::Explain => {
                let input = Input {
                    name: variant.input(&model.manifest).to_owned(),
                    datatype: variant.datatype().name().to_owned(),
                    shape: Vec::new(),
                    data: Data::Binary(body),
                };
                let values = variant.input_shape(model).iter().product();
                Rows::Tensors(vec![input.fp32(values)?])
            }
        };
        let all = variant.outputs().iter();
        let binary = all.map(|&name| OutputSpec {
            name,
            binary: true,
            classes: None,
        });
        Ok(Self {
            id: None,
            timeout: None,
            rows,
            outputs: binary.collect(),
        })
    }
}

fn rows(
    input: &Input,
    variant: ModelVariant,
    model: &ModelInfo,
    max_rows: usize,
    text: impl Fn(&str) -> Result<Bytes>,
) -> Result<Rows> {
    let name = variant.input(&model.manifest);
    if input.name != name {
        return input.refuse(format_args!("the model's input is called `{name}`"));
    }
    let single = variant.input_shape(model);
    let fits = |rest: &[u64]| {
        rest.iter()
            .copied()
            .eq(single.iter().map(|&length| length as u64))
    };
    let count = match input.shape.split_first() {
        Some((&count, rest)) if fits(rest) => count,
        // A column of images is as good as a row of them.
        Some((&count, [1])) if variant == ModelVariant::Image => count,
        _ => {
            let lengths: String = single.iter().map(|length| format!(", {length}")).collect();
            let found = &input.shape;
            return input.refuse(format_args!(
                "its shape is {found:?} instead of [n{lengths}]"
            ));
        }
    };
    let count = usize::try_from(count)
        .ok()
        .filter(|&n| (1..=max_rows).contains(&n));
    let Some(count) = count else {
        return input.refuse(format_args!("a request has 1 to {max_rows} rows"));
    };
    if variant == ModelVariant::Image {
        return input.bytes(count, text).map(Rows::Images);
    }
    let values: usize = single.iter().product();
    let all = input.fp32(count * values)?;
    Ok(Rows::Tensors(
        all.chunks_exact(values).map(<[f32]>::to_vec).collect(),
    ))
}

fn outputs(request: &InferRequest, variant: ModelVariant) -> Result<Vec<OutputSpec>> {
    let Some(requested) = &request.outputs else {
        let all = variant.outputs().iter();
        let all = all.map(|&name| OutputSpec {
            name,
            binary: request.binary_output,
            classes: None,
        });
        return Ok(all.collect());
    };
    let spec = |output: &RequestedOutput| {
        let refuse = |error: &str| Err(refused_output(&output.name, error));
        let known = variant.outputs();
        let Some(&name) = known.iter().find(|&&name| name == output.name) else {
            return refuse(&format!("the model's outputs are {}", known.join(", ")));
        };
        if output.classification.is_some() && name != LOGITS {
            return refuse("only logits have classes");
        }
        if output.classification == Some(0) {
            return refuse("classification must be 1 or more");
        }
        Ok(OutputSpec {
            name,
            binary: output.binary.unwrap_or(request.binary_output),
            classes: output.classification,
        })
    };
    let spec: Vec<OutputSpec> = requested.iter().map(spec).collect::<Result<_>>()?;
    for (before, output) in spec.iter().enumerate() {
        if spec[..before].iter().any(|other| other.name == output.name) {
            let error = "it is asked for twice; each output comes once";
            return Err(refused_output(output.name, error));
        }
    }
    Ok(spec)
}

fn refused_output(name: &str, error: &str) -> Error {
    Error::MalformedRequest(Detail::new(format_args!(
        "output `{}`: {error}",
        Excerpt(name)
    )))
}

/// # Errors
/// [`Error::MalformedRequest`] when the answer could become too long.
fn check_length(outputs: &[OutputSpec], rows: usize, model: &ModelInfo) -> Result<()> {
    let bytes = |output: &OutputSpec| {
        let &OutputSpec {
            name,
            binary,
            classes,
        } = output;
        bound::max_bytes(&model.manifest, &model.labels, name, classes, binary, rows)
    };
    let max_rows = outputs.iter().map(bytes).fold(0, usize::saturating_add);
    if max_rows <= MAX_RESPONSE_BYTES {
        return Ok(());
    }
    Err(Error::MalformedRequest(
        format_args!(
            "the answer could have {max_rows} bytes, and at most {MAX_RESPONSE_BYTES} are sent; ask for \
             fewer rows, for fewer classes, or for binary data"
        )
        .into(),
    ))
}
