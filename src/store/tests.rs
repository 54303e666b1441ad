//! Maps that the tests of all stores keep.

use std::sync::Arc;

use super::*;
use crate::{
    explain::{Placement, Rect},
    model::{
        Outline,
        manifest::{HeadFusion, Tokens},
    },
    preprocess::Region,
};

/// A map with everything: two layers of three heads, one prefix token, `rows × cols` patches.
pub(super) fn map(rows: usize, cols: usize) -> KeptMap {
    let tokens = Tokens {
        prefix: 1,
        grid: [rows, cols],
    };
    let (patches, total) = (tokens.patches(), tokens.total());
    // Uneven, and adding up to 1: token t of a row holds t + 1 parts.
    let parts = (total * (total + 1) / 2) as f32;
    let row = || (0..total).map(move |token| (token + 1) as f32 / parts);
    KeptMap {
        owner: Owner::of_key(7),
        model: Arc::new(Outline {
            name: "demo".to_owned(),
            digest: "0123456789ab".to_owned(),
            layers: 2,
            heads: 3,
            classes: 10,
            tokens,
            head_fusion: HeadFusion::Max,
            class_attention: true,
            without_evidence: "because".to_owned(),
        }),
        rollout: row().chain(row().rev()).collect(),
        evidence: Some(Arc::new(KeptEvidence {
            classes: vec![4, 9],
            labels: vec!["owl".to_owned(), "köttbulle".to_owned()],
            patches: (0..3 * patches).map(|at| at as f32 - 5.5).collect(),
            rest: vec![0.5, -1.5, 0.25],
            logits: vec![3.0, 2.0, 0.0],
        })),
        class_attention: Some((0..6).flat_map(|_| row()).collect()),
        placement: Placement::new(
            (640, 427),
            Rect {
                x: 106.5,
                y: -0.25,
                width: 427.0,
                height: 427.5,
            },
        )
        .unwrap(),
        region: Region {
            x: 107,
            y: 0,
            width: 427,
            height: 427,
        },
        result: Some([9; 32]),
        abridged: false,
    }
}

fn memory(ttl: Duration) -> Store {
    let options = StoreOptions {
        place: Place::Memory,
        bytes: 1 << 20,
        ttl,
    };
    Store::new(&options, Arc::new(Metrics::new().unwrap()))
}

#[tokio::test]
async fn memory_gives_back_what_it_was_given() {
    let store = memory(Duration::from_secs(60));
    let kept = map(2, 3);
    let picture = Bytes::from_static(b"a picture");
    let receipt = store.keep(kept.clone(), Some(picture.clone())).await;
    let Receipt { id, maps, .. } = receipt.unwrap();
    assert_eq!(maps, [MapKind::Rollout, MapKind::Class, MapKind::Heads]);
    let found = store.find(&id, kept.owner).await.unwrap();
    assert_eq!(found.map, kept);
    assert_eq!(found.picture, Some(picture));
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn a_map_in_memory_is_its_owner_s_alone_until_it_is_forgotten() {
    let store = memory(Duration::from_secs(60));
    let kept = map(2, 3);
    let id = store.keep(kept.clone(), None).await.unwrap().id;
    for owner in [Owner::ANYONE, Owner::of_key(8)] {
        let found = store.find(&id, owner).await;
        assert_eq!(found.unwrap_err(), crate::Error::NoSuchMap);
        assert!(store.forget(&id, owner).await.is_err());
    }
    store.forget(&id, kept.owner).await.unwrap();
    let again = store.forget(&id, kept.owner).await;
    assert_eq!(again.unwrap_err(), crate::Error::NoSuchMap);
    assert!(store.is_empty());
}
