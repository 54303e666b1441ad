//! `patchlight calibrate` as a user runs it, and what a server then says.

use std::{fs, path::Path};

use image::{ImageFormat, imageops};
use patchlight_splitmix::SplitMix64;
use serde_json::Value;

use crate::{
    client,
    process::{Server, models, program},
};

async fn post_image(server: &Server, path: &str, file: &Path) -> Value {
    let answer = client::post(&server.address, path, fs::read(file).unwrap()).await;
    answer.json()
}

/// A copy of the demo that was never calibrated.
fn demo() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for entry in fs::read_dir(models("demo")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let manifest = folder.path().join("model.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (uncalibrated, _) = text.split_once("[calibration]").unwrap();
    fs::write(&manifest, uncalibrated).unwrap();
    folder
}

/// The samples, cut and dimmed at random, in folders that are named by their labels.
fn labelled(folder: &Path, each: usize) {
    let listing = fs::read(models("samples/samples.json")).unwrap();
    let listing: Vec<Value> = serde_json::from_slice(&listing).unwrap();
    let mut random = SplitMix64::new(1);
    for sample in listing {
        let [file, label] = ["file", "label"].map(|key| sample[key].as_str().unwrap());
        let whole = image::open(models("samples").join(file)).unwrap().to_rgb8();
        let (width, height) = whole.dimensions();
        let out = folder.join(label);
        fs::create_dir_all(&out).unwrap();
        for number in 0..each {
            let mut cut = |side: u32| random.next_below(side as usize / 4 + 1) as u32;
            let (left, top) = (cut(width), cut(height));
            let part = imageops::crop_imm(&whole, left, top, width * 3 / 4, height * 3 / 4);
            let mut part = imageops::thumbnail(&part.to_image(), 120, 120);
            let dim = -(random.next_below(100) as i32);
            imageops::colorops::brighten_in_place(&mut part, dim);
            let path = out.join(format!("{number}.bmp"));
            part.save_with_format(path, ImageFormat::Bmp).unwrap();
        }
    }
}

fn calibrate(model: &Path, arguments: &[&str]) -> (bool, String) {
    let done = program()
        .arg("calibrate")
        .arg(model)
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[tokio::test]
async fn a_calibrated_model_says_what_its_answers_are_worth() {
    let model = demo();
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    labelled(data.path(), 70);
    let path = data.path().to_str().unwrap();
    let samples = models("samples");
    let unlike = samples.to_str().unwrap();
    let flags = ["--data", path, "--unlike", unlike, "--flag-rate", "0.05"];
    let before = fs::read_to_string(model.path().join("model.toml")).unwrap();

    let dry: Vec<&str> = flags.into_iter().chain(["--dry-run"]).collect();
    let (done, said) = calibrate(model.path(), &dry);
    assert!(done, "{said}");
    assert_eq!(
        fs::read_to_string(model.path().join("model.toml")).unwrap(),
        before
    );
    // The images are not run again: what they gave is still there.
    assert!(model.path().join(".calibration-data").exists());
    let (done, said) = calibrate(model.path(), &flags);
    assert!(done, "{said}");
    assert!(
        said.contains("sets at 0.99 takes about 2750 images"),
        "{said}"
    );
    assert!(said.contains("temperature"), "{said}");
    assert!(!model.path().join(".calibration-data").exists());

    let directory = model.path().to_str().unwrap();
    let server = Server::start(&[
        "--model",
        directory,
        "--abstain-unfamiliar",
        "true",
        "--abstain-below",
        "0.01",
    ]);
    let answer = post_image(&server, "/classify", &models("samples/dog.jpg")).await;
    let confidence = &answer["confidence"];
    assert_eq!(confidence["coverage"], 0.95, "{answer}");
    let score = confidence["calibrated_score"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&score), "{answer}");
    assert_eq!(confidence["set"][0], answer["predictions"][0], "{answer}");
    let familiarity = confidence["familiarity"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&familiarity), "{answer}");
    assert_eq!(
        answer["abstain"] == true,
        confidence["familiar"] == false,
        "{answer}"
    );

    let answer = post_image(
        &server,
        "/classify?coverage=0.9",
        &models("samples/dog.jpg"),
    )
    .await;
    assert_eq!(answer["confidence"]["coverage"], 0.9, "{answer}");
    let refused = post_image(
        &server,
        "/classify?coverage=0.99",
        &models("samples/dog.jpg"),
    )
    .await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("0.9, 0.95"), "{refused}");
}

#[tokio::test]
async fn an_uncalibrated_model_has_no_confidence_and_says_how_to_get_it() {
    let model = demo();
    let server = Server::start(&["--model", model.path().to_str().unwrap()]);
    let answer = post_image(&server, "/classify", &models("samples/dog.jpg")).await;
    assert_eq!(answer.get("confidence"), None, "{answer}");
    let refused = post_image(
        &server,
        "/classify?coverage=0.9",
        &models("samples/dog.jpg"),
    )
    .await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("patchlight calibrate"), "{refused}");
}

#[test]
fn folders_that_are_no_labels_and_too_few_images_are_refused_with_what_to_do() {
    let model = demo();
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    labelled(data.path(), 1);
    let path = data.path().to_str().unwrap();
    let (done, said) = calibrate(model.path(), &["--data", path]);
    assert!(!done);
    assert!(said.contains("a temperature takes about"), "{said}");
    assert!(said.contains("nothing was written"), "{said}");

    fs::create_dir(data.path().join("no such thing")).unwrap();
    let (done, said) = calibrate(model.path(), &["--data", path]);
    assert!(!done);
    assert!(
        said.contains("no such thing: it is neither a label"),
        "{said}"
    );
}
