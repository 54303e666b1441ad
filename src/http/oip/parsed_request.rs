//! A parsed inference request for one variant of a model: rows to run and outputs to write.

use std::time::Duration;

use bytes::Bytes;
use patchlight_model::ModelInfo;

use crate::http::content_encoding::ContentEncoding;
use crate::{
    Error, Result,
    error::Detail,
    http::upload,
    oip::{
        Data, Input, ModelVariant, RequestedOutput,
        bound::{self, MAX_RESPONSE_BYTES},
        request::{self, InferRequest},
        variant::LOGITS,
    },
    service::Rows,
};
use patchlight_escape::Excerpt;

/// A parsed inference request.
#[derive(Debug)]
pub(super) struct ParsedInferRequest {
    /// To be echoed.
    pub(super) id: Option<String>,
    /// What the client wants to wait at most.
    pub(super) timeout: Option<Duration>,
    /// Each becomes an entry of its own in the queue.
    pub(super) rows: Rows,
    /// What is written, in this order.
    pub(super) outputs: Vec<OutputSpec>,
}

/// An output in the form that is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OutputSpec {
    pub(super) name: &'static str,
    pub(super) binary: bool,
    /// As the best so many classes.
    pub(super) classes: Option<usize>,
}

/// How a body is framed, from its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    pub(super) encoding: ContentEncoding,
    /// `Inference-Header-Content-Length`.
    pub(super) json_length: Option<usize>,
    /// The most bytes, unpacked.
    pub(super) limit: u64,
    /// The most rows.
    pub(super) max_rows: usize,
}

impl ParsedInferRequest {
    /// Parses a body for one variant of a model. Computes for milliseconds on a large body.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`] for whatever this model cannot take, [`Error::BodyTooLarge`] for
    /// a body that unpacks to too much.
    pub(super) fn read(
        body: Bytes,
        framing: Framing,
        variant: ModelVariant,
        model: &ModelInfo,
    ) -> Result<Self> {
        let body = framing.encoding.decompress(body, framing.limit)?;
        if framing.json_length == Some(0) {
            return Self::raw(body, variant, model);
        }
        let request = request::decode(&body, framing.json_length)?;
        let outputs = outputs(&request, variant)?;
        let [input] = request.inputs.as_slice() else {
            let found = request.inputs.len();
            return Err(Error::MalformedRequest(
                format_args!("the model has one input, the request has {found}").into(),
            ));
        };
        let rows = rows(input, variant, model, framing.max_rows)?;
        check_length(&outputs, rows.count(), model)?;
        Ok(Self {
            rows,
            id: request.id,
            timeout: request.timeout,
            outputs,
        })
    }

    /// The whole body is the only input: one row, answered in binary.
    fn raw(body: Bytes, variant: ModelVariant, model: &ModelInfo) -> Result<Self> {
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

fn rows(input: &Input, variant: ModelVariant, model: &ModelInfo, max_rows: usize) -> Result<Rows> {
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
        return input.bytes(count, upload::base64::decode).map(Rows::Images);
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

#[cfg(test)]
mod tests;
