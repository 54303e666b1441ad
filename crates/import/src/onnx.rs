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
mod file;
mod network;
mod probe;
mod rewrite;
mod signature;

use std::path::Path;

use patchlight_model::manifest::{
    self, Architecture, FORMAT, Manifest, Precision, Rollout, Task, Tokens,
};
use patchlight_onnx::{
    proto::ModelProto,
    vit::{self, VitSpec},
};
use prost::Message;

use self::{
    check::GraphOutputs,
    file::ExportedModel,
    network::Network,
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
    let signature = Signature::of(&model, path)?;
    // First, since what describes another kind of network would be taken for one that does not fit.
    if !options.without_map
        && let Err(detail) = signature.square_patches()
    {
        let path = path.to_owned();
        return Err(ImportError::Map { path, detail });
    }
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

    // Labels need no map, so then the network may be any.
    let network = match options.without_map {
        true => None,
        false => {
            let network =
                Network::from_probe(&runtime, &directory, &model, &signature, &sidecar, sides)
                    .map_err(|error| error.at(path))?;
            let spec = network.spec(sides, classes, options);
            Some((network, spec))
        }
    };
    let half = network
        .as_ref()
        .map_or(signature.half, |(network, _)| network.is_half());
    options.check_cancelled()?;
    let outputs = finish_graph(&mut model, network.as_ref(), sides, classes, &signature)?;
    directory.write(GRAPH, &model.encode_to_vec())?;
    let after = GraphOutputs::of_import(&runtime, &directory.path(GRAPH), sides)?;
    before.agree_with(&after, path, half)?;
    if let Some((network, spec)) = &network {
        network.agrees_with(&after, spec, path)?;
    }
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
        None => (
            Architecture::unknown(sidecar.name.as_deref().map(quoted), parameters),
            Tokens::UNKNOWN,
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
        graph: manifest_graph(&outputs, precision),
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
    })?;
    Ok(Summary::new(options.out.clone(), manifest, named))
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
    network: Option<&(Network, VitSpec)>,
    sides: [usize; 2],
    classes: usize,
    signature: &Signature,
) -> Result<Vec<Output>, ImportError> {
    let mut outputs = vec![(vit::LOGITS.to_owned(), vec![classes])];
    let Some(graph) = &mut model.graph else {
        return Ok(outputs);
    };
    if let Some((network, spec)) = network {
        let (layers, tokens) = (spec.layers, spec.tokens());
        rewrite::append(
            graph,
            vit::attach_rollout(spec, signature.opset, network.blocks())?,
        );
        outputs.push((vit::ROLLOUT.to_owned(), vec![spec.patches()]));
        outputs.push((vit::ROLLOUT_BY_START.to_owned(), vec![layers, tokens]));
        if spec.pooling == vit::Pooling::ClassToken {
            let axes = vec![layers, spec.heads, tokens];
            outputs.push((vit::CLASS_ATTENTION.to_owned(), axes));
        }
    }
    rewrite::wrap_in_scan(graph, signature.batch, sides, &outputs);
    rewrite::declare(graph, sides, &outputs);
    Ok(outputs)
}

fn manifest_graph(outputs: &[Output], precision: Precision) -> manifest::Graph {
    let named = |name: &str| {
        outputs
            .iter()
            .any(|(output, _)| output == name)
            .then(|| name.to_owned())
    };
    let rollout = named(vit::ROLLOUT);
    manifest::Graph {
        file: GRAPH.to_owned(),
        input: vit::PIXEL_VALUES.to_owned(),
        logits: vit::LOGITS.to_owned(),
        without_map: match rollout {
            Some(_) => None,
            None => Some(
                "the graph was imported with --without-map, so its attention was not looked for"
                    .to_owned(),
            ),
        },
        rollout,
        rollout_by_start: named(vit::ROLLOUT_BY_START),
        precision,
        class_attention: named(vit::CLASS_ATTENTION),
        without_attribution: Some(WITHOUT_ATTRIBUTION.to_owned()),
        attribution: None,
    }
}
