use std::fs;

use patchlight_onnx::{
    graph::{Dim, Graph, Storage},
    tensor::DType,
};
use prost::Message;

use super::*;
use crate::{BareSession, Runtime};

/// As users of ONNX Runtime reported them: issues 9939, 16307 and 16512 of onnxruntime.
#[test]
fn messages_of_exhausted_cards_are_recognised() {
    for message in [
        "Non-zero status code returned while running FusedMatMul node. \
         Name:'MatMul_92_FusedMatMulAndScale' Status Message: \
         /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:331 void* \
         onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for \
         requested buffer of size 8388608000",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=node",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=node",
        "Available memory of 1024 is smaller than requested bytes of 2048",
        "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
    ] {
        assert!(says_so(message), "{message}");
    }
}

#[test]
fn other_failures_of_a_card_are_not() {
    for message in [
        "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "CUDA error executing cudaMemcpy(dst_data, src_data, bytes, cudaMemcpyDeviceToHost)",
        "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED",
        "Got invalid dimensions for input: pixel_values",
    ] {
        assert!(!says_so(message), "{message}");
    }
}

/// The library that is served, asked for 256 TiB.
#[test]
fn the_runtime_s_own_failure_to_allocate_is_recognised() {
    let mut graph = Graph::new("expand", Storage::Inline);
    let x = graph.input("x", DType::F32, &[Dim::Fixed(1)]);
    let shape = graph.int64_constant(&[1 << 46]);
    let expanded = graph.node("Expand", "y", &[&x, &shape], &[]);
    graph.output(&expanded, DType::F32, &[Dim::named("length")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("expand.onnx");
    fs::write(&file, graph.finish().encode_to_vec()).unwrap();

    let runtime = Runtime::load().unwrap();
    let mut session = BareSession::open(&runtime, &file).unwrap();
    let error = session.run(&[("x", &[1], &[1.0])]).unwrap_err();
    let text = error.to_string();
    let error = error.of_batch(8);
    assert!(
        matches!(error, EngineError::OutOfMemory { size: 8, .. }),
        "{text}"
    );
    // Another failure of the same session stays what it is.
    let error = session.run(&[("z", &[1], &[1.0])]).unwrap_err().of_batch(8);
    assert!(matches!(error, EngineError::Ort(_)), "{error}");
}
