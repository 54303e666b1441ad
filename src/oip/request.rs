//! From the body of an inference request to named inputs whose data has not been touched yet.
//!
//! A body is a JSON object, and behind it the tensors that the object says are binary, in the order
//! of its inputs. Nothing is allocated by what a body claims, only by what it holds: shapes have a
//! few dimensions, lists a few entries, and data stays a slice of the body until a model asks for
//! so and so many values ([`data`](super::data)).

use std::{fmt, marker::PhantomData, time::Duration};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Datatype;
use crate::{Error, Result, bom};
use patchlight_escape::Excerpt;

/// More dimensions than any tensor here has.
pub(super) const MAX_DIMENSIONS: usize = 8;

/// More inputs or outputs than any model here has.
pub(super) const MAX_TENSORS: usize = 16;

/// Bytes of a request's own name, which is repeated in its answer.
const MAX_ID: usize = 1024;

/// A request, its framing undone.
#[derive(Clone, Debug)]
pub struct InferRequest {
    /// The client's own name for it, echoed in the response.
    pub id: Option<String>,
    /// How long the client wants to wait, if it says.
    pub timeout: Option<Duration>,
    /// In the order of the body.
    pub inputs: Vec<Input>,
    /// The outputs that are wanted, in their order; all of them, without.
    pub outputs: Option<Vec<RequestedOutput>>,
    /// Whether outputs are binary unless they say otherwise.
    pub binary_output: bool,
}

/// One input tensor as it was sent.
#[derive(Clone, Debug)]
pub struct Input {
    /// Which of the model's inputs.
    pub name: String,
    /// The protocol's name of the type, such as `FP32`.
    pub datatype: String,
    /// Lengths of the dimensions.
    pub shape: Vec<u64>,
    /// Where the values are.
    pub data: Data,
}

/// The values of an input, unread.
#[derive(Clone, Debug)]
pub enum Data {
    /// JSON text: an array, nested or flat.
    Json(Bytes),
    /// Little-endian, row-major, no padding.
    Binary(Bytes),
    /// Numbers of an `FP32` tensor, row-major.
    Fp32(Vec<f32>),
    /// Elements of a `BYTES` tensor, row-major.
    Elements(Vec<Bytes>),
}

/// An output that is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestedOutput {
    /// Which of the model's outputs.
    pub name: String,
    /// Whether it goes out as binary; as the request says, without.
    pub binary: Option<bool>,
    /// As the best so many classes instead of as numbers.
    pub classification: Option<usize>,
}

/// Reads a body. `json_length` is the header `Inference-Header-Content-Length`: how many bytes of
/// the body are JSON; all of it, without.
///
/// # Errors
/// [`Error::MalformedRequest`] for everything that is not such a body.
pub fn decode(body: &Bytes, json_length: Option<usize>) -> Result<InferRequest> {
    let json_length = json_length.unwrap_or(body.len());
    if json_length > body.len() {
        return malformed(format_args!(
            "Inference-Header-Content-Length is {json_length}, the body has {} bytes",
            body.len()
        ));
    }
    let mut binary = body.slice(json_length..);
    let json = body.slice(..json_length);
    let json = json.slice_ref(bom::strip(&json));
    let document: Document<'_> = match serde_json::from_slice(&json) {
        Ok(document) => document,
        Err(error) => {
            return malformed(format_args!(
                "the JSON of the inference request: {}",
                Excerpt(error)
            ));
        }
    };

    document.id.as_deref().map_or(Ok(()), check_id)?;
    let mut inputs = Vec::with_capacity(document.inputs.len());
    for input in document.inputs {
        let data = match (input.data, input.parameters.binary_data_size) {
            (Some(text), None) => Data::Json(json.slice_ref(text.get().as_bytes())),
            (None, Some(size)) if size <= binary.len() => Data::Binary(binary.split_to(size)),
            (None, Some(size)) => {
                return malformed(format_args!(
                    "input `{}` has binary_data_size {size}, the body has {} bytes left",
                    Excerpt(&input.name),
                    binary.len()
                ));
            }
            (Some(_), Some(_)) => {
                return malformed(format_args!(
                    "input `{}` has both data and binary_data_size",
                    Excerpt(&input.name)
                ));
            }
            (None, None) => {
                return malformed(format_args!(
                    "input `{}` has neither data nor binary_data_size",
                    Excerpt(&input.name)
                ));
            }
        };
        inputs.push(Input {
            name: input.name,
            datatype: input.datatype,
            shape: input.shape,
            data,
        });
    }
    if !binary.is_empty() {
        return malformed(format_args!(
            "{} bytes of the body belong to no input",
            binary.len()
        ));
    }
    let parameters = document.parameters;
    Ok(InferRequest {
        id: document.id,
        // Triton's clients send 0 for none.
        timeout: parameters
            .timeout
            .filter(|&microseconds| microseconds > 0)
            .map(Duration::from_micros),
        inputs,
        outputs: document.outputs.map(requested),
        binary_output: parameters.binary_data_output.unwrap_or(false),
    })
}

