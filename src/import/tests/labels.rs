//! Labels arrive as the checkpoint has them.

use std::{collections::BTreeMap, fs};

use serde_json::json;

use super::Case;
use crate::model::{ModelInfo, manifest::TaskKind};

#[test]
fn labels_are_ordered_by_number() {
    let case = Case::new();
    let labels = json!({"6": "g", "5": "f", "0": "a", "1": "b", "2": "c", "3": "d", "4": "e"});
    case.edit("config.json", json!({"id2label": labels}));
    case.import().unwrap();
    let text = fs::read_to_string(case.out().join("labels.txt")).unwrap();
    assert_eq!(text, "a\nb\nc\nd\ne\nf\ng\n");
}

/// Whatever JSON can hold: nothing of it is trimmed, escaped or taken for the end of a line.
#[test]
fn odd_labels_survive_byte_for_byte() {
    let odd = [
        "",
        " \"quoted\", it's\\n ",
        "tab\there",
        "two\nlines\r\n",
        "猫\u{2028}\u{feff}e\u{301}",
        "\u{1b}[31m\0",
        "",
    ];
    let case = Case::new();
    let by_id: BTreeMap<String, &str> = (0..).map(|id: usize| id.to_string()).zip(odd).collect();
    case.edit("config.json", json!({"id2label": by_id}));
    case.import().unwrap();
    let model = ModelInfo::open(&case.out()).unwrap();
    let found: Vec<&str> = (0..odd.len())
        .map(|class| model.labels.name(class))
        .collect();
    assert_eq!(found, odd);
}

/// As transformers' pipeline does: a softmax over one class would be 1 for every picture.
#[test]
fn a_single_class_gets_a_sigmoid() {
    let case = Case::new();
    case.edit_tensors(|tensors| {
        for (name, _, shape, data) in tensors {
            if name.starts_with("classifier.") {
                data.truncate(data.len() / shape[0]);
                shape[0] = 1;
            }
        }
    });
    case.edit("config.json", json!({"id2label": {"0": "cat"}}));
    assert_eq!(
        case.import().unwrap().manifest.task.kind,
        TaskKind::MultiLabel
    );
}

/// As some training scripts write them: transformers itself would number the classes.
#[test]
fn labels_by_name_are_turned_round() {
    let case = Case::new();
    let ids = json!({"a": 0, "b": 1, "g": "6", "f": 5, "c": 2, "e": 4, "d": 3});
    case.edit("config.json", json!({"id2label": null, "label2id": ids}));
    let named = case.import().unwrap().named;
    let text = fs::read_to_string(case.out().join("labels.txt")).unwrap();
    assert_eq!((text.as_str(), named), ("a\nb\nc\nd\ne\nf\ng\n", true));
}

#[test]
fn labels_by_name_that_leave_a_class_open_are_refused() {
    for (ids, said) in [
        (json!({"a": 0, "b": 0}), "class 0 to both `a` and `b`"),
        (json!({"a": 0, "b": 2}), "no label for class 1 of 7"),
        (json!({"a": 0, "b": "two"}), "gives `b` no whole number"),
    ] {
        let case = Case::new();
        case.edit("config.json", json!({"id2label": null, "label2id": ids}));
        case.refused(&["`label2id`", said]);
    }
}

#[test]
fn where_both_are_there_the_numbers_decide_as_in_transformers() {
    let case = Case::new();
    let by_id = json!({"0": "a", "1": "b", "2": "c", "3": "d", "4": "e", "5": "f", "6": "g"});
    let fields = json!({"id2label": by_id, "label2id": {"x": 0}});
    case.edit("config.json", fields);
    case.import().unwrap();
    let text = fs::read_to_string(case.out().join("labels.txt")).unwrap();
    assert_eq!(text, "a\nb\nc\nd\ne\nf\ng\n");
}
