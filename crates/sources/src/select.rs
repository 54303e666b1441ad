//! Which of the files that a source has an import needs.

use std::collections::BTreeSet;

use patchlight_model::MANIFEST;
use serde::Deserialize;

/// What a source holds, told from the names of its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Selection {
    /// A model directory: its manifest lists the rest.
    ModelDir,
    /// A checkpoint.
    Checkpoint {
        /// Descriptions beside the weights.
        descriptions: Vec<String>,
        /// The file that the importer is given.
        weights: String,
        /// What belongs to it: how its other parts are found.
        parts: Parts,
    },
}

/// The other files that weights consist of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Parts {
    /// These, which may be none.
    Listed(Vec<String>),
    /// The shards that the index names.
    Shards,
}

/// What the importer reads beside weights.
const DESCRIPTIONS: [&str; 3] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
];

/// Usual names of weights, the best first: nothing of a pickle is run, but safetensors are what
/// everybody else reads by now.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Endings of other weights, the best first; several of the best ending are a question.
const ENDINGS: [&str; 6] = ["safetensors", "npz", "pth", "pt", "bin", "ckpt"];

/// What training programs write beside the weights, and is none.
const OF_TRAINING: [&str; 6] = [
    "adapter_model.safetensors",
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
];

/// Chooses among the names of files, `/` between folders.
///
/// # Errors
/// What is there instead of weights, in words.
pub(crate) fn select(names: &[String]) -> Result<Selection, String> {
    let has = |name: &str| names.iter().any(|other| other == name);
    if has(MANIFEST) {
        return Ok(Selection::ModelDir);
    }
    if let Some(name) = WEIGHTS.into_iter().find(|name| has(name)) {
        let parts = match name.ends_with(".index.json") {
            true => Parts::Shards,
            false => Parts::Listed(Vec::new()),
        };
        return Ok(checkpoint(names, name, parts));
    }
    for ending in ENDINGS {
        let mut found = names.iter().filter(|name| is_weights(name, ending));
        match (found.next(), found.next()) {
            (Some(only), None) => {
                return Ok(checkpoint(names, only, Parts::Listed(Vec::new())));
            }
            (Some(one), Some(other)) => {
                return Err(format!(
                    "it has several files of weights ({one}, {other}, …), and none that is called \
                     {}; download the one that is meant, and import it",
                    WEIGHTS[0]
                ));
            }
            (None, _) => {}
        }
    }
    if let Some(graph) = graph(names) {
        // Constants beside a graph are called after it, whoever exported it.
        let parts = names.iter().filter(|name| {
            name.strip_prefix(graph)
                .is_some_and(|rest| rest.starts_with(['.', '_']) && !rest.contains('/'))
        });
        let parts = Parts::Listed(parts.cloned().collect());
        return Ok(checkpoint(names, graph, parts));
    }
    Err(nothing(names))
}

/// The shards that an index lists.
///
/// # Errors
/// If it is no index, or a shard is not among the names.
pub(crate) fn shards(index: &[u8], names: &[String]) -> Result<Vec<String>, String> {
    let shards = listed_shards(index)?;
    match shards.iter().find(|shard| !names.contains(shard)) {
        Some(missing) => Err(format!(
            "lists the shard {}, which is not there",
            patchlight_escape::Excerpt(missing)
        )),
        None => Ok(shards),
    }
}

/// The shards that an index lists, whether or not they are there.
///
/// # Errors
/// If it is no index, or a shard's name leads elsewhere.
pub(crate) fn listed_shards(index: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index =
        serde_json::from_slice(index).map_err(|error| format!("is no index of shards: {error}"))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards.iter().find(|shard| !is_plain(shard)) {
        Some(name) => Err(format!(
            "lists the shard {}, which is no name of a file",
            patchlight_escape::Excerpt(name)
        )),
        None => Ok(shards.into_iter().collect()),
    }
}

/// The files beside a manifest.
///
/// # Errors
/// If it is no manifest, or lists a path.
pub(crate) fn files_of_manifest(manifest: &str) -> Result<Vec<String>, String> {
    let manifest: patchlight_model::Manifest =
        toml::from_str(manifest).map_err(|error| error.to_string())?;
    manifest.validate().map_err(|errors| errors.join("; "))?;
    let mut files: BTreeSet<String> = manifest.files.into_keys().collect();
    files.insert(patchlight_model::LABELS.to_owned());
    Ok(files.into_iter().collect())
}

/// Whether a name stays below the directory that it is put into.
pub(crate) fn is_plain(name: &str) -> bool {
    let component = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.split('/').all(component) && !name.contains(['\\', '\0'])
}

/// Whether a name may be one of the shards of an index: it lies beside it and has its ending.
pub(crate) fn is_shard(name: &str, index: &str) -> bool {
    let whole = index.strip_suffix(".index.json").unwrap_or(index);
    let ending = whole.rsplit_once('.').map_or("", |(_, ending)| ending);
    is_weights(name, ending)
}

/// Every name that could be chosen, for servers that list nothing; those of shards come from their
/// index, those beside a manifest from it.
pub(crate) fn candidates() -> impl Iterator<Item = &'static str> {
    const GRAPHS: [&str; 6] = [
        "model.onnx",
        "model.onnx.data",
        "model.onnx_data",
        "onnx/model.onnx",
        "onnx/model.onnx.data",
        "onnx/model.onnx_data",
    ];
    [MANIFEST]
        .into_iter()
        .chain(WEIGHTS)
        .chain(DESCRIPTIONS)
        .chain(GRAPHS)
}

