//! `patchlight evaluate` as a user runs it.

use std::fs;

use serde_json::Value;

use crate::process::{models, program};

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn samples_are_evaluated_into_a_table_a_plot_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let evaluated = program()
        .arg("evaluate")
        .arg(models("samples"))
        .args(["--steps", "4", "--fill", "blur", "--out"])
        .arg(folder.path())
        .output()
        .expect("the program runs");
    let complaints = String::from_utf8_lossy(&evaluated.stderr);
    assert!(evaluated.status.success(), "{complaints}");

    let table = fs::read_to_string(folder.path().join("evaluation.md")).unwrap();
    let printed = String::from_utf8_lossy(&evaluated.stdout);
    assert!(table.contains(printed.trim()), "{printed}");
    let report = fs::read(folder.path().join("evaluation.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let listed = fs::read(models("samples/samples.json")).unwrap();
    let listed: Vec<Value> = serde_json::from_slice(&listed).unwrap();
    assert_eq!(report["pictures"], listed.len());
    assert_eq!(
        (&report["fill"], &report["steps"]),
        (&"blur".into(), &4.into())
    );

    let rows = report["rows"].as_array().unwrap();
    let kinds: Vec<&Value> = rows.iter().map(|row| &row["kind"]).collect();
    let expected: Value =
        serde_json::json!(["rollout", "last-layer", "evidence", "contrast", null]);
    assert_eq!(
        kinds,
        expected.as_array().unwrap().iter().collect::<Vec<_>>()
    );
    for row in rows {
        let (deletion, insertion) = (&row["deletion"], &row["insertion"]);
        let ends = |curve: &Value| (number(&curve[0]), number(&curve[4]));
        // All orders share their two ends: the whole image and the fill.
        let (whole, fill) = ends(deletion);
        let (from, to) = ends(insertion);
        assert!((whole - to).abs() < 1e-9 && (fill - from).abs() < 1e-9);
        assert!(
            whole > fill,
            "the blurred images are no surer than the images"
        );
        for measure in row["measures"].as_array().unwrap() {
            assert!((0.0..=1.0).contains(&number(&measure["mean"])), "{measure}");
        }
    }
    let random = &rows[4]["measures"];
    assert!((number(&random[3]["mean"]) - number(&random[4]["mean"])).abs() < 1e-9);

    let plot = fs::read_to_string(folder.path().join("evaluation.svg")).unwrap();
    assert_eq!(plot.matches("<polyline").count(), 3 * rows.len());
}

#[test]
fn what_cannot_be_measured_is_named_and_the_rest_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(models("samples/dog.jpg"), folder.path().join("dog.jpg")).unwrap();
    fs::write(folder.path().join("broken.jpg"), b"no picture").unwrap();
    let listing = r#"[{"file": "dog.jpg", "box": [220, 75, 537, 361]},
                      {"file": "broken.jpg", "box": [0, 0, 1, 1]}]"#;
    fs::write(folder.path().join("list.json"), listing).unwrap();
    let evaluated = program()
        .arg("evaluate")
        .arg(folder.path())
        .args(["--steps", "2"])
        .output()
        .expect("the program runs");
    let complaints = String::from_utf8_lossy(&evaluated.stderr);
    assert_eq!(evaluated.status.code(), Some(1), "{complaints}");
    assert!(complaints.contains("broken.jpg") && complaints.contains("not an image"));
    assert!(String::from_utf8_lossy(&evaluated.stdout).contains("images: 1;"));
}
