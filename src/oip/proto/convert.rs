//! Between the messages of gRPC and what they mean.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use patchlight_escape::Excerpt;

use super::{
    DataType, DynamicBatching, Format, InferBatchStatistics, InferParameter, InferStatistics,
    InferTensor, InputConfig, Latest, ModelConfig, ModelInferRequest, ModelInferResponse,
    ModelMetadataResponse, ModelStatistics, OutputConfig, Parameter, StatisticDuration,
    TensorMetadata, VersionPolicy,
};
use crate::{
    Result,
    oip::{
        Data, Datatype, InferRequest, InferResponse, Input, RequestedOutput, Tensor, Values,
        metadata,
        request::{MAX_DIMENSIONS, MAX_TENSORS, check_id, malformed},
        statistics,
    },
};

impl ModelInferRequest {
    /// The request behind the message.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`](crate::Error::MalformedRequest) for a message that contradicts
    /// itself or is beyond the bounds of a request.
    pub fn into_request(self) -> Result<InferRequest> {
        check_id(&self.id)?;
        if self.inputs.len().max(self.outputs.len()) > MAX_TENSORS {
            return malformed(format_args!(
                "a request has at most {MAX_TENSORS} inputs and outputs"
            ));
        }
        let raw = self.raw_input_contents;
        if !raw.is_empty() && raw.len() != self.inputs.len() {
            return malformed(format_args!(
                "raw_input_contents has {} elements for {} inputs; it has one for each, or none",
                raw.len(),
                self.inputs.len()
            ));
        }
        let mut raw = raw.into_iter();
        let inputs = self.inputs.into_iter();
        let inputs: Result<_> = inputs.map(|tensor| input(tensor, raw.next())).collect();
        let outputs = self.outputs.into_iter();
        let outputs = outputs.map(|output| {
            let classification = number(&output.parameters, "classification")?;
            Ok(RequestedOutput {
                // In this protocol everything is binary.
                binary: Some(true),
                classification: classification
                    .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
                name: output.name,
            })
        });
        let outputs: Vec<RequestedOutput> = outputs.collect::<Result<_>>()?;
        Ok(InferRequest {
            id: Some(self.id).filter(|id| !id.is_empty()),
            // Triton's clients send 0 for none.
            timeout: number(&self.parameters, "timeout")?
                .filter(|&microseconds| microseconds > 0)
                .map(Duration::from_micros),
            inputs: inputs?,
            outputs: Some(outputs).filter(|outputs| !outputs.is_empty()),
            binary_output: true,
        })
    }
}

fn input(tensor: InferTensor, raw: Option<Bytes>) -> Result<Input> {
    let name = tensor.name;
    if tensor.shape.len() > MAX_DIMENSIONS {
        return malformed(format_args!(
            "input `{}` has {} dimensions, it may have {MAX_DIMENSIONS} at most",
            Excerpt(&name),
            tensor.shape.len()
        ));
    }
    let shape = tensor.shape.iter();
    let Ok(shape) = shape.map(|&length| u64::try_from(length)).collect() else {
        return malformed(format_args!(
            "input `{}`: its shape is {:?}, and no length is negative",
            Excerpt(&name),
            tensor.shape
        ));
    };
    let data = match (raw, tensor.contents) {
        (Some(_), Some(_)) => {
            return malformed(format_args!(
                "input `{}` has contents beside raw_input_contents",
                Excerpt(&name)
            ));
        }
        (Some(raw), None) => Data::Binary(raw),
        (None, Some(contents)) if tensor.datatype == Datatype::Bytes.name() => {
            Data::Elements(contents.bytes)
        }
        (None, Some(contents)) => Data::Fp32(contents.fp32),
        (None, None) => {
            return malformed(format_args!(
                "input `{}` has neither contents nor raw_input_contents",
                Excerpt(&name)
            ));
        }
    };
    Ok(Input {
        name,
        datatype: tensor.datatype,
        shape,
        data,
    })
}

/// A parameter that is a number from 0 on, if it is there.
fn number(parameters: &HashMap<String, InferParameter>, name: &str) -> Result<Option<u64>> {
    let Some(parameter) = parameters.get(name) else {
        return Ok(None);
    };
    let number = match &parameter.value {
        Some(Parameter::Int64(number)) => u64::try_from(*number).ok(),
        Some(Parameter::Uint64(number)) => Some(*number),
        _ => None,
    };
    match number {
        Some(number) => Ok(Some(number)),
        None => malformed(format_args!(
            "parameter `{name}` must be a whole number from 0 on"
        )),
    }
}

