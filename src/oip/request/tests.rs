use serde_json::json;

use super::*;

/// JSON, the binary tensors behind it, and the header's value.
fn frame(json: &serde_json::Value, binary: &[u8]) -> (Bytes, Option<usize>) {
    let mut body = serde_json::to_vec(json).unwrap();
    let length = body.len();
    body.extend(binary);
    (body.into(), Some(length))
}

fn read(json: &serde_json::Value, binary: &[u8]) -> Result<InferRequest> {
    let (body, length) = frame(json, binary);
    decode(&body, length)
}

fn refusal(json: &serde_json::Value, binary: &[u8]) -> String {
    read(json, binary).unwrap_err().to_string()
}

fn input(name: &str, size: usize) -> serde_json::Value {
    json!({"name": name, "datatype": "UINT8", "shape": [size], "parameters": {"binary_data_size": size}})
}

#[test]
fn binary_tensors_are_split_in_the_order_of_the_inputs() {
    let request = read(&json!({"inputs": [input("a", 2), input("b", 3)]}), b"xxyyy").unwrap();
    let data = |at: usize| match &request.inputs[at].data {
        Data::Binary(bytes) => bytes.clone(),
        _ => panic!("binary was sent"),
    };
    assert_eq!((&*data(0), &*data(1)), (&b"xx"[..], &b"yyy"[..]));
}

