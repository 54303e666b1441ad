//! Writes a model directory so that it is never accepted half written.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use patchlight_model::manifest::{
    Architecture, AttributionOutputs, FORMAT, Graph, Manifest, MultilineLabel, Origin, Precision,
    PrecisionCheck, Provenance, Rollout, Task, Tokens,
};
use patchlight_onnx::{
    graph::{External, Storage},
    vit::{self, PrecisionPlan, VitSpec, Weights},
};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Checkpoint, ImportError, is_large, labels};

/// This program and its version, as a manifest names it.
pub const IMPORTER: &str = concat!("patchlight ", env!("CARGO_PKG_VERSION"));

pub(super) const GRAPH: &str = "model.onnx";
const GRAPH_DATA: &str = "model.onnx.data";
const LABELS: &str = "labels.txt";
const MANIFEST: &str = "model.toml";

/// A directory that is being written, elsewhere until [`finish`](Self::finish): one that is new
/// appears whole, beside which nothing is left; in one that is replaced the manifest comes last.
#[derive(Debug)]
pub(super) struct ModelDirWriter {
    path: PathBuf,
    /// Where files are written, in the same file system.
    staging: PathBuf,
    whole_labels: Vec<MultilineLabel>,
    digests: BTreeMap<String, String>,
}

impl ModelDirWriter {
    /// Makes a place to write to. A directory that holds a model of ours is going to be replaced;
    /// one with files of the same names, but without a manifest, is left alone.
    pub(super) fn prepare(path: &Path) -> Result<Self, ImportError> {
        if path.exists() && !path.is_dir() {
            let detail = "is a file; --out takes a directory".to_owned();
            return Err(ImportError::Out {
                path: path.to_owned(),
                detail,
            });
        }
        let foreign = [GRAPH, GRAPH_DATA, LABELS]
            .into_iter()
            .find(|name| path.join(name).exists());
        if let Some(name) = foreign.filter(|_| !path.join(MANIFEST).exists()) {
            let detail = format!(
                "holds {name} but no {MANIFEST}, so it is not a model directory of ours; \
                 give another with --out, or remove the file"
            );
            return Err(ImportError::Out {
                path: path.to_owned(),
                detail,
            });
        }
        let staging = staging(path);
        // What an import left that was killed.
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(ImportError::file(&staging, "remove it"))?;
        }
        fs::create_dir_all(&staging).map_err(ImportError::file(&staging, "make it"))?;
        Ok(Self {
            path: path.to_owned(),
            staging,
            whole_labels: Vec::new(),
            digests: BTreeMap::new(),
        })
    }

    /// Writes the graph, large constants into a file of their own.
    pub(super) fn write_graph(
        &mut self,
        spec: &VitSpec,
        plan: &PrecisionPlan,
        weights: &mut dyn Weights<Error = ImportError>,
    ) -> Result<(), ImportError> {
        let model = if is_large(spec) {
            let mut data = self.create(GRAPH_DATA)?;
            let storage = Storage::External(External::new(GRAPH_DATA, &mut data));
            let model = vit::build(spec, plan, weights, storage)?;
            self.close(GRAPH_DATA, data)?;
            model
        } else {
            vit::build(spec, plan, weights, Storage::Inline)?
        };
        self.write(GRAPH, &model.encode_to_vec())
    }

    /// Has the file of large constants written.
    pub(super) fn write_data(
        &mut self,
        write: impl FnOnce(&mut External<'_>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let mut data = self.create(GRAPH_DATA)?;
        write(&mut External::new(GRAPH_DATA, &mut data))?;
        self.close(GRAPH_DATA, data)
    }

    /// Writes a file that will not be part of the directory; where it is.
    pub(super) fn write_scratch(&self, name: &str, content: &[u8]) -> Result<PathBuf, ImportError> {
        let path = self.path(name);
        fs::write(&path, content).map_err(ImportError::file(&path, "write it"))?;
        Ok(path)
    }

    /// Writes the labels, one a line; what is more than a line is put into the manifest.
    pub(super) fn write_labels(&mut self, labels: &[String]) -> Result<(), ImportError> {
        self.whole_labels = labels::multiline(labels);
        let lines: Vec<String> = labels
            .iter()
            .map(|label| label.replace('\n', " "))
            .collect();
        self.write(LABELS, (lines.join("\n") + "\n").as_bytes())
    }

    /// Writes the manifest, to which the other files' digests and the labels of several lines are
    /// added, and puts all in place.
    pub(super) fn finish(mut self, mut manifest: Manifest) -> Result<Manifest, ImportError> {
        manifest.files.clone_from(&self.digests);
        manifest.task.whole_labels.clone_from(&self.whole_labels);
        let path = self.path(MANIFEST);
        let text = toml::to_string(&manifest).map_err(|e| ImportError::malformed(&path, e))?;
        let text = format!(
            "# Written by `patchlight import`; a server checks it against the files beside it.\n\n{text}"
        );
        self.write(MANIFEST, text.as_bytes())?;
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(ImportError::file(to, "put it in place"))
        };
        if !self.path.exists() {
            self.remove_all_but_digested()?;
            rename(&self.staging, &self.path)?;
            return Ok(manifest);
        }
        let manifest_last = self.digests.keys().filter(|name| *name != MANIFEST);
        for name in manifest_last.map(String::as_str).chain([MANIFEST]) {
            rename(&self.path(name), &self.path.join(name))?;
        }
        // An earlier, larger model left its constants here.
        let data = self.path.join(GRAPH_DATA);
        if !manifest.files.contains_key(GRAPH_DATA) && data.exists() {
            fs::remove_file(&data).map_err(ImportError::file(&data, "remove it"))?;
        }
        Ok(manifest)
    }

    /// Where a file of this name is until the end.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.staging.join(name)
    }

    fn remove_all_but_digested(&self) -> Result<(), ImportError> {
        let failed = || ImportError::file(&self.staging, "clear it up");
        for entry in fs::read_dir(&self.staging).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !self.digests.contains_key(name.as_ref()) {
                fs::remove_file(&path).map_err(ImportError::file(&path, "remove it"))?;
            }
        }
        Ok(())
    }

    /// Writes a file of the directory.
    pub(super) fn write(&mut self, name: &str, content: &[u8]) -> Result<(), ImportError> {
        let mut file = self.create(name)?;
        file.write_all(content)
            .map_err(ImportError::file(&self.path(name), "write it"))?;
        self.close(name, file)
    }

    fn create(&mut self, name: &str) -> Result<HashingWriter, ImportError> {
        let path = self.path(name);
        let file = File::create(&path).map_err(ImportError::file(&path, "make it"))?;
        self.digests.insert(name.to_owned(), String::new());
        Ok(HashingWriter {
            file: BufWriter::with_capacity(1 << 20, file),
            digest: Sha256::new(),
        })
    }

    fn close(&mut self, name: &str, mut file: HashingWriter) -> Result<(), ImportError> {
        file.flush()
            .map_err(ImportError::file(&self.path(name), "write it"))?;
        self.digests
            .insert(name.to_owned(), hex::encode(file.digest.finalize()));
        Ok(())
    }
}

