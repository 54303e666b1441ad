//! Files of named tensors, read one tensor at a time.
//!
//! Three containers are in use: safetensors, what `torch.save` writes, and NumPy's `.npz`. The
//! first two may be split into shards that an index file lists. Whatever the container, headers are
//! read and checked on opening, values when they are asked for.

mod nearest;
mod npz;
mod prefixed;
mod safetensors;
mod shards;
mod torch;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use patchlight_onnx::tensor::Tensor;
use sha2::{Digest, Sha256};

pub use self::prefixed::Stripped;
pub(super) use self::prefixed::{by_anchor, has};
pub(super) use self::safetensors::SafetensorsFile;
use self::{
    npz::NpzFile,
    shards::Shards,
    torch::{LegacyFile, TorchFile},
};
use super::{ImportError, error::quoted};

/// A checkpoint's tensors by name.
pub trait TensorFile: fmt::Debug {
    /// Where the file is; of shards, their index.
    fn path(&self) -> &Path;

    /// Names of all tensors.
    fn names(&self) -> Vec<String>;

    /// The same as the file has them, and of those that are left out.
    fn stored_names(&self) -> Vec<String> {
        self.names()
    }

    /// What was left out of the names, if anything was.
    fn stripped(&self) -> Option<&Stripped> {
        None
    }

    /// Shape of a tensor, if there is one of this name.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// Reads one tensor.
    ///
    /// # Errors
    /// If there is none of this name, its type is not a floating-point type of 16 or 32 bits, or
    /// reading fails.
    fn read(&mut self, name: &str) -> Result<Tensor, ImportError>;

    /// Every file that belongs to it.
    fn files(&self) -> Vec<PathBuf> {
        vec![self.path().to_owned()]
    }
}

impl dyn TensorFile + '_ {
    /// Reads one tensor of this shape.
    ///
    /// # Errors
    /// As [`read`](TensorFile::read), and if its shape is another one; both name the tensor, and
    /// what is most like it where there is none of the name.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ImportError> {
        match self.shape(name) {
            Some(found) if found == shape => self.read(name),
            Some(found) => {
                let detail = format!("has the shape {found:?}, expected is {shape:?}");
                Err(ImportError::tensor(self.path(), name, detail))
            }
            None => Err(self.missing(name, format_args!("a shape of {shape:?} is expected"))),
        }
    }

    /// That there is no tensor of this name, with what is expected, and the names that are most
    /// like it.
    pub(super) fn missing(&self, name: &str, expected: impl fmt::Display) -> ImportError {
        let nearest = nearest::description(&self.stored_names(), name);
        ImportError::tensor(
            self.path(),
            name,
            format!("is missing: {expected}{nearest}"),
        )
    }

    /// SHA-256 of every file, by name.
    pub(super) fn digests(&self) -> Result<BTreeMap<String, String>, ImportError> {
        self.files().iter().map(|path| named_digest(path)).collect()
    }
}

/// Opens a file of tensors. Its content decides which format it has, except that an index is known
/// by its name.
///
/// # Errors
/// If the file cannot be read, is of no known format, or is damaged.
pub fn open(path: &Path) -> Result<Box<dyn TensorFile>, ImportError> {
    match path.to_string_lossy().ends_with(".index.json") {
        true => Ok(Box::new(Shards::open(path)?)),
        false => open_single(path),
    }
}

/// The weights in a directory that have the usual name: safetensors before torch's own format, one
/// file before shards.
pub(super) fn find_named(directory: &Path) -> Option<PathBuf> {
    let mut found = NAMES.iter().map(|name| directory.join(name));
    found.find(|path| path.is_file())
}

/// The weights in a directory: those of the usual name, or else the only file that is one of weights
/// by its ending.
///
/// # Errors
/// If there are none, or several.
pub fn find(directory: &Path) -> Result<PathBuf, ImportError> {
    if let Some(path) = find_named(directory) {
        return Ok(path);
    }
    let mut others = by_ending(directory)?;
    match others.len() {
        0 => Err(ImportError::Missing {
            path: directory.join(NAMES[0]),
            advice: "it holds the weights; model.safetensors.index.json with its shards, \
                     pytorch_model.bin and pytorch_model.bin.index.json would do as well, and so would \
                     a single file that ends in .safetensors, .bin, .pth, .pt, .ckpt, .npz or .onnx",
        }),
        1 => Ok(others.remove(0)),
        _ => {
            let names = others.iter().filter_map(|path| path.file_name()).take(5);
            let names: Vec<_> = names
                .map(|name| quoted(&name.to_string_lossy()).into_owned())
                .collect();
            let detail = format!(
                "has several files of weights ({}), and none that is called {}; name the one that is \
                 to be imported",
                names.join(", "),
                NAMES[0]
            );
            Err(ImportError::malformed(directory, detail))
        }
    }
}

/// Usual names of weights, the best first.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Endings of files of weights.
const ENDINGS: [&str; 7] = ["safetensors", "bin", "pth", "pt", "ckpt", "npz", "onnx"];

/// What training programs write beside the weights, and is none.
const OF_TRAINING: [&str; 5] = [
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
];

/// The files of weights in a directory by their endings, by name. Hidden ones, such as macOS leaves
/// on other file systems, are none of the user's.
fn by_ending(directory: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).map_err(ImportError::file(directory, "read it"))?;
    for entry in entries {
        let path = entry
            .map_err(ImportError::file(directory, "read it"))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let meant = ENDINGS.iter().any(|known| ending == *known);
        if meant && !name.starts_with('.') && !OF_TRAINING.contains(&&*name) && path.is_file() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn open_single(path: &Path) -> Result<Box<dyn TensorFile>, ImportError> {
    const ZIP: &[u8] = b"PK\x03\x04";
    const PICKLE: u8 = 0x80;
    const TAR_AT: usize = 257;
    let mut start = Vec::new();
    File::open(path)
        .map_err(ImportError::file(path, "open it"))?
        .take(512)
        .read_to_end(&mut start)
        .map_err(ImportError::file(path, "read it"))?;
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if extension == "safetensors" {
        return Ok(Box::new(SafetensorsFile::open(path)?));
    }
    if start.starts_with(ZIP) {
        return match extension == "npz" {
            true => Ok(Box::new(NpzFile::open(path)?)),
            false => Ok(Box::new(TorchFile::open(path)?)),
        };
    }
    if LegacyFile::is_one(&start) {
        return Ok(Box::new(LegacyFile::open(path)?));
    }
    let older = start.first() == Some(&PICKLE) || start.get(TAR_AT..TAR_AT + 5) == Some(b"ustar");
    if older {
        let detail = "is a pickle, but not as torch.save writes it since version 0.2; rewrite it \
                      with torch.save(torch.load(FILE, weights_only=True), FILE)";
        return Err(ImportError::malformed(path, detail));
    }
    if extension == "npz" {
        let detail = "is not an .npz archive: it does not begin as a zip file; copy it again";
        return Err(ImportError::malformed(path, detail));
    }
    Ok(Box::new(SafetensorsFile::open(path)?))
}

/// Name and SHA-256 of a whole file.
pub(super) fn named_digest(path: &Path) -> Result<(String, String), ImportError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok((name.into_owned(), digest(path)?))
}

/// SHA-256 of a whole file.
pub(super) fn digest(path: &Path) -> Result<String, ImportError> {
    let mut file = File::open(path).map_err(ImportError::file(path, "open it"))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(digest.finalize())),
            Ok(count) => digest.update(&buffer[..count]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(ImportError::file(path, "read it")(e)),
        }
    }
}
