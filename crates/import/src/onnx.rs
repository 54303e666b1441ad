//! A graph that was exported elsewhere: by torch's two exporters, optimum or timm, with logits
//! only.
//!
//! ```text
//!  file ──► signature ──► decompose_attention ──► attention ──► probe ──► rewrite ──► check
//!  graph,   input,        `Attention` written     softmaxes     shapes,   names,      runs before
//!  data     logits,       out as standard         by pattern    pooling   batch,      and after
//!           patches       operators                             by run    rollout     agree
//! ```
//!
//! A map is only made where the graph itself shows that it is right: its attention matrices have
//! the pattern, number, order and shape of a Vision Transformer's, and the tokens that the
//! classifier reads are found by running it. [`sidecar`](super::sidecar) is what lies beside
//! the graph, and has to agree.

mod attention;
mod check;
mod decompose_attention;
mod dynamic_batch;
mod evidence;
mod file;
mod network;
mod paths;
mod probe;
mod rewrite;
mod signature;

use std::path::Path;

use patchlight_engine::Runtime;
use patchlight_model::manifest::{
    self, Architecture, AttributionOutputs, FORMAT, Manifest, Precision, Rollout, Task, Tokens,
};
use patchlight_onnx::{
    proto::ModelProto,
    vit::{self, MeanReadout, VitSpec},
};
use prost::Message;

use self::{
    check::GraphOutputs,
    file::ExportedModel,
    network::{DetectionError, Network},
    rewrite::Output,
    signature::{BatchAxis, Signature},
};
use super::{
    ImportError, ImportOptions, Progress, Summary,
    directory::{self, GRAPH, ModelDirWriter},
    error::quoted,
    input_size, labels,
    paths::CheckpointPaths,
    sidecar::SidecarMetadata,
    source,
    tensor_file::named_digest,
};

const WITHOUT_ATTRIBUTION: &str =
    "the graph was exported elsewhere, and the account needs the network's weights one by one";

/// Bytes of constants from which on they get a file of their own.
const LARGE: u64 = 64 << 20;

