//! Compares a graph of lower precision with the float32 graph on the user's own images, before it
//! is written.
//!
//! Both graphs are written as model directories beside the one to be made, and run by the server's
//! own code: decoder, preprocessing, engine, scores. Networks differ in how much they suffer from
//! eight bits (trained ViTs have channels far larger than the rest), so nothing is taken for
//! granted: what is found goes into the manifest, and where a given agreement is not reached the
//! layers with the largest errors of their own stay in float32, until it is or half of them have.

mod runner;
mod scratch;

use std::{collections::BTreeSet, path::PathBuf};

use patchlight_model::{
    ModelInfo,
    manifest::{Precision, PrecisionCheck},
};
use patchlight_onnx::vit::{LinearLayer, PrecisionPlan};

use self::{
    runner::{ModelRunner, Prediction},
    scratch::ScratchDir,
};
use super::{ImportError, ImportOptions, Progress, write};

/// The images to compare on, and the agreement to reach.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOptions {
    /// Files of images, of the kind that will be asked about.
    pub images: Vec<PathBuf>,
    /// For which share of them both graphs have to name the same best class, from 0 to 1.
    pub min_agreement: Option<f64>,
}

/// The precision plan that was selected, and the measurements behind it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SelectedPrecision {
    pub(super) plan: PrecisionPlan,
    pub(super) checked: PrecisionCheck,
    /// Each layer's own error as [`ModelRunner::errors`] tells it, largest first; none but for int8.
    pub(super) errors: Vec<(LinearLayer, f32)>,
}

