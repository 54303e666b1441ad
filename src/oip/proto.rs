//! The messages of `inference.GRPCInferenceService` as hand-written protobuf messages.
//!
//! Names and numbers are those of KServe's `open_inference_grpc.proto` and Triton's
//! `grpc_service.proto` and `model_config.proto`, which agree where they overlap; what neither this
//! server nor its clients need of them is left out, and protobuf skips it. `proto/inference.proto`
//! says the same for clients that ask by reflection, and a test compares the two.

mod bounds;
mod convert;
pub mod descriptors;

use std::collections::HashMap;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// The service's full name.
pub const SERVICE: &str = "inference.GRPCInferenceService";

/// A message without fields.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// The process answers.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ServerLiveResponse {
    /// It does.
    #[prost(bool, tag = "1")]
    pub live: bool,
}

/// Whether new work should be sent to the server, or to a model.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReadyResponse {
    /// Yes or no.
    #[prost(bool, tag = "1")]
    pub ready: bool,
}

/// Which model is meant: of `ModelReady`, `ModelMetadata`, `ModelConfig` and `ModelStatistics`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ModelRequest {
    /// As the client calls it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Any, if empty.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServerMetadataResponse {
    /// The program.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// What of the protocol's extensions is spoken, by Triton's names.
    #[prost(string, repeated, tag = "3")]
    pub extensions: Vec<String>,
}

/// A model's tensors.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ModelMetadataResponse {
    /// As the client called it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Those that can be asked.
    #[prost(string, repeated, tag = "2")]
    pub versions: Vec<String>,
    /// What runs it, by Triton's name.
    #[prost(string, tag = "3")]
    pub platform: String,
    /// What it takes.
    #[prost(message, repeated, tag = "4")]
    pub inputs: Vec<TensorMetadata>,
    /// What it gives.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<TensorMetadata>,
}

/// A tensor of a model.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TensorMetadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type, by the protocol's name.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Lengths of its dimensions; -1 is what the request chooses.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}

/// A value of a parameter.
#[derive(Clone, PartialEq, Message)]
pub struct InferParameter {
    /// In one of several types.
    #[prost(oneof = "Parameter", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Parameter>,
}

/// The types of parameters.
#[derive(Clone, PartialEq, Oneof)]
pub enum Parameter {
    /// True or false.
    #[prost(bool, tag = "1")]
    Bool(bool),
    /// A number.
    #[prost(int64, tag = "2")]
    Int64(i64),
    /// A text.
    #[prost(string, tag = "3")]
    Text(String),
    /// A number that need not be whole.
    #[prost(double, tag = "4")]
    Double(f64),
    /// A number of Triton's newer clients.
    #[prost(uint64, tag = "5")]
    Uint64(u64),
}

/// Values of a tensor by their type. Models here take and give two of the types.
#[derive(Clone, PartialEq, Message)]
pub struct InferTensorContents {
    /// Of `FP32`.
    #[prost(float, repeated, tag = "6")]
    pub fp32: Vec<f32>,
    /// Of `BYTES`.
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub bytes: Vec<Bytes>,
}

/// An inference request.
#[derive(Clone, PartialEq, Message)]
pub struct ModelInferRequest {
    /// As the client calls the model.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// Any, if empty.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// The client's own name for the request.
    #[prost(string, tag = "3")]
    pub id: String,
    /// How it is to be answered.
    #[prost(map = "string, message", tag = "4")]
    pub parameters: HashMap<String, InferParameter>,
    /// In any order.
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<InferTensor>,
    /// What is wanted, in this order; everything, if empty.
    #[prost(message, repeated, tag = "6")]
    pub outputs: Vec<RequestedOutputTensor>,
    /// The values of the inputs in their order, little-endian; or none, and they have `contents`.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub raw_input_contents: Vec<Bytes>,
}

/// A tensor that goes in or comes out.
#[derive(Clone, PartialEq, Message)]
pub struct InferTensor {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type, by the protocol's name.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Lengths of its dimensions.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
    /// None that are read here.
    #[prost(map = "string, message", tag = "4")]
    pub parameters: HashMap<String, InferParameter>,
    /// Its values, unless they are raw.
    #[prost(message, optional, tag = "5")]
    pub contents: Option<InferTensorContents>,
}

/// An output that is wanted.
#[derive(Clone, PartialEq, Message)]
pub struct RequestedOutputTensor {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// In which form: `classification`.
    #[prost(map = "string, message", tag = "2")]
    pub parameters: HashMap<String, InferParameter>,
}

/// What a model made of a request.
#[derive(Clone, PartialEq, Message)]
pub struct ModelInferResponse {
    /// As the client called it.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// The version that answered.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// The request's id.
    #[prost(string, tag = "3")]
    pub id: String,
    /// In the order that was asked for.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<InferTensor>,
    /// The values of the outputs in their order, little-endian.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub raw_output_contents: Vec<Bytes>,
}

/// One answer of a stream.
#[derive(Clone, PartialEq, Message)]
pub struct ModelStreamInferResponse {
    /// What went wrong; empty if nothing did.
    #[prost(string, tag = "1")]
    pub error_message: String,
    /// The answer; with an error only the request's id.
    #[prost(message, optional, tag = "2")]
    pub infer_response: Option<ModelInferResponse>,
}

/// A model in the words of Triton's configuration.
#[derive(Clone, PartialEq, Message)]
pub struct ModelConfigResponse {
    /// The configuration.
    #[prost(message, optional, tag = "1")]
    pub config: Option<ModelConfig>,
}

