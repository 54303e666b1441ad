//! Every formula against scikit-learn, SciPy, NumPy and MAPIE: `tests/goldens/calibration/make.py`.

use serde::Deserialize;

use crate::{
    conformal::{self, Penalty},
    detection,
    probabilities::{energy, softmax},
    reliability::{self, Reliability},
    statistics::{Means, shrunk_covariance},
    temperature::Search,
};

#[derive(Deserialize)]
struct Golden {
    logits: Vec<Vec<f32>>,
    labels: Vec<usize>,
    temperature: f64,
    probabilities: Vec<Vec<f64>>,
    energy: Vec<f64>,
    ece: f64,
    log_loss: f64,
    holds: Vec<bool>,
    binary_temperature: f64,
    penalty: GoldenPenalty,
    label_scores: Vec<f64>,
    mass_above: Vec<f64>,
    threshold: f64,
    sets: Vec<Vec<usize>>,
    features: Vec<Vec<f32>>,
    classes: Vec<usize>,
    within: Vec<f64>,
    within_shrinkage: f64,
    queries: Vec<Vec<f32>>,
    distances: Vec<f64>,
    familiar: Vec<f64>,
    unlike: Vec<f64>,
    auroc: f64,
    fpr95: f64,
    share: [f64; 2],
}

#[derive(Deserialize)]
struct GoldenPenalty {
    weight: f64,
    free: usize,
}

fn golden() -> Golden {
    let text = include_str!("../../../tests/goldens/calibration/expected.json");
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{found} is not {expected}"
    );
}

#[test]
fn temperatures_are_those_that_scipy_finds() {
    let golden = golden();
    let mut search = Search::default();
    let mut binary = Search::default();
    while search.unfinished() || binary.unfinished() {
        for (at, logits) in golden.logits.iter().enumerate() {
            search.add(logits, golden.labels[at]);
            binary.add_binary(logits[0], golden.holds[at]);
        }
        search.step();
        binary.step();
    }
    assert_near(search.temperature(), golden.temperature, 1e-6);
    assert_near(binary.temperature(), golden.binary_temperature, 1e-6);
}

#[test]
fn probabilities_energy_error_and_loss_are_those_of_scipy_and_scikit_learn() {
    let golden = golden();
    let mut reliability = Reliability::default();
    for (at, logits) in golden.logits.iter().enumerate() {
        let probabilities = softmax(logits, golden.temperature);
        let expected = &golden.probabilities[at];
        let pairs = probabilities.iter().zip(expected);
        pairs.for_each(|(found, expected)| assert_near(*found, *expected, 1e-9));
        assert_near(energy(logits), golden.energy[at], 1e-9);
        let best = conformal::set(
            &probabilities,
            0.0,
            Penalty {
                weight: 1.0,
                free: 0,
            },
        )[0];
        let label = golden.labels[at];
        reliability.add(
            probabilities[best],
            best == label,
            -probabilities[label].ln(),
        );
    }
    assert_near(reliability.ece(1).value, golden.ece, 1e-6);
    assert_near(reliability.log_loss().value, golden.log_loss, 1e-9);
}

#[test]
fn sets_are_those_of_numpy_and_the_mass_above_a_label_that_of_mapie() {
    let golden = golden();
    let GoldenPenalty { weight, free } = golden.penalty;
    let penalty = Penalty { weight, free };
    let plain = Penalty { weight: 0.0, free };
    let mut scores = Vec::new();
    for (at, probabilities) in golden.probabilities.iter().enumerate() {
        let label = golden.labels[at];
        scores.push(conformal::score(probabilities, label, penalty));
        assert_near(scores[at], golden.label_scores[at], 1e-12);
        let above = conformal::score(probabilities, label, plain);
        assert_near(above, golden.mass_above[at], 1e-12);
    }
    let threshold = conformal::threshold(&mut scores, 0.9);
    assert_near(threshold, golden.threshold, 1e-12);
    for (probabilities, expected) in golden.probabilities.iter().zip(&golden.sets) {
        assert_eq!(
            conformal::set(probabilities, threshold + 1e-12, penalty),
            *expected
        );
    }
}

#[test]
fn covariances_are_shrunk_as_scikit_learn_shrinks_them() {
    let golden = golden();
    let centred: Vec<Vec<f64>> = {
        let of_class = |class| {
            let all = golden.features.iter().zip(&golden.classes);
            let own = all
                .filter(move |(_, found)| **found == class)
                .map(|(row, _)| row);
            own.collect::<Vec<_>>()
        };
        let means: Vec<Vec<f64>> = (0..3)
            .map(|class| {
                let rows = of_class(class);
                let mean = |at: usize| {
                    rows.iter().map(|row| f64::from(row[at])).sum::<f64>() / rows.len() as f64
                };
                (0..5).map(mean).collect()
            })
            .collect();
        let rows = golden.features.iter().zip(&golden.classes);
        rows.map(|(row, &class)| {
            let pairs = row.iter().zip(&means[class]);
            pairs
                .map(|(value, mean)| f64::from(*value) - mean)
                .collect()
        })
        .collect()
    };
    let shrunk = shrunk_covariance(centred.iter().map(Vec::as_slice), 5);
    assert_near(shrunk.shrinkage, golden.within_shrinkage, 1e-9);
    let pairs = shrunk.matrix.iter().zip(&golden.within);
    pairs.for_each(|(found, expected)| assert_near(*found, *expected, 1e-9));
}

/// Float16 keeps eleven bits.
#[test]
fn distances_kept_in_float16_are_those_of_numpy_within_its_precision() {
    let golden = golden();
    let mut means = Means::new(4, 5);
    let images = || golden.features.iter().zip(&golden.classes);
    images().for_each(|(features, class)| means.add(features, *class));
    let mut scatter = means.finish();
    images().for_each(|(features, class)| scatter.add(features, *class));
    let detector = scatter.finish().unwrap();
    // The fourth class has no image.
    assert_eq!((detector.classes(), detector.dimensions()), (3, 5));
    for (query, expected) in golden.queries.iter().zip(&golden.distances) {
        assert_near(detector.distance(query), *expected, 5e-3);
    }
}

#[test]
fn detection_and_shares_are_those_of_scikit_learn_and_scipy() {
    let golden = golden();
    let (familiar, unlike) = (&golden.familiar, &golden.unlike);
    assert_near(
        detection::auroc(familiar, unlike).unwrap(),
        golden.auroc,
        1e-12,
    );
    assert_near(
        detection::fpr95(familiar, unlike).unwrap(),
        golden.fpr95,
        1e-12,
    );
    let share = reliability::share(1893, 2000);
    assert_near(share.low, golden.share[0], 1e-12);
    assert_near(share.high, golden.share[1], 1e-12);
}
