use std::{collections::HashMap, fs};

use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

use super::*;

/// A file of these tensors, with `labels` in its metadata.
fn read(
    tensors: &[(&str, &[usize], &[f32])],
    labels: Option<&str>,
) -> Result<TextEmbeddings, ImportError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("texts.safetensors");
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(.., values)| {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        (*name, view)
    });
    let notes = labels.map(|labels| HashMap::from([(LABELS.to_owned(), labels.to_owned())]));
    fs::write(&path, safetensors::serialize(views, notes).unwrap()).unwrap();
    TextEmbeddings::read(&path)
}

#[track_caller]
fn assert_refused(outcome: Result<TextEmbeddings, ImportError>, expected: &str) {
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

const ROWS: (&str, &[usize], &[f32]) = (EMBEDDINGS, &[2, 2], &[3.0, 4.0, 0.0, 2.0]);

#[test]
fn directions_have_length_one_and_the_scale_is_a_logarithm() {
    let texts = read(&[ROWS, (LOGIT_SCALE, &[1], &[0.0])], Some(r#"["a", "b"]"#)).unwrap();
    assert_eq!(texts.labels, ["a", "b"]);
    assert_eq!(texts.directions, [0.6, 0.8, 0.0, 1.0]);
    assert_eq!(texts.scale.map(f64::exp), Some(1.0));
    assert_eq!(texts.asked_of_checkpoint(true), [LOGIT_BIAS]);
}

#[test]
fn a_scale_that_is_no_logarithm_is_refused() {
    let scale = (LOGIT_SCALE, &[][..], &[100.0][..]);
    assert_refused(
        read(&[ROWS, scale], Some(r#"["a", "b"]"#)),
        "natural logarithm",
    );
}

#[test]
fn rows_without_names_are_refused() {
    assert_refused(read(&[ROWS], None), "models/text_embeddings.py");
    assert_refused(
        read(&[ROWS], Some(r#"["a"]"#)),
        "2 rows, but the metadata has 1 labels",
    );
    assert_refused(read(&[ROWS], Some("a, b")), "no JSON list");
}

#[test]
fn a_row_without_a_direction_is_refused() {
    let rows = (EMBEDDINGS, &[2, 2][..], &[3.0, 4.0, 0.0, 0.0][..]);
    assert_refused(read(&[rows], Some(r#"["a", "b"]"#)), "`b`: its length is 0");
}