/// Triton's model configuration, as far as it says anything here.
#[derive(Clone, PartialEq, Message)]
pub struct ModelConfig {
    /// As the client called it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What runs it.
    #[prost(string, tag = "2")]
    pub platform: String,
    /// Which versions are served.
    #[prost(message, optional, tag = "3")]
    pub version_policy: Option<VersionPolicy>,
    /// The most rows of a request; 0 for a model whose input has no dimension besides.
    #[prost(int32, tag = "4")]
    pub max_batch_size: i32,
    /// What it takes.
    #[prost(message, repeated, tag = "5")]
    pub input: Vec<InputConfig>,
    /// What it gives.
    #[prost(message, repeated, tag = "6")]
    pub output: Vec<OutputConfig>,
    /// How requests share batches.
    #[prost(message, optional, tag = "11")]
    pub dynamic_batching: Option<DynamicBatching>,
    /// What runs it, by its newer name.
    #[prost(string, tag = "17")]
    pub backend: String,
}

/// Which versions are served.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct VersionPolicy {
    /// The newest ones.
    #[prost(message, optional, tag = "1")]
    pub latest: Option<Latest>,
}

/// The newest versions.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Latest {
    /// So many.
    #[prost(uint32, tag = "1")]
    pub num_versions: u32,
}

/// An input in Triton's configuration.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InputConfig {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    /// In which order an image's dimensions are.
    #[prost(enumeration = "Format", tag = "3")]
    pub format: i32,
    /// Lengths of its dimensions without the batch's.
    #[prost(int64, repeated, tag = "4")]
    pub dims: Vec<i64>,
}

/// An output in Triton's configuration.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OutputConfig {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(enumeration = "DataType", tag = "2")]
    pub data_type: i32,
    /// Lengths of its dimensions without the batch's.
    #[prost(int64, repeated, tag = "3")]
    pub dims: Vec<i64>,
    /// Not empty where values are classes.
    #[prost(string, tag = "4")]
    pub label_filename: String,
}

/// Triton's names of the types that models here have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// None.
    Invalid = 0,
    /// Floats of 32 bits.
    Fp32 = 11,
    /// Strings of bytes.
    Text = 13,
}

/// Triton's names of the orders of an image's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Format {
    /// No image.
    None = 0,
    /// Plane by plane.
    Nchw = 2,
}

/// How requests share batches.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DynamicBatching {
    /// None: a batch is what is waiting.
    #[prost(int32, repeated, tag = "1")]
    pub preferred_batch_size: Vec<i32>,
    /// Nothing waits for company.
    #[prost(uint64, tag = "2")]
    pub max_queue_delay_microseconds: u64,
}

/// What names of models have done since the program started.
#[derive(Clone, PartialEq, Message)]
pub struct ModelStatisticsResponse {
    /// Name by name.
    #[prost(message, repeated, tag = "1")]
    pub model_stats: Vec<ModelStatistics>,
}

/// What one name has done.
#[derive(Clone, PartialEq, Message)]
pub struct ModelStatistics {
    /// As clients call it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Milliseconds since 1970; 0 before the first.
    #[prost(uint64, tag = "3")]
    pub last_inference: u64,
    /// Rows that were run.
    #[prost(uint64, tag = "4")]
    pub inference_count: u64,
    /// Batches in which they ran.
    #[prost(uint64, tag = "5")]
    pub execution_count: u64,
    /// How requests went.
    #[prost(message, optional, tag = "6")]
    pub inference_stats: Option<InferStatistics>,
    /// How batches of each size went.
    #[prost(message, repeated, tag = "7")]
    pub batch_stats: Vec<InferBatchStatistics>,
}

/// How many times something happened and how long that took together.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StatisticDuration {
    /// Times.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "2")]
    pub ns: u64,
}

/// How requests went.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct InferStatistics {
    /// Those that were answered.
    #[prost(message, optional, tag = "1")]
    pub success: Option<StatisticDuration>,
    /// Those that were refused or failed.
    #[prost(message, optional, tag = "2")]
    pub fail: Option<StatisticDuration>,
    /// Waiting for a batch.
    #[prost(message, optional, tag = "3")]
    pub queue: Option<StatisticDuration>,
    /// Reading tensors, and decoding images.
    #[prost(message, optional, tag = "4")]
    pub compute_input: Option<StatisticDuration>,
    /// The runs of batches.
    #[prost(message, optional, tag = "5")]
    pub compute_infer: Option<StatisticDuration>,
    /// Writing outputs.
    #[prost(message, optional, tag = "6")]
    pub compute_output: Option<StatisticDuration>,
    /// Nothing is cached.
    #[prost(message, optional, tag = "7")]
    pub cache_hit: Option<StatisticDuration>,
    /// As above.
    #[prost(message, optional, tag = "8")]
    pub cache_miss: Option<StatisticDuration>,
}

/// How batches of one size went.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct InferBatchStatistics {
    /// The size.
    #[prost(uint64, tag = "1")]
    pub batch_size: u64,
    /// Reading tensors, and decoding images.
    #[prost(message, optional, tag = "2")]
    pub compute_input: Option<StatisticDuration>,
    /// Their runs.
    #[prost(message, optional, tag = "3")]
    pub compute_infer: Option<StatisticDuration>,
    /// Writing outputs.
    #[prost(message, optional, tag = "4")]
    pub compute_output: Option<StatisticDuration>,
}

/// Every name that can be asked.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RepositoryIndexResponse {
    /// Model by model.
    #[prost(message, repeated, tag = "1")]
    pub models: Vec<ModelIndex>,
}

/// A name that can be asked.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ModelIndex {
    /// As clients call it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// `READY`: what is not ready is not listed.
    #[prost(string, tag = "3")]
    pub state: String,
    /// Why it is not ready; empty.
    #[prost(string, tag = "4")]
    pub reason: String,
}
