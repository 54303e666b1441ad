//! Means over images, with their margins, and whether they are better than chance.

use serde::{Serialize, Serializer};

use super::{ImageEvaluation, MapMethod, MapMetrics};
use crate::perturb::Curve;

/// How many standard errors the 95 % interval of a mean reaches to either side.
const Z_95: f64 = 1.96;

/// All images together.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// How many images were measured.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// How many of them the model names rightly, where the right names are known.
    pub right: Option<f64>,
    /// One for each kind of map, then the random map's.
    pub rows: Vec<Row>,
}

/// One kind of map.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `None` for the random map.
    pub kind: Option<MapMethod>,
    /// Each measure, in the order of [`Measure::ALL`].
    pub measures: Vec<Statistic>,
    /// The mean deletion curve.
    pub deletion: Curve,
    /// The mean insertion curve.
    pub insertion: Curve,
}

/// What is measured of a map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// The strongest patch is on the object.
    OnObject,
    /// Its centre is in the object's box.
    InBox,
    /// The share of the positive values on the object.
    Mass,
    /// The area under the deletion curve.
    Deletion,
    /// The area under the insertion curve.
    Insertion,
}

/// A mean over images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Statistic {
    /// The mean.
    pub mean: f64,
    /// Half of its 95 % interval.
    pub margin: f64,
    /// How much better than the random map on the same image, on average; negative for worse.
    pub gain: f64,
    /// Half of the gain's 95 % interval.
    pub gain_margin: f64,
}

/// How a map compares with chance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The gain's interval lies above 0.
    Better,
    /// It holds 0.
    NoBetter,
    /// It lies below.
    Worse,
}

impl Measure {
    /// All, in the order of tables.
    pub const ALL: [Self; 5] = [
        Self::OnObject,
        Self::InBox,
        Self::Mass,
        Self::Deletion,
        Self::Insertion,
    ];

    fn of(self, metrics: &MapMetrics) -> f64 {
        match self {
            Self::OnObject => metrics.on_object,
            Self::InBox => metrics.in_box,
            Self::Mass => metrics.mass,
            Self::Deletion => metrics.curves.deletion.area(),
            Self::Insertion => metrics.curves.insertion.area(),
        }
    }

    /// 1 where much is good, −1 where little is.
    fn sign(self) -> f64 {
        match self {
            Self::Deletion => -1.0,
            _ => 1.0,
        }
    }
}

impl Statistic {
    /// Of one value for each image, beside that of chance.
    fn new(values: &[f64], chance: &[f64], sign: f64) -> Self {
        let gains: Vec<f64> = values
            .iter()
            .zip(chance)
            .map(|(value, chance)| sign * (value - chance))
            .collect();
        let ((mean, margin), (gain, gain_margin)) = (interval(values), interval(&gains));
        Self {
            mean,
            margin,
            gain,
            gain_margin,
        }
    }

    /// Compared with the random map.
    pub fn verdict(&self) -> Verdict {
        if self.gain - self.gain_margin > 0.0 {
            Verdict::Better
        } else if self.gain + self.gain_margin < 0.0 {
            Verdict::Worse
        } else {
            Verdict::NoBetter
        }
    }
}

impl Summary {
    /// Of the images that were measured; a kind of map that any of them lacks is left out.
    pub fn new(measured: &[ImageEvaluation]) -> Self {
        let random: Vec<&MapMetrics> = measured.iter().map(|image| &image.random).collect();
        let kinds = measured.first().map_or(&[][..], |image| &image.maps);
        let mut rows: Vec<Row> = kinds
            .iter()
            .filter_map(|(kind, _)| {
                let of_kind = measured.iter().map(|image| {
                    let mut maps = image.maps.iter();
                    maps.find(|(found, _)| found == kind)
                        .map(|(_, metrics)| metrics)
                });
                let metrics: Vec<&MapMetrics> = of_kind.collect::<Option<_>>()?;
                Some(Row::new(Some(*kind), &metrics, &random))
            })
            .collect();
        rows.push(Row::new(None, &random, &random));
        let named: Vec<f64> = measured
            .iter()
            .filter_map(|image| image.right)
            .map(|right| f64::from(u8::from(right)))
            .collect();
        Self {
            images: measured.len(),
            right: (!named.is_empty()).then(|| mean(&named)),
            rows,
        }
    }
}

