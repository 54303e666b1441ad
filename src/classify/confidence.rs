//! What an answer is worth, by the model's calibration.

use patchlight_calibration::{
    conformal::{self, Penalty},
    percentile::percentile,
    probabilities::{energy, sigmoid, softmax},
};
use patchlight_model::{
    ModelInfo, Prediction,
    calibration::{Calibration, SetLevel},
    manifest::TaskKind,
    scores,
};
use serde::Serialize;
use utoipa::ToSchema;

/// The level of sets that nobody asked for another of.
const DEFAULT_LEVEL: f64 = 0.95;

/// How sure one may be of an answer. There for calibrated models; parts that there were too few
/// images for are absent.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Confidence {
    /// The best label's score after temperature scaling: of answers with a score of 0.8, about 80 %
    /// are right.
    #[schema(minimum = 0, maximum = 1, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated_score: Option<f64>,
    /// Labels, best first, that hold the right one as often as `coverage` says; their scores are
    /// the model's own, as in `predictions`.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<Vec<Prediction>>,
    /// How often sets hold the right label, for images like those of the calibration.
    #[schema(minimum = 0, maximum = 1, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    /// False if the image is unlike those that the model was calibrated on: then nothing above can
    /// be relied on.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub familiar: Option<bool>,
    /// The share of familiar images that are less familiar than this one.
    #[schema(minimum = 0, maximum = 1, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub familiarity: Option<f64>,
}

/// When an answer is marked as one not to act on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AbstainRule {
    /// Where the calibrated score is below this.
    pub below: Option<f64>,
    /// Where the image is unfamiliar.
    pub unfamiliar: bool,
}

impl AbstainRule {
    /// Whether the rule applies to an answer.
    pub fn applies(self, confidence: &Confidence) -> bool {
        let score = self.below.zip(confidence.calibrated_score);
        let unsure = score.is_some_and(|(below, score)| score < below);
        unsure || self.unfamiliar && confidence.familiar == Some(false)
    }
}

/// Why there are no sets of a level.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoSuchLevel {
    /// The model has no sets.
    #[error(
        "the model `{0}` has no prediction sets; `patchlight calibrate` makes them from labelled \
         images"
    )]
    Uncalibrated(String),
    /// It has sets of other levels.
    #[error("the model's sets have the levels {0}")]
    Others(String),
}

/// The level of the sets that a request gets: that it asked for, or else 0.95, or else the highest.
///
/// # Errors
/// If it asked for one that the model lacks.
pub fn level(model: &ModelInfo, asked: Option<f64>) -> Result<Option<f64>, NoSuchLevel> {
    let calibration = model.manifest.calibration.as_ref();
    let sets = calibration.and_then(|calibration| calibration.sets.as_ref());
    let levels = || {
        sets.iter()
            .flat_map(|sets| &sets.levels)
            .map(|one| one.level)
    };
    let same = |wanted: f64| levels().find(|level| (level - wanted).abs() < 1e-9);
    match asked {
        None => Ok(same(DEFAULT_LEVEL).or_else(|| levels().next_back())),
        Some(_) if sets.is_none() => Err(NoSuchLevel::Uncalibrated(model.name.clone())),
        Some(wanted) => same(wanted).map(Some).ok_or_else(|| {
            let known: Vec<String> = levels().map(|level| level.to_string()).collect();
            NoSuchLevel::Others(known.join(", "))
        }),
    }
}

impl Confidence {
    /// Of an image's logits, with sets of a [`level`]; `None` if the model is not calibrated.
    pub fn of(
        model: &ModelInfo,
        logits: &[f32],
        best: Option<&Prediction>,
        level: Option<f64>,
    ) -> Option<Self> {
        let manifest = &model.manifest;
        let calibration = manifest.calibration.as_ref()?;
        let kind = manifest.task.kind;
        let probabilities = single_probabilities(calibration, kind, logits);
        let best = best.map(|best| best.class_id);
        let best = best.or_else(|| scores::ranking(logits, 1).first().copied());
        let calibrated_score = best.and_then(|best| match &probabilities {
            Some(probabilities) => probabilities.get(best).copied(),
            None => {
                let temperature = calibration.temperature.as_ref()?.values.get(best)?;
                Some(sigmoid(f64::from(*logits.get(best)?) / temperature))
            }
        });
        let of_level = |of: &&SetLevel| level.is_some_and(|level| of.level == level);
        let sets = calibration.sets.as_ref().zip(probabilities.as_ref());
        let set = sets.and_then(|(sets, probabilities)| {
            let of = sets.levels.iter().find(of_level)?;
            let penalty = Penalty {
                weight: sets.penalty,
                free: sets.free,
            };
            Some((
                of.level,
                conformal::set(probabilities, of.threshold, penalty),
            ))
        });
        let familiarity = calibration.familiarity.as_ref().map(|familiarity| {
            let value = -energy(logits);
            let percentile = percentile(&familiarity.quantiles, value);
            (value >= familiarity.threshold, percentile)
        });
        let scores = set.as_ref().map(|_| scores::of_all(kind, logits));
        let prediction = |class_id: usize| Prediction {
            class_id,
            label: model.labels.name(class_id).to_owned(),
            score: scores.as_ref().map_or(0.0, |scores| scores[class_id]),
        };
        Some(Self {
            calibrated_score,
            coverage: set.as_ref().map(|(level, _)| *level),
            set: set.map(|(_, set)| set.into_iter().map(prediction).collect()),
            familiar: familiarity.map(|(familiar, _)| familiar),
            familiarity: familiarity.map(|(_, percentile)| percentile),
        })
    }
}

/// Calibrated probabilities of classes that exclude each other.
fn single_probabilities(
    calibration: &Calibration,
    kind: TaskKind,
    logits: &[f32],
) -> Option<Vec<f64>> {
    let temperature = calibration.temperature.as_ref()?.values.first()?;
    (kind == TaskKind::SingleLabel).then(|| softmax(logits, *temperature))
}
