//! Measures what a model's scores are worth, on labelled images it was not trained on.
//!
//! ```text
//!  folder or listing ──► dataset ──► pipeline ──► engine ──► records (logits and labels, on disk)
//!                                                               │ read again for every pass
//!                        [calibration] of model.toml ◄── fit ◄──┘
//! ```
//!
//! Images are divided by their digests ([`Part`]): four of ten fit the temperature, four give
//! thresholds, and two are measured and used for nothing else. Memory grows by some bytes an image:
//! the logits stay in a file, which an interrupted run finds again.

mod dataset;
mod fit;
mod records;

pub use self::{
    dataset::{Dataset, LabelledImage},
    fit::{Fitted, Settings, fit},
    records::{Record, Records, Truth},
};
pub use patchlight_calibration::required::Part;
