//! Compares a graph of lower precision with the float32 graph on the user's own pictures, before it
//! is written.
//!
//! Both graphs are written as model directories beside the one to be made, and run by the server's
//! own code: decoder, preprocessing, engine, scores. Networks differ in how much they suffer from
//! eight bits (trained ViTs have channels far larger than the rest), so nothing is taken for
//! granted: what is found goes into the manifest, and where a given agreement is not reached the
//! layers with the largest errors of their own stay in float32, until it is or half of them have.

mod bench;
mod scratch;

use std::{collections::BTreeSet, path::PathBuf};

use patchlight_model::{
    ModelInfo,
    manifest::{Checked, Precision},
};
use patchlight_onnx::vit::{Arithmetic, Layer};

use self::{
    bench::{Answer, Bench},
    scratch::Scratch,
};
use super::{ImportError, ImportOptions, Progress, write};

/// What to compare on, and what has to come out.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOptions {
    /// Files of pictures, of the kind that will be asked about.
    pub pictures: Vec<PathBuf>,
    /// For which share of them both graphs have to name the same best class, from 0 to 1.
    pub min_agreement: Option<f64>,
}

/// The arithmetic that was settled on, and what it was settled by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled {
    pub(super) arithmetic: Arithmetic,
    pub(super) checked: Checked,
    /// Each layer's own error as [`Bench::errors`] tells it, largest first; none for float16.
    pub(super) errors: Vec<(Layer, f32)>,
}

