use proptest::prelude::*;

use super::{super::tests::map, *};
use crate::store::MapKind;

#[test]
fn everything_survives_the_way_to_bytes_and_back() {
    let before = map(2, 3);
    let (after, left) = decode(&encode(&before, 1000), 990).unwrap();
    assert_eq!(after, before);
    assert_eq!(left, 10);
}

#[test]
fn what_a_model_does_not_make_is_absent_afterwards() {
    let mut before = map(2, 3);
    before.attribution = None;
    before.class_attention = None;
    let (after, _) = decode(&encode(&before, 1000), 0).unwrap();
    assert_eq!(after, before);
}

#[test]
fn an_abridged_map_is_the_first_row_and_adds_up_to_1() {
    let before = map(14, 14);
    let (after, _) = decode(&encode_abridged(&before, 1000), 0).unwrap();
    assert!(after.abridged);
    assert_eq!((&after.attribution, &after.class_attention), (&None, &None));
    assert_eq!(after.kinds(), [MapKind::Rollout]);
    assert_eq!(after.placement, before.placement);
    assert_eq!(after.region, before.region);
    assert_eq!(after.owner, before.owner);
    let (row, exact) = (after.row(0).unwrap(), before.row(0).unwrap());
    assert_eq!(row.len(), exact.len());
    assert_eq!(row[0], exact[0]);
    let sum: f64 = row.iter().copied().map(f64::from).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    let largest = exact.iter().copied().fold(0.0, f32::max);
    for (after, before) in row.iter().zip(exact) {
        assert!((after - before).abs() < largest / 30_000.0);
    }
    assert_eq!(after.row(1), None);
}

#[test]
fn the_last_second_is_over_when_it_has_come() {
    let bytes = encode(&map(2, 3), 1000);
    assert_eq!(decode(&bytes, 999).unwrap().1, 1);
    assert!(decode(&bytes, 1000).is_none());
    assert!(decode(&bytes, u64::MAX).is_none());
}

#[test]
fn other_formats_are_not_read_and_further_fields_are_skipped() {
    let mut record = MapRecord::decode(encode(&map(2, 3), 1000).as_slice()).unwrap();
    let mut extended = record.encode_to_vec();
    // Field 100, a varint, as a later version may add.
    extended.extend([0xa0, 0x06, 0x2a]);
    assert_eq!(decode(&extended, 0).unwrap().0, map(2, 3));
    record.format = FORMAT + 1;
    assert!(decode(&record.encode_to_vec(), 0).is_none());
}

#[test]
fn counts_that_contradict_each_other_are_refused() {
    let record = || MapRecord::decode(encode(&map(2, 3), 1000).as_slice()).unwrap();
    let spoil: [fn(&mut MapRecord); 10] = [
        |record| record.rollout.truncate(13),
        |record| record.rollout[3] = f32::NAN,
        |record| record.class_attention.truncate(41),
        |record| record.model.as_mut().unwrap().rows = u32::MAX,
        |record| record.model.as_mut().unwrap().cols = 0,
        |record| record.model.as_mut().unwrap().head_fusion = 3,
        |record| record.image.as_mut().unwrap().seen.clear(),
        |record| record.image.as_mut().unwrap().width = 0,
        |record| record.attribution.as_mut().unwrap().labels.clear(),
        |record| record.model = None,
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let mut record = record();
        spoil(&mut record);
        assert!(decode(&record.encode_to_vec(), 0).is_none(), "{number}");
    }
}

proptest! {
    #[test]
    fn damaged_bytes_give_a_whole_map_or_none(
        place in 0_usize..600, value: u8, length in 0_usize..600,
    ) {
        let mut bytes = encode(&map(2, 3), 1000);
        if let Some(byte) = bytes.get_mut(place) {
            *byte = value;
        }
        bytes.truncate(length.max(1));
        if let Some((map, _)) = decode(&bytes, 0) {
            for layer in 0..map.model.layers {
                prop_assert!(map.row(layer).is_some());
                prop_assert!(map.patches(layer).is_ok());
            }
        }
    }
}
