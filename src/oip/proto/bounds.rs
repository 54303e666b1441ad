//! Bounds on what a message may hold, looked at before anything is allocated for it.
//!
//! An empty submessage takes two bytes of a message and a hundred times as much in memory, so the
//! fields that repeat are counted first, on the bytes themselves (the protobuf encoding, as its
//! documentation describes it).

use bytes::{Buf, Bytes};
use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint},
};

use super::ModelInferRequest;
use crate::{
    Result,
    oip::request::{MAX_DIMENSIONS, MAX_TENSORS, malformed},
};
use patchlight_escape::Excerpt;

/// More parameters than any client sends.
const MAX_PARAMETERS: usize = 64;

/// More elements than any request has rows.
const MAX_ELEMENTS: usize = 4096;

/// Bytes of a number of 64 bits at the most.
const MAX_VARINT: usize = 10;

/// A field that may come so often in one message, and what is bounded within it.
struct Field {
    number: u32,
    name: &'static str,
    max: usize,
    /// Bytes of each, where they are not what the message is for.
    max_bytes: usize,
    within: &'static [Self],
}

impl Field {
    const fn new(number: u32, name: &'static str, max: usize) -> Self {
        Self {
            number,
            name,
            max,
            max_bytes: usize::MAX,
            within: &[],
        }
    }
}

const CONTENTS: &[Field] = &[Field::new(8, "bytes_contents", MAX_ELEMENTS)];

const INPUT: &[Field] = &[
    Field {
        max_bytes: MAX_DIMENSIONS * MAX_VARINT,
        ..Field::new(3, "shape", MAX_DIMENSIONS)
    },
    Field::new(4, "parameters", MAX_PARAMETERS),
    Field {
        within: CONTENTS,
        ..Field::new(5, "contents", 1)
    },
];

const OUTPUT: &[Field] = &[Field::new(2, "parameters", MAX_PARAMETERS)];

const REQUEST: &[Field] = &[
    Field::new(4, "parameters", MAX_PARAMETERS),
    Field {
        within: INPUT,
        ..Field::new(5, "inputs", MAX_TENSORS)
    },
    Field {
        within: OUTPUT,
        ..Field::new(6, "outputs", MAX_TENSORS)
    },
    Field::new(7, "raw_input_contents", MAX_TENSORS),
];

impl ModelInferRequest {
    /// Reads a message of bounded content. Raw tensors stay slices of it.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`](crate::Error::MalformedRequest) when it is none, or holds more of
    /// something than a request has.
    pub fn read(message: Bytes) -> Result<Self> {
        check(&message, REQUEST)?;
        match Self::decode(message) {
            Ok(request) => Ok(request),
            Err(error) => no_message(&error),
        }
    }
}

fn no_message<T>(error: &dyn std::fmt::Display) -> Result<T> {
    malformed(format_args!("the message: {}", Excerpt(error)))
}

fn check(mut message: &[u8], fields: &[Field]) -> Result<()> {
    let mut counts = [0_usize; 8];
    while message.has_remaining() {
        let (number, wire_type) = match decode_key(&mut message) {
            Ok(key) => key,
            Err(error) => return no_message(&error),
        };
        let Some(content) = content(&mut message, wire_type) else {
            return no_message(&"it ends within a field, or has a group");
        };
        let Some(at) = fields.iter().position(|field| field.number == number) else {
            continue;
        };
        let field = &fields[at];
        counts[at] += 1;
        if counts[at] > field.max || content.len() > field.max_bytes {
            return malformed(format_args!(
                "`{}` has more than {} elements",
                field.name, field.max
            ));
        }
        // Whatever else it holds is no message, or is bounded as a whole.
        if !field.within.is_empty() {
            check(content, field.within)?;
        }
    }
    Ok(())
}

/// The bytes of a field, if they are there.
fn content<'a>(message: &mut &'a [u8], wire_type: WireType) -> Option<&'a [u8]> {
    let length = match wire_type {
        WireType::Varint => {
            decode_varint(message).ok()?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(message).ok()?).ok()?,
        // Nobody writes groups any more.
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (content, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oip::proto::{InferTensor, InferTensorContents};

    fn refusal(message: Vec<u8>) -> String {
        let error = ModelInferRequest::read(message.into()).unwrap_err();
        assert_eq!(error.code(), "malformed_request");
        error.to_string()
    }

    #[test]
    fn two_bytes_that_would_become_hundreds_are_counted_first() {
        // Fields 5, 6 and 7 of a request, each empty.
        for (tag, name) in [(5, "inputs"), (6, "outputs"), (7, "raw_input_contents")] {
            let message = [(tag << 3) | 2, 0].repeat(1_000_000);
            assert!(refusal(message).contains(name), "{name}");
        }
        let tensor = |contents, shape| InferTensor {
            contents,
            shape,
            ..InferTensor::default()
        };
        let request = |tensor| ModelInferRequest {
            inputs: vec![tensor],
            ..ModelInferRequest::default()
        };
        let bytes = vec![Bytes::new(); MAX_ELEMENTS + 1];
        let contents = InferTensorContents {
            bytes,
            ..InferTensorContents::default()
        };
        let deep = request(tensor(Some(contents), vec![])).encode_to_vec();
        assert!(refusal(deep).contains("bytes_contents"));
        let long = request(tensor(None, vec![1; 1000])).encode_to_vec();
        assert!(refusal(long).contains("shape"));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for message in [
            &b"\xff"[..],
            b"\x0a\xff\xff\xff\xff\x0f",
            b"\x2b",
            b"\x0a\x01\xff",
        ] {
            refusal(message.to_vec());
        }
    }

    #[test]
    fn raw_tensors_are_slices_of_the_message() {
        let request = ModelInferRequest {
            model_name: "vit".to_owned(),
            inputs: vec![InferTensor::default()],
            raw_input_contents: vec![Bytes::from_static(&[7; 4096])],
            ..ModelInferRequest::default()
        };
        let message = Bytes::from(request.encode_to_vec());
        let read = ModelInferRequest::read(message.clone()).unwrap();
        assert_eq!(read, request);
        let raw = &read.raw_input_contents[0];
        assert!(message.as_ptr_range().contains(&raw.as_ptr()));
    }
}
