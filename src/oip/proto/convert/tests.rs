use super::*;
use crate::oip::proto::InferTensorContents;

fn tensor(shape: Vec<i64>) -> InferTensor {
    InferTensor {
        name: "pixel_values".to_owned(),
        datatype: "FP32".to_owned(),
        shape,
        ..InferTensor::default()
    }
}

fn request(inputs: Vec<InferTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
    ModelInferRequest {
        inputs,
        raw_input_contents: raw.iter().map(|bytes| Bytes::from_static(bytes)).collect(),
        ..ModelInferRequest::default()
    }
}

fn refusal(request: ModelInferRequest) -> String {
    let error = request.into_request().unwrap_err();
    assert_eq!(error.code(), "malformed_request");
    error.to_string()
}

#[test]
fn a_message_that_contradicts_itself_is_refused() {
    let raw = request(vec![tensor(vec![1])], &[b"abcd", b"efgh"]);
    assert!(refusal(raw).contains("2 elements for 1 inputs"));
    assert!(refusal(request(vec![tensor(vec![1])], &[])).contains("neither contents"));
    assert!(refusal(request(vec![tensor(vec![-1])], &[b"abcd"])).contains("negative"));
    let many = request(vec![tensor(vec![1; 9])], &[b"abcd"]);
    assert!(refusal(many).contains("9 dimensions"));
    let inputs = vec![tensor(vec![1]); 17];
    assert!(refusal(request(inputs, &[])).contains("at most 16"));
    let both = InferTensor {
        contents: Some(InferTensorContents::default()),
        ..tensor(vec![1])
    };
    assert!(refusal(request(vec![both], &[b"abcd"])).contains("beside"));
    let long = ModelInferRequest {
        id: "x".repeat(1025),
        ..ModelInferRequest::default()
    };
    assert!(refusal(long).contains("1025 bytes"));
}

#[test]
fn what_is_empty_is_not_there() {
    let read = request(vec![tensor(vec![1])], &[b"abcd"]).into_request();
    let read = read.unwrap();
    assert_eq!((read.id, read.timeout), (None, None));
    assert!(read.outputs.is_none() && read.binary_output);
}

#[test]
fn a_timeout_of_zero_is_none_and_a_text_is_refused() {
    let timeout = |value: Parameter| {
        let mut request = request(vec![tensor(vec![1])], &[b"abcd"]);
        let value = InferParameter { value: Some(value) };
        request.parameters.insert("timeout".to_owned(), value);
        request.into_request().map(|request| request.timeout)
    };
    assert_eq!(timeout(Parameter::Int64(0)).unwrap(), None);
    let second = Some(Duration::from_secs(1));
    assert_eq!(timeout(Parameter::Int64(1_000_000)).unwrap(), second);
    assert_eq!(timeout(Parameter::Uint64(1_000_000)).unwrap(), second);
    for wrong in [Parameter::Int64(-1), Parameter::Text("1".to_owned())] {
        let error = timeout(wrong).unwrap_err();
        assert!(error.to_string().contains("`timeout`"), "{error}");
    }
}
