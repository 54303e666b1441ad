//! Per-label attribution of one image, with the logits that it accounts for.

use patchlight_engine::Attribution;
use patchlight_model::Labels;

/// How much every patch wrote into the logits of the best classes, and what else is in them.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptAttribution {
    /// The classes, best first.
    pub classes: Vec<usize>,
    /// Their labels.
    pub labels: Vec<String>,
    /// `(classes + 1) × patches`; the last row is of the mean over all classes.
    pub patches: Vec<f32>,
    /// `classes + 1`: what is not of the patches.
    pub rest: Vec<f32>,
    /// `classes + 1`: the logits themselves.
    pub logits: Vec<f32>,
}

/// One class's account: the values, `unattributed` and `residual` add up to `logit`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassAttribution {
    /// The class's label.
    pub label: String,
    /// What each patch wrote into the logit, row-major.
    pub values: Vec<f32>,
    /// What else is in it: the prefix tokens' share, biases, MLPs, embedding.
    pub unattributed: f32,
    /// The logit.
    pub logit: f32,
    /// What the account misses: the error of its float32 arithmetic.
    pub residual: f32,
}

impl KeptAttribution {
    /// Attribution for an image of which these are all logits.
    pub fn new(attribution: Attribution, logits: &[f32], labels: &Labels) -> Self {
        let mean = logits.iter().copied().map(f64::from).sum::<f64>() / logits.len() as f64;
        let of_classes = attribution.classes.iter().map(|&class| logits[class]);
        let labels = attribution.classes.iter().map(|&class| labels.name(class));
        Self {
            logits: of_classes.chain([mean as f32]).collect(),
            labels: labels.map(str::to_owned).collect(),
            classes: attribution.classes,
            patches: attribution.patches,
            rest: attribution.rest,
        }
    }

    /// The account of one class, minus that of the mean over all classes with `contrast`; `None`
    /// if it is not among the kept.
    pub fn of(&self, class: usize, contrast: bool) -> Option<ClassAttribution> {
        let row = self.classes.iter().position(|&kept| kept == class)?;
        let mean = self.classes.len();
        let less = |of_class: f32, of_mean: f32| match contrast {
            true => of_class - of_mean,
            false => of_class,
        };
        let each = self.patches.len() / self.rest.len();
        let patches = |row: usize| &self.patches[row * each..][..each];
        let values: Vec<f32> = patches(row)
            .iter()
            .zip(patches(mean))
            .map(|(&of_class, &of_mean)| less(of_class, of_mean))
            .collect();
        let unattributed = less(self.rest[row], self.rest[mean]);
        let logit = less(self.logits[row], self.logits[mean]);
        let attributed: f64 = values.iter().copied().map(f64::from).sum();
        Some(ClassAttribution {
            label: self.labels[row].clone(),
            values,
            unattributed,
            logit,
            residual: (f64::from(logit) - attributed - f64::from(unattributed)) as f32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> KeptAttribution {
        let attribution = Attribution {
            classes: vec![2, 0],
            patches: vec![1.0, 2.0, -1.0, 0.5, 0.25, 0.25],
            rest: vec![0.5, 1.5, 0.125],
        };
        let labels = Labels::parse(b"cup\nhat\nowl\n").unwrap();
        KeptAttribution::new(attribution, &[1.0, -2.625, 3.5], &labels)
    }

    #[test]
    fn an_account_is_found_by_its_class_and_closes() {
        let attribution = kept().of(0, false).unwrap();
        assert_eq!(attribution.label, "cup");
        assert_eq!(attribution.values, [-1.0, 0.5]);
        assert_eq!((attribution.unattributed, attribution.logit), (1.5, 1.0));
        assert_eq!(attribution.residual, 0.0);
    }

    #[test]
    fn contrast_takes_the_mean_away_from_every_part() {
        let attribution = kept().of(2, true).unwrap();
        assert_eq!(attribution.values, [0.75, 1.75]);
        assert_eq!(
            (attribution.unattributed, attribution.logit),
            (0.375, 2.875)
        );
        assert_eq!(attribution.residual, 0.0);
    }

    #[test]
    fn what_an_account_misses_is_its_residual() {
        let mut kept = kept();
        kept.logits[0] += 0.25;
        assert_eq!(kept.of(2, false).unwrap().residual, 0.25);
    }

    #[test]
    fn a_class_that_is_not_kept_has_no_account() {
        assert_eq!(kept().of(1, false), None);
    }
}
