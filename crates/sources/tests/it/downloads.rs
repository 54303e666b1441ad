//! What is downloaded, how it is asked for, and what interruptions leave.

use std::{fs, sync::Mutex};

use patchlight_import::CancelFlag;
use patchlight_sources::{Observer, Progress, Source, SourceError};

use crate::{
    stand_in::{Fault, StandIn},
    support::{Machine, Told, tree, weights},
};

/// Weights that take several reads; nobody parses them here.
fn large() -> Vec<u8> {
    (0..1_000_000_u32).map(|at| (at * 7 % 251) as u8).collect()
}

fn hub() -> (StandIn, String) {
    let hub = StandIn::start();
    let large = large();
    let files: [(&str, &[u8]); 5] = [
        ("README.md", b"words"),
        ("config.json", b"{}"),
        ("model.safetensors", &large),
        ("preprocessor_config.json", b"{}"),
        ("pytorch_model.bin", b"a pickle"),
    ];
    let commit = hub.commit("org/tiny", "main", &files);
    (hub, commit)
}

#[test]
fn only_what_an_import_needs_lies_in_the_hubs_own_layout() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    let fetched = machine.fetch("hf://org/tiny").unwrap();
    assert_eq!(fs::read(weights(&fetched)).unwrap(), large());
    assert_eq!(fetched.origin.revision, commit);
    assert_eq!(fetched.origin.address, "hf://org/tiny");

    let model = machine.hub_cache().join("models--org--tiny");
    let reference = fs::read_to_string(model.join("refs/main")).unwrap();
    assert_eq!(reference, commit);
    let snapshot = model.join("snapshots").join(&commit);
    let names = [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ];
    assert_eq!(tree(&snapshot), names);
    let link = fs::read_link(snapshot.join("model.safetensors")).unwrap();
    let blobs = link.parent().unwrap();
    assert_eq!(blobs.to_str(), Some("../../blobs"));
    // Two descriptions with the same content are one blob.
    assert_eq!(tree(&model.join("blobs")).len(), 2);
}

#[test]
fn a_second_fetch_asks_for_the_revision_and_downloads_nothing() {
    let (hub, _) = hub();
    let machine = Machine::new(&hub);
    machine.fetch("hf://org/tiny").unwrap();
    hub.requests();
    machine.fetch("hf://org/tiny").unwrap();
    let asked = hub.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].path, "/api/models/org/tiny/revision/main");
}

#[test]
fn a_branch_that_moved_shares_blobs_with_where_it_was() {
    let (hub, first) = hub();
    let machine = Machine::new(&hub);
    machine.fetch("hf://org/tiny").unwrap();
    let weights = large();
    let files: [(&str, &[u8]); 2] = [
        ("config.json", b"{\"new\":1}"),
        ("model.safetensors", &weights),
    ];
    let second = hub.commit("org/tiny", "main", &files);
    assert_ne!(first, second);
    hub.requests();
    let fetched = machine.fetch("hf://org/tiny").unwrap();
    assert_eq!(fetched.origin.revision, second);
    assert!(
        hub.requests().iter().all(|asked| !asked.storage),
        "downloaded again"
    );
}

#[test]
fn revisions_are_branches_tags_with_slashes_and_commits() {
    let (hub, commit) = hub();
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors", b"other")];
    let pull = hub.commit("org/tiny", "refs/pr/1", &files);
    let machine = Machine::new(&hub);
    let revision = |address: &str| machine.fetch(address).unwrap().origin.revision;
    assert_eq!(revision("hf://org/tiny@refs/pr/1"), pull);
    assert_eq!(revision(&format!("hf://org/tiny@{commit}")), commit);
    let references = machine.hub_cache().join("models--org--tiny/refs");
    assert_eq!(tree(&references), ["refs/pr/1"]);
}

#[test]
fn a_connection_that_breaks_is_gone_on_with_where_it_broke() {
    let (hub, _) = hub();
    hub.misbehave(&[
        Fault::BreakAfter(300_000),
        Fault::BreakAfter(0),
        Fault::BreakAfter(1),
    ]);
    let machine = Machine::new(&hub);
    let fetched = machine.fetch("hf://org/tiny").unwrap();
    assert_eq!(fs::read(weights(&fetched)).unwrap(), large());
    let asked = hub.requests();
    let ranges: Vec<_> = asked
        .iter()
        .filter(|asked| asked.storage)
        .map(|asked| asked.header("range").map(str::to_owned))
        .collect();
    let from = |first: u32| Some(format!("bytes={first}-"));
    assert_eq!(ranges, [None, from(300_000), from(300_000), from(300_001)]);
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let (hub, _) = hub();
    hub.misbehave(&[Fault::BreakAfter(300_000), Fault::NoRange]);
    let machine = Machine::new(&hub);
    let fetched = machine.fetch("hf://org/tiny").unwrap();
    assert_eq!(fs::read(weights(&fetched)).unwrap(), large());
}