/// Makes a model directory of an exported graph.
pub(super) fn run(
    path: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, ImportError> {
    if options.precision != Precision::Fp32 || options.check.is_some() {
        let detail = "is a graph, which keeps its precision; import the checkpoint that it was \
                      exported from, or leave --precision and --check out";
        return Err(ImportError::malformed(path, detail));
    }
    let paths = CheckpointPaths::of_graph(path)?;
    let ExportedModel { mut model, files } = ExportedModel::read(path)?;
    let mut signature = Signature::of(&model, path)?;
    let runtime = options.loaded_runtime()?;

    let classes = check::classes(&model, &signature);
    let patch = signature.patches.map(|patches| patches.side);
    let sidecar = source::describe(&paths, options, patch, classes)?;
    let sides = sides(&signature, &sidecar)?;
    let before = GraphOutputs::of_export(&runtime, path, &signature, sides)?;
    let classes = before.classes(path)?;

    rewrite::normalize_io(&mut model, &signature, sides, classes);
    decompose_attention::decompose(&mut model);
    let mut directory = ModelDirWriter::prepare(&options.out)?;
    let parameters = model.graph.as_ref().map_or(0, file::parameters);
    place_constants(path, &mut model, &mut directory, options, progress)?;
    if let BatchAxis::Fixed(fixed) = signature.batch {
        let proposed = dynamic_batch::propose(&model, fixed);
        let agrees = |proposed: &ModelProto| {
            agrees_with_export(
                &runtime,
                &directory,
                proposed,
                sides,
                (&before, signature.half),
            )
        };
        match proposed.filter(agrees) {
            Some(dynamic) => {
                model = dynamic;
                signature.batch = BatchAxis::Dynamic;
            }
            // One by one is right as well.
            None if fixed == 1 => {}
            None => return Err(ImportError::malformed(path, fixed_batch(fixed))),
        }
    }

    let Maps {
        network,
        evidence,
        no_rollout,
    } = match options.without_map {
        true => Maps::default(),
        false => {
            let input = MapInput {
                runtime: &runtime,
                directory: &directory,
                model: &model,
                signature: &signature,
                sidecar: &sidecar,
                sides,
            };
            input.maps(path, classes, options)?
        }
    };
    let half = network
        .as_ref()
        .map_or(signature.half, |(network, _)| network.is_half());
    options.check_cancelled()?;
    let found = (network.as_ref(), evidence.as_ref());
    let outputs = finish_graph(&mut model, found, sides, classes, &signature)?;
    directory.write(GRAPH, &model.encode_to_vec())?;
    let after = GraphOutputs::of_import(&runtime, &directory.path(GRAPH), sides)?;
    before.agree_with(&after, path, half)?;
    if let Some((network, spec)) = &network {
        network.agrees_with(&after, spec, path)?;
    }
    after
        .evidence_adds_up(half)
        .map_err(|detail| ImportError::Map {
            path: path.to_owned(),
            detail,
        })?;
    let precision = match half {
        true => Precision::Fp16,
        false => Precision::Fp32,
    };
    let (architecture, tokens) = match &network {
        Some((_, spec)) => (
            directory::architecture(spec, parameters),
            Tokens {
                prefix: spec.prefix,
                grid: spec.grid(),
            },
        ),
        None => of_cells(
            evidence.as_ref(),
            sides,
            sidecar.name.as_deref(),
            parameters,
        ),
    };

    let own_labels = sidecar.labels;
    let (labels, named) = labels::resolve(options.labels.as_deref(), own_labels, classes)?;
    directory.write_labels(&labels)?;
    let mut source_files = sidecar.source_files;
    for file in &files {
        source_files.extend([named_digest(file)?]);
    }
    let manifest = directory.finish(Manifest {
        format: FORMAT,
        architecture,
        task: Task {
            kind: sidecar.task,
            classes,
            caution: None,
            whole_labels: Vec::new(),
        },
        graph: manifest_graph(&outputs, precision, no_rollout),
        tokens,
        rollout: Rollout {
            head_fusion: options.head_fusion,
        },
        preprocess: sidecar.preprocess,
        files: Default::default(),
        provenance: manifest::Provenance {
            origin: options.origin.clone(),
            ..directory::provenance("onnx", source_files)
        },
        calibration: None,
    })?;
    Ok(Summary::new(options.out.clone(), manifest, named))
}

/// Whether a graph gives the logits of the exported one, of one image and of several at once.
fn agrees_with_export(
    runtime: &Runtime,
    directory: &ModelDirWriter,
    proposed: &ModelProto,
    sides: [usize; 2],
    (before, half): (&GraphOutputs, bool),
) -> bool {
    let file = directory.write_scratch("dynamic-batch.onnx", &proposed.encode_to_vec());
    let after = file.and_then(|file| {
        let after = GraphOutputs::of_import(runtime, &file, sides)?;
        before.agree_with(&after, &file, half)
    });
    after.is_ok()
}

fn fixed_batch(fixed: usize) -> String {
    format!(
        "takes exactly {fixed} pictures at once, and what made it dynamic gave other answers; export it \
         with torch.onnx.export(model, (pixels,), \"model.onnx\", input_names=[\"pixel_values\"], \
         output_names=[\"logits\"], dynamo=True, dynamic_shapes=({{0: torch.export.Dim(\"batch\")}},))"
    )
}

/// Everything that is done to a graph before it is run for the first time, and the search for its
/// attention.
///
/// # Errors
/// Why it would be refused.
pub fn analyze(path: &Path) -> Result<(), ImportError> {
    let ExportedModel { mut model, .. } = ExportedModel::read(path)?;
    let signature = Signature::of(&model, path)?;
    rewrite::normalize_io(&mut model, &signature, [32, 32], 10);
    decompose_attention::decompose(&mut model);
    if let Some(graph) = &mut model.graph {
        let _ = attention::find(graph, signature.opset);
        probe::activations(&graph.node);
        if file::size(graph) < LARGE {
            file::move_constants(path, graph, None, &mut |_| Ok(()))?;
        }
    }
    Ok(())
}

/// Large graphs keep their constants in a file of their own, small ones in the graph.
fn place_constants(
    path: &Path,
    model: &mut ModelProto,
    directory: &mut ModelDirWriter,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImportError> {
    let Some(graph) = &mut model.graph else {
        return Ok(());
    };
    let total = graph.initializer.len();
    let mut counted = |done| {
        options.check_cancelled()?;
        progress(Progress {
            phase: "constants",
            done,
            total,
        });
        Ok(())
    };
    match file::size(graph) > LARGE {
        true => {
            directory.write_data(|data| file::move_constants(path, graph, Some(data), &mut counted))
        }
        false => file::move_constants(path, graph, None, &mut counted),
    }
}

/// Height and width of the input: fixed in the graph, or as the sidecar says; and as asked for.
fn sides(signature: &Signature, sidecar: &SidecarMetadata) -> Result<[usize; 2], ImportError> {
    let [height, width] = input_size::of(&sidecar.preprocess)?;
    let made = [height as usize, width as usize];
    let stored = sidecar.image.unwrap_or(made);
    let sides = [0, 1].map(|side| signature.sides[side].unwrap_or(stored[side]));
    if sides != made {
        return Err(ImportError::Preprocess(format!(
            "it makes pictures of {}×{}, but the graph takes {}×{}; describe another with \
             --preprocess. A graph's own size cannot be changed: export it at the size you need",
            made[0], made[1], sides[0], sides[1]
        )));
    }
    Ok(sides)
}

/// Adds the rollout, declares input and outputs, and makes the batch dynamic. Returns the outputs
/// in order.
fn finish_graph(
    model: &mut ModelProto,
    (network, evidence): (Option<&(Network, VitSpec)>, Option<&MeanReadout>),
    sides: [usize; 2],
    classes: usize,
    signature: &Signature,
) -> Result<Vec<Output>, ImportError> {
    let mut outputs = vec![Output::floats(vit::LOGITS, vec![classes])];
    let Some(graph) = &mut model.graph else {
        return Ok(outputs);
    };
    if let Some((network, spec)) = network {
        let (layers, tokens) = (spec.layers, spec.tokens());
        rewrite::append(
            graph,
            vit::attach_rollout(spec, signature.opset, network.blocks())?,
        );
        outputs.push(Output::floats(vit::ROLLOUT, vec![spec.patches()]));
        outputs.push(Output::floats(vit::ROLLOUT_BY_START, vec![layers, tokens]));
        if spec.pooling == vit::Pooling::ClassToken {
            let axes = vec![layers, spec.heads, tokens];
            outputs.push(Output::floats(vit::CLASS_ATTENTION, axes));
        }
    }
    if let Some(readout) = evidence {
        let (rows, positions) = (readout.labels() + 1, readout.positions());
        rewrite::append(graph, vit::attach_evidence(readout, signature.opset)?);
        outputs.push(Output::floats(vit::ATTRIBUTION, vec![rows, positions]));
        outputs.push(Output::floats(vit::ATTRIBUTION_REST, vec![rows]));
        outputs.push(Output::integers(vit::ATTRIBUTION_CLASS, vec![rows - 1]));
    }
    rewrite::wrap_in_scan(graph, signature.batch, sides, &outputs);
    rewrite::declare(graph, sides, &outputs);
    Ok(outputs)
}

fn manifest_graph(
    outputs: &[Output],
    precision: Precision,
    no_rollout: Option<String>,
) -> manifest::Graph {
    let found = |name: &str| outputs.iter().find(|output| output.name == name);
    let named = |name: &str| found(name).map(|output| output.name.clone());
    let rollout = named(vit::ROLLOUT);
    let attribution = found(vit::ATTRIBUTION_CLASS).map(|classes| AttributionOutputs {
        patches: vit::ATTRIBUTION.to_owned(),
        rest: vit::ATTRIBUTION_REST.to_owned(),
        classes: vit::ATTRIBUTION_CLASS.to_owned(),
        labels: classes.axes.iter().product(),
    });
    manifest::Graph {
        file: GRAPH.to_owned(),
        input: vit::PIXEL_VALUES.to_owned(),
        logits: vit::LOGITS.to_owned(),
        without_map: match rollout {
            Some(_) => None,
            None => Some(no_rollout.unwrap_or_else(|| {
                "the graph was imported with --without-map, so its attention was not looked for"
                    .to_owned()
            })),
        },
        rollout,
        rollout_by_start: named(vit::ROLLOUT_BY_START),
        precision,
        class_attention: named(vit::CLASS_ATTENTION),
        without_attribution: match attribution {
            Some(_) => None,
            None => Some(WITHOUT_ATTRIBUTION.to_owned()),
        },
        attribution,
    }
}

/// What was found of a graph's maps.
#[derive(Default)]
struct Maps {
    network: Option<(Network, VitSpec)>,
    evidence: Option<MeanReadout>,
    /// Why there is no rollout, where evidence is all.
    no_rollout: Option<String>,
}

/// What maps are looked for in.
struct MapInput<'a> {
    runtime: &'a Runtime,
    directory: &'a ModelDirWriter,
    model: &'a ModelProto,
    signature: &'a Signature,
    sidecar: &'a SidecarMetadata,
    sides: [usize; 2],
}

impl MapInput<'_> {
    /// The rollout, and the evidence where a mean over patches is read; of any other network the
    /// evidence alone, where a mean over positions is read.
    fn maps(
        &self,
        path: &Path,
        classes: usize,
        options: &ImportOptions,
    ) -> Result<Maps, ImportError> {
        let MapInput {
            runtime,
            directory,
            model,
            signature,
            sidecar,
            sides,
        } = *self;
        let evidence = || evidence::find(runtime, directory, model, sides);
        let network = match signature.square_patches() {
            Err(detail) => Err(DetectionError::Map(detail)),
            Ok(_) => Network::from_probe(runtime, directory, model, signature, sidecar, sides),
        };
        let no_rollout = match network {
            Ok(network) => {
                let spec = network.spec(sides, classes, options);
                let evidence = match spec.pooling {
                    vit::Pooling::PatchMean(_) => match evidence() {
                        Ok(found) if found.grid == spec.grid() => Some(found),
                        Ok(_) => None,
                        Err(DetectionError::Map(_) | DetectionError::Doubtful(_)) => None,
                        Err(DetectionError::Other(error)) => return Err(error),
                    },
                    _ => None,
                };
                return Ok(Maps {
                    network: Some((network, spec)),
                    evidence,
                    no_rollout: None,
                });
            }
            Err(DetectionError::Map(detail)) => detail,
            Err(DetectionError::Doubtful(detail)) => {
                let path = path.to_owned();
                return Err(ImportError::Map { path, detail });
            }
            Err(DetectionError::Other(error)) => return Err(error),
        };
        match evidence() {
            Ok(found) => Ok(Maps {
                network: None,
                evidence: Some(found),
                no_rollout: Some(no_rollout),
            }),
            Err(DetectionError::Map(detail) | DetectionError::Doubtful(detail)) => {
                Err(ImportError::Map {
                    path: path.to_owned(),
                    detail: format!("{no_rollout}; nor evidence: {detail}"),
                })
            }
            Err(DetectionError::Other(error)) => Err(error),
        }
    }
}

/// A network whose attention is not followed: cells of its last feature map stand for patches, where
/// they are known.
fn of_cells(
    evidence: Option<&MeanReadout>,
    sides: [usize; 2],
    name: Option<&str>,
    parameters: u64,
) -> (Architecture, Tokens) {
    let architecture = Architecture::unknown(name.map(quoted), parameters);
    let Some(readout) = evidence else {
        return (architecture, Tokens::UNKNOWN);
    };
    let grid = readout.grid;
    let architecture = Architecture {
        hidden: readout.kernel.shape()[0],
        patch: sides[0] / grid[0].max(1),
        ..architecture
    };
    (architecture, Tokens { prefix: 0, grid })
}
