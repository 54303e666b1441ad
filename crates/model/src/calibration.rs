//! `[calibration]` of `model.toml`: what a model's scores are worth, measured on labelled images.
//!
//! Written by `patchlight calibrate`; a server reads it and adds `confidence` to its answers.

use serde::{Deserialize, Serialize};

use super::task::TaskKind;

/// The version of the table described here.
pub const VERSION: u32 = 1;

/// What was measured, and the numbers that answers need.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`VERSION`].
    pub version: u32,
    /// The images that it was measured on.
    pub data: CalibrationData,
    /// What logits are divided by before they become probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// Sets of labels that hold the right one as often as promised; of single-label models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sets: Option<PredictionSets>,
    /// How familiar an image is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub familiarity: Option<Familiarity>,
}

/// The images that were used.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationData {
    /// SHA-256, in lower-case hexadecimal, of the SHA-256 and labels of all images in their order.
    pub digest: String,
    /// Images that the temperature was fitted on.
    pub fit: usize,
    /// Images that thresholds were taken from.
    pub calibrate: usize,
    /// Images that nothing but the results below was measured on.
    pub measure: usize,
}

/// A measured value with its 95 % interval.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Temperature scaling (Guo et al. 2017).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Temperature {
    /// One for all classes; one for each class of a multi-label model.
    pub values: Vec<f64>,
    /// Expected calibration error of the scores as they are.
    pub ece_before: Measured,
    /// The same of calibrated scores.
    pub ece_after: Measured,
    /// Mean log loss of the scores as they are.
    pub log_loss_before: Measured,
    /// The same of calibrated scores.
    pub log_loss_after: Measured,
}

/// Conformal sets (RAPS without its random number; Angelopoulos et al. 2021).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionSets {
    /// What each rank beyond the free ones adds to a label's score.
    pub penalty: f64,
    /// Ranks that cost nothing.
    pub free: usize,
    /// By rising level.
    pub levels: Vec<SetLevel>,
}

/// The sets of one level.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetLevel {
    /// How often a set holds the right label: 0.9, 0.95 or 0.99.
    pub level: f64,
    /// Labels with at most this score belong to the set.
    pub threshold: f64,
    /// How often it did.
    pub coverage: Measured,
    /// Labels in a set, on average.
    pub mean_size: f64,
}

/// The logits' energy among those of familiar images (Liu et al. 2020).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Familiarity {
    /// Below this negative energy an image is unlike those that the model was made for.
    pub threshold: f64,
    /// The share of familiar images that this was to flag.
    pub flag_rate: f64,
    /// The share that it flagged.
    pub flagged: Measured,
    /// Negative energies of familiar images at equal steps of their share, rising.
    pub quantiles: Vec<f32>,
    /// What it makes of images of another kind, if some were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlike: Option<Unlike>,
}

/// Images of another kind beside the familiar ones.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Unlike {
    /// How many there were.
    pub images: usize,
    /// The share that is flagged.
    pub flagged: Measured,
    /// How often a familiar image is the more familiar one of two.
    pub auroc: f64,
    /// The share that passes where 95 % of the familiar ones do.
    pub fpr95: f64,
}

impl Calibration {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Every error, in words.
    pub fn validate(&self, kind: TaskKind, classes: usize) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        let mut check = |holds: bool, error: &str| {
            if !holds {
                errors.push(format!("calibration.{error}; calibrate the model again"));
            }
        };
        check(
            self.version == VERSION,
            "version is not the one this version reads",
        );
        if let Some(temperature) = &self.temperature {
            let expected = match kind {
                TaskKind::SingleLabel => 1,
                TaskKind::MultiLabel => classes,
            };
            let usable = |value: &f64| value.is_finite() && *value > 0.0;
            check(
                temperature.values.len() == expected && temperature.values.iter().all(usable),
                "temperature.values must be one positive number, or one for each class of a \
                 multi-label model",
            );
        }
        if let Some(sets) = &self.sets {
            check(
                kind == TaskKind::SingleLabel && self.temperature.is_some(),
                "sets are for single-label models with a temperature",
            );
            let levels = sets.levels.iter().map(|level| level.level);
            check(
                !sets.levels.is_empty() && levels.is_sorted_by(|a, b| a < b),
                "sets.levels must rise",
            );
            let whole = |level: &SetLevel| level.level > 0.0 && level.level < 1.0;
            let finite = |level: &SetLevel| level.threshold.is_finite();
            check(
                sets.levels
                    .iter()
                    .all(|level| whole(level) && finite(level))
                    && sets.penalty.is_finite()
                    && sets.penalty >= 0.0,
                "sets has a level outside 0 to 1, or a number that is none",
            );
        }
        if let Some(familiarity) = &self.familiarity {
            let quantiles = &familiarity.quantiles;
            check(
                quantiles.len() >= 2
                    && quantiles.is_sorted()
                    && quantiles.iter().all(|value| value.is_finite())
                    && familiarity.threshold.is_finite(),
                "familiarity needs a threshold and two or more rising quantiles",
            );
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(errors),
        }
    }
}