#[test]
fn too_many_requests_and_a_server_away_for_a_moment_are_waited_for() {
    let (hub, _) = hub();
    hub.misbehave(&[Fault::Busy, Fault::Unavailable, Fault::Busy]);
    let machine = Machine::new(&hub);
    let fetched = machine.fetch("hf://org/tiny").unwrap();
    assert_eq!(fs::read(weights(&fetched)).unwrap(), large());
}

#[test]
fn what_never_passes_ends_after_a_few_tries_with_what_the_server_said() {
    let (hub, _) = hub();
    hub.misbehave(&[Fault::Unavailable; 20]);
    let machine = Machine::new(&hub);
    let message = machine.refusal("hf://org/tiny");
    assert!(message.contains("503"), "{message}");
    assert!(message.contains("later"), "{message}");
    let asked = hub.requests();
    assert_eq!(asked.iter().filter(|asked| asked.storage).count(), 5);
}

#[test]
fn a_wrong_digest_is_refused_and_removed() {
    let (hub, _) = hub();
    hub.misbehave(&[Fault::WrongByte]);
    let machine = Machine::new(&hub);
    let message = machine.refusal("hf://org/tiny");
    assert!(
        message.contains("model.safetensors: its SHA-256 is"),
        "{message}"
    );
    let model = machine.hub_cache().join("models--org--tiny");
    assert!(!tree(&model).iter().any(|name| name.contains("incomplete")));
    assert!(!model.join("refs/main").exists());
    assert!(machine.fetch("hf://org/tiny").is_ok());
}

#[test]
fn a_wrong_length_is_refused() {
    let (hub, _) = hub();
    hub.misbehave(&[Fault::Shorter(10); 20]);
    let message = Machine::new(&hub).refusal("hf://org/tiny");
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_files_are_stored() {
    let (hub, _) = hub();
    hub.set_token("hf_secret");
    let machine = Machine {
        token: Some("hf_secret"),
        ..Machine::new(&hub)
    };
    machine.fetch("hf://org/tiny").unwrap();
    let asked = hub.requests();
    for request in &asked {
        let sent = request.header("authorization");
        let expected = (!request.storage).then_some("Bearer hf_secret");
        assert_eq!(sent, expected, "{request:?}");
    }
    assert!(asked.iter().any(|request| request.storage));
}

/// Calls it off after so many bytes of the weights.
struct CancelAfter(u64, CancelFlag, Mutex<u64>);

impl Observer for CancelAfter {
    fn progress(&self, progress: Progress<'_>) {
        if let Progress::Download { file, done, .. } = progress
            && file == "model.safetensors"
            && done >= self.0
        {
            *self.2.lock().unwrap() = done;
            self.1.cancel();
        }
    }

    fn note(&self, _: &str) {}
}

#[test]
fn another_process_goes_on_with_a_download_that_was_called_off() {
    let (hub, _) = hub();
    let machine = Machine::new(&hub);
    let cancel = CancelFlag::default();
    let observer = CancelAfter(1, cancel.clone(), Mutex::new(0));
    let source = Source::parse("hf://org/tiny").unwrap();
    let error = machine.fetcher().fetch(&source, &cancel, &observer);
    assert!(matches!(error, Err(SourceError::Cancelled)), "{error:?}");
    let had = *observer.2.lock().unwrap();
    assert!(had < large().len() as u64);
    hub.requests();
    let fetched = machine.fetch("hf://org/tiny").unwrap();
    assert_eq!(fs::read(weights(&fetched)).unwrap(), large());
    let ranges: Vec<_> = hub
        .requests()
        .iter()
        .filter(|asked| asked.storage)
        .filter_map(|asked| asked.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [format!("bytes={had}-")]);
}

#[test]
fn shards_come_with_their_index_and_no_others() {
    let hub = StandIn::start();
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
        ("model-3.safetensors", b"three"),
    ];
    let commit = hub.commit("org/large", "main", &files);
    let machine = Machine::new(&hub);
    let fetched = machine.fetch("hf://org/large").unwrap();
    assert!(weights(&fetched).ends_with("model.safetensors.index.json"));
    let snapshot = machine
        .hub_cache()
        .join("models--org--large/snapshots")
        .join(commit);
    let names = [
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(tree(&snapshot), names);
}

#[test]
fn without_network_the_files_of_the_last_time_are_used_and_that_is_said() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    machine.fetch("hf://org/tiny").unwrap();
    hub.set_down(true);
    let told = Told::default();
    let source = Source::parse("hf://org/tiny").unwrap();
    let fetched = machine
        .fetcher()
        .fetch(&source, &CancelFlag::default(), &told);
    assert_eq!(fetched.unwrap().unwrap().origin.revision, commit);
    let notes = told.0.borrow();
    assert!(notes[0].contains("cannot be reached"), "{notes:?}");
    assert!(notes[0].contains(&commit), "{notes:?}");
}

#[test]
fn offline_nobody_is_asked() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    machine.fetch("hf://org/tiny").unwrap();
    hub.requests();
    let offline = Machine {
        offline: true,
        ..machine
    };
    assert_eq!(
        offline.fetch("hf://org/tiny").unwrap().origin.revision,
        commit
    );
    let message = offline.refusal("hf://org/other");
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
    assert!(hub.requests().is_empty());
}
