//! A CUDA session with the fused graph, and with kernels of our own where the card takes them.

use std::{fs, path::Path};

use ort::session::{Session, builder::SessionBuilder};
use patchlight_imaging::preprocess::Normalize;
use patchlight_kernels::{
    cuda::{CudaKernels, Network},
    reference::AttentionShape,
};
use patchlight_model::manifest::{Manifest, Precision};
use patchlight_onnx::{
    proto::ModelProto,
    vit::fused::{FusedShape, PixelNormalization, fuse},
};
use prost::Message;

use super::{EngineError, Kernels, SessionOptions, raw_session::EXTERNAL_DATA_FOLDER};

/// Opens the graph in its fused form, or as it is where it has none.
pub(super) fn open(
    mut builder: SessionBuilder,
    options: &SessionOptions,
    manifest: &Manifest,
    device: u32,
) -> Result<Session, EngineError> {
    let fused = match manifest.graph.precision {
        Precision::Fp16 => read(&options.graph)
            .and_then(|model| fuse(model, &shape(manifest)?, &normalization(manifest))),
        Precision::Fp32 | Precision::Int8 => Err("it is not in float16".to_owned()),
    };
    let fused = match fused {
        Ok(fused) => fused,
        Err(reason) => {
            tracing::info!("the graph stays as it is, because {reason}");
            return Ok(builder.commit_from_file(&options.graph)?);
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
    match options.kernels {
        Kernels::Stock => {}
        Kernels::Auto => builder = with_kernels(builder, device, network)?,
    }
    let folder = options.graph.parent().unwrap_or_else(|| Path::new("."));
    let folder = folder.to_str().ok_or_else(|| {
        EngineError::Graph(format!(
            "the path of `{}` is not UTF-8",
            options.graph.display()
        ))
    })?;
    let builder = builder.with_config_entry(EXTERNAL_DATA_FOLDER, folder);
    let mut builder = builder.map_err(ort::Error::from)?;
    Ok(builder.commit_from_memory(&fused.model.encode_to_vec())?)
}

/// Registers our kernels if the card takes them.
fn with_kernels(
    builder: SessionBuilder,
    device: u32,
    network: Network,
) -> Result<SessionBuilder, EngineError> {
    match CudaKernels::compile(device as usize, network) {
        Ok(kernels) => {
            tracing::info!(device, tiling = ?kernels.tiling(), "kernels compiled and checked");
            let registered = builder.with_operators(kernels.operators()?);
            Ok(registered.map_err(ort::Error::from)?)
        }
        Err(error) => {
            tracing::warn!(
                device,
                %error,
                "our own kernels cannot be used on this card: the runtime's operators run, which is slower"
            );
            Ok(builder)
        }
    }
}

fn read(graph: &Path) -> Result<ModelProto, String> {
    let bytes = fs::read(graph).map_err(|error| format!("it cannot be read: {error}"))?;
    ModelProto::decode(bytes.as_slice()).map_err(|error| format!("it cannot be read: {error}"))
}

fn normalization(manifest: &Manifest) -> PixelNormalization {
    let Normalize { scale, mean, std } = manifest.preprocess.normalize;
    PixelNormalization { scale, mean, std }
}

fn shape(manifest: &Manifest) -> Result<FusedShape, String> {
    let size = manifest.input_size();
    let image = size.ok_or("the manifest does not fix the size of its input")?;
    Ok(FusedShape {
        layers: manifest.architecture.layers,
        heads: manifest.architecture.heads,
        hidden: manifest.architecture.hidden,
        tokens: manifest.tokens.total(),
        image: image.into(),
        head_fusion: manifest.rollout.head_fusion,
    })
}