/// What lies beside a file of weights that was named itself.
pub(crate) fn beside(weights: &str) -> Vec<String> {
    let mut names = DESCRIPTIONS.map(str::to_owned).to_vec();
    if weights.to_ascii_lowercase().ends_with(".onnx") {
        names.extend([".data", "_data"].map(|ending| format!("{weights}{ending}")));
    }
    names
}

fn checkpoint(names: &[String], weights: &str, parts: Parts) -> Selection {
    let descriptions = DESCRIPTIONS
        .iter()
        .filter(|name| names.iter().any(|n| n == *name));
    Selection::Checkpoint {
        descriptions: descriptions.map(|&name| name.to_owned()).collect(),
        weights: weights.to_owned(),
        parts,
    }
}

/// Whether a name at the top has this ending and is of weights.
fn is_weights(name: &str, ending: &str) -> bool {
    let has_ending = name
        .rsplit_once('.')
        .is_some_and(|(stem, found)| !stem.is_empty() && found.eq_ignore_ascii_case(ending));
    has_ending && !name.contains('/') && !name.starts_with('.') && !OF_TRAINING.contains(&name)
}

/// The exported graph: at the top, or where optimum puts it.
fn graph(names: &[String]) -> Option<&str> {
    let find = |wanted: &str| names.iter().find(|name| *name == wanted);
    if let Some(name) = find("model.onnx").or_else(|| find("onnx/model.onnx")) {
        return Some(name);
    }
    let mut graphs = names.iter().filter(|name| is_weights(name, "onnx"));
    match (graphs.next(), graphs.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// That nothing can be imported, and what there is instead.
fn nothing(names: &[String]) -> String {
    const ELSEWHERE: [(&str, &str); 4] = [
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("model.gguf", "llama.cpp"),
        ("adapter_model.safetensors", "adapters (PEFT)"),
    ];
    let other = ELSEWHERE
        .iter()
        .find(|(name, _)| names.iter().any(|found| found == name));
    let found = match (other, names.len()) {
        (Some((name, whose)), _) => format!("it has {name}, which is of {whose}"),
        (None, 0) => "it has no files".to_owned(),
        (None, count) => format!("none of its {count} files is one"),
    };
    format!(
        "there are no weights that can be imported: {found}; expected is {}, its shards with their \
         index, pytorch_model.bin, or a single file that ends in .safetensors, .npz, .pth, .pt, \
         .bin, .ckpt or .onnx",
        WEIGHTS[0]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<(String, Vec<String>, Parts), String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        match select(&names)? {
            Selection::ModelDir => Ok((MANIFEST.to_owned(), Vec::new(), Parts::Shards)),
            Selection::Checkpoint {
                descriptions,
                weights,
                parts,
            } => Ok((weights, descriptions, parts)),
        }
    }

    #[test]
    fn safetensors_go_before_pickles_and_shards() {
        let (weights, descriptions, parts) = of(&[
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "model.safetensors",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "tf_model.h5",
        ])
        .unwrap();
        assert_eq!(weights, "model.safetensors");
        assert_eq!(descriptions, ["config.json", "preprocessor_config.json"]);
        assert_eq!(parts, Parts::Listed(Vec::new()));
    }

    #[test]
    fn what_training_leaves_is_no_weights() {
        let (weights, ..) = of(&["training_args.bin", "optimizer.pt", "best.pth"]).unwrap();
        assert_eq!(weights, "best.pth");
    }

    #[test]
    fn several_of_the_best_ending_are_a_question() {
        let error = of(&["a.safetensors", "b.safetensors", "c.npz"]).unwrap_err();
        assert!(error.contains("a.safetensors, b.safetensors"), "{error}");
    }

    #[test]
    fn a_graph_in_a_folder_comes_with_its_constants() {
        let (weights, _, parts) = of(&[
            "config.json",
            "onnx/model.onnx",
            "onnx/model.onnx_data",
            "onnx/model_fp16.onnx",
        ])
        .unwrap();
        assert_eq!(weights, "onnx/model.onnx");
        assert_eq!(
            parts,
            Parts::Listed(vec!["onnx/model.onnx_data".to_owned()])
        );
    }

    #[test]
    fn weights_in_folders_and_hidden_ones_are_not_looked_at() {
        assert!(of(&["checkpoint-5/model.safetensors", ".model.pth"]).is_err());
    }

    #[test]
    fn a_manifest_makes_it_a_model_directory() {
        assert_eq!(of(&["model.onnx", "model.toml"]).unwrap().0, MANIFEST);
    }

    #[test]
    fn weights_of_other_programs_are_named() {
        let error = of(&["config.json", "tf_model.h5"]).unwrap_err();
        assert!(error.contains("TensorFlow"), "{error}");
        assert!(of(&[]).unwrap_err().contains("no files"));
    }

    #[test]
    fn every_shard_once_and_only_those_that_are_there() {
        let index = br#"{"weight_map": {"a": "s-1.safetensors", "b": "s-2.safetensors", "c": "s-1.safetensors"}}"#;
        let names = ["s-1.safetensors", "s-2.safetensors"].map(str::to_owned);
        assert_eq!(shards(index, &names).unwrap(), names);
        assert!(shards(index, &names[..1]).unwrap_err().contains("s-2"));
        let up = br#"{"weight_map": {"a": "../../x"}}"#;
        assert!(shards(up, &names).is_err());
    }

    #[test]
    fn names_that_lead_out_of_the_cache_are_none() {
        for name in ["a", "a/b.json", "a..b"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", "/etc/passwd", "../a", "a/../b", "a//b", "a\\b", "./a"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
