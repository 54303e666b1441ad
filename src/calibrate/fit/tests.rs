use patchlight_splitmix::SplitMix64;
use sha2::{Digest, Sha256};

use super::*;

const CLASSES: usize = 5;

/// Logits of a model that is twice as sure as it should be: labels are drawn from the softmax of
/// half of them.
fn recorded(images: usize, labelled: bool, shift: f32) -> (tempfile::TempDir, Records) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let mut records = Records::open(path, [0; 32], CLASSES).unwrap();
    let mut random = SplitMix64::new(3);
    let mut next = || random.next_below(1 << 20) as f64 / f64::from(1 << 20);
    for number in 0..images {
        let logits: Vec<f32> = (0..CLASSES)
            .map(|_| (6.0 * next()) as f32 + shift)
            .collect();
        let mut left = next();
        let chances = softmax(&logits, 2.0);
        let class = chances.iter().position(|chance| {
            left -= chance;
            left < 0.0
        });
        let truth = match labelled {
            true => Truth::Classes(vec![class.unwrap_or(CLASSES - 1)]),
            false => Truth::Unknown,
        };
        let digest = Sha256::digest(number.to_le_bytes()).into();
        records.add(digest, &truth, Some(&logits)).unwrap();
    }
    (folder, records)
}

fn settings(flag_rate: f64) -> Settings {
    Settings {
        kind: TaskKind::SingleLabel,
        classes: CLASSES,
        flag_rate,
        digest: String::new(),
    }
}

#[test]
fn an_overconfident_model_is_found_out_and_its_sets_cover_what_they_promise() {
    let (_folder, mut records) = recorded(6000, true, 0.0);
    let (_other, mut unlike) = recorded(500, false, -4.0);
    let Fitted {
        calibration,
        too_few,
    } = fit(&mut records, Some(&mut unlike), &settings(0.01)).unwrap();
    assert!(too_few.is_empty(), "{too_few:?}");
    assert_eq!(calibration.validate(TaskKind::SingleLabel, CLASSES), Ok(()));

    let temperature = calibration.temperature.unwrap();
    assert!(
        (temperature.values[0] - 2.0).abs() < 0.15,
        "{temperature:?}"
    );
    assert!(temperature.ece_after.value < 0.05 && temperature.ece_before.value > 0.15);
    assert!(temperature.log_loss_after.value < temperature.log_loss_before.value);

    let sets = calibration.sets.unwrap();
    let levels: Vec<f64> = sets.levels.iter().map(|level| level.level).collect();
    assert_eq!(levels, LEVELS);
    for level in &sets.levels {
        assert!(level.coverage.low <= level.level + 0.03, "{level:?}");
        assert!(level.coverage.high >= level.level, "{level:?}");
    }
    assert!(sets.levels.is_sorted_by(|a, b| a.mean_size <= b.mean_size));

    let familiarity = calibration.familiarity.unwrap();
    assert!(familiarity.flagged.low < 0.01 && familiarity.flagged.high > 0.003);
    let unlike = familiarity.unlike.unwrap();
    assert!(
        unlike.auroc > 0.99 && unlike.flagged.value > 0.9,
        "{unlike:?}"
    );
}

#[test]
fn claims_with_too_few_images_are_left_out_and_name_how_many_they_take() {
    let (_folder, mut records) = recorded(700, true, 0.0);
    let found = fit(&mut records, None, &settings(0.01)).unwrap();
    let sets = found.calibration.sets.unwrap();
    let levels: Vec<f64> = sets.levels.iter().map(|level| level.level).collect();
    assert_eq!(levels, [0.90, 0.95]);
    assert_eq!(found.calibration.familiarity, None);
    let said: Vec<String> = found.too_few.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("sets at 0.99 takes about 2750 images"),
        "{said:?}"
    );
    assert!(said[1].contains("flags a share of 0.01"), "{said:?}");
}

#[test]
fn without_labels_familiarity_is_all_there_is() {
    let (_folder, mut records) = recorded(1000, false, 0.0);
    let found = fit(&mut records, None, &settings(0.05)).unwrap();
    assert!(found.too_few.is_empty(), "{:?}", found.too_few);
    let calibration = found.calibration;
    assert!(calibration.temperature.is_none() && calibration.sets.is_none());
    assert!(calibration.familiarity.is_some());
}

/// Class 0 is twice as sure as it should be; class 1 never holds and keeps its scores.
#[test]
fn classes_of_a_multi_label_model_have_temperatures_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let mut records = Records::open(path, [0; 32], 2).unwrap();
    let mut random = SplitMix64::new(5);
    let mut next = || random.next_below(1 << 20) as f64 / f64::from(1 << 20);
    for number in 0..3000_u32 {
        let logit = 8.0 * next() - 4.0;
        let held = match next() < sigmoid(logit / 2.0) {
            true => vec![0],
            false => Vec::new(),
        };
        let digest = Sha256::digest(number.to_le_bytes()).into();
        let logits = [logit as f32, -1.0];
        records
            .add(digest, &Truth::Classes(held), Some(&logits))
            .unwrap();
    }
    let settings = Settings {
        kind: TaskKind::MultiLabel,
        classes: 2,
        ..settings(0.05)
    };
    let calibration = fit(&mut records, None, &settings).unwrap().calibration;
    assert_eq!(calibration.validate(TaskKind::MultiLabel, 2), Ok(()));
    let values = calibration.temperature.unwrap().values;
    assert!(
        (values[0] - 2.0).abs() < 0.3 && values[1] == 1.0,
        "{values:?}"
    );
    assert!(calibration.sets.is_none());
}
