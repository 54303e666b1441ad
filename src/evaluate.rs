//! Evaluates maps on images whose object's position is known.
//!
//! ```text
//!  listing ──► images and boxes ──► pipeline ──► engine ──► maps ──┬─► where they point
//!                                                                  └─► perturb: deletion, insertion
//!                                                summary ◄──────────────┘
//!                                                   └──► table, plot, JSON
//! ```
//!
//! The images go through the same decoder, preprocessing, engine and maps as in the service. For
//! each map this is measured, beside the same for a random map:
//!
//! * **pointing game** (Zhang et al. 2018): whether the strongest patch is on the object, that is
//!   covered by it for at least a quarter; whether its centre is in the object's box;
//! * **mass on the object**: the share of the map's positive values that lies on it, each patch's
//!   value counted in the proportion in which the object covers it;
//! * **deletion** and **insertion** ([`perturb`](crate::perturb)): the area under the score of the
//!   label that the model gave to the whole image.
//!
//! The random map's pointing and mass are not drawn but computed: the means over all patches.

mod listing;
mod maps;
mod object;
mod plot;
mod summary;
mod table;

use std::fs;

use patchlight_engine::{Engine, EngineError, Input, Output};
use patchlight_imaging::{
    decode::{self, Limits},
    preprocess::Pipeline,
};
use patchlight_model::{ModelInfo, scores};

use crate::{
    explain::{Grid, Placement},
    perturb::{Curves, Fill, PatchLayout, PatchOrder, PerturbationPlan},
};

pub use self::{
    listing::{ListedImage, Listing},
    maps::MapMethod,
    plot::plot,
    summary::{Measure, Row, Statistic, Summary, Verdict},
    table::table,
};
use self::{maps::maps, object::Object};

/// How the test is done.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// What stands where a patch was taken away.
    pub fill: Fill,
    /// Into how many equal steps each curve is cut.
    pub steps: usize,
    /// Fixes the random orders.
    pub seed: u64,
    /// Images that run together.
    pub batch: usize,
}

/// Runs images through a model and measures its maps.
#[derive(Debug)]
pub struct Evaluator<'a, E> {
    /// The model.
    pub model: &'a ModelInfo,
    /// Its preprocessing.
    pub pipeline: &'a Pipeline,
    /// Its session.
    pub engine: &'a mut E,
    /// How the test is done.
    pub protocol: Protocol,
}

/// The metrics of one map on one image.
#[derive(Clone, Debug)]
pub struct MapMetrics {
    /// 1 if the strongest patch is on the object; for the random map, how often it would be.
    pub on_object: f64,
    /// 1 if the strongest patch's centre is in the box; likewise.
    pub in_box: f64,
    /// Share of the positive values that lies on the object.
    pub mass: f64,
    /// Deletion and insertion.
    pub curves: Curves,
}

/// The metrics of all maps on one image.
#[derive(Clone, Debug)]
pub struct ImageEvaluation {
    /// Whether the model names it rightly, where the right name is known.
    pub right: Option<bool>,
    /// One for each kind of map that the model makes.
    pub maps: Vec<(MapMethod, MapMetrics)>,
    /// Of a random map.
    pub random: MapMetrics,
}

/// Why an image could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A file cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// The image is refused as the service would refuse it.
    #[error("{0}")]
    Image(#[from] patchlight_imaging::Error),
    /// The listing does not fit the image.
    #[error("{0}")]
    Listing(String),
    /// The run failed.
    #[error("{0}")]
    Engine(#[from] EngineError),
}

impl<E: Engine> Evaluator<'_, E> {
    /// Measures all maps on one image.
    ///
    /// # Errors
    /// When the image cannot be read, decoded or run, or its box does not lie in it.
    pub fn measure(&mut self, listed: &ListedImage) -> Result<ImageEvaluation, EvaluateError> {
        let manifest = &self.model.manifest;
        let upload = fs::read(&listed.path)?;
        let header = decode::peek(&upload, &Limits::default())?;
        let image = decode::decode(&upload, &header)?;
        let prepared = self.pipeline.run(&image.rgb);
        let region = prepared.exact_region.into();
        let size = (image.rgb.width(), image.rgb.height());
        let placement = Placement::new(size, region)
            .map_err(|error| EvaluateError::Listing(error.to_string()))?;
        let [rows, cols] = manifest.tokens.grid;
        let object = Object::new(listed, &placement, Grid { rows, cols })?;

        let whole = self.run(&[&prepared.tensor])?.swap_remove(0);
        let predicted = best(&whole.logits);
        let maps = maps(manifest, &whole, predicted);

        // One seed for the listing, but another order for each image.
        let seed = self.protocol.seed.wrapping_add(listed.number as u64);
        let orders = maps
            .iter()
            .map(|(_, values)| PatchOrder::strongest_first(values, seed));
        let patches = manifest.tokens.patches();
        let plan = PerturbationPlan::new(orders.collect(), patches, self.protocol.steps, seed);
        let scores = self.scores(&plan, &prepared.tensor, predicted)?;
        let outcome = plan.outcome(&scores).ok_or_else(|| {
            EvaluateError::Engine(EngineError::Graph("a run gave no score".to_owned()))
        })?;
        let metrics = maps
            .into_iter()
            .zip(outcome.maps)
            .map(|((kind, values), curves)| (kind, object.metrics(&values, curves)));
        Ok(ImageEvaluation {
            right: listed.class.map(|class| class == predicted),
            maps: metrics.collect(),
            random: object.chance_metrics(outcome.random),
        })
    }

    /// The label's score for each of the plan's images.
    fn scores(
        &mut self,
        plan: &PerturbationPlan,
        input: &[f32],
        class: usize,
    ) -> Result<Vec<f64>, EngineError> {
        let manifest = &self.model.manifest;
        let layout = PatchLayout::of(self.model);
        let fill = self.protocol.fill.of(input, &layout);
        let masks: Vec<Vec<bool>> = plan.masks().collect();
        let mut found = Vec::with_capacity(masks.len());
        for masks in masks.chunks(self.protocol.batch.max(1)) {
            let images: Vec<Vec<f32>> = masks
                .iter()
                .map(|replaced| layout.replace(input, &fill, replaced))
                .collect();
            let images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
            for output in self.run(&images)? {
                let scores = scores::of_all(manifest.task.kind, &output.logits);
                found.push(f64::from(scores[class]));
            }
        }
        Ok(found)
    }

    fn run(&mut self, inputs: &[&[f32]]) -> Result<Vec<Output>, EngineError> {
        let inputs: Vec<Input<'_>> = inputs.iter().copied().map(Input::in_full).collect();
        let outputs = self.engine.run(&inputs)?;
        let classes = self.model.manifest.task.classes;
        let whole =
            |output: &Output| output.logits.len() == classes && output.values().all(f32::is_finite);
        if outputs.len() == inputs.len() && outputs.iter().all(whole) {
            return Ok(outputs);
        }
        Err(EngineError::Graph(
            "its output is not finite or not whole".to_owned(),
        ))
    }
}

/// The class with the largest logit; the first of equals.
fn best(logits: &[f32]) -> usize {
    let order = |&a: &usize, &b: &usize| logits[a].total_cmp(&logits[b]).then(b.cmp(&a));
    (0..logits.len()).max_by(order).unwrap_or_default()
}

#[cfg(test)]
mod tests;
