use super::{
    super::{
        sealing_keys::tests::{KEYS, keys},
        tests::map,
    },
    *,
};

const NOW: u64 = 1_800_000_000;

fn store(lines: &[&str]) -> SealedTokenStore {
    SealedTokenStore::new(keys(lines), Duration::from_secs(60))
}

#[test]
fn any_process_with_the_key_reads_an_id() {
    let kept = map(14, 14);
    let stored = store(&KEYS[..1]).put(&kept, NOW).unwrap();
    assert_eq!(stored.maps, [MapKind::Rollout]);
    let found = store(&KEYS[..1])
        .get(&stored.id, kept.owner, NOW + 20)
        .unwrap();
    assert_eq!(found.expires_in_s, 40);
    assert!(found.preview.is_none());
    assert_eq!(found.map.model.name, "demo");
    let row = found.map.row(0).unwrap();
    let sum: f64 = row.iter().copied().map(f64::from).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
}

#[test]
fn an_id_stays_short() {
    for (side, most) in [(14, 800), (24, 1800), (32, 3000)] {
        let id = store(&KEYS[..1]).put(&map(side, side), NOW).unwrap().id;
        assert!(id.len() < most, "{side}: {}", id.len());
    }
}

#[test]
fn a_map_that_would_make_an_id_too_long_is_not_kept() {
    let kept = store(&KEYS[..1]).put(&map(60, 60), NOW);
    assert_eq!(kept, Err(StoreError::TooLarge));
}

#[test]
fn whatever_is_wrong_the_answer_is_the_same() {
    let kept = map(2, 3);
    let ours = store(&KEYS[..1]);
    let id = ours.put(&kept, NOW).unwrap().id;
    let none = |store: &SealedTokenStore, id: &str, owner, now| {
        assert_eq!(store.get(id, owner, now).unwrap_err(), Error::NoSuchMap);
        assert_eq!(store.delete(id, owner, now).unwrap_err(), Error::NoSuchMap);
    };
    // Another key's, everyone's, an expired one, one of an unknown signer.
    none(&ours, &id, Owner::of_key(8), NOW);
    none(&ours, &id, Owner::ANYONE, NOW);
    none(&ours, &id, kept.owner, NOW + 60);
    none(&store(&KEYS[1..]), &id, kept.owner, NOW);
    // Each character changed, a shortened one, other spellings, nonsense.
    for place in 0..id.len() {
        let mut changed = id.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        none(&ours, str::from_utf8(&changed).unwrap(), kept.owner, NOW);
        none(&ours, &id[..place], kept.owner, NOW);
    }
    for text in [
        &format!("{id}="),
        &format!("{id}A"),
        "ö",
        &"A".repeat(100_000),
    ] {
        none(&ours, text, kept.owner, NOW);
    }
}

#[test]
fn an_id_cannot_be_forgotten_and_its_owner_is_told_so() {
    let kept = map(2, 3);
    let store = store(&KEYS[..1]);
    let id = store.put(&kept, NOW).unwrap().id;
    let forgotten = store.delete(&id, kept.owner, NOW);
    assert_eq!(
        forgotten.unwrap_err(),
        Error::NotDeletable { expires_in_s: 60 }
    );
}
