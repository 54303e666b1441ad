//! Models in buckets of the three clouds, from servers that speak like them.

use std::{fs, path::Path, process::Command};

use patchlight_model::ModelInfo;
use patchlight_sources::{Content, Outcome};

use crate::{
    clouds::{Store, copy},
    support::{Machine, golden, tree, weights},
};

/// A tiny real checkpoint, and files that no import needs.
fn checkpoint() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("transformers/plain"), folder.path());
    fs::write(folder.path().join("optimizer.pt"), vec![0; 1 << 20]).unwrap();
    folder
}

const NEEDED: [&str; 3] = [
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
];

fn s3_machine(store: &Store) -> Machine {
    Machine::with(&[
        ("AWS_ENDPOINT_URL", &store.endpoint()),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ])
}

/// What every cloud has to give: the files that are needed, imported, and found again without it.
fn is_served_and_kept(mut store: Store, machine: &Machine, address: &str) {
    let fetched = machine.fetch(address).unwrap();
    let folder = weights(&fetched).parent().unwrap();
    assert_eq!(tree(folder), NEEDED);
    let original = golden("transformers/plain/model.safetensors");
    assert_eq!(
        fs::read(weights(&fetched)).unwrap(),
        fs::read(original).unwrap()
    );
    drop(fetched);

    let made = machine.prepare(address).unwrap();
    assert!(matches!(made.outcome, Outcome::Made(_)));
    let model = ModelInfo::open(&made.directory).unwrap();
    let origin = model.manifest.provenance.origin.unwrap();
    assert_eq!(origin.address, address);
    assert_eq!(origin.revision.len(), 64, "{}", origin.revision);
    // What is imported needs no download any more.
    assert!(tree(&machine.home.path().join("patchlight/downloads")).is_empty());

    store.stop();
    let found = machine.prepare(address).unwrap();
    assert!(matches!(found.outcome, Outcome::Found(_)));
    assert_eq!(found.directory, made.directory);
}

#[test]
fn s3_gives_a_checkpoint_directory() {
    let Some(store) = Store::s3() else { return };
    store.fill_s3("models", "team/tiny-vit", checkpoint().path());
    let machine = s3_machine(&store);
    is_served_and_kept(store, &machine, "s3://models/team/tiny-vit");
}

#[test]
fn google_cloud_storage_gives_a_checkpoint_directory() {
    let Some(store) = Store::gcs("models", "team/tiny-vit", checkpoint().path()) else {
        return;
    };
    let machine = Machine::with(&[("STORAGE_EMULATOR_HOST", &store.endpoint())]);
    is_served_and_kept(store, &machine, "gs://models/team/tiny-vit");
}

#[test]
fn azure_gives_a_checkpoint_directory() {
    let Some(store) = Store::azure() else { return };
    store.fill_azure("models", "team/tiny-vit", checkpoint().path());
    let connection = store.azure_connection();
    let machine = Machine::with(&[("AZURE_STORAGE_CONNECTION_STRING", &connection)]);
    is_served_and_kept(store, &machine, "az://models/team/tiny-vit");
}

#[test]
fn an_archive_a_file_and_a_model_directory_in_a_bucket() {
    let Some(store) = Store::s3() else { return };
    let machine = s3_machine(&store);
    // An archive by the tool that people pack with, one folder around all.
    let packed = store.folder().join("packed");
    fs::create_dir(&packed).unwrap();
    let around = store.folder().join("tiny");
    copy(checkpoint().path(), &around);
    let done = Command::new("tar")
        .arg("-C")
        .arg(store.folder())
        .arg("-czf")
        .arg(packed.join("tiny.tar.gz"))
        .arg("tiny")
        .status()
        .unwrap();
    assert!(done.success());
    store.fill_s3("models", "packed", &packed);
    let made = machine.prepare("s3://models/packed/tiny.tar.gz").unwrap();
    let model = ModelInfo::open(&made.directory).unwrap();
    let files: Vec<&String> = model.manifest.provenance.source_files.keys().collect();
    assert_eq!(files, NEEDED);

    // The model directory that it became.
    store.fill_s3("models", "ready", &made.directory);
    let ready = machine.prepare("s3://models/ready").unwrap();
    assert_eq!(
        ModelInfo::open(&ready.directory).unwrap().digest,
        model.digest
    );
    assert!(
        ready
            .directory
            .starts_with(machine.home.path().join("patchlight/downloads"))
    );

    // A file of weights, with what describes it beside it.
    store.fill_s3("models", "plain", checkpoint().path());
    let file = machine
        .fetch("s3://models/plain/model.safetensors")
        .unwrap();
    assert_eq!(tree(weights(&file).parent().unwrap()), NEEDED);
}

#[test]
fn a_bucket_is_another_model_when_its_files_are() {
    let Some(store) = Store::s3() else { return };
    let machine = s3_machine(&store);
    store.fill_s3("models", "vit", checkpoint().path());
    let first = machine.fetch("s3://models/vit").unwrap();
    let other = checkpoint();
    let config = other.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n")).unwrap();
    store.fill_s3("models", "vit", other.path());
    let second = machine.fetch("s3://models/vit").unwrap();
    assert_ne!(first.origin.revision, second.origin.revision);
    assert_ne!(weights(&first), weights(&second));
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let Some(store) = Store::s3() else { return };
    let machine = s3_machine(&store);
    store.fill_s3("models", "vit", checkpoint().path());
    says(
        &machine.refusal("s3://nothing/vit"),
        &["there is nothing at s3://nothing/vit", "NoSuchBucket"],
    );
    says(
        &machine.refusal("s3://models/vti"),
        &["there is nothing at s3://models/vti"],
    );
    says(
        &machine.refusal("s3://models/vit.tar.gz"),
        &["has no file vit.tar.gz"],
    );
    let without = Machine::with(&[]);
    says(
        &without.refusal("az://models/vit"),
        &["AZURE_STORAGE_ACCOUNT_NAME"],
    );
}

#[test]
fn credentials_come_from_amazons_own_files() {
    let Some(store) = Store::s3() else { return };
    store.fill_s3("models", "vit", checkpoint().path());
    let machine = Machine::with(&[("AWS_PROFILE", "work")]);
    let folder = machine.home.path().join(".aws");
    fs::create_dir(&folder).unwrap();
    let endpoint = store.endpoint();
    fs::write(
        folder.join("config"),
        format!("[profile work]\nregion = us-east-1\nendpoint_url = {endpoint}\n"),
    )
    .unwrap();
    let keys = "[work]\naws_access_key_id = id\naws_secret_access_key = secret\n";
    fs::write(folder.join("credentials"), keys).unwrap();
    assert!(machine.fetch("s3://models/vit").is_ok());
}

#[test]
fn half_a_file_of_an_earlier_process_is_gone_on_with() {
    let Some(store) = Store::s3() else { return };
    store.fill_s3("models", "vit", checkpoint().path());
    let machine = s3_machine(&store);
    let fetched = machine.fetch("s3://models/vit").unwrap();
    let file = weights(&fetched).to_owned();
    drop(fetched);
    // As kill -9 leaves it.
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(
        file.with_extension("safetensors.incomplete"),
        &whole[..whole.len() / 2],
    )
    .unwrap();
    let again = machine.fetch("s3://models/vit").unwrap();
    assert_eq!(fs::read(weights(&again)).unwrap(), whole);
    assert_eq!(tree(file.parent().unwrap()), NEEDED);
    let Content::Checkpoint(path) = &again.content else {
        panic!("no checkpoint");
    };
    assert_eq!(path, Path::new(&file));
}
