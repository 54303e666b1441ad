//! Which values the image goes through, and constants on the way.

use std::collections::HashSet;

use patchlight_onnx::{
    graph_index::GraphIndex,
    proto::TensorProto,
    vit::{LOGITS, PIXEL_VALUES},
};

/// Whether nothing of the image reaches the logits but through this value. Lengths of axes are
/// nothing of the image.
pub(super) fn cuts(index: &GraphIndex<'_>, value: &str) -> bool {
    let mut open = vec![LOGITS];
    let mut seen = HashSet::new();
    let mut reached = false;
    while let Some(next) = open.pop() {
        if next == value {
            reached = true;
            continue;
        }
        if next == PIXEL_VALUES {
            return false;
        }
        let Some((at, node)) = index.producer(next) else {
            continue;
        };
        if node.op_type() != "Shape" && seen.insert(at) {
            open.extend(node.input.iter().map(String::as_str));
        }
    }
    reached
}

/// A constant list of int64.
pub(super) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if !tensor.int64_data.is_empty() {
        return Some(tensor.int64_data.clone());
    }
    let bytes = tensor.raw_data.as_deref()?;
    let (whole, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| {
        whole
            .iter()
            .map(|&bytes| i64::from_le_bytes(bytes))
            .collect()
    })
}