/// Finds a plan for `options.precision` that agrees well enough with float32.
///
/// # Errors
/// If an image cannot be read, or the agreement not be reached; the message says how far it was.
pub(super) fn select_precision(
    options: &ImportOptions,
    check: &CheckOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<SelectedPrecision, ImportError> {
    let scratch = ScratchDir::new(&options.out)?;
    let runner = ModelRunner::new(options, &check.images)?;
    let build_model = |name: &str, plan: &PrecisionPlan, progress: &mut dyn FnMut(Progress)| {
        let directory = scratch.path(name);
        write(options, &directory, plan, None, progress)?;
        ModelInfo::open(&directory).map_err(|error| ImportError::Check(error.to_string()))
    };

    let float32 = build_model(
        "float32",
        &PrecisionPlan::uniform(Precision::Fp32),
        progress,
    )?;
    let expected = runner.predictions(&float32, "float32", progress)?;
    let mut plan = PrecisionPlan::uniform(options.precision);
    let errors = match options.precision {
        Precision::Int8 => {
            let probing = PrecisionPlan {
                probing: true,
                ..PrecisionPlan::uniform(Precision::Fp32)
            };
            let probe = build_model("probe", &probing, progress)?;
            runner.errors(&probe, progress)?
        }
        Precision::Fp32 | Precision::Fp16 | Precision::Bf16 => Vec::new(),
    };
    loop {
        let candidate = build_model("candidate", &plan, progress)?;
        let phase = match options.precision {
            Precision::Int8 => "int8",
            Precision::Bf16 => "bfloat16",
            Precision::Fp32 | Precision::Fp16 => "float16",
        };
        let found = runner.predictions(&candidate, phase, progress)?;
        let checked = compare(&expected, &found, &plan);
        let wanted = check.min_agreement.unwrap_or(0.0);
        if checked.top1_agreement >= wanted && checked.score_drift.is_finite() {
            return Ok(SelectedPrecision {
                plan,
                checked,
                errors,
            });
        }
        match more_float32_layers(&errors, plan.float32_layers.len()) {
            Some(float32_layers) => plan.float32_layers = float32_layers,
            None => return Err(agreement_error(options.precision, wanted, &checked)),
        }
    }
}

/// The layers that stay in float32 next, when so many were not enough: the worst one, then twice as
/// many each time; `None` once that would be more than half of all.
fn more_float32_layers(
    errors: &[(LinearLayer, f32)],
    before: usize,
) -> Option<BTreeSet<LinearLayer>> {
    let count = (2 * before).max(1);
    (count <= errors.len() / 2).then(|| errors.iter().take(count).map(|&(l, _)| l).collect())
}

fn agreement_error(precision: Precision, wanted: f64, checked: &PrecisionCheck) -> ImportError {
    let float32_layers = match (precision, checked.float32_layers.len()) {
        (Precision::Int8, float32_layers) => {
            format!(
                " with {float32_layers} layers in float32, and with more of them int8 is not worth it"
            )
        }
        _ => String::new(),
    };
    let found = match checked.score_drift.is_finite() {
        true => format!(
            "{precision} names the same best class as float32 for {:.2} % of {} images, and \
             --min-agreement asks for {:.2} %",
            100.0 * checked.top1_agreement,
            checked.images,
            100.0 * wanted
        ),
        false => format!("{precision} gives scores that are not numbers"),
    };
    ImportError::Check(format!(
        "{found}{float32_layers}. Import it with --precision fp32, or ask for less"
    ))
}

/// Agreement and drift of two graphs' answers to the same images.
fn compare(expected: &[Prediction], found: &[Prediction], plan: &PrecisionPlan) -> PrecisionCheck {
    let pairs = || expected.iter().zip(found);
    let agreeing = pairs().filter(|(a, b)| a.best() == b.best()).count();
    let drift = |of: fn(&Prediction) -> &[f32]| {
        let differences = pairs().flat_map(|(a, b)| of(a).iter().zip(of(b)));
        differences
            .map(|(a, b)| f64::from((a - b).abs()))
            // Unlike `f64::max`, this keeps a NaN.
            .fold(0.0, |most: f64, next| match most.is_nan() || next <= most {
                true => most,
                false => next,
            })
    };
    PrecisionCheck {
        images: expected.len(),
        top1_agreement: agreeing as f64 / expected.len() as f64,
        score_drift: drift(|prediction| &prediction.scores),
        map_drift: drift(|prediction| &prediction.rollout),
        float32_layers: plan
            .float32_layers
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchlight_onnx::vit::LinearKind;

    fn prediction(scores: [f32; 3], rollout: [f32; 2]) -> Prediction {
        Prediction {
            scores: scores.to_vec(),
            rollout: rollout.to_vec(),
        }
    }

    fn all(found: &[Prediction], expected: &[Prediction]) -> PrecisionCheck {
        compare(expected, found, &PrecisionPlan::uniform(Precision::Int8))
    }

    #[test]
    fn agreement_counts_best_classes_and_drift_is_the_largest() {
        let expected = [
            prediction([0.5, 0.25, 0.25], [0.5, 0.25]),
            prediction([0.25, 0.5, 0.25], [0.25, 0.25]),
        ];
        let found = [
            prediction([0.25, 0.5, 0.25], [0.5, 0.125]),
            prediction([0.25, 0.5, 0.25], [0.25, 0.25]),
        ];
        let checked = all(&found, &expected);
        assert_eq!(checked.images, 2);
        assert_eq!(checked.top1_agreement, 0.5);
        assert_eq!((checked.score_drift, checked.map_drift), (0.25, 0.125));
    }

    #[test]
    fn a_score_that_is_no_number_is_not_lost_among_small_drifts() {
        let expected = [prediction([0.5, 0.25, 0.25], [0.5, 0.5])];
        let found = [prediction([f32::NAN, 0.25, 0.25], [0.5, 0.5])];
        let checked = all(&found, &expected);
        assert!(!checked.score_drift.is_finite());
        let error = agreement_error(Precision::Fp16, 0.0, &checked).to_string();
        assert!(error.contains("not numbers"), "{error}");
    }

    #[test]
    fn worst_layers_go_to_float32_first_and_at_most_half_of_them() {
        let errors: Vec<(LinearLayer, f32)> = [4.0, 3.0, 2.0, 1.0]
            .into_iter()
            .zip(LinearKind::ALL)
            .map(|(error, part)| (LinearLayer { block: 0, part }, error))
            .collect();
        let float32_layers = |before| {
            more_float32_layers(&errors, before)
                .map(|float32_layers| float32_layers.into_iter().collect())
        };
        let layers: Vec<LinearLayer> = errors.iter().map(|&(layer, _)| layer).collect();
        assert_eq!(float32_layers(0), Some(layers[..1].to_vec()));
        assert_eq!(float32_layers(1), Some(layers[..2].to_vec()));
        assert_eq!(float32_layers(2), None);
        assert_eq!(more_float32_layers(&[], 0), None);
    }

    #[test]
    fn refusal_says_how_far_it_was() {
        let expected = [prediction([0.5, 0.25, 0.25], [0.5, 0.5])];
        let found = [prediction([0.25, 0.5, 0.25], [0.5, 0.5])];
        let error = agreement_error(Precision::Int8, 0.99, &all(&found, &expected)).to_string();
        for part in ["0.00 % of 1 images", "99.00 %", "fp32"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
