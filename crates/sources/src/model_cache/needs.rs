//! What an import will take, told from the headers of its files.

use std::{fs, path::Path};

use patchlight_import::tensor_file;
use patchlight_model::manifest::Precision;

use crate::{SourceError, space};

/// Makes sure that there are room and memory for an import, as far as headers tell: of a checkpoint
/// (a file of weights, or the directory of one) into a directory that need not be there yet.
///
/// # Errors
/// If there are not.
pub fn check_import(
    checkpoint: &Path,
    out: &Path,
    precision: Precision,
    checked: bool,
) -> Result<(), SourceError> {
    let weights = match checkpoint.is_dir() {
        true => tensor_file::find(checkpoint).ok(),
        false => Some(checkpoint.to_owned()),
    };
    let Some(weights) = weights else {
        return Ok(());
    };
    let purpose = format!("importing {}", checkpoint.display());
    let out = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    let needs = Needs::of(&weights, precision, checked);
    if let Some(there) = out.ancestors().find(|folder| folder.is_dir()) {
        space::check(there, needs.disk, &purpose)?;
    }
    space::check_memory(needs.memory, &purpose)
}

/// Bytes that an import needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Needs {
    pub(super) disk: u64,
    pub(super) memory: u64,
}

/// Constants up to here are written into the graph itself, which is made in memory.
const INLINE: u64 = 64 << 20;

impl Needs {
    /// Of a file of weights. What cannot be read here needs nothing here: the import says what is
    /// wrong with it.
    pub(super) fn of(weights: &Path, precision: Precision, checked: bool) -> Self {
        let exported = weights.extension().is_some_and(|ending| ending == "onnx");
        if exported {
            // Read whole, rewritten, and run once before and once after.
            let size = fs::metadata(weights).map_or(0, |file| file.len());
            return Self {
                disk: 2 * size,
                memory: 4 * size,
            };
        }
        let Ok(file) = tensor_file::open(weights) else {
            return Self { disk: 0, memory: 0 };
        };
        let values = |name: &String| -> u64 {
            let shape = file.shape(name).unwrap_or_default();
            shape.iter().map(|&side| side as u64).product()
        };
        let sizes: Vec<u64> = file.names().iter().map(values).collect();
        let total: u64 = sizes.iter().sum();
        let largest = sizes.iter().copied().max().unwrap_or(0);
        Self::new(total, largest, precision, checked)
    }

    /// Of so many values in total and in the largest tensor.
    fn new(total: u64, largest: u64, precision: Precision, checked: bool) -> Self {
        let float32 = 4 * total;
        let written = match precision {
            Precision::Fp16 | Precision::Bf16 => 2 * total,
            // The classifier and the like stay in float32 whatever is asked for.
            _ => float32,
        };
        // The float32 model, the one that probes and the candidate lie there at the same time.
        let compared = if checked { 3 * float32 } else { 0 };
        let inline = if float32 <= INLINE { 3 * float32 } else { 0 };
        Self {
            disk: written + compared,
            // A tensor as it is stored, in float32, and on its way into the file.
            memory: 3 * 4 * largest + inline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_model_needs_its_size_on_disk_and_a_few_tensors_in_memory() {
        // ViT-L/16: 304 million values, 4096 × 1024 in the largest tensor.
        let needs = Needs::new(304_326_632, 4096 * 1024, Precision::Fp32, false);
        assert_eq!(needs.disk, 4 * 304_326_632);
        assert_eq!(needs.memory, 12 * 4096 * 1024);
    }

    #[test]
    fn a_comparison_needs_room_for_the_models_that_are_compared() {
        let plain = Needs::new(100 << 20, 1 << 20, Precision::Int8, false);
        let checked = Needs::new(100 << 20, 1 << 20, Precision::Int8, true);
        assert_eq!(checked.disk - plain.disk, 3 * (400 << 20));
    }

    #[test]
    fn what_is_no_checkpoint_is_left_to_the_import() {
        let missing = Needs::of(Path::new("nowhere.safetensors"), Precision::Fp32, false);
        assert_eq!(missing, Needs { disk: 0, memory: 0 });
    }
}