#[test]
fn json_and_binary_inputs_may_be_mixed() {
    let json = json!({"inputs": [
        {"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2]}, input("b", 1)]});
    let request = read(&json, b"x").unwrap();
    assert!(matches!(&request.inputs[0].data, Data::Json(text) if &**text == b"[1,2]"));
    assert!(matches!(&request.inputs[1].data, Data::Binary(bytes) if &**bytes == b"x"));
}

#[test]
fn bytes_that_are_missing_or_left_over_are_refused() {
    let one = json!({"inputs": [input("a", 4)]});
    assert!(refusal(&one, b"abc").contains("3 bytes left"));
    assert!(refusal(&one, b"abcde").contains("1 bytes of the body belong to no input"));
}

#[test]
fn a_header_beyond_the_body_is_refused() {
    let body = Bytes::from_static(b"{}");
    let error = decode(&body, Some(3)).unwrap_err().to_string();
    assert!(error.contains("is 3, the body has 2"), "{error}");
}

#[test]
fn an_input_has_its_data_exactly_once() {
    let neither = json!({"inputs": [{"name": "a", "datatype": "FP32", "shape": [1]}]});
    assert!(refusal(&neither, b"").contains("neither"));
    let mut both = neither;
    both["inputs"][0]["data"] = json!([1]);
    both["inputs"][0]["parameters"] = json!({"binary_data_size": 0});
    assert!(refusal(&both, b"").contains("both"));
}

#[test]
fn parameters_are_read_and_unknown_ones_skipped() {
    let request = read(
        &json!({
            "id": "x", "inputs": [], "model_name": "?",
            "parameters": {"timeout": 2500, "binary_data_output": true, "priority": 3, "mine": [1]},
            "outputs": [{"name": "logits", "parameters": {"classification": 3, "binary_data": false}},
                        {"name": "rollout"}]
        }),
        b"",
    )
    .unwrap();
    assert_eq!(request.id.as_deref(), Some("x"));
    assert_eq!(request.timeout, Some(Duration::from_micros(2500)));
    assert!(request.binary_output);
    let outputs = request.outputs.unwrap();
    assert_eq!(outputs[0].classification, Some(3));
    assert_eq!((outputs[0].binary, outputs[1].binary), (Some(false), None));
}

#[test]
fn a_timeout_of_zero_is_none() {
    let request = read(&json!({"inputs": [], "parameters": {"timeout": 0}}), b"").unwrap();
    assert_eq!(request.timeout, None);
}

#[test]
fn lists_and_shapes_have_an_end() {
    let shape =
        json!({"inputs": [{"name": "a", "datatype": "FP32", "shape": vec![1; 9], "data": []}]});
    assert!(refusal(&shape, b"").contains("at most 8"));
    let inputs = json!({"inputs": vec![input("a", 0); 17]});
    assert!(refusal(&inputs, b"").contains("at most 16"));
}

/// As MLServer's client writes a request: every member that it knows.
#[test]
fn null_is_as_if_it_were_not_there() {
    let request = read(
        &json!({
            "id": null, "parameters": null, "outputs": [{"name": "logits", "parameters": null}],
            "inputs": [
                {"name": "a", "datatype": "FP32", "shape": [1], "parameters": null, "data": [1]},
                {"name": "b", "datatype": "UINT8", "shape": [1], "data": null,
                 "parameters": {"binary_data_size": 1}},
                {"name": "c", "datatype": "FP32", "shape": [1], "data": [2],
                 "parameters": {"binary_data_size": null}},
            ],
        }),
        b"x",
    )
    .unwrap();
    assert_eq!((request.id, request.timeout), (None, None));
    assert!(matches!(&request.inputs[0].data, Data::Json(text) if &**text == b"[1]"));
    assert!(matches!(&request.inputs[1].data, Data::Binary(bytes) if &**bytes == b"x"));
    assert!(matches!(&request.inputs[2].data, Data::Json(text) if &**text == b"[2]"));
    assert_eq!(request.outputs.unwrap()[0].binary, None);
}

/// RFC 8259, section 8.1. The binary tensors begin behind the bytes that the header counts.
#[test]
fn a_byte_order_mark_is_no_json() {
    let text = json!({"inputs": [input("a", 2)]}).to_string();
    let json = format!("\u{feff}{text}");
    let body = [json.as_bytes(), b"xy"].concat();
    let request = decode(&body.into(), Some(json.len())).unwrap();
    assert!(matches!(&request.inputs[0].data, Data::Binary(bytes) if &**bytes == b"xy"));
}

/// A gzip body of 10 KB held names of 10 MB, and the answer had 73 MB.
#[test]
fn names_are_quoted_in_a_hundred_characters() {
    let name = "\u{7f}".repeat(10 << 20);
    let mut wrong = json!({"inputs": [{"name": name, "datatype": "FP32", "shape": [1]}]});
    let error = refusal(&wrong, b"");
    assert!(
        error.len() < 200 && error.contains("neither data nor"),
        "{error}"
    );
    wrong["inputs"][0]["shape"] = json!(name);
    assert!(refusal(&wrong, b"").len() < 300);
    let long = "a".repeat(1025);
    assert!(refusal(&json!({"id": long, "inputs": []}), b"").contains("1025 bytes"));
    assert!(read(&json!({"id": long[1..], "inputs": []}), b"").is_ok());
}

#[test]
fn null_is_no_list_of_outputs() {
    let request = read(&json!({"inputs": [], "outputs": null}), b"").unwrap();
    assert_eq!(request.outputs, None);
}

proptest::proptest! {
    #[test]
    fn whatever_arrives_is_answered(
        body: Vec<u8>, length in proptest::option::of(0_usize..64)
    ) {
        let _ = decode(&body.into(), length);
    }

    /// What is split off the body is exactly what was put behind the JSON.
    #[test]
    fn binary_tensors_come_back_whole(
        tensors in proptest::collection::vec(
            proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20), 0..6)
    ) {
        let inputs: Vec<_> = tensors.iter().map(|tensor| input("a", tensor.len())).collect();
        let request = read(&json!({"inputs": inputs}), &tensors.concat()).unwrap();
        for (input, tensor) in request.inputs.iter().zip(&tensors) {
            match &input.data {
                Data::Binary(bytes) => proptest::prop_assert_eq!(bytes, tensor),
                _ => proptest::prop_assert!(false),
            }
        }
    }
}