impl From<InferResponse> for ModelInferResponse {
    fn from(response: InferResponse) -> Self {
        let raw = response.outputs.iter().map(|tensor| {
            let mut bytes = Vec::new();
            tensor.values.write(&mut bytes);
            Bytes::from(bytes)
        });
        Self {
            raw_output_contents: raw.collect(),
            model_name: response.model_name,
            model_version: response.model_version.to_owned(),
            id: response.id.unwrap_or_default(),
            outputs: response.outputs.iter().map(described).collect(),
        }
    }
}

/// A tensor whose values are elsewhere.
fn described(tensor: &Tensor) -> InferTensor {
    InferTensor {
        name: tensor.name.to_owned(),
        datatype: match tensor.values {
            Values::Fp32(_) => "FP32".to_owned(),
            Values::Bytes(_) => "BYTES".to_owned(),
        },
        // No tensor has 2⁶³ elements in a row.
        shape: tensor.shape.iter().map(|&length| length as i64).collect(),
        parameters: HashMap::new(),
        contents: None,
    }
}

impl From<metadata::ModelMetadata> for ModelMetadataResponse {
    fn from(model: metadata::ModelMetadata) -> Self {
        let tensors = |tensors: Vec<metadata::TensorMetadata>| {
            let tensors = tensors.into_iter();
            let tensors = tensors.map(|tensor| TensorMetadata {
                name: tensor.name,
                datatype: tensor.datatype.name().to_owned(),
                shape: tensor.shape,
            });
            tensors.collect()
        };
        Self {
            name: model.name,
            versions: model.versions.into_iter().map(str::to_owned).collect(),
            platform: model.platform.to_owned(),
            inputs: tensors(model.inputs),
            outputs: tensors(model.outputs),
        }
    }
}

impl From<metadata::ModelConfig> for ModelConfig {
    fn from(model: metadata::ModelConfig) -> Self {
        let input = model.input.into_iter().map(|input| InputConfig {
            name: input.name,
            data_type: data_type(input.data_type),
            format: match input.format {
                metadata::Layout::Planes => Format::Nchw.into(),
                metadata::Layout::None => Format::None.into(),
            },
            dims: input.dims,
        });
        let output = model.output.into_iter().map(|output| OutputConfig {
            name: output.name.to_owned(),
            data_type: data_type(output.data_type),
            dims: output.dims,
            label_filename: output.label_filename.to_owned(),
        });
        let batching = model.dynamic_batching;
        let preferred = batching.preferred_batch_size.into_iter();
        Self {
            name: model.name,
            platform: model.platform.to_owned(),
            version_policy: Some(VersionPolicy {
                latest: Some(Latest {
                    num_versions: model.version_policy.latest.num_versions,
                }),
            }),
            max_batch_size: i32::try_from(model.max_batch_size).unwrap_or(i32::MAX),
            input: input.collect(),
            output: output.collect(),
            dynamic_batching: Some(DynamicBatching {
                preferred_batch_size: preferred
                    .map(|size| i32::try_from(size).unwrap_or(i32::MAX))
                    .collect(),
                max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
            }),
            backend: model.backend.to_owned(),
        }
    }
}

fn data_type(data_type: metadata::DataType) -> i32 {
    match data_type {
        metadata::DataType::Fp32 => DataType::Fp32.into(),
        metadata::DataType::Text => DataType::Text.into(),
    }
}

impl From<statistics::Described> for ModelStatistics {
    fn from(described: statistics::Described) -> Self {
        let stats = described.inference_stats;
        let batches = described.batch_stats.into_iter();
        let batches = batches.map(|batch| InferBatchStatistics {
            batch_size: batch.batch_size as u64,
            compute_input: duration(batch.compute_input),
            compute_infer: duration(batch.compute_infer),
            compute_output: duration(batch.compute_output),
        });
        Self {
            name: described.name,
            version: described.version.to_owned(),
            last_inference: described.last_inference,
            inference_count: described.inference_count,
            execution_count: described.execution_count,
            inference_stats: Some(InferStatistics {
                success: duration(stats.success),
                fail: duration(stats.fail),
                queue: duration(stats.queue),
                compute_input: duration(stats.compute_input),
                compute_infer: duration(stats.compute_infer),
                compute_output: duration(stats.compute_output),
                cache_hit: duration(stats.cache_hit),
                cache_miss: duration(stats.cache_miss),
            }),
            batch_stats: batches.collect(),
        }
    }
}

fn duration(count: statistics::Count) -> Option<StatisticDuration> {
    Some(StatisticDuration {
        count: count.count,
        ns: count.ns,
    })
}

#[cfg(test)]
mod tests;
