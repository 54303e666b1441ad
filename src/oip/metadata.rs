//! What a model says of itself: its tensors, and the same in the words of Triton's configuration.

use patchlight_model::ModelInfo;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Datatype, ModelVariant, VERSION, variant::LOGITS};

const PLATFORM: &str = "onnxruntime_onnx";

/// A length of a dimension that requests choose.
const ANY: i64 = -1;

/// A model's tensors.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelMetadata {
    /// As the client called it.
    pub(super) name: String,
    /// There is one: a model that is replaced keeps its number.
    pub(super) versions: Vec<&'static str>,
    /// What runs it, by Triton's name.
    pub(super) platform: &'static str,
    pub(super) inputs: Vec<TensorMetadata>,
    pub(super) outputs: Vec<TensorMetadata>,
}

/// A tensor of a model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TensorMetadata {
    pub(super) name: String,
    pub(super) datatype: Datatype,
    /// Lengths of its dimensions; -1 is what the request chooses.
    pub(super) shape: Vec<i64>,
}

/// A model in the words of Triton's model configuration.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelConfig {
    /// As the client called it.
    pub(super) name: String,
    pub(super) platform: &'static str,
    pub(super) backend: &'static str,
    pub(super) version_policy: VersionPolicy,
    /// The most rows of a request; 0 for a model whose input has no dimension besides.
    pub(super) max_batch_size: usize,
    pub(super) input: Vec<InputConfig>,
    pub(super) output: Vec<OutputConfig>,
    pub(super) dynamic_batching: DynamicBatching,
}

/// Which versions are served.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct VersionPolicy {
    pub(super) latest: Latest,
}

/// The newest so many.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Latest {
    pub(super) num_versions: u32,
}

/// An input in the words of Triton's model configuration.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct InputConfig {
    pub(super) name: String,
    #[schema(inline)]
    pub(super) data_type: DataType,
    #[schema(inline)]
    pub(super) format: Layout,
    /// Lengths of its dimensions without the batch's.
    pub(super) dims: Vec<i64>,
}

/// An output in the words of Triton's model configuration.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OutputConfig {
    pub(super) name: &'static str,
    #[schema(inline)]
    pub(super) data_type: DataType,
    /// Lengths of its dimensions without the batch's.
    pub(super) dims: Vec<i64>,
    /// Not empty where values are classes.
    pub(super) label_filename: &'static str,
}

/// How requests share batches.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct DynamicBatching {
    /// None: a batch is what is waiting.
    pub(super) preferred_batch_size: Vec<u32>,
    pub(super) max_queue_delay_microseconds: u64,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) enum DataType {
    #[serde(rename = "TYPE_FP32")]
    Fp32,
    #[serde(rename = "TYPE_STRING")]
    Text,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) enum Layout {
    #[serde(rename = "FORMAT_NCHW")]
    Planes,
    #[serde(rename = "FORMAT_NONE")]
    None,
}

impl ModelMetadata {
    /// The answer of `GET /v2/models/{name}`.
    pub fn new(variant: ModelVariant, name: &str, model: &ModelInfo) -> Self {
        let manifest = &model.manifest;
        let tensor = |name: &str, datatype: Datatype, shape: Vec<usize>| TensorMetadata {
            name: name.to_owned(),
            datatype,
            shape: [ANY].into_iter().chain(lengths(shape)).collect(),
        };
        let outputs = variant.outputs().iter();
        let outputs = outputs
            .map(|name| {
                tensor(
                    name,
                    Datatype::Fp32,
                    ModelVariant::output_shape(manifest, name),
                )
            })
            .collect();
        let input = variant.input_shape(model);
        Self {
            name: variant.name(name),
            versions: vec![VERSION],
            platform: PLATFORM,
            inputs: vec![tensor(variant.input(manifest), variant.datatype(), input)],
            outputs,
        }
    }
}

impl ModelConfig {
    /// The answer of `GET /v2/models/{name}/config`. `max_rows` is how many rows a request may
    /// have.
    ///
    /// Encoded images have no dimension besides their number, which Triton's configuration can
    /// only say of a model without a batch dimension.
    pub fn new(variant: ModelVariant, name: &str, model: &ModelInfo, max_rows: usize) -> Self {
        let manifest = &model.manifest;
        let batched = variant != ModelVariant::Image;
        let dims = |shape: Vec<usize>| -> Vec<i64> {
            let first = (!batched).then_some(ANY);
            first.into_iter().chain(lengths(shape)).collect()
        };
        let (data_type, format) = match batched {
            true => (DataType::Fp32, Layout::Planes),
            false => (DataType::Text, Layout::None),
        };
        let outputs = variant.outputs().iter();
        let output = outputs
            .map(|&name| OutputConfig {
                name,
                data_type: DataType::Fp32,
                dims: dims(ModelVariant::output_shape(manifest, name)),
                label_filename: match name {
                    LOGITS => "labels.txt",
                    _ => "",
                },
            })
            .collect();
        Self {
            name: variant.name(name),
            platform: PLATFORM,
            backend: "onnxruntime",
            version_policy: VersionPolicy {
                latest: Latest { num_versions: 1 },
            },
            max_batch_size: if batched { max_rows } else { 0 },
            input: vec![InputConfig {
                name: variant.input(manifest).to_owned(),
                data_type,
                format,
                dims: dims(variant.input_shape(model)),
            }],
            output,
            dynamic_batching: DynamicBatching {
                preferred_batch_size: Vec::new(),
                max_queue_delay_microseconds: 0,
            },
        }
    }
}

/// Lengths as the protocol writes them. None comes near 2⁶³.
fn lengths(shape: Vec<usize>) -> impl Iterator<Item = i64> {
    let lengths = shape.into_iter();
    lengths.map(|length| i64::try_from(length).unwrap_or(i64::MAX))
}