/// Finds the arithmetic for `options.precision` that agrees well enough.
///
/// # Errors
/// If a picture cannot be read, or the agreement not be reached; the message says how far it was.
pub(super) fn settle(
    options: &ImportOptions,
    check: &CheckOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Settled, ImportError> {
    let scratch = Scratch::new(&options.out)?;
    let bench = Bench::new(options, &check.pictures)?;
    let made = |name: &str, arithmetic: &Arithmetic, progress: &mut dyn FnMut(Progress)| {
        let directory = scratch.path(name);
        write(options, &directory, arithmetic, None, progress)?;
        ModelInfo::open(&directory).map_err(|why| ImportError::Check(why.to_string()))
    };

    let float32 = made("float32", &Arithmetic::all(Precision::Fp32), progress)?;
    let expected = bench.answers(&float32, "float32", progress)?;
    let mut arithmetic = Arithmetic::all(options.precision);
    let errors = match options.precision {
        Precision::Int8 => {
            let probing = Arithmetic {
                probing: true,
                ..Arithmetic::all(Precision::Fp32)
            };
            let probe = made("probe", &probing, progress)?;
            bench.errors(&probe, progress)?
        }
        Precision::Fp32 | Precision::Fp16 => Vec::new(),
    };
    loop {
        let candidate = made("candidate", &arithmetic, progress)?;
        let phase = match options.precision {
            Precision::Int8 => "int8",
            Precision::Fp32 | Precision::Fp16 => "float16",
        };
        let found = bench.answers(&candidate, phase, progress)?;
        let checked = compare(&expected, &found, &arithmetic);
        let wanted = check.min_agreement.unwrap_or(0.0);
        if checked.top1_agreement >= wanted && checked.score_drift.is_finite() {
            return Ok(Settled {
                arithmetic,
                checked,
                errors,
            });
        }
        match more_kept(&errors, arithmetic.kept.len()) {
            Some(kept) => arithmetic.kept = kept,
            None => return Err(refusal(options.precision, wanted, &checked)),
        }
    }
}

/// The layers that stay in float32 next, when so many were not enough: the worst one, then twice as
/// many each time; `None` once that would be more than half of all.
fn more_kept(errors: &[(Layer, f32)], before: usize) -> Option<BTreeSet<Layer>> {
    let count = (2 * before).max(1);
    (count <= errors.len() / 2).then(|| errors.iter().take(count).map(|&(l, _)| l).collect())
}

fn refusal(precision: Precision, wanted: f64, checked: &Checked) -> ImportError {
    let kept = match (precision, checked.float32_layers.len()) {
        (Precision::Int8, kept) => {
            format!(" with {kept} layers in float32, and with more of them int8 is not worth it")
        }
        _ => String::new(),
    };
    let found = match checked.score_drift.is_finite() {
        true => format!(
            "{precision} names the same best class as float32 for {:.2} % of {} pictures, and \
             --min-agreement asks for {:.2} %",
            100.0 * checked.top1_agreement,
            checked.pictures,
            100.0 * wanted
        ),
        false => format!("{precision} gives scores that are not numbers"),
    };
    ImportError::Check(format!(
        "{found}{kept}. Import it with --precision fp32, or ask for less"
    ))
}

/// Agreement and drift of two graphs' answers to the same pictures.
fn compare(expected: &[Answer], found: &[Answer], arithmetic: &Arithmetic) -> Checked {
    let pairs = || expected.iter().zip(found);
    let agreeing = pairs().filter(|(a, b)| a.best() == b.best()).count();
    let drift = |of: fn(&Answer) -> &[f32]| {
        let differences = pairs().flat_map(|(a, b)| of(a).iter().zip(of(b)));
        differences
            .map(|(a, b)| f64::from((a - b).abs()))
            // Unlike `f64::max`, this keeps a NaN.
            .fold(0.0, |most: f64, next| match most.is_nan() || next <= most {
                true => most,
                false => next,
            })
    };
    Checked {
        pictures: expected.len(),
        top1_agreement: agreeing as f64 / expected.len() as f64,
        score_drift: drift(|answer| &answer.scores),
        map_drift: drift(|answer| &answer.rollout),
        float32_layers: arithmetic.kept.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchlight_onnx::vit::Part;

    fn answer(scores: [f32; 3], rollout: [f32; 2]) -> Answer {
        Answer {
            scores: scores.to_vec(),
            rollout: rollout.to_vec(),
        }
    }

    fn all(found: &[Answer], expected: &[Answer]) -> Checked {
        compare(expected, found, &Arithmetic::all(Precision::Int8))
    }

    #[test]
    fn agreement_counts_best_classes_and_drift_is_the_largest() {
        let expected = [
            answer([0.5, 0.25, 0.25], [0.5, 0.25]),
            answer([0.25, 0.5, 0.25], [0.25, 0.25]),
        ];
        let found = [
            answer([0.25, 0.5, 0.25], [0.5, 0.125]),
            answer([0.25, 0.5, 0.25], [0.25, 0.25]),
        ];
        let checked = all(&found, &expected);
        assert_eq!(checked.pictures, 2);
        assert_eq!(checked.top1_agreement, 0.5);
        assert_eq!((checked.score_drift, checked.map_drift), (0.25, 0.125));
    }

    #[test]
    fn a_score_that_is_no_number_is_not_lost_among_small_drifts() {
        let expected = [answer([0.5, 0.25, 0.25], [0.5, 0.5])];
        let found = [answer([f32::NAN, 0.25, 0.25], [0.5, 0.5])];
        let checked = all(&found, &expected);
        assert!(!checked.score_drift.is_finite());
        let why = refusal(Precision::Fp16, 0.0, &checked).to_string();
        assert!(why.contains("not numbers"), "{why}");
    }

    #[test]
    fn worst_layers_are_kept_first_and_at_most_half_of_them() {
        let errors: Vec<(Layer, f32)> = [4.0, 3.0, 2.0, 1.0]
            .into_iter()
            .zip(Part::ALL)
            .map(|(error, part)| (Layer { block: 0, part }, error))
            .collect();
        let kept = |before| more_kept(&errors, before).map(|kept| kept.into_iter().collect());
        let layers: Vec<Layer> = errors.iter().map(|&(layer, _)| layer).collect();
        assert_eq!(kept(0), Some(layers[..1].to_vec()));
        assert_eq!(kept(1), Some(layers[..2].to_vec()));
        assert_eq!(kept(2), None);
        assert_eq!(more_kept(&[], 0), None);
    }

    #[test]
    fn refusal_says_how_far_it_was() {
        let expected = [answer([0.5, 0.25, 0.25], [0.5, 0.5])];
        let found = [answer([0.25, 0.5, 0.25], [0.5, 0.5])];
        let why = refusal(Precision::Int8, 0.99, &all(&found, &expected)).to_string();
        for part in ["0.00 % of 1 pictures", "99.00 %", "fp32"] {
            assert!(why.contains(part), "{why}");
        }
    }
}
