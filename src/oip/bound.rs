//! How long a response can become, known before anything is run.

use super::Face;
use crate::model::{Labels, Manifest};

/// A request whose answer could be longer is refused: a question of a few bytes must not take
/// memory and bandwidth without an end. All labels of sixteen rows of ImageNet-21k, the largest set
/// of classes in use, fit in.
pub const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// A float32 in JSON has at most 14 characters (`-1.1754944e-38`), and a comma.
const JSON_NUMBER: usize = 16;

/// `{:.6}` of the largest float32: a sign, 39 digits, a point and 6 digits.
const LOGIT_TEXT: usize = 47;

/// Two colons, a comma and two quotation marks in JSON, a length in binary.
const AROUND_TEXT: usize = 6;

/// The most bytes that one output takes for so many rows. `classes` is the count of the
/// classification extension.
pub fn max_bytes(
    manifest: &Manifest,
    labels: &Labels,
    output: &str,
    classes: Option<usize>,
    binary: bool,
    rows: usize,
) -> usize {
    let row = match classes {
        Some(count) => text_row(manifest.task.classes, labels, count),
        None => {
            let values: usize = Face::output_shape(manifest, output).iter().product();
            values.saturating_mul(if binary { 4 } else { JSON_NUMBER })
        }
    };
    row.saturating_mul(rows)
}

fn text_row(classes: usize, labels: &Labels, count: usize) -> usize {
    let count = count.min(classes);
    let digits = classes.max(1).ilog10() as usize + 1;
    let lengths = (0..classes).map(|class| json_length(labels.name(class)));
    let (longest, all) = lengths.fold((0, 0_usize), |(longest, all), length| {
        (length.max(longest), all.saturating_add(length))
    });
    // As many labels are no longer than the longest each, nor than all labels together.
    let names = all.min(longest.saturating_mul(count));
    names.saturating_add(count.saturating_mul(LOGIT_TEXT + digits + AROUND_TEXT))
}

/// Bytes of a text within a JSON string, which are no fewer than in binary.
fn json_length(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        model::ModelInfo,
        oip::{InferResponse, Tensor, Values, face::LOGITS, response::classification},
    };

    fn demo() -> ModelInfo {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        ModelInfo::open(&folder).unwrap()
    }

    fn written(tensor: Tensor) -> usize {
        let empty = InferResponse {
            model_name: String::new(),
            model_version: "1",
            id: None,
            outputs: Vec::new(),
        };
        let frame = empty.encode().unwrap().body.len();
        let outputs = vec![tensor];
        let body = InferResponse { outputs, ..empty }.encode().unwrap().body;
        // The output's own frame is no part of the bound.
        body.len() - frame - 100
    }

    #[test]
    fn the_longest_numbers_stay_within_the_bound() {
        let model = demo();
        let classes = model.manifest.task.classes;
        for value in [
            f32::MIN_POSITIVE,
            -1.175_494_4e-38,
            f32::MIN,
            -0.012_345_679,
        ] {
            for binary in [false, true] {
                let tensor = Tensor {
                    name: LOGITS,
                    shape: vec![3, classes],
                    values: Values::Fp32(vec![value; 3 * classes]),
                    binary,
                };
                let most = max_bytes(&model.manifest, &model.labels, LOGITS, None, binary, 3);
                assert!(written(tensor) <= most, "{value}");
            }
        }
    }

    #[test]
    fn the_longest_texts_stay_within_the_bound() {
        let model = demo();
        let classes = model.manifest.task.classes;
        let rows = vec![vec![f32::MIN; classes]; 2];
        let order = |_: &[f32], count: usize| (0..count).collect();
        for count in [1, 7, classes, 10 * classes] {
            for binary in [false, true] {
                let label = |class| model.labels.name(class);
                let tensor = classification(LOGITS, &rows, count, order, label, binary);
                let most = max_bytes(
                    &model.manifest,
                    &model.labels,
                    LOGITS,
                    Some(count),
                    binary,
                    2,
                );
                assert!(written(tensor) <= most, "{count} {binary}");
            }
        }
    }

    /// 21,843 classes, the labels of about 30 bytes that timm writes for them.
    #[test]
    fn all_of_the_largest_set_of_classes_fits_in() {
        let mut model = demo();
        model.manifest.task.classes = 21_843;
        let lines = vec!["a label of thirty letters, so."; 21_843].join("\n");
        model.labels = Labels::parse(lines.as_bytes()).unwrap();
        let most = |rows| {
            let (manifest, labels) = (&model.manifest, &model.labels);
            max_bytes(manifest, labels, LOGITS, Some(21_843), false, rows)
        };
        assert!(most(16) <= MAX_RESPONSE_BYTES);
        assert!(most(24) > MAX_RESPONSE_BYTES);
    }
}
