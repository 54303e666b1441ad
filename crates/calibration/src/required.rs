//! How many images a claim takes.
//!
//! Images are divided by what they hold (their digest), so that the same ones serve the same
//! purpose every time: of ten, four *fit* temperature, penalty and class statistics, four
//! *calibrate* thresholds, and two *measure* what came of it.

/// What an image is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Temperature, penalty and class statistics.
    Fit,
    /// Thresholds and percentiles.
    Calibrate,
    /// Measured, and nothing else.
    Measure,
}

impl Part {
    /// What the image with this digest is used for.
    pub fn of(digest: &[u8; 32]) -> Self {
        let [first, second, ..] = *digest;
        match u16::from_le_bytes([first, second]) % 10 {
            0..4 => Self::Fit,
            4..8 => Self::Calibrate,
            _ => Self::Measure,
        }
    }
}

/// Images of a part that a claim about a rare event takes: ten of them are expected to show it.
pub fn for_rate(rate: f64) -> usize {
    (10.0 / rate - 1e-9).ceil() as usize
}

/// Images of the fitting part that a temperature takes.
pub const FOR_TEMPERATURE: usize = 200;

/// Images of the fitting part that class statistics take, for each class that occurs.
pub const FOR_EACH_CLASS: usize = 2;

/// A claim that more images are needed for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{claim} takes about {needed} images, and there are {found}")]
pub struct TooFew {
    /// What would be claimed.
    pub claim: String,
    /// How many images there should be, of all parts together.
    pub needed: usize,
    /// How many there are, of all parts together.
    pub found: usize,
}

impl TooFew {
    /// Checks a claim that takes `needed` images of a part with `share` of all.
    ///
    /// # Errors
    /// With the number needed in all.
    pub fn check(
        claim: impl Into<String>,
        (needed, part): (usize, usize),
        share: f64,
        found: usize,
    ) -> Result<(), Self> {
        if part >= needed {
            return Ok(());
        }
        Err(Self {
            claim: claim.into(),
            // A tenth more, because chance divides the images.
            needed: (needed as f64 / share * 1.1).ceil() as usize,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_rare_images_are_expected() {
        assert_eq!([0.1, 0.05, 0.01].map(for_rate), [100, 200, 1000]);
    }

    #[test]
    fn a_claim_with_too_few_images_names_how_many_it_takes() {
        assert_eq!(TooFew::check("99 %", (1000, 1000), 0.4, 2500), Ok(()));
        let error = TooFew::check("99 %", (1000, 999), 0.4, 2500).unwrap_err();
        assert_eq!(
            error.to_string(),
            "99 % takes about 2750 images, and there are 2500"
        );
    }

    #[test]
    fn digests_divide_images_four_to_four_to_two() {
        let parts = (0..1000_u16).map(|at| {
            let mut digest = [0; 32];
            digest[..2].copy_from_slice(&at.to_le_bytes());
            Part::of(&digest)
        });
        let parts: Vec<Part> = parts.collect();
        let count = |part| parts.iter().filter(|found| **found == part).count();
        assert_eq!(
            [Part::Fit, Part::Calibrate, Part::Measure].map(count),
            [400, 400, 200]
        );
    }
}