/// # Errors
/// [`Error::MalformedRequest`] when it is longer than is repeated.
pub(super) fn check_id(id: &str) -> Result<()> {
    if id.len() > MAX_ID {
        return malformed(format_args!(
            "the id has {} bytes, it may have {MAX_ID} at most",
            id.len()
        ));
    }
    Ok(())
}

fn requested(outputs: Vec<DocumentOutput>) -> Vec<RequestedOutput> {
    let outputs = outputs.into_iter();
    outputs
        .map(|output| RequestedOutput {
            name: output.name,
            binary: output.parameters.binary_data,
            classification: output.parameters.classification,
        })
        .collect()
}

/// What a model is to run, and what is wanted of it. Other members of the protocol (`priority`,
/// `sequence_id`, a client's own parameters) are skipped.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferRequest)]
pub struct Document<'a> {
    /// The client's own name for the request, repeated in the response.
    #[serde(default)]
    id: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    parameters: DocumentParameters,
    /// The models here have one.
    #[schema(max_items = 16)]
    #[serde(borrow, deserialize_with = "bounded::<_, _, MAX_TENSORS>")]
    inputs: Vec<DocumentInput<'a>>,
    /// What is wanted, in this order; everything, without.
    #[schema(max_items = 16)]
    #[serde(default, deserialize_with = "bounded_or_null::<_, _, MAX_TENSORS>")]
    outputs: Option<Vec<DocumentOutput>>,
}

/// How a request is to be answered.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = InferParameters)]
struct DocumentParameters {
    /// Whether outputs follow the JSON as binary tensors unless they say otherwise.
    #[serde(default)]
    binary_data_output: Option<bool>,
    /// Microseconds; can only shorten the server's time-out, and 0 does not.
    #[serde(default)]
    timeout: Option<u64>,
}

/// An input tensor.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferInput)]
struct DocumentInput<'a> {
    name: String,
    #[schema(value_type = Datatype)]
    datatype: String,
    /// Lengths of its dimensions.
    #[schema(max_items = 8)]
    #[serde(deserialize_with = "bounded::<_, _, MAX_DIMENSIONS>")]
    shape: Vec<u64>,
    #[serde(default, deserialize_with = "or_default")]
    parameters: InputParameters,
    /// Its values, flat or nested, row-major; those of `BYTES` are strings, images in base64.
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Where an input's values are if not in the JSON.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = InferInputParameters)]
struct InputParameters {
    /// So many bytes of what follows the JSON, in the order of the inputs.
    #[serde(default)]
    binary_data_size: Option<usize>,
}

/// An output that is wanted.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferRequestedOutput)]
struct DocumentOutput {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    parameters: OutputParameters,
}

/// In which form an output is wanted.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = InferOutputParameters)]
struct OutputParameters {
    /// Whether it follows the JSON as a binary tensor.
    #[serde(default)]
    binary_data: Option<bool>,
    /// As the best so many classes, `value:index:label` each, instead of as numbers.
    #[schema(minimum = 1)]
    #[serde(default)]
    classification: Option<usize>,
}

/// A member that is `null` is as if it were not there: MLServer's client writes all of them.
fn or_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An array of at most `MAX` elements.
fn bounded<'de, D, T, const MAX: usize>(deserializer: D) -> std::result::Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of at most {MAX} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(
            self,
            mut elements: A,
        ) -> std::result::Result<Vec<T>, A::Error> {
            let mut taken = Vec::new();
            while let Some(element) = elements.next_element()? {
                if taken.len() == MAX {
                    return Err(serde::de::Error::invalid_length(MAX + 1, &self));
                }
                taken.push(element);
            }
            Ok(taken)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

/// The same, where `null` stands for nothing.
fn bounded_or_null<'de, D, T, const MAX: usize>(
    deserializer: D,
) -> std::result::Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Given<T, const MAX: usize>(Vec<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Given<T, MAX> {
        fn deserialize<D: Deserializer<'de>>(
            deserializer: D,
        ) -> std::result::Result<Self, D::Error> {
            bounded::<D, T, MAX>(deserializer).map(Self)
        }
    }

    Ok(Option::<Given<T, MAX>>::deserialize(deserializer)?.map(|given| given.0))
}

pub(super) fn malformed<T>(error: fmt::Arguments<'_>) -> Result<T> {
    Err(Error::MalformedRequest(error.into()))
}

#[cfg(test)]
mod tests;
