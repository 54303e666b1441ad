//! A graph that was exported elsewhere: by torch's two exporters, optimum or timm, with logits only.
//!
//! ```text
//!  file ──► signature ──► spelled ──► attention ──► probe ──► surgery ──► check
//!  graph,   input,        Attention   softmaxes     shapes,   names,      runs before
//!  data     logits,       written     by pattern    readout   batch,      and after
//!           patches       out                       by run    rollout     agree
//! ```
//!
//! A map is only made where the graph itself shows that it is right: its attention matrices have
//! the pattern, number, order and shape of a Vision Transformer's, and the tokens that the
//! classifier reads are found by running it. [`described`] is what lies beside the graph, and has
//! to agree.

mod attention;
mod check;
mod described;
mod file;
mod network;
mod probe;
mod signature;
mod spelled;
mod surgery;

use std::path::Path;

use prost::Message;

pub(super) use self::described::Described;
use self::{
    check::Answers,
    file::Exported,
    network::Network,
    signature::{Batch, Signature},
    surgery::Output,
};
use super::{
    ImportError, ImportOptions, Progress, Summary,
    directory::{self, Directory, GRAPH},
    error::quoted,
    labels,
    source::Located,
    tensor_file::named_digest,
};
use crate::{
    model::manifest::{self, Architecture, FORMAT, Manifest, Precision, Rollout, Task, Tokens},
    onnx::{
        proto::ModelProto,
        vit::{self, VitSpec},
    },
};

const WITHOUT_EVIDENCE: &str =
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
    let located = Located::of_graph(path)?;
    let Exported { mut model, files } = Exported::read(path)?;
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
    let described = Described::read(&located, options, patch, classes)?;
    let sides = sides(&signature, &described)?;
    let before = Answers::of_export(&runtime, path, &signature, sides)?;
    let classes = before.classes(path)?;

    surgery::adopt(&mut model, &signature, sides, classes);
    spelled::spell_out(&mut model);
    let mut directory = Directory::prepare(&options.out)?;
    let parameters = model.graph.as_ref().map_or(0, file::parameters);
    place_constants(path, &mut model, &mut directory, options, progress)?;

    // Labels need no map, so then the network may be any.
    let network = match options.without_map {
        true => None,
        false => {
            let network =
                Network::seen(&runtime, &directory, &model, &signature, &described, sides)
                    .map_err(|why| why.at(path))?;
            let spec = network.spec(sides, classes, options);
            Some((network, spec))
        }
    };
    let half = network
        .as_ref()
        .map_or(signature.half, |(network, _)| network.is_half());
    options.go_on()?;
    let outputs = finish_graph(&mut model, network.as_ref(), sides, classes, &signature)?;
    directory.write(GRAPH, &model.encode_to_vec())?;
    let after = Answers::of_import(&runtime, &directory.path(GRAPH), sides)?;
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
            Architecture::unknown(described.name.as_deref().map(quoted), parameters),
            Tokens::UNKNOWN,
        ),
    };

    let own_labels = described.labels;
    let (labels, named) = labels::settle(options.labels.as_deref(), own_labels, classes)?;
    directory.write_labels(&labels)?;
    let mut source_files = described.source_files;
    for file in &files {
        source_files.extend([named_digest(file)?]);
    }
    let manifest = directory.finish(Manifest {
        format: FORMAT,
        architecture,
        task: Task {
            kind: described.task,
            classes,
            caution: None,
            whole_labels: Vec::new(),
        },
        graph: described_graph(&outputs, precision),
        tokens,
        rollout: Rollout {
            head_fusion: options.head_fusion,
        },
        preprocess: described.preprocess,
        files: Default::default(),
        provenance: directory::provenance("onnx", source_files),
    })?;
    Ok(Summary::new(options.out.clone(), manifest, named))
}

/// Everything that is done to a graph before it is run for the first time, and what is then looked
/// for in it.
///
/// # Errors
/// Why it would be refused.
#[cfg(any(test, fuzzing))]
pub(crate) fn look(path: &Path) -> Result<(), ImportError> {
    let Exported { mut model, .. } = Exported::read(path)?;
    let signature = Signature::of(&model, path)?;
    surgery::adopt(&mut model, &signature, [32, 32], 10);
    spelled::spell_out(&mut model);
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
    directory: &mut Directory,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImportError> {
    let Some(graph) = &mut model.graph else {
        return Ok(());
    };
    let total = graph.initializer.len();
    let mut counted = |done| {
        options.go_on()?;
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

/// Height and width of the input: fixed in the graph, or as described; and as asked for.
fn sides(signature: &Signature, described: &Described) -> Result<[usize; 2], ImportError> {
    let made = described.preprocess.input_size().unwrap_or_default();
    let made = [made.0 as usize, made.1 as usize];
    let stored = described.image.unwrap_or(made);
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

/// Adds the rollout, declares the ends, and makes the batch free. What comes out, in order.
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
        surgery::append(graph, vit::tap(spec, signature.opset, network.blocks())?);
        outputs.push((vit::ROLLOUT.to_owned(), vec![spec.patches()]));
        outputs.push((vit::ROLLOUT_BY_START.to_owned(), vec![layers, tokens]));
        if spec.readout == vit::Readout::ClassToken {
            let axes = vec![layers, spec.heads, tokens];
            outputs.push((vit::CLASS_ATTENTION.to_owned(), axes));
        }
    }
    surgery::for_any_batch(graph, signature.batch, sides, &outputs);
    surgery::declare(graph, sides, &outputs);
    Ok(outputs)
}

fn described_graph(outputs: &[Output], precision: Precision) -> manifest::Graph {
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
        without_evidence: Some(WITHOUT_EVIDENCE.to_owned()),
        evidence: None,
    }
}
