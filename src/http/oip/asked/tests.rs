use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn demo() -> ModelInfo {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    ModelInfo::open(&folder).unwrap()
}

const FRAMING: Framing = Framing {
    coding: Coding::Identity,
    json_length: None,
    limit: 10 << 20,
    most: 4,
};

fn read(face: Face, request: &Value) -> Result<Asked> {
    let body = serde_json::to_vec(request).unwrap();
    Asked::read(body.into(), FRAMING, face, &demo())
}

fn refusal(face: Face, request: &Value) -> String {
    let why = read(face, request).unwrap_err();
    assert_eq!(why.code(), "malformed_request");
    why.to_string()
}

/// A request with encoded pictures; `R0lG` is base64 of `GIF`.
fn pictures(shape: &Value, count: usize) -> Value {
    let input =
        json!({"name": "image", "datatype": "BYTES", "shape": shape, "data": vec!["R0lG"; count]});
    json!({"inputs": [input]})
}

fn tensor(name: &str, shape: [usize; 4]) -> Value {
    let values = vec![0.5; shape.iter().product()];
    json!({"inputs": [{"name": name, "datatype": "FP32", "shape": shape, "data": values}]})
}

#[test]
fn rows_are_taken_apart() {
    let asked = read(Face::Plain, &tensor("pixel_values", [2, 3, 224, 224])).unwrap();
    let Rows::Tensors(rows) = asked.rows else {
        panic!("tensors were sent");
    };
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| *row == [0.5; 3 * 224 * 224]));
}

#[test]
fn pictures_come_as_a_row_or_a_column() {
    for shape in [json!([2]), json!([2, 1])] {
        let asked = read(Face::Image, &pictures(&shape, 2)).unwrap();
        assert!(matches!(asked.rows, Rows::Pictures(rows) if rows == ["GIF", "GIF"]));
    }
}

#[test]
fn another_shape_name_or_number_of_rows_is_refused() {
    let plain = |request: &Value| refusal(Face::Plain, request);
    let other = plain(&tensor("pixel_values", [1, 3, 8, 8]));
    assert!(
        other.contains("[1, 3, 8, 8] instead of [n, 3, 224, 224]"),
        "{other}"
    );
    let other = plain(&tensor("x", [1, 3, 8, 8]));
    assert!(other.contains("`pixel_values`"), "{other}");
    for (shape, count) in [(json!([0]), 0), (json!([5]), 5)] {
        let why = refusal(Face::Image, &pictures(&shape, count));
        assert!(why.contains("1 to 4 rows"), "{why}");
    }
    for shape in [json!([]), json!([1, 2]), json!([1, 1, 1])] {
        let why = refusal(Face::Image, &pictures(&shape, 1));
        assert!(why.contains("instead of [n]"), "{why}");
    }
}

#[test]
fn a_model_has_one_input() {
    let mut request = pictures(&json!([1]), 1);
    request["inputs"] = json!([]);
    assert!(refusal(Face::Image, &request).contains("has 0"));
}

#[test]
fn outputs_are_those_that_were_asked_for_in_their_order() {
    let mut request = pictures(&json!([1]), 1);
    let all = read(Face::Image, &request).unwrap().outputs;
    assert_eq!(
        all.iter().map(|output| output.name).collect::<Vec<_>>(),
        ["logits", "rollout"]
    );

    request["parameters"] = json!({"binary_data_output": true});
    request["outputs"] = json!([
        {"name": "rollout", "parameters": {"binary_data": false}},
        {"name": "logits", "parameters": {"classification": 3}}]);
    let some = read(Face::Image, &request).unwrap().outputs;
    let rollout = Wanted {
        name: "rollout",
        binary: false,
        classes: None,
    };
    let logits = Wanted {
        name: "logits",
        binary: true,
        classes: Some(3),
    };
    assert_eq!(some, [rollout, logits]);
}

#[test]
fn outputs_that_cannot_be_are_named() {
    let mut request = pictures(&json!([1]), 1);
    request["outputs"] = json!([{"name": "rollout"}]);
    assert!(read(Face::Image, &request).is_ok());
    for (output, word) in [
        (json!({"name": "probabilities"}), "logits, rollout"),
        (
            json!({"name": "rollout", "parameters": {"classification": 1}}),
            "only logits",
        ),
        (
            json!({"name": "logits", "parameters": {"classification": 0}}),
            "1 or more",
        ),
    ] {
        request["outputs"] = json!([output]);
        let why = refusal(Face::Image, &request);
        assert!(why.contains(word), "{why}");
    }
    // The face for generic clients has one output.
    let mut plain = tensor("pixel_values", [1, 3, 224, 224]);
    plain["outputs"] = json!([{"name": "rollout"}]);
    assert!(refusal(Face::Plain, &plain).contains("outputs are logits"));
}

/// 2.7 KB with sixteen times the same output were answered with 299 MB.
#[test]
fn an_output_comes_once() {
    let mut request = pictures(&json!([1]), 1);
    for twice in [
        json!([{"name": "logits"}, {"name": "logits"}]),
        json!([{"name": "logits"}, {"name": "rollout"},
               {"name": "logits", "parameters": {"classification": 2}}]),
    ] {
        request["outputs"] = twice;
        let why = refusal(Face::Image, &request);
        assert!(
            why.contains("output `logits`: it is asked for twice"),
            "{why}"
        );
    }
}

#[test]
fn an_answer_that_could_become_too_long_is_refused_unmade() {
    let mut model = demo();
    // Four rows of a million numbers in JSON are 64 MB at the most, in binary 16 MB.
    model.manifest.task.classes = 1_000_000;
    let mut request = pictures(&json!([4]), 4);
    let read = |request: &Value| {
        let body = serde_json::to_vec(request).unwrap();
        Asked::read(body.into(), FRAMING, Face::Image, &model)
    };
    let why = read(&request).unwrap_err().to_string();
    assert!(why.contains("at most 33554432 are sent"), "{why}");
    request["parameters"] = json!({"binary_data_output": true});
    assert!(read(&request).is_ok());
}

#[test]
fn a_header_of_zero_makes_the_body_the_only_input() {
    let framing = Framing {
        json_length: Some(0),
        ..FRAMING
    };
    let model = demo();
    let asked = Asked::read("GIF".into(), framing, Face::Image, &model).unwrap();
    assert!(matches!(asked.rows, Rows::Pictures(rows) if rows == ["GIF"]));
    assert!(asked.outputs.iter().all(|output| output.binary));
    let tensor = vec![0; 4 * 3 * 224 * 224];
    let asked = Asked::read(tensor.into(), framing, Face::Explain, &model).unwrap();
    assert_eq!(asked.outputs.len(), 2);
    assert!(Asked::read("abc".into(), framing, Face::Plain, &model).is_err());
}
