#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| patchlight::fuzzing::grpc(data));
