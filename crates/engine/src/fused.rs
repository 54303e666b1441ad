//! A CUDA session with the fused graph, and with kernels of our own where the card takes them.

use std::{sync::Arc, thread, time::Instant};

use ort::session::builder::SessionBuilder;
use patchlight_imaging::preprocess::Normalize;
use patchlight_kernels::{
    cuda::{ComputeStream, CudaKernels, Network},
    reference::AttentionShape,
};
use patchlight_model::manifest::{Manifest, Precision};
use patchlight_onnx::vit::fused::{PixelNormalization, fuse};
use prost::Message;

use super::{
    Device, EngineError, Kernels, SessionOptions, device,
    graph_file::{self, EXTERNAL_DATA_FOLDER},
    opened::Opened,
};

/// Opens the graph in its fused form, or as it is where it has none.
pub(super) fn open(
    builder: SessionBuilder,
    options: &SessionOptions,
    manifest: &Manifest,
    card: u32,
) -> Result<Opened, EngineError> {
    let fused = match manifest.graph.precision {
        Precision::Fp16 => graph_file::read(&options.graph).and_then(|model| {
            fuse(
                model,
                &graph_file::shape(manifest)?,
                &normalization(manifest),
            )
        }),
        Precision::Fp32 | Precision::Bf16 | Precision::Int8 => {
            Err("it is not in float16".to_owned())
        }
    };
    let fused = match fused {
        Ok(fused) => fused,
        Err(reason) => {
            tracing::info!("the graph stays as it is, because {reason}");
            let mut builder = Device::Cuda(card).add_to(builder, manifest.graph.precision)?;
            return Ok(Opened::alone(builder.commit_from_file(&options.graph)?));
        }
    };
    let network = Network {
        attention: AttentionShape {
            tokens: manifest.tokens.total(),
            heads: manifest.architecture.heads,
            head_size: manifest.architecture.hidden / manifest.architecture.heads,
        },
        layers: manifest.architecture.layers,
        read: fused.read,
        directions: fused.directions,
    };
    // Writing half a gigabyte of graph takes as long as compiling kernels.
    let (kernels, graph) = thread::scope(|scope| {
        let compiling = match options.kernels {
            Kernels::Stock => None,
            Kernels::Auto => Some(scope.spawn(|| compiled(card, network))),
        };
        let graph = fused.model.encode_to_vec();
        let kernels = compiling.and_then(|compiling| compiling.join().ok().flatten());
        (kernels, graph)
    });
    let (builder, stream) = match kernels {
        None => {
            let builder = Device::Cuda(card).add_to(builder, manifest.graph.precision)?;
            (builder, None)
        }
        Some(kernels) => with_kernels(builder, card, &kernels)?,
    };
    let folder = graph_file::folder(&options.graph).map_err(EngineError::Graph)?;
    let builder = builder.with_config_entry(EXTERNAL_DATA_FOLDER, folder);
    let mut builder = builder.map_err(ort::Error::from)?;
    Ok(Opened {
        session: builder.commit_from_memory(&graph)?,
        stream,
    })
}

/// Our kernels, if the card takes them.
fn compiled(card: u32, network: Network) -> Option<Arc<CudaKernels>> {
    let started = Instant::now();
    match CudaKernels::compile(card as usize, network) {
        Ok(kernels) => {
            let took_ms = started.elapsed().as_millis() as u64;
            tracing::info!(card, took_ms, tiling = ?kernels.tiling(), "kernels compiled and checked");
            Some(kernels)
        }
        Err(error) => {
            tracing::warn!(
                card,
                %error,
                "our own kernels cannot be used on this card: the runtime's operators run, which is slower"
            );
            None
        }
    }
}

/// Registers our kernels, and lets the session launch on a stream of ours.
fn with_kernels(
    builder: SessionBuilder,
    card: u32,
    kernels: &Arc<CudaKernels>,
) -> Result<(SessionBuilder, Option<ComputeStream>), EngineError> {
    let builder = builder.with_operators(kernels.operators()?);
    let builder = builder.map_err(ort::Error::from)?;
    let stream = kernels.stream()?;
    let provider = stream.add_to(device::cuda(card)).build();
    let builder = builder
        .with_execution_providers([provider.error_on_failure()])
        .map_err(|error| EngineError::Device {
            device: Device::Cuda(card),
            error: error.to_string(),
        })?;
    Ok((builder, Some(stream)))
}

fn normalization(manifest: &Manifest) -> PixelNormalization {
    let Normalize { scale, mean, std } = manifest.preprocess.normalize;
    PixelNormalization { scale, mean, std }
}
