//! From records to the table of `model.toml`.

use std::io;

use patchlight_calibration::{
    conformal::{self, Penalty},
    detection,
    percentile::{Quantiles, flag_threshold},
    probabilities::{energy, sigmoid, softmax},
    reliability::{self, Interval, Reliability},
    required::{FOR_TEMPERATURE, Part, TooFew, for_rate},
    temperature::Search,
};
use patchlight_model::{
    calibration::{
        Calibration, CalibrationData, Familiarity, Measured, PredictionSets, SetLevel, Temperature,
        Unlike, VERSION,
    },
    manifest::TaskKind,
};

use super::{Record, Records, Truth};

/// Levels of prediction sets.
const LEVELS: [f64; 3] = [0.90, 0.95, 0.99];

/// The level that the penalty is chosen at.
const PENALTY_LEVEL: f64 = 0.95;

/// Examples of either kind that a class of a multi-label model needs for a temperature of its own.
const OF_CLASS: usize = 20;

/// Fixes the intervals' resamples.
const SEED: u64 = 1;

/// What is to be found.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether one label or any number of labels holds.
    pub kind: TaskKind,
    /// Number of classes.
    pub classes: usize,
    /// The share of familiar images that may be flagged as unlike.
    pub flag_rate: f64,
    /// Digest of the images.
    pub digest: String,
}

/// What was found, and what there were too few images for.
#[derive(Debug)]
pub struct Fitted {
    /// For `model.toml`; nothing in it if there were too few images for any claim.
    pub calibration: Calibration,
    /// Claims that more images are needed for.
    pub too_few: Vec<TooFew>,
}

/// Fits and measures everything that there are enough images for.
///
/// # Errors
/// If the records cannot be read.
pub fn fit(
    records: &mut Records,
    unlike: Option<&mut Records>,
    settings: &Settings,
) -> io::Result<Fitted> {
    let counts = Counts::of(records)?;
    let mut too_few = Vec::new();
    let temperature = match counts.labelled() {
        0 => None,
        _ => check(&mut too_few, counts.check_temperature())
            .map(|()| temperature(records, settings))
            .transpose()?,
    };
    let sets = match (&temperature, settings.kind) {
        (Some(found), TaskKind::SingleLabel) => {
            let found = found.values[0];
            sets(records, found, &counts, &mut too_few)?
        }
        _ => None,
    };
    let familiarity = check(&mut too_few, counts.check_familiarity(settings.flag_rate));
    let familiarity = match familiarity {
        Some(()) => familiarity_of(records, unlike, settings)?,
        None => None,
    };
    let calibration = Calibration {
        version: VERSION,
        data: CalibrationData {
            digest: settings.digest.clone(),
            fit: counts.all[0],
            calibrate: counts.all[1],
            measure: counts.all[2],
        },
        temperature,
        sets,
        familiarity,
    };
    Ok(Fitted {
        calibration,
        too_few,
    })
}

fn check(too_few: &mut Vec<TooFew>, claim: Result<(), TooFew>) -> Option<()> {
    claim.map_err(|error| too_few.push(error)).ok()
}

/// Images by what they are used for.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    all: [usize; 3],
    labelled: [usize; 3],
}

impl Counts {
    fn of(records: &mut Records) -> io::Result<Self> {
        let mut counts = Self::default();
        for record in records.read()? {
            let record = record?;
            let part = record.part() as usize;
            counts.all[part] += 1;
            counts.labelled[part] += usize::from(record.truth != Truth::Unknown);
        }
        Ok(counts)
    }

    fn labelled(&self) -> usize {
        self.labelled.iter().sum()
    }

    fn check_temperature(&self) -> Result<(), TooFew> {
        let [fit, ..] = self.labelled;
        TooFew::check(
            "a temperature",
            (FOR_TEMPERATURE, fit),
            0.4,
            self.labelled(),
        )
    }

    fn check_level(&self, level: f64) -> Result<(), TooFew> {
        let (claim, needed) = (format!("sets at {level}"), for_rate(1.0 - level));
        let [_, calibrate, _] = self.labelled;
        TooFew::check(claim, (needed, calibrate), 0.4, self.labelled())
    }

    fn check_familiarity(&self, rate: f64) -> Result<(), TooFew> {
        let claim = format!("familiarity that flags a share of {rate}");
        let [_, calibrate, _] = self.all;
        let all = self.all.iter().sum();
        TooFew::check(claim, (for_rate(rate), calibrate), 0.4, all)
    }
}

