//! What an inference request asks of one face of a model: rows to run and outputs to write.

use std::time::Duration;

use bytes::Bytes;

use super::coding::Coding;
use crate::{
    Error, Result,
    error::Detail,
    escape::Excerpt,
    http::upload,
    model::ModelInfo,
    oip::{
        Data, Face, Input, Requested,
        bound::{self, MAX_RESPONSE_BYTES},
        face::LOGITS,
        request::{self, InferRequest},
    },
};

/// An inference request, understood.
#[derive(Debug)]
pub(super) struct Asked {
    /// To be echoed.
    pub(super) id: Option<String>,
    /// What the client wants to wait at most.
    pub(super) timeout: Option<Duration>,
    /// Each becomes an entry of its own in the queue.
    pub(super) rows: Rows,
    /// What is written, in this order.
    pub(super) outputs: Vec<Wanted>,
}

/// What is run.
#[derive(Debug)]
pub(super) enum Rows {
    /// Input tensors of one picture each.
    Tensors(Vec<Vec<f32>>),
    /// Encoded pictures.
    Pictures(Vec<Bytes>),
}

impl Rows {
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Tensors(rows) => rows.len(),
            Self::Pictures(rows) => rows.len(),
        }
    }
}

/// An output in the form that is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) binary: bool,
    /// As the best so many classes.
    pub(super) classes: Option<usize>,
}

/// How a body is framed, from its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    pub(super) coding: Coding,
    /// `Inference-Header-Content-Length`.
    pub(super) json_length: Option<usize>,
    /// The most bytes, unpacked.
    pub(super) limit: u64,
    /// The most rows.
    pub(super) most: usize,
}

impl Asked {
    /// Reads a body for one face of a model. Computes for milliseconds on a large body.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`] for whatever this model cannot take, [`Error::BodyTooLarge`] for
    /// a body that unpacks to too much.
    pub(super) fn read(
        body: Bytes,
        framing: Framing,
        face: Face,
        model: &ModelInfo,
    ) -> Result<Self> {
        let body = framing.coding.unpack(body, framing.limit)?;
        if framing.json_length == Some(0) {
            return Self::raw(body, face, model);
        }
        let request = request::decode(&body, framing.json_length)?;
        let outputs = outputs(&request, face)?;
        let [input] = request.inputs.as_slice() else {
            let found = request.inputs.len();
            return Err(Error::MalformedRequest(
                format_args!("the model has one input, the request has {found}").into(),
            ));
        };
        let rows = rows(input, face, model, framing.most)?;
        check_length(&outputs, rows.count(), model)?;
        Ok(Self {
            rows,
            id: request.id,
            timeout: request.timeout,
            outputs,
        })
    }

    /// The whole body is the only input: one row, answered in binary.
    fn raw(body: Bytes, face: Face, model: &ModelInfo) -> Result<Self> {
        let rows = match face {
            Face::Image => Rows::Pictures(vec![body]),
            Face::Plain | Face::Explain => {
                let input = Input {
                    name: face.input(&model.manifest).to_owned(),
                    datatype: face.datatype().name().to_owned(),
                    shape: Vec::new(),
                    data: Data::Binary(body),
                };
                let values = face.input_shape(&model.manifest).iter().product();
                Rows::Tensors(vec![input.fp32(values)?])
            }
        };
        let all = face.outputs().iter();
        let binary = all.map(|&name| Wanted {
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

fn rows(input: &Input, face: Face, model: &ModelInfo, most: usize) -> Result<Rows> {
    let name = face.input(&model.manifest);
    if input.name != name {
        return input.refuse(format_args!("the model's input is called `{name}`"));
    }
    let single = face.input_shape(&model.manifest);
    let fits = |rest: &[u64]| {
        rest.iter()
            .copied()
            .eq(single.iter().map(|&length| length as u64))
    };
    let count = match input.shape.split_first() {
        Some((&count, rest)) if fits(rest) => count,
        // A column of pictures is as good as a row of them.
        Some((&count, [1])) if face == Face::Image => count,
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
        .filter(|&n| (1..=most).contains(&n));
    let Some(count) = count else {
        return input.refuse(format_args!("a request has 1 to {most} rows"));
    };
    if face == Face::Image {
        return input
            .bytes(count, upload::base64::decode)
            .map(Rows::Pictures);
    }
    let values: usize = single.iter().product();
    let all = input.fp32(count * values)?;
    Ok(Rows::Tensors(
        all.chunks_exact(values).map(<[f32]>::to_vec).collect(),
    ))
}

fn outputs(request: &InferRequest, face: Face) -> Result<Vec<Wanted>> {
    let Some(requested) = &request.outputs else {
        let all = face.outputs().iter();
        let all = all.map(|&name| Wanted {
            name,
            binary: request.binary_output,
            classes: None,
        });
        return Ok(all.collect());
    };
    let wanted = |output: &Requested| {
        let refuse = |why: &str| Err(refused_output(&output.name, why));
        let known = face.outputs();
        let Some(&name) = known.iter().find(|&&name| name == output.name) else {
            return refuse(&format!("the model's outputs are {}", known.join(", ")));
        };
        if output.classification.is_some() && name != LOGITS {
            return refuse("only logits have classes");
        }
        if output.classification == Some(0) {
            return refuse("classification must be 1 or more");
        }
        Ok(Wanted {
            name,
            binary: output.binary.unwrap_or(request.binary_output),
            classes: output.classification,
        })
    };
    let wanted: Vec<Wanted> = requested.iter().map(wanted).collect::<Result<_>>()?;
    for (before, output) in wanted.iter().enumerate() {
        if wanted[..before]
            .iter()
            .any(|other| other.name == output.name)
        {
            let why = "it is asked for twice; each output comes once";
            return Err(refused_output(output.name, why));
        }
    }
    Ok(wanted)
}

fn refused_output(name: &str, why: &str) -> Error {
    Error::MalformedRequest(Detail::new(format_args!(
        "output `{}`: {why}",
        Excerpt(name)
    )))
}

/// # Errors
/// [`Error::MalformedRequest`] when the answer could become too long.
fn check_length(outputs: &[Wanted], rows: usize, model: &ModelInfo) -> Result<()> {
    let bytes = |output: &Wanted| {
        let &Wanted {
            name,
            binary,
            classes,
        } = output;
        bound::max_bytes(&model.manifest, &model.labels, name, classes, binary, rows)
    };
    let most = outputs.iter().map(bytes).fold(0, usize::saturating_add);
    if most <= MAX_RESPONSE_BYTES {
        return Ok(());
    }
    Err(Error::MalformedRequest(
        format_args!(
            "the answer could have {most} bytes, and at most {MAX_RESPONSE_BYTES} are sent; ask for \
             fewer rows, for fewer classes, or for binary data"
        )
        .into(),
    ))
}

#[cfg(test)]
mod tests;
