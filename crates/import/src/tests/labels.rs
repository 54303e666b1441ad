//! Labels arrive as the checkpoint has them.

use std::{collections::BTreeMap, fs};

use patchlight_model::{ModelInfo, manifest::TaskKind};
use serde_json::json;

use super::Case;

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