/// The records of one part with known labels.
fn labelled(
    records: &mut Records,
    part: Part,
) -> io::Result<impl Iterator<Item = io::Result<(Vec<f32>, Vec<usize>)>>> {
    let records = records.read()?;
    Ok(records.filter_map(move |record| {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        let wanted = record.part() == part;
        match record.truth {
            Truth::Classes(classes) if wanted => Some(Ok((record.logits, classes))),
            _ => None,
        }
    }))
}

fn temperature(records: &mut Records, settings: &Settings) -> io::Result<Temperature> {
    let values = match settings.kind {
        TaskKind::SingleLabel => vec![single_temperature(records)?],
        TaskKind::MultiLabel => temperatures_by_class(records, settings.classes)?,
    };
    let (mut before, mut after) = (Reliability::default(), Reliability::default());
    for image in labelled(records, Part::Measure)? {
        let (logits, classes) = image?;
        match settings.kind {
            TaskKind::SingleLabel => {
                add_single(&mut before, &logits, classes[0], 1.0);
                add_single(&mut after, &logits, classes[0], values[0]);
            }
            TaskKind::MultiLabel => {
                for (class, (logit, temperature)) in logits.iter().zip(&values).enumerate() {
                    let holds = classes.binary_search(&class).is_ok();
                    add_binary(&mut before, f64::from(*logit), holds);
                    add_binary(&mut after, f64::from(*logit) / temperature, holds);
                }
            }
        }
    }
    Ok(Temperature {
        values,
        ece_before: measured(before.ece(SEED)),
        ece_after: measured(after.ece(SEED)),
        log_loss_before: measured(before.log_loss()),
        log_loss_after: measured(after.log_loss()),
    })
}

fn single_temperature(records: &mut Records) -> io::Result<f64> {
    let mut search = Search::default();
    while search.unfinished() {
        for image in labelled(records, Part::Fit)? {
            let (logits, classes) = image?;
            search.add(&logits, classes[0]);
        }
        search.step();
    }
    Ok(search.temperature())
}

/// One for each class; 1 where there are too few examples of either kind.
fn temperatures_by_class(records: &mut Records, classes: usize) -> io::Result<Vec<f64>> {
    let mut searches = vec![Search::default(); classes];
    let (mut held, mut images) = (vec![0; classes], 0);
    for image in labelled(records, Part::Fit)? {
        image?.1.iter().for_each(|&class| held[class] += 1);
        images += 1;
    }
    let enough = |class: usize| held[class] >= OF_CLASS && images - held[class] >= OF_CLASS;
    let fitted: Vec<bool> = (0..classes).map(enough).collect();
    while (0..classes).any(|class| fitted[class] && searches[class].unfinished()) {
        for image in labelled(records, Part::Fit)? {
            let (logits, truth) = image?;
            for (class, search) in searches.iter_mut().enumerate() {
                if fitted[class] && search.unfinished() {
                    search.add_binary(logits[class], truth.binary_search(&class).is_ok());
                }
            }
        }
        let open = searches
            .iter_mut()
            .zip(&fitted)
            .filter(|(_, fitted)| **fitted);
        open.filter(|(search, _)| search.unfinished())
            .for_each(|(search, _)| search.step());
    }
    let found = searches.iter().zip(fitted);
    let found = found.map(|(search, fitted)| if fitted { search.temperature() } else { 1.0 });
    Ok(found.collect())
}

fn add_single(reliability: &mut Reliability, logits: &[f32], class: usize, temperature: f64) {
    let probabilities = softmax(logits, temperature);
    let best = conformal::set(&probabilities, f64::NEG_INFINITY, NO_PENALTY)[0];
    let loss = -probabilities[class].max(f64::MIN_POSITIVE).ln();
    reliability.add(probabilities[best], best == class, loss);
}

fn add_binary(reliability: &mut Reliability, logit: f64, holds: bool) {
    let score = sigmoid(logit);
    let of_truth = if holds { score } else { sigmoid(-logit) };
    reliability.add(score, holds, -of_truth.max(f64::MIN_POSITIVE).ln());
}

const NO_PENALTY: Penalty = Penalty {
    weight: 0.0,
    free: 1,
};