impl Drop for ModelDirWriter {
    fn drop(&mut self) {
        // Nothing more can be done about a directory that cannot be removed.
        drop(fs::remove_dir_all(&self.staging));
    }
}

/// Inside a directory that exists, which may be all that may be written to; else beside it.
fn staging(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.join(".import.partial");
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

/// A file that is digested while it is written.
struct HashingWriter {
    file: BufWriter<File>,
    digest: Sha256,
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What a checkpoint's manifest says; digests are still to come.
pub(super) fn manifest(
    checkpoint: &Checkpoint,
    precision: Precision,
    check: Option<PrecisionCheck>,
    origin: Option<&Origin>,
) -> Manifest {
    let spec = &checkpoint.spec;
    let attribution = spec.pooling.attribution_support();
    Manifest {
        format: FORMAT,
        architecture: architecture(spec, checkpoint.parameters),
        task: Task {
            kind: checkpoint.task,
            classes: spec.classes,
            caution: checkpoint.caution.clone(),
            whole_labels: Vec::new(),
        },
        graph: Graph {
            file: GRAPH.to_owned(),
            input: vit::PIXEL_VALUES.to_owned(),
            logits: vit::LOGITS.to_owned(),
            rollout: Some(vit::ROLLOUT.to_owned()),
            rollout_by_start: Some(vit::ROLLOUT_BY_START.to_owned()),
            without_map: None,
            precision,
            class_attention: spec
                .pooling
                .follows_class_token()
                .then(|| vit::CLASS_ATTENTION.to_owned()),
            without_attribution: attribution.err().map(str::to_owned),
            attribution: attribution.ok().map(|()| AttributionOutputs {
                patches: vit::ATTRIBUTION.to_owned(),
                rest: vit::ATTRIBUTION_REST.to_owned(),
                classes: vit::ATTRIBUTION_CLASS.to_owned(),
                labels: spec.attribution_labels(),
            }),
        },
        tokens: Tokens {
            prefix: spec.prefix,
            grid: spec.grid(),
        },
        rollout: Rollout {
            head_fusion: spec.head_fusion,
        },
        preprocess: checkpoint.preprocess.clone(),
        files: BTreeMap::new(),
        provenance: Provenance {
            check,
            origin: origin.cloned(),
            ..provenance(checkpoint.source, checkpoint.source_files.clone())
        },
        calibration: None,
    }
}

/// A network's size and shape, as the manifest says it.
pub(super) fn architecture(spec: &VitSpec, parameters: u64) -> Architecture {
    Architecture {
        name: spec.name(),
        layers: spec.layers,
        heads: spec.heads,
        hidden: spec.hidden,
        mlp: spec.mlp,
        patch: spec.patch,
        parameters,
        gmac: spec.macs() as f64 / 1e9,
    }
}

/// Where weights come from, and that this program read them.
pub(super) fn provenance(source: &str, source_files: BTreeMap<String, String>) -> Provenance {
    Provenance {
        source: source.to_owned(),
        source_files,
        origin: None,
        importer: IMPORTER.to_owned(),
        check: None,
    }
}
