//! From output tensors to the body of an inference response.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::Datatype;

/// What a model made of the rows of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InferResponse {
    /// As the client called it.
    pub model_name: String,
    /// The version that answered.
    pub model_version: &'static str,
    /// The request's id.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the order that was asked for.
    #[schema(value_type = Vec<Written<'_>>)]
    pub outputs: Vec<Tensor>,
}

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: &'static str,
    /// Lengths of its dimensions.
    pub shape: Vec<usize>,
    /// As many as the product of the shape, row-major; floats are finite.
    pub values: Values,
    /// Whether they go behind the JSON instead of into it.
    pub binary: bool,
}

/// The values of an output, row-major.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Values {
    /// `FP32`.
    Fp32(Vec<f32>),
    /// `BYTES`, all of it text.
    Bytes(Vec<String>),
}

/// A response's bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EncodedResponse {
    /// JSON, and behind it the binary tensors in the order of the outputs.
    pub body: Vec<u8>,
    /// How many bytes are JSON, if tensors follow.
    pub json_length: Option<usize>,
}

impl InferResponse {
    /// The response as bytes.
    ///
    /// # Errors
    /// None that finite numbers and text could cause.
    pub fn encode(&self) -> serde_json::Result<EncodedResponse> {
        let mut body = serde_json::to_vec(self)?;
        if !self.outputs.iter().any(|output| output.binary) {
            return Ok(EncodedResponse {
                body,
                json_length: None,
            });
        }
        let json_length = body.len();
        for output in self.outputs.iter().filter(|output| output.binary) {
            output.values.write(&mut body);
        }
        Ok(EncodedResponse {
            body,
            json_length: Some(json_length),
        })
    }
}

impl Values {
    fn datatype(&self) -> Datatype {
        match self {
            Self::Fp32(_) => Datatype::Fp32,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// Bytes of the binary form.
    fn size(&self) -> usize {
        match self {
            Self::Fp32(values) => 4 * values.len(),
            Self::Bytes(texts) => texts.iter().map(|text| 4 + text.len()).sum(),
        }
    }

    pub(super) fn write(&self, body: &mut Vec<u8>) {
        body.reserve(self.size());
        match self {
            Self::Fp32(values) => body.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Bytes(texts) => {
                for text in texts {
                    // Labels are lines of a file; none has 4 GiB.
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    body.extend(length.to_le_bytes());
                    body.extend(text.as_bytes());
                }
            }
        }
    }
}

/// An output as it stands in the JSON.
#[derive(Serialize, ToSchema)]
#[schema(as = InferOutput)]
struct Written<'a> {
    name: &'a str,
    datatype: Datatype,
    /// Lengths of its dimensions.
    shape: &'a [usize],
    /// Of a tensor that follows the JSON.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    /// The values of any other, row-major.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Values>,
}

/// How long a tensor is that follows the JSON.
#[derive(Serialize, ToSchema)]
struct BinarySize {
    /// Bytes.
    binary_data_size: usize,
}

impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let to_response = Written {
            name: self.name,
            datatype: self.values.datatype(),
            shape: &self.shape,
            parameters: self.binary.then(|| BinarySize {
                binary_data_size: self.values.size(),
            }),
            data: (!self.binary).then_some(&self.values),
        };
        to_response.serialize(serializer)
    }
}

/// The classification extension: an output's best `count` classes of every row as
/// `value:index:label`, best first, ties by index. `ranking` gives the order of a row.
pub fn classification<'a>(
    name: &'static str,
    rows: &[Vec<f32>],
    count: usize,
    ranking: impl Fn(&[f32], usize) -> Vec<usize>,
    label: impl Fn(usize) -> &'a str,
    binary: bool,
) -> Tensor {
    let count = count.min(rows.first().map_or(0, Vec::len));
    let texts = rows.iter().flat_map(|row| {
        let best = ranking(row, count);
        let text = |class: usize| format!("{:.6}:{class}:{}", row[class], label(class));
        best.into_iter().map(text).collect::<Vec<String>>()
    });
    Tensor {
        name,
        shape: vec![rows.len(), count],
        values: Values::Bytes(texts.collect()),
        binary,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn response(outputs: Vec<Tensor>) -> InferResponse {
        InferResponse {
            model_name: "vit".to_owned(),
            model_version: "1",
            id: Some("a-7".to_owned()),
            outputs,
        }
    }

    fn numbers(name: &'static str, binary: bool) -> Tensor {
        Tensor {
            name,
            shape: vec![1, 2],
            values: Values::Fp32(vec![1.0, -0.5]),
            binary,
        }
    }

    #[test]
    fn json_alone_needs_no_header() {
        let encoded = response(vec![numbers("logits", false)]).encode().unwrap();
        assert_eq!(encoded.json_length, None);
        let read: Value = serde_json::from_slice(&encoded.body).unwrap();
        assert_eq!(
            read,
            json!({"model_name": "vit", "model_version": "1", "id": "a-7", "outputs": [
                {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [1.0, -0.5]}]})
        );
    }

    #[test]
    fn binary_tensors_follow_the_json_in_the_order_of_the_outputs() {
        let texts = Tensor {
            name: "logits",
            shape: vec![1, 1],
            values: Values::Bytes(vec!["é".to_owned()]),
            binary: true,
        };
        let outputs = vec![texts, numbers("seen", false), numbers("rollout", true)];
        let encoded = response(outputs).encode().unwrap();
        let (json, binary) = encoded.body.split_at(encoded.json_length.unwrap());
        // A length in 32 bits and two bytes of UTF-8; then 1.0 and -0.5 in IEEE 754.
        assert_eq!(
            binary,
            [2, 0, 0, 0, 0xc3, 0xa9, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf]
        );
        let read: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(read["outputs"][0]["parameters"]["binary_data_size"], 6);
        assert_eq!(read["outputs"][1]["data"], json!([1.0, -0.5]));
        assert_eq!(read["outputs"][2]["parameters"]["binary_data_size"], 8);
    }

    #[test]
    fn a_class_is_its_value_index_and_label() {
        let order = |row: &[f32], count: usize| {
            let mut ids: Vec<usize> = (0..row.len()).collect();
            ids.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            ids.truncate(count);
            ids
        };
        let rows = [vec![0.25, 8.5, -1.0], vec![2.0, 1.0, 0.0]];
        let label = |class: usize| ["cat", "dog", "a:b"][class];
        let tensor = classification("logits", &rows, 2, order, label, false);
        assert_eq!(tensor.shape, [2, 2]);
        let texts = [
            "8.500000:1:dog",
            "0.250000:0:cat",
            "2.000000:0:cat",
            "1.000000:1:dog",
        ];
        let texts = texts.map(str::to_owned).to_vec();
        assert_eq!(tensor.values, Values::Bytes(texts));
        let all = classification("logits", &rows, 9, order, label, false);
        assert_eq!(all.shape, [2, 3]);
    }
}