/// Sets of every level that there are enough images for.
fn sets(
    records: &mut Records,
    temperature: f64,
    counts: &Counts,
    too_few: &mut Vec<TooFew>,
) -> io::Result<Option<PredictionSets>> {
    let levels = LEVELS.map(|level| check(too_few, counts.check_level(level)).map(|()| level));
    let levels: Vec<f64> = levels.into_iter().flatten().collect();
    if levels.is_empty() {
        return Ok(None);
    }
    let penalty = smallest_sets(records, temperature)?;
    let mut scores = scores_of_right_labels(records, Part::Calibrate, temperature, penalty)?;
    let mut found = Vec::with_capacity(levels.len());
    for level in levels {
        let threshold = conformal::threshold(&mut scores, level);
        let (mut images, mut held, mut labels) = (0, 0, 0);
        for image in labelled(records, Part::Measure)? {
            let (logits, classes) = image?;
            let set = conformal::set(&softmax(&logits, temperature), threshold, penalty);
            images += 1;
            held += usize::from(set.contains(&classes[0]));
            labels += set.len();
        }
        found.push(SetLevel {
            level,
            threshold,
            coverage: measured(reliability::share(held, images)),
            mean_size: labels as f64 / images.max(1) as f64,
        });
    }
    Ok(Some(PredictionSets {
        penalty: penalty.weight,
        free: penalty.free,
        levels: found,
    }))
}

/// The penalty with the smallest sets, on the images that fit the temperature.
fn smallest_sets(records: &mut Records, temperature: f64) -> io::Result<Penalty> {
    let mut best = (f64::INFINITY, NO_PENALTY);
    for penalty in Penalty::candidates() {
        let mut scores = scores_of_right_labels(records, Part::Fit, temperature, penalty)?;
        let threshold = conformal::threshold(&mut scores, PENALTY_LEVEL);
        let mut labels = 0;
        for image in labelled(records, Part::Fit)? {
            let probabilities = softmax(&image?.0, temperature);
            labels += conformal::set(&probabilities, threshold, penalty).len();
        }
        if (labels as f64) < best.0 {
            best = (labels as f64, penalty);
        }
    }
    Ok(best.1)
}

fn scores_of_right_labels(
    records: &mut Records,
    part: Part,
    temperature: f64,
    penalty: Penalty,
) -> io::Result<Vec<f64>> {
    let images = labelled(records, part)?;
    let score = |image: io::Result<(Vec<f32>, Vec<usize>)>| {
        let (logits, classes) = image?;
        let probabilities = softmax(&logits, temperature);
        Ok(conformal::score(&probabilities, classes[0], penalty))
    };
    images.map(score).collect()
}

fn familiarity_of(
    records: &mut Records,
    unlike: Option<&mut Records>,
    settings: &Settings,
) -> io::Result<Option<Familiarity>> {
    let mut values = energies(records, Some(Part::Calibrate))?;
    let quantiles = Quantiles::new(values.clone());
    let threshold = flag_threshold(&mut values, settings.flag_rate);
    let (Some(quantiles), Some(threshold)) = (quantiles, threshold) else {
        return Ok(None);
    };
    let measure = energies(records, Some(Part::Measure))?;
    let flagged = |values: &[f64]| {
        let flagged = values.iter().filter(|&&value| value < threshold).count();
        measured(reliability::share(flagged, values.len()))
    };
    let unlike = match unlike {
        None => None,
        Some(records) => {
            let others = energies(records, None)?;
            let found = detection::auroc(&measure, &others);
            let found = found.zip(detection::fpr95(&measure, &others));
            found.map(|(auroc, fpr95)| Unlike {
                images: others.len(),
                flagged: flagged(&others),
                auroc,
                fpr95,
            })
        }
    };
    Ok(Some(Familiarity {
        threshold,
        flag_rate: settings.flag_rate,
        flagged: flagged(&measure),
        quantiles: quantiles.values().to_vec(),
        unlike,
    }))
}

/// Negative energies: larger is more familiar.
fn energies(records: &mut Records, part: Option<Part>) -> io::Result<Vec<f64>> {
    let wanted = |record: &Record| part.is_none_or(|part| record.part() == part);
    let found = records.read()?.filter_map(|record| match record {
        Ok(record) => wanted(&record).then(|| Ok(-energy(&record.logits))),
        Err(error) => Some(Err(error)),
    });
    found.collect()
}

fn measured(Interval { value, low, high }: Interval) -> Measured {
    Measured { value, low, high }
}

#[cfg(test)]
mod tests;
