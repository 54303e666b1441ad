//! From values to positions on the colormap: fixed, so that images can be compared.
//!
//! # Shares
//!
//! A rollout weight `v` is compared with the fair share `m`, the mean over the map's patches:
//!
//! ```text
//! position = v / (v + 2·m)
//!
//! v/m      0     ¼     ½     1     2     4     8     16    all on one of 196
//! position 0     0.11  0.20  0.33  0.50  0.67  0.80  0.89  0.99
//! ```
//!
//! This is the logistic curve of log(v/m): around the middle equal *factors* are equal steps of
//! color, as on a logarithmic scale, but zero has a position and no peak is cut off. Nothing
//! depends on the image's own minimum or maximum, so a nearly uniform map is nearly one color (a
//! third up, the quiet end of the colormap) instead of noise stretched to full contrast. The mean
//! is of the patches alone; what remained on the class token does not dim the image (it is in the
//! JSON as `prefix_mass`). A map without any weight is position 0 throughout.
//!
//! # Signed attribution
//!
//! ```text
//! position = ½ + ½ · v / max|v|
//! ```
//!
//! Zero is always the neutral middle, and equal values for and against are equally strong. The unit
//! is the map's own largest magnitude, as logits have no fair share to compare with: signs and
//! proportions can be read off, amounts only from the JSON. A map of zeros is neutral throughout.

use super::{Colormap, PatchMap};

/// The value, in fair shares, that lies in the middle of the colormap.
const MIDDLE: f64 = 2.0;

/// Contour lines of a share map, in fair shares.
const SHARE_LEVELS: [f64; 4] = [1.5, 3.0, 6.0, 12.0];

/// Contour lines of a signed map, in parts of the largest magnitude, on either side of zero.
const SIGNED_LEVELS: [f64; 3] = [0.25, 0.5, 0.75];

/// How a map's values become positions on the colormap; see the head of this file for the formulas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Non-negative weights against their mean.
    Share {
        /// The mean over the patches.
        fair: f64,
    },
    /// Signed values against their largest magnitude.
    Signed {
        /// The largest magnitude.
        largest: f64,
    },
}

impl Scale {
    /// For weights that are not negative: rollout, or the attention of one head.
    pub fn share(map: &PatchMap) -> Self {
        let sum: f64 = map.values().iter().map(|&value| f64::from(value)).sum();
        Self::Share {
            fair: sum / map.values().len() as f64,
        }
    }

    /// For signed values: attribution.
    pub fn signed(map: &PatchMap) -> Self {
        let magnitudes = map.values().iter().map(|&value| f64::from(value).abs());
        Self::Signed {
            largest: magnitudes.fold(0.0, f64::max),
        }
    }

    /// The position of `value` on the colormap, 0…1.
    pub fn position(self, value: f32) -> f32 {
        let value = f64::from(value);
        let position = match self {
            Self::Share { fair } if fair > 0.0 => {
                let weight = value.max(0.0);
                weight / (weight + MIDDLE * fair)
            }
            Self::Share { .. } => 0.0,
            Self::Signed { largest } if largest > 0.0 => 0.5 + 0.5 * value / largest,
            Self::Signed { .. } => 0.5,
        };
        position.clamp(0.0, 1.0) as f32
    }

    /// How much of the image a position covers in an overlay of this `alpha`, 0…1.
    ///
    /// What matters covers more than what does not, so that the image stays clear where the map is
    /// quiet. At alpha ½: a quarter at the bottom of a share map and three quarters at its top; an
    /// eighth where attribution is neutral and three quarters where it is strongest. Alpha 0 and 1
    /// are exactly nothing and everything.
    pub(super) fn opacity(self, position: f32, alpha: f32) -> f32 {
        match self {
            Self::Share { .. } => alpha.powf(2.0 - 1.6 * position),
            Self::Signed { .. } => {
                // The root lifts small attribution, where the colormap is pale.
                let strength = (2.0 * position - 1.0).abs().sqrt();
                alpha.powf(3.0 - 2.6 * strength)
            }
        }
    }

