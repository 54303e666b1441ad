//! Are the maps true? Measured on pictures whose object's place is known.
//!
//! ```text
//!  listing ──► pictures and boxes ──► pipeline ──► engine ──► maps ──┬─► where they point
//!                                                                  └─► perturb: deletion, insertion
//!                                                summary ◄──────────────┘
//!                                                   └──► table, plot, JSON
//! ```
//!
//! The pictures go through the same decoder, preprocessing, engine and maps as in the service. For
//! each map this is measured, beside the same for a random map:
//!
//! * **pointing game** (Zhang et al. 2018): whether the strongest patch is on the object, that is
//!   covered by it for at least a quarter; whether its centre is in the object's box;
//! * **mass on the object**: the share of the map's positive values that lies on it, each patch's
//!   value counted in the proportion in which the object covers it;
//! * **deletion** and **insertion** ([`perturb`]): the area under the score of the label that the
//!   model gave to the whole picture.
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
    perturb::{Curves, Cut, Fill, Order, Plan},
};

pub use self::{
    listing::{Listed, Listing},
    maps::Kind,
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
    /// Pictures that run together.
    pub batch: usize,
}

/// What is needed to run a picture.
#[derive(Debug)]
pub struct Bench<'a, E> {
    /// The model.
    pub model: &'a ModelInfo,
    /// Its preprocessing.
    pub pipeline: &'a Pipeline,
    /// Its session.
    pub engine: &'a mut E,
    /// How the test is done.
    pub protocol: Protocol,
}

/// What one map does on one picture.
#[derive(Clone, Debug)]
pub struct Merits {
    /// 1 if the strongest patch is on the object; for the random map, how often it would be.
    pub on_object: f64,
    /// 1 if the strongest patch's centre is in the box; likewise.
    pub in_box: f64,
    /// Share of the positive values that lies on the object.
    pub mass: f64,
    /// Deletion and insertion.
    pub curves: Curves,
}

/// What was measured on one picture.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Whether the model names it rightly, where the right name is known.
    pub right: Option<bool>,
    /// Of each kind of map that the model makes.
    pub maps: Vec<(Kind, Merits)>,
    /// Of a random map.
    pub random: Merits,
}

/// Why a picture could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A file cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// The picture is refused as the service would refuse it.
    #[error("{0}")]
    Picture(#[from] patchlight_imaging::Error),
    /// The listing does not fit the picture.
    #[error("{0}")]
    Listing(String),
    /// The run failed.
    #[error("{0}")]
    Engine(#[from] EngineError),
}

impl<E: Engine> Bench<'_, E> {
    /// Measures all maps on one picture.
    ///
    /// # Errors
    /// When the picture cannot be read, decoded or run, or its box does not lie in it.
    pub fn measure(&mut self, listed: &Listed) -> Result<Measured, EvaluateError> {
        let manifest = &self.model.manifest;
        let upload = fs::read(&listed.path)?;
        let header = decode::peek(&upload, &Limits::default())?;
        let picture = decode::decode(&upload, &header)?;
        let prepared = self.pipeline.run(&picture.rgb);
        let region = prepared.exact_region.into();
        let size = (picture.rgb.width(), picture.rgb.height());
        let placement =
            Placement::new(size, region).map_err(|why| EvaluateError::Listing(why.to_string()))?;
        let [rows, cols] = manifest.tokens.grid;
        let object = Object::new(listed, &placement, Grid { rows, cols })?;

        let whole = self.run(&[&prepared.tensor])?.swap_remove(0);
        let predicted = best(&whole.logits);
        let maps = maps(manifest, &whole, predicted);

        // One seed for the listing, but another order for each picture.
        let seed = self.protocol.seed.wrapping_add(listed.number as u64);
        let orders = maps
            .iter()
            .map(|(_, values)| Order::strongest_first(values, seed));
        let patches = manifest.tokens.patches();
        let plan = Plan::new(orders.collect(), patches, self.protocol.steps, seed);
        let scores = self.scores(&plan, &prepared.tensor, predicted)?;
        let outcome = plan.outcome(&scores).ok_or_else(|| {
            EvaluateError::Engine(EngineError::Graph("a run gave no score".to_owned()))
        })?;
        let merits = maps
            .into_iter()
            .zip(outcome.maps)
            .map(|((kind, values), curves)| (kind, object.merits(&values, curves)));
        Ok(Measured {
            right: listed.class.map(|class| class == predicted),
            maps: merits.collect(),
            random: object.merits_of_chance(outcome.random),
        })
    }

    /// The label's score for each of the plan's pictures.
    fn scores(
        &mut self,
        plan: &Plan,
        input: &[f32],
        class: usize,
    ) -> Result<Vec<f64>, EngineError> {
        let manifest = &self.model.manifest;
        let cut = Cut::of(manifest);
        let fill = self.protocol.fill.of(input, &cut);
        let masks: Vec<Vec<bool>> = plan.masks().collect();
        let mut found = Vec::with_capacity(masks.len());
        for masks in masks.chunks(self.protocol.batch.max(1)) {
            let pictures: Vec<Vec<f32>> = masks
                .iter()
                .map(|replaced| cut.replace(input, &fill, replaced))
                .collect();
            let pictures: Vec<&[f32]> = pictures.iter().map(Vec::as_slice).collect();
            for output in self.run(&pictures)? {
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
