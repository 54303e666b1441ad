//! What a classifier's scores are worth, from its answers to images whose labels are known.
//!
//! Pure: numbers in, numbers out. Everything that looks at many images takes them one at a time, so
//! that whoever calls can read them from a file.
//!
//! ```text
//!  logits ──► temperature ──► probabilities ──► conformal   a set that holds the right label
//!                                  │
//!                                  └──────────► reliability ECE and log loss
//!  features ─► statistics ──► detector ─┐
//!  logits ───► energy ──────────────────┴─────► percentile  how familiar an image is
//! ```
//!
//! | module | what it is | source |
//! |---|---|---|
//! | [`temperature`] | one number, or one a class, by which logits are divided | Guo et al. 2017 |
//! | [`reliability`] | expected calibration error, log loss, and how sure both are | Guo et al. 2017 |
//! | [`conformal`] | sets that hold the right label as often as promised | Angelopoulos et al. 2021 |
//! | [`statistics`] | class means and covariances of features, streaming | Ledoit & Wolf 2004 |
//! | [`detector`] | relative Mahalanobis distance | Ren et al. 2021 |
//! | [`probabilities`] | softmax, sigmoid, energy | Liu et al. 2020 |
//! | [`detection`] | AUROC and false positives at 95 % | |
//! | [`percentile`] | where a value lies among those of familiar images | |
//! | [`required`] | how many images a claim takes | |

pub mod conformal;
pub mod detection;
pub mod detector;
mod matrix;
pub mod percentile;
pub mod probabilities;
pub mod reliability;
pub mod required;
pub mod statistics;
pub mod temperature;

#[cfg(test)]
mod goldens;