    /// How much of its own color the image below an overlay loses, 0…1, lest it be taken for the
    /// map's. Skin and sky look like the colors of a signed map, so a signed map gets a grey image
    /// from ½ on.
    pub(super) fn desaturation(self, alpha: f32) -> f32 {
        match self {
            Self::Share { .. } => alpha,
            Self::Signed { .. } => (2.0 * alpha).min(1.0),
        }
    }

    /// Positions of the contour lines, ascending.
    pub(super) fn levels(self) -> Vec<f32> {
        match self {
            Self::Share { .. } => SHARE_LEVELS
                .iter()
                .map(|level| (level / (level + MIDDLE)) as f32)
                .collect(),
            Self::Signed { .. } => {
                let against = SIGNED_LEVELS.iter().rev().map(|level| 0.5 - 0.5 * level);
                let favour = SIGNED_LEVELS.iter().map(|level| 0.5 + 0.5 * level);
                against.chain(favour).map(|level| level as f32).collect()
            }
        }
    }

    /// The colormap that fits.
    pub fn colormap(self) -> Colormap {
        match self {
            Self::Share { .. } => Colormap::Turbo,
            Self::Signed { .. } => Colormap::Coolwarm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Grid;

    fn map(values: Vec<f32>) -> PatchMap {
        let grid = Grid {
            rows: 1,
            cols: values.len(),
        };
        PatchMap::new(grid, values).unwrap()
    }

    fn positions(map: &PatchMap, scale: Scale) -> Vec<f32> {
        map.values().iter().map(|&v| scale.position(v)).collect()
    }

    #[test]
    fn a_uniform_map_is_one_third_whatever_the_prefix_keeps() {
        for share in [1.0 / 196.0, 0.5 / 196.0, 1e-30] {
            let map = map(vec![share; 196]);
            for position in positions(&map, Scale::share(&map)) {
                assert!((position - 1.0 / 3.0).abs() < 1e-6, "{share}: {position}");
            }
        }
    }

    #[test]
    fn a_map_without_weight_is_at_the_bottom() {
        let map = map(vec![0.0; 4]);
        assert_eq!(positions(&map, Scale::share(&map)), [0.0; 4]);
    }

    #[test]
    fn all_weight_on_one_patch_is_near_the_top_and_the_rest_at_the_bottom() {
        let mut values = vec![0.0; 196];
        values[7] = 1.0;
        let map = map(values);
        let scale = Scale::share(&map);
        assert!((scale.position(1.0) - 196.0 / 198.0).abs() < 1e-6);
        assert_eq!(scale.position(0.0), 0.0);
    }

    #[test]
    fn twice_the_fair_share_is_the_middle_and_noise_is_not_stretched() {
        let map = map(vec![0.99, 1.0, 1.01, 1.0]);
        let scale = Scale::share(&map);
        assert!((scale.position(2.0) - 0.5).abs() < 1e-6);
        let positions = positions(&map, scale);
        assert!(positions[2] - positions[0] < 0.005);
    }

    #[test]
    fn signed_attribution_is_symmetric_about_the_middle() {
        let map = map(vec![-2.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(
            positions(&map, Scale::signed(&map)),
            [0.0, 0.375, 0.5, 0.625, 0.75]
        );
    }

    #[test]
    fn attribution_of_zeros_is_neutral() {
        let map = map(vec![0.0, -0.0]);
        assert_eq!(positions(&map, Scale::signed(&map)), [0.5, 0.5]);
    }

    #[test]
    fn values_at_the_ends_of_f32_stay_within_the_scale() {
        let map = map(vec![f32::MAX, f32::MAX, f32::MIN_POSITIVE]);
        for scale in [Scale::share(&map), Scale::signed(&map)] {
            for position in positions(&map, scale) {
                assert!((0.0..=1.0).contains(&position));
            }
        }
    }

    #[test]
    fn contour_levels_ascend() {
        let map = map(vec![1.0]);
        for scale in [Scale::share(&map), Scale::signed(&map)] {
            assert!(scale.levels().is_sorted_by(|a, b| a < b));
        }
    }
}