impl Row {
    fn new(kind: Option<MapMethod>, metrics: &[&MapMetrics], random: &[&MapMetrics]) -> Self {
        let measures = Measure::ALL.map(|measure| {
            let values = |metrics: &[&MapMetrics]| -> Vec<f64> {
                metrics.iter().map(|metrics| measure.of(metrics)).collect()
            };
            Statistic::new(&values(metrics), &values(random), measure.sign())
        });
        Self {
            kind,
            measures: measures.to_vec(),
            deletion: Curve::mean(metrics.iter().map(|metrics| &metrics.curves.deletion)),
            insertion: Curve::mean(metrics.iter().map(|metrics| &metrics.curves.insertion)),
        }
    }

    /// As tables and plots call it.
    pub fn name(&self) -> &'static str {
        self.kind.map_or("random", MapMethod::name)
    }
}

impl Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::OnObject => "on_object",
            Self::InBox => "in_box",
            Self::Mass => "mass",
            Self::Deletion => "deletion_area",
            Self::Insertion => "insertion_area",
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean and half of its 95 % interval; a single value has no interval and is given 0.
fn interval(values: &[f64]) -> (f64, f64) {
    let (mean, count) = (mean(values), values.len() as f64);
    if count < 2.0 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, Z_95 * (squares / (count - 1.0) / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perturb::Curves;

    fn metrics(on_object: f64, deletion: f64) -> MapMetrics {
        let curve = Curve::between(deletion, &[], deletion);
        MapMetrics {
            on_object,
            in_box: on_object,
            mass: 0.5,
            curves: Curves {
                deletion: curve.clone(),
                insertion: curve,
            },
        }
    }

    fn measured(hits: &[(f64, f64)]) -> Vec<ImageEvaluation> {
        let image = |&(on_object, deletion): &(f64, f64)| ImageEvaluation {
            right: Some(on_object > 0.0),
            maps: vec![(MapMethod::Rollout, metrics(on_object, deletion))],
            random: metrics(0.25, 0.5),
        };
        hits.iter().map(image).collect()
    }

    #[test]
    fn mean_and_interval_are_those_of_the_textbook() {
        // Values 1, 0, 1, 1: mean ¾, variance ¼, standard error ¼.
        let summary = Summary::new(&measured(&[(1.0, 0.2), (0.0, 0.2), (1.0, 0.2), (1.0, 0.2)]));
        let on_object = summary.rows[0].measures[0];
        assert_eq!((on_object.mean, on_object.gain), (0.75, 0.5));
        assert!((on_object.margin - 0.49).abs() < 1e-12);
        assert_eq!(on_object.verdict(), Verdict::Better);
        assert_eq!(summary.right, Some(0.75));
    }

    #[test]
    fn a_small_deletion_area_is_good_and_a_small_insertion_area_is_not() {
        let summary = Summary::new(&measured(&[(1.0, 0.1), (1.0, 0.2), (1.0, 0.3)]));
        let verdicts: Vec<Verdict> = summary.rows[0]
            .measures
            .iter()
            .map(Statistic::verdict)
            .collect();
        assert_eq!(verdicts[3], Verdict::Better);
        assert_eq!(verdicts[4], Verdict::Worse);
        // The mass is the random map's own.
        assert_eq!(verdicts[2], Verdict::NoBetter);
    }

    #[test]
    fn random_is_the_last_row_and_no_better_than_itself() {
        let summary = Summary::new(&measured(&[(1.0, 0.1), (0.0, 0.9)]));
        let random = summary.rows.last().unwrap();
        assert_eq!(random.name(), "random");
        assert!(
            random
                .measures
                .iter()
                .all(|measure| measure.verdict() == Verdict::NoBetter)
        );
    }
}
