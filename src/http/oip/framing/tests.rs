use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::{oip::OutputSpec, service::Rows};

fn demo() -> ModelInfo {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    ModelInfo::open(&folder).unwrap()
}

const FRAMING: Framing = Framing {
    encoding: ContentEncoding::Identity,
    json_length: None,
    limit: 10 << 20,
    max_rows: 4,
};

fn read(variant: ModelVariant, request: &Value) -> Result<ParsedInferRequest> {
    let body = serde_json::to_vec(request).unwrap();
    FRAMING.read(body.into(), variant, &demo())
}

fn refusal(variant: ModelVariant, request: &Value) -> String {
    let error = read(variant, request).unwrap_err();
    assert_eq!(error.code(), "malformed_request");
    error.to_string()
}

/// A request with encoded images; `R0lG` is base64 of `GIF`.
fn images(shape: &Value, count: usize) -> Value {
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
    let parsed = read(
        ModelVariant::Plain,
        &tensor("pixel_values", [2, 3, 224, 224]),
    )
    .unwrap();
    let Rows::Tensors(rows) = parsed.rows else {
        panic!("tensors were sent");
    };
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| *row == [0.5; 3 * 224 * 224]));
}

#[test]
fn images_come_as_a_row_or_a_column() {
    for shape in [json!([2]), json!([2, 1])] {
        let parsed = read(ModelVariant::Image, &images(&shape, 2)).unwrap();
        assert!(matches!(parsed.rows, Rows::Images(rows) if rows == ["GIF", "GIF"]));
    }
}

#[test]
fn another_shape_name_or_number_of_rows_is_refused() {
    let plain = |request: &Value| refusal(ModelVariant::Plain, request);
    let other = plain(&tensor("pixel_values", [1, 3, 8, 8]));
    assert!(
        other.contains("[1, 3, 8, 8] instead of [n, 3, 224, 224]"),
        "{other}"
    );
    let other = plain(&tensor("x", [1, 3, 8, 8]));
    assert!(other.contains("`pixel_values`"), "{other}");
    for (shape, count) in [(json!([0]), 0), (json!([5]), 5)] {
        let error = refusal(ModelVariant::Image, &images(&shape, count));
        assert!(error.contains("1 to 4 rows"), "{error}");
    }
    for shape in [json!([]), json!([1, 2]), json!([1, 1, 1])] {
        let error = refusal(ModelVariant::Image, &images(&shape, 1));
        assert!(error.contains("instead of [n]"), "{error}");
    }
}

#[test]
fn a_model_has_one_input() {
    let mut request = images(&json!([1]), 1);
    request["inputs"] = json!([]);
    assert!(refusal(ModelVariant::Image, &request).contains("has 0"));
}

#[test]
fn outputs_are_those_that_were_asked_for_in_their_order() {
    let mut request = images(&json!([1]), 1);
    let all = read(ModelVariant::Image, &request).unwrap().outputs;
    assert_eq!(
        all.iter().map(|output| output.name).collect::<Vec<_>>(),
        ["logits", "rollout"]
    );

    request["parameters"] = json!({"binary_data_output": true});
    request["outputs"] = json!([
        {"name": "rollout", "parameters": {"binary_data": false}},
        {"name": "logits", "parameters": {"classification": 3}}]);
    let some = read(ModelVariant::Image, &request).unwrap().outputs;
    let rollout = OutputSpec {
        name: "rollout",
        binary: false,
        classes: None,
    };
    let logits = OutputSpec {
        name: "logits",
        binary: true,
        classes: Some(3),
    };
    assert_eq!(some, [rollout, logits]);
}

#[test]
fn outputs_that_cannot_be_are_named() {
    let mut request = images(&json!([1]), 1);
    request["outputs"] = json!([{"name": "rollout"}]);
    assert!(read(ModelVariant::Image, &request).is_ok());
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
        let error = refusal(ModelVariant::Image, &request);
        assert!(error.contains(word), "{error}");
    }
    // The variant for generic clients has one output.
    let mut plain = tensor("pixel_values", [1, 3, 224, 224]);
    plain["outputs"] = json!([{"name": "rollout"}]);
    assert!(refusal(ModelVariant::Plain, &plain).contains("outputs are logits"));
}

/// 2.7 KB with sixteen times the same output were answered with 299 MB.
#[test]
fn an_output_comes_once() {
    let mut request = images(&json!([1]), 1);
    for twice in [
        json!([{"name": "logits"}, {"name": "logits"}]),
        json!([{"name": "logits"}, {"name": "rollout"},
               {"name": "logits", "parameters": {"classification": 2}}]),
    ] {
        request["outputs"] = twice;
        let error = refusal(ModelVariant::Image, &request);
        assert!(
            error.contains("output `logits`: it is asked for twice"),
            "{error}"
        );
    }
}

#[test]
fn an_answer_that_could_become_too_long_is_refused_unmade() {
    let mut model = demo();
    // Four rows of a million numbers in JSON are 64 MB at the most, in binary 16 MB.
    model.manifest.task.classes = 1_000_000;
    let mut request = images(&json!([4]), 4);
    let read = |request: &Value| {
        let body = serde_json::to_vec(request).unwrap();
        FRAMING.read(body.into(), ModelVariant::Image, &model)
    };
    let error = read(&request).unwrap_err().to_string();
    assert!(error.contains("at most 33554432 are sent"), "{error}");
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
    let parsed = framing
        .read("GIF".into(), ModelVariant::Image, &model)
        .unwrap();
    assert!(matches!(parsed.rows, Rows::Images(rows) if rows == ["GIF"]));
    assert!(parsed.outputs.iter().all(|output| output.binary));
    let tensor = vec![0; 4 * 3 * 224 * 224];
    let parsed = framing
        .read(tensor.into(), ModelVariant::Explain, &model)
        .unwrap();
    assert_eq!(parsed.outputs.len(), 2);
    assert!(
        framing
            .read("abc".into(), ModelVariant::Plain, &model)
            .is_err()
    );
}
