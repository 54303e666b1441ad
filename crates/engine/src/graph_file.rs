//! The graph of a model directory, read to be rewritten before a session opens it.

use std::{fs, path::Path};

use patchlight_model::manifest::Manifest;
use patchlight_onnx::{proto::ModelProto, vit::fused::FusedShape};
use prost::{Message, bytes::Bytes};

/// What a session is told of where a graph that comes from memory finds its external data.
pub(super) const EXTERNAL_DATA_FOLDER: &str =
    "session.model_external_initializers_file_folder_path";

/// Reads the graph; constants in other files stay there.
///
/// # Errors
/// Why it stays as it is, to complete a sentence that says so; those below, too.
pub(super) fn read(graph: &Path) -> Result<ModelProto, String> {
    let failed = |error: &dyn std::fmt::Display| format!("it cannot be read: {error}");
    let bytes = fs::read(graph).map_err(|error| failed(&error))?;
    ModelProto::decode(Bytes::from(bytes)).map_err(|error| failed(&error))
}

/// The folder of the graph's external data.
pub(super) fn folder(graph: &Path) -> Result<&str, String> {
    let folder = graph.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let text = folder.to_str();
    text.ok_or_else(|| format!("the path of `{}` is not UTF-8", graph.display()))
}

/// What the manifest knows of the graph's network.
pub(super) fn shape(manifest: &Manifest) -> Result<FusedShape, String> {
    let size = manifest.input_size();
    let image = size.ok_or("the manifest does not fix the size of its input")?;
    let architecture = &manifest.architecture;
    if architecture.layers == 0 || architecture.heads == 0 {
        return Err("it is of an unknown architecture".to_owned());
    }
    Ok(FusedShape {
        layers: architecture.layers,
        heads: architecture.heads,
        hidden: architecture.hidden,
        tokens: manifest.tokens.total(),
        image: image.into(),
        head_fusion: manifest.rollout.head_fusion,
    })
}
