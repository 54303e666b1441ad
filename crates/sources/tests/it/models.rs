//! From an address to a model directory that is kept.

use std::{fs, thread, time::Duration};

use patchlight_import::CancelFlag;
use patchlight_model::ModelInfo;
use patchlight_sources::{Outcome, Prepared, PruneRule, Source, SourceError};

use crate::{
    stand_in::{Fault, StandIn},
    support::{Machine, Told, float32, golden, tree},
};

fn hub() -> (StandIn, String) {
    let hub = StandIn::start();
    let commit = hub.commit_directory("org/tiny-vit", &golden("transformers/plain"));
    (hub, commit)
}

fn prepare(machine: &Machine, address: &str) -> Result<Prepared, SourceError> {
    let source = Source::parse(address).unwrap();
    let cancel = CancelFlag::default();
    machine
        .cache()
        .model_dir(&source, &float32(), &cancel, &Told::default())
}

#[test]
fn a_name_becomes_a_model_directory_that_says_where_it_is_from() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    let prepared = prepare(&machine, "hf://org/tiny-vit").unwrap();
    assert!(matches!(prepared.outcome, Outcome::Made(_)));
    let model = ModelInfo::open(&prepared.directory).unwrap();
    let provenance = model.manifest.provenance;
    let origin = provenance.origin.unwrap();
    assert_eq!(origin.address, "hf://org/tiny-vit");
    assert_eq!(origin.revision, commit);
    let files: Vec<&String> = provenance.source_files.keys().collect();
    let names = [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ];
    assert_eq!(files, names);
}

#[test]
fn a_second_start_asks_nobody() {
    let (hub, _) = hub();
    let machine = Machine::new(&hub);
    let first = prepare(&machine, "hf://org/tiny-vit").unwrap();
    hub.requests();
    hub.set_down(true);
    let second = prepare(&machine, "org/tiny-vit").unwrap();
    assert!(matches!(second.outcome, Outcome::Found(_)));
    assert_eq!(second.directory, first.directory);
    assert!(hub.requests().is_empty());
}

#[test]
fn a_branch_and_its_commit_are_imported_once() {
    let (hub, commit) = hub();
    let machine = Machine::new(&hub);
    let branch = prepare(&machine, "hf://org/tiny-vit").unwrap();
    let pinned = prepare(&machine, &format!("hf://org/tiny-vit@{commit}")).unwrap();
    assert_eq!(branch.directory, pinned.directory);
}

#[test]
fn a_model_directory_on_the_hub_needs_no_import() {
    let (hub, _) = hub();
    let machine = Machine::new(&hub);
    let imported = prepare(&machine, "hf://org/tiny-vit").unwrap();
    hub.commit_directory("org/ready", &imported.directory);
    let ready = prepare(&machine, "hf://org/ready").unwrap();
    assert!(ready.directory.starts_with(machine.hub_cache()));
    assert!(ModelInfo::open(&ready.directory).is_ok());
}

#[test]
fn many_processes_at_once_import_once() {
    let (hub, _) = hub();
    let machine = Machine::new(&hub);
    let made = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| prepare(&machine, "hf://org/tiny-vit").unwrap()))
            .collect();
        let prepared = threads.into_iter().map(|thread| thread.join().unwrap());
        prepared
            .filter(|prepared| matches!(prepared.outcome, Outcome::Made(_)))
            .count()
    });
    assert_eq!(made, 1);
    let downloads = hub.requests().into_iter().filter(|asked| asked.storage);
    assert_eq!(downloads.count(), 1);
}

#[test]
fn an_import_that_fails_leaves_nothing_and_works_once_it_can() {
    let (hub, _) = hub();
    hub.misbehave(&[Fault::WrongByte]);
    let machine = Machine::new(&hub);
    assert!(prepare(&machine, "hf://org/tiny-vit").is_err());
    let cache = machine.home.path().join("patchlight");
    assert!(tree(&cache.join("models")).is_empty());
    assert!(tree(&cache.join("records")).is_empty());
    assert!(prepare(&machine, "hf://org/tiny-vit").is_ok());
}

#[test]
fn what_an_import_left_that_was_killed_is_cleared_up_by_the_next_one() {
    let (hub, _) = hub();
    let machine = Machine::new(&hub);
    let prepared = prepare(&machine, "hf://org/tiny-vit").unwrap();
    let models = prepared.directory.parent().unwrap().to_owned();
    let name = prepared.directory.file_name().unwrap().to_str().unwrap();
    // As kill -9 leaves it: half of the files under the name that they have until the end.
    fs::rename(&prepared.directory, models.join(format!(".{name}.partial"))).unwrap();
    fs::remove_file(models.join(format!(".{name}.partial/model.toml"))).unwrap();
    let again = prepare(&machine, "hf://org/tiny-vit").unwrap();
    assert_eq!(again.directory, prepared.directory);
    assert!(ModelInfo::open(&again.directory).is_ok());
    assert_eq!(fs::read_dir(&models).unwrap().count(), 1);
}

#[test]
fn prune_removes_what_was_named_and_what_was_left() {
    let (hub, _) = hub();
    hub.commit_directory("org/other", &golden("transformers/float16"));
    let machine = Machine::new(&hub);
    let first = prepare(&machine, "hf://org/tiny-vit").unwrap();
    let other = prepare(&machine, "hf://org/other").unwrap();
    let cache = machine.cache();
    let left = other
        .directory
        .with_file_name(".x-0123456789abcdef.partial");
    fs::create_dir(&left).unwrap();

    let entries = cache.entries().unwrap();
    let sources: Vec<&str> = entries.iter().map(|entry| &*entry.source).collect();
    assert_eq!(sources, ["hf://org/other", "hf://org/tiny-vit"]);
    assert!(
        entries
            .iter()
            .all(|entry| entry.is_current() && entry.bytes > 1000)
    );

    let rule = PruneRule {
        sources: vec![Source::parse("hf://org/tiny-vit").unwrap()],
        unused_for: None,
    };
    let pruned = cache.prune(&rule).unwrap();
    assert_eq!(pruned.removed.len(), 2, "{pruned:?}");
    assert!(!first.directory.exists() && !left.exists());
    assert!(other.directory.exists());
    assert!(
        cache
            .prune(&PruneRule::default())
            .unwrap()
            .removed
            .is_empty()
    );

    let rule = PruneRule {
        unused_for: Some(Duration::ZERO),
        ..PruneRule::default()
    };
    cache.prune(&rule).unwrap();
    assert!(cache.entries().unwrap().is_empty());
    assert!(!other.directory.exists());
}
