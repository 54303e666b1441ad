//! An exported model's files: the graph, and constants that lie beside it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use patchlight_onnx::{
    graph::External,
    proto::{DataLocation, DataType, GraphProto, ModelProto, NodeProto, TensorProto},
};
use prost::Message;

use crate::ImportError;

/// An exported model, read; external constants still lie where they were.
#[derive(Debug)]
pub(super) struct ExportedModel {
    pub(super) model: ModelProto,
    /// Every file that belongs to it.
    pub(super) files: Vec<PathBuf>,
}

impl ExportedModel {
    /// Reads the graph and finds the files of its constants.
    ///
    /// # Errors
    /// If it is no ONNX file, or constants are to be read from outside its directory.
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        let bytes = fs::read(path).map_err(ImportError::file(path, "read it"))?;
        let model = ModelProto::decode(Bytes::from(bytes))
            .map_err(|e| ImportError::malformed(path, format!("is not an ONNX file: {e}")))?;
        let Some(graph) = &model.graph else {
            return Err(ImportError::malformed(
                path,
                "is not an ONNX file: it holds no graph",
            ));
        };
        let nodes = graph
            .node
            .iter()
            .chain(model.functions.iter().flat_map(|f| &f.node));
        if let Some(name) = nodes.filter_map(outside_initializers).next() {
            let detail = "is a constant inside a node and kept in another file, where none is read; \
                          export it again";
            return Err(ImportError::tensor(path, &name, detail));
        }
        let external = graph
            .initializer
            .iter()
            .filter(|tensor| is_external(tensor));
        let mut files = BTreeSet::new();
        for tensor in external {
            files.insert(external_data_path(path, tensor)?);
        }
        Ok(Self {
            files: [path.to_owned()].into_iter().chain(files).collect(),
            model,
        })
    }
}

/// Number of values of float constants, the weights.
pub(super) fn parameters(graph: &GraphProto) -> u64 {
    let float = |tensor: &&TensorProto| {
        let dtype = tensor.data_type();
        [DataType::Float, DataType::Float16, DataType::Bfloat16]
            .iter()
            .any(|&float| dtype == float as i32)
    };
    graph.initializer.iter().filter(float).map(count).sum()
}

/// Bytes of all initializers.
pub(super) fn size(graph: &GraphProto) -> u64 {
    let bytes =
        |tensor: &TensorProto| count(tensor).saturating_mul(element_size(tensor).unwrap_or(8));
    graph
        .initializer
        .iter()
        .map(bytes)
        .fold(0, u64::saturating_add)
}

/// Number of a constant's elements.
fn count(tensor: &TensorProto) -> u64 {
    let lengths = tensor.dims.iter().map(|length| length.unsigned_abs());
    lengths.fold(1, u64::saturating_mul)
}

/// Brings every constant that lies in another file to `target`, or into the graph without one; with
/// one, those of the graph's own file go there, too. `progress` is called before each.
pub(super) fn move_constants(
    path: &Path,
    graph: &mut GraphProto,
    mut target: Option<&mut External<'_>>,
    progress: &mut dyn FnMut(usize) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    for (at, tensor) in graph.initializer.iter_mut().enumerate() {
        progress(at)?;
        let bytes = match is_external(tensor) {
            true => Some(read_external(path, tensor)?),
            false => tensor.raw_data.take(),
        };
        let Some(bytes) = bytes else { continue };
        tensor.external_data.clear();
        tensor.data_location = None;
        match &mut target {
            Some(external) => external.store(tensor, bytes)?,
            None => tensor.raw_data = Some(bytes),
        }
    }
    Ok(())
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location() == DataLocation::External
}

/// A node's constant that is kept elsewhere, however deep in bodies.
fn outside_initializers(node: &NodeProto) -> Option<String> {
    let within = |graph: &GraphProto| {
        let initializers = graph.initializer.iter();
        let own = initializers
            .filter(|t| is_external(t))
            .map(|t| t.name().to_owned());
        own.chain(graph.node.iter().filter_map(outside_initializers))
            .next()
    };
    node.attribute.iter().find_map(|attribute| {
        let mut tensors = attribute.t.iter().chain(&attribute.tensors);
        let direct = tensors.find(|tensor| is_external(tensor));
        let mut bodies = attribute.g.iter().chain(&attribute.graphs);
        match direct {
            Some(tensor) => Some(tensor.name().to_owned()),
            None => bodies.find_map(within),
        }
    })
}

fn entry<'t>(tensor: &'t TensorProto, key: &str) -> Option<&'t str> {
    let found = tensor
        .external_data
        .iter()
        .find(|entry| entry.key() == key)?;
    found.value.as_deref()
}

/// The file of an external constant: below the graph's own directory, links followed.
fn external_data_path(path: &Path, tensor: &TensorProto) -> Result<PathBuf, ImportError> {
    let fail = |detail: String| Err(ImportError::tensor(path, tensor.name(), detail));
    let Some(location) = entry(tensor, "location") else {
        return fail("is kept in another file, but which one is not said".to_owned());
    };
    let inside = Path::new(location)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return fail(format!(
            "is to be read from \"{location}\"; a file beside the graph is expected, and none \
             outside its directory is read"
        ));
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let file = directory.join(location);
    if !file.is_file() {
        return Err(ImportError::Missing {
            path: file,
            advice: "the graph keeps constants there; copy it beside the graph, too",
        });
    }
    let whole = |path: &Path| fs::canonicalize(path).map_err(ImportError::file(path, "follow it"));
    if !whole(&file)?.starts_with(whole(directory)?) {
        return fail(format!(
            "is to be read from \"{location}\", a link that leads out of the graph's directory; \
             put the file itself there"
        ));
    }
    Ok(file)
}

fn read_external(path: &Path, tensor: &TensorProto) -> Result<Bytes, ImportError> {
    let file_path = external_data_path(path, tensor)?;
    let fail = |detail: String| Err(ImportError::tensor(path, tensor.name(), detail));
    let number = |key: &str| entry(tensor, key).map(str::parse::<u64>).transpose();
    let (Ok(offset), Ok(length)) = (number("offset"), number("length")) else {
        return fail("has an offset or length that is no number".to_owned());
    };
    let offset = offset.unwrap_or(0);
    let mut file = File::open(&file_path).map_err(ImportError::file(&file_path, "open it"))?;
    let metadata = file
        .metadata()
        .map_err(ImportError::file(&file_path, "examine it"))?;
    let available = metadata.len().saturating_sub(offset);
    let needed = element_size(tensor).map(|size| count(tensor).saturating_mul(size));
    let length = length.or(needed).unwrap_or(available);
    if length > available || needed.is_some_and(|needed| needed != length) {
        return fail(format!(
            "of shape {:?} is said to take {length} bytes from {offset} on, which {} does not hold; \
             copy it again",
            tensor.dims,
            file_path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.take(length).read_to_end(&mut bytes))
        .map_err(ImportError::file(&file_path, "read it"))?;
    Ok(bytes.into())
}

/// Bytes of one element, of types that fill whole bytes.
fn element_size(tensor: &TensorProto) -> Option<u64> {
    match DataType::try_from(tensor.data_type()).ok()? {
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => Some(2),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => Some(1),
        _ => None,
    }
}
