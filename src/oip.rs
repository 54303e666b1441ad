//! The Open Inference Protocol, version 2: its frames and what they mean, apart from HTTP and gRPC.
//!
//! ```text
//!  body ─► request::decode ─► InferRequest ─► tensors of the model ─► InferResponse::encode ─► body
//!          JSON and the binary   names, shapes,                          JSON, or JSON followed
//!          tensors behind it     where the data lies                     by binary tensors
//! ```
//!
//! Over gRPC the same comes as protobuf ([`proto`]).
//!
//! Sources: the protocol's REST specification (`kserve/open-inference-protocol`) and Triton's
//! extensions for binary tensors, classification and statistics. Everything here is pure: bytes
//! and clock readings in, values out.

pub mod bound;
pub mod data;
pub mod metadata;
mod parsed_request;
pub mod proto;
pub mod request;
pub mod response;
pub mod statistics;
mod target;
pub mod variant;

use serde::Serialize;
use utoipa::ToSchema;

pub use self::{
    metadata::{ModelConfig, ModelMetadata},
    parsed_request::{OutputSpec, ParsedInferRequest},
    request::{Data, InferRequest, Input, RequestedOutput},
    response::{EncodedResponse, InferResponse, Tensor, Values},
    statistics::{ModelStatistics, RowStats},
    target::Target,
    variant::ModelVariant,
};

/// The only version of every model: a model that is replaced keeps its name and number.
pub const VERSION: &str = "1";

/// What of the protocol's extensions is spoken here, by Triton's names.
pub const EXTENSIONS: [&str; 5] = [
    "classification",
    "model_repository",
    "model_configuration",
    "statistics",
    "binary_tensor_data",
];

/// A type of tensors that models here take and give, by the protocol's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// 32-bit floating point.
    Fp32,
    /// Strings of bytes.
    Bytes,
}

impl Datatype {
    /// As the protocol writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Bytes => "BYTES",
        }
    }
}
