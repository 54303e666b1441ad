//! Writes a model directory so that it is never accepted half written.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use prost::Message;
use sha2::{Digest, Sha256};

use super::{Checkpoint, ImportError, is_large};
use crate::{
    model::manifest::{
        Architecture, Checked, EvidenceOutputs, FORMAT, Graph, Manifest, Precision, Provenance,
        Rollout, Task, Tokens,
    },
    onnx::{
        graph::{External, Storage},
        vit::{self, Arithmetic, VitSpec, Weights},
    },
};

const GRAPH: &str = "model.onnx";
const GRAPH_DATA: &str = "model.onnx.data";
const LABELS: &str = "labels.txt";
const MANIFEST: &str = "model.toml";

/// A directory that is being written: its files have other names until [`finish`](Self::finish).
/// If that is not reached they are removed again.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    digests: BTreeMap<String, String>,
}

impl Directory {
    /// Makes the directory if there is none. One that holds a model of ours is going to be
    /// replaced; one with files of the same names, but without a manifest, is left alone.
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
        fs::create_dir_all(path).map_err(ImportError::file(path, "make it"))?;
        Ok(Self {
            path: path.to_owned(),
            digests: BTreeMap::new(),
        })
    }

    /// Writes the graph, large constants into a file of their own.
    pub(super) fn write_graph(
        &mut self,
        spec: &VitSpec,
        arithmetic: &Arithmetic,
        weights: &mut dyn Weights<Error = ImportError>,
    ) -> Result<(), ImportError> {
        let model = if is_large(spec) {
            let mut data = self.create(GRAPH_DATA)?;
            let storage = Storage::External(External::new(GRAPH_DATA, &mut data));
            let model = vit::build(spec, arithmetic, weights, storage)?;
            self.close(GRAPH_DATA, data)?;
            model
        } else {
            vit::build(spec, arithmetic, weights, Storage::Inline)?
        };
        self.write(GRAPH, &model.encode_to_vec())
    }

    /// Writes the labels, one a line.
    pub(super) fn write_labels(&mut self, labels: &[String]) -> Result<(), ImportError> {
        self.write(LABELS, (labels.join("\n") + "\n").as_bytes())
    }

    /// Gives the files their names, the manifest last.
    pub(super) fn finish(
        mut self,
        checkpoint: &Checkpoint,
        precision: Precision,
        check: Option<Checked>,
    ) -> Result<Manifest, ImportError> {
        let manifest = manifest(checkpoint, precision, check, self.digests.clone());
        let path = self.path.join(MANIFEST);
        let text = toml::to_string(&manifest).map_err(|e| ImportError::malformed(&path, e))?;
        let text = format!(
            "# Written by `patchlight import`; a server checks it against the files beside it.\n\n{text}"
        );
        self.write(MANIFEST, text.as_bytes())?;

        let names: Vec<String> = std::mem::take(&mut self.digests).into_keys().collect();
        let manifest_last = names.iter().filter(|name| *name != MANIFEST);
        for name in manifest_last.map(String::as_str).chain([MANIFEST]) {
            let path = self.path.join(name);
            fs::rename(self.partial(name), &path)
                .map_err(ImportError::file(&path, "put it in place"))?;
        }
        // An earlier, larger model left its constants here.
        let data = self.path.join(GRAPH_DATA);
        if !manifest.files.contains_key(GRAPH_DATA) && data.exists() {
            fs::remove_file(&data).map_err(ImportError::file(&data, "remove it"))?;
        }
        Ok(manifest)
    }

    fn write(&mut self, name: &str, content: &[u8]) -> Result<(), ImportError> {
        let mut file = self.create(name)?;
        file.write_all(content)
            .map_err(ImportError::file(&self.partial(name), "write it"))?;
        self.close(name, file)
    }

    fn create(&mut self, name: &str) -> Result<Hashed, ImportError> {
        let path = self.partial(name);
        let file = File::create(&path).map_err(ImportError::file(&path, "make it"))?;
        self.digests.insert(name.to_owned(), String::new());
        Ok(Hashed {
            file: BufWriter::with_capacity(1 << 20, file),
            digest: Sha256::new(),
        })
    }

    fn close(&mut self, name: &str, mut file: Hashed) -> Result<(), ImportError> {
        file.flush()
            .map_err(ImportError::file(&self.partial(name), "write it"))?;
        self.digests
            .insert(name.to_owned(), hexadecimal(&file.digest.finalize()));
        Ok(())
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.partial"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for name in self.digests.keys() {
            // Nothing more can be done about a file that cannot be removed.
            drop(fs::remove_file(self.partial(name)));
        }
    }
}

/// A file that is digested while it is written.
struct Hashed {
    file: BufWriter<File>,
    digest: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest(
    checkpoint: &Checkpoint,
    precision: Precision,
    check: Option<Checked>,
    files: BTreeMap<String, String>,
) -> Manifest {
    let spec = &checkpoint.spec;
    let evidence = spec.readout.evidence();
    Manifest {
        format: FORMAT,
        architecture: Architecture {
            name: spec.name(),
            layers: spec.layers,
            heads: spec.heads,
            hidden: spec.hidden,
            mlp: spec.mlp,
            patch: spec.patch,
            parameters: checkpoint.parameters,
            gmac: spec.macs() as f64 / 1e9,
        },
        task: Task {
            kind: checkpoint.task,
            classes: spec.classes,
            caution: checkpoint.caution.clone(),
        },
        graph: Graph {
            file: GRAPH.to_owned(),
            input: vit::PIXEL_VALUES.to_owned(),
            logits: vit::LOGITS.to_owned(),
            rollout: vit::ROLLOUT.to_owned(),
            rollout_by_start: vit::ROLLOUT_BY_START.to_owned(),
            precision,
            class_attention: evidence.is_ok().then(|| vit::CLASS_ATTENTION.to_owned()),
            without_evidence: evidence.err().map(str::to_owned),
            evidence: evidence.ok().map(|()| EvidenceOutputs {
                patches: vit::EVIDENCE.to_owned(),
                rest: vit::EVIDENCE_REST.to_owned(),
                classes: vit::EVIDENCE_CLASS.to_owned(),
                labels: spec.evidence_labels(),
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
        files,
        provenance: Provenance {
            source: checkpoint.source.to_owned(),
            source_files: checkpoint.source_files.clone(),
            importer: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            check,
        },
    }
}
