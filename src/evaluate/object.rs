//! Which patches the object covers, and how a map compares with that.

use std::fs;

use image::GrayImage;

use super::{EvaluateError, ListedImage, MapMetrics};
use crate::{
    explain::{Grid, Placement, Rect},
    perturb::Curves,
};

/// A patch is on the object if at least so much of it is covered.
const MIN_COVERAGE: f64 = 0.25;

/// How much of each patch the object covers, 0…1, and whether the patch's centre is in its box.
#[derive(Clone, Debug)]
pub(super) struct Object {
    cover: Vec<f64>,
    in_box: Vec<bool>,
}

impl Object {
    /// Of a listed image whose patches lie as `placement` says. Without a mask the object is
    /// taken for its box.
    pub(super) fn new(
        listed: &ListedImage,
        placement: &Placement,
        grid: Grid,
    ) -> Result<Self, EvaluateError> {
        let mask = mask(listed, placement)?;
        let bounds = listed.bounds;
        let patch_rects = (0..grid.patches())
            .map(|patch| placement.patch(grid, patch / grid.cols, patch % grid.cols));
        let cover: Vec<f64> = patch_rects
            .clone()
            .map(|patch| match &mask {
                Some(mask) => mean_of(mask, &patch),
                None => overlap(&bounds, &patch),
            })
            .collect();
        if cover.iter().all(|&cover| cover == 0.0) {
            return Err(EvaluateError::Listing(
                "the object lies nowhere on what the model sees".to_owned(),
            ));
        }
        let in_box = patch_rects.map(|patch| contains_centre(&bounds, &patch));
        Ok(Self {
            cover,
            in_box: in_box.collect(),
        })
    }

    /// A map's metrics. Without any positive value its mass is nowhere.
    pub(super) fn metrics(&self, values: &[f32], curves: Curves) -> MapMetrics {
        let order = |&a: &usize, &b: &usize| values[a].total_cmp(&values[b]);
        let strongest = (0..values.len()).max_by(order).unwrap_or_default();
        let positive = || values.iter().map(|&value| f64::from(value.max(0.0)));
        let total: f64 = positive().sum();
        let on: f64 = positive()
            .zip(&self.cover)
            .map(|(v, cover)| v * cover)
            .sum();
        MapMetrics {
            on_object: indicator(self.cover[strongest] >= MIN_COVERAGE),
            in_box: indicator(self.in_box[strongest]),
            mass: if total > 0.0 { on / total } else { 0.0 },
            curves,
        }
    }

    /// What a random map has on average.
    pub(super) fn chance_metrics(&self, curves: Curves) -> MapMetrics {
        let mean =
            |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / self.cover.len() as f64;
        MapMetrics {
            on_object: mean(
                &mut self
                    .cover
                    .iter()
                    .map(|&cover| indicator(cover >= MIN_COVERAGE)),
            ),
            in_box: mean(&mut self.in_box.iter().map(|&inside| indicator(inside))),
            mass: mean(&mut self.cover.iter().copied()),
            curves,
        }
    }
}

fn indicator(hit: bool) -> f64 {
    f64::from(u8::from(hit))
}

fn mask(listed: &ListedImage, placement: &Placement) -> Result<Option<GrayImage>, EvaluateError> {
    let Some(path) = &listed.mask else {
        return Ok(None);
    };
    let with_path = |error: String| EvaluateError::Listing(format!("{}: {error}", path.display()));
    let mask = image::load_from_memory(&fs::read(path)?)
        .map_err(|error| with_path(error.to_string()))?
        .into_luma8();
    if mask.dimensions() != placement.image() {
        return Err(with_path(format!(
            "the mask has {:?} pixels, the upright image {:?}",
            mask.dimensions(),
            placement.image()
        )));
    }
    Ok(Some(mask))
}

/// The part of the patch that lies in the box.
fn overlap([left, top, right, bottom]: &[f64; 4], patch: &Rect) -> f64 {
    let across = right.min(patch.x + patch.width) - left.max(patch.x);
    let down = bottom.min(patch.y + patch.height) - top.max(patch.y);
    across.max(0.0) * down.max(0.0) / (patch.width * patch.height)
}

fn contains_centre([left, top, right, bottom]: &[f64; 4], patch: &Rect) -> bool {
    let (x, y) = (patch.x + patch.width / 2.0, patch.y + patch.height / 2.0);
    (*left..*right).contains(&x) && (*top..*bottom).contains(&y)
}

/// The mask's mean over the pixels whose centres lie in the patch; over the nearest pixel where the
/// patch is smaller than one. Beyond the image there is no object.
fn mean_of(mask: &GrayImage, patch: &Rect) -> f64 {
    let (columns, outside) = pixels(patch.x, patch.width, mask.width());
    let (rows, outside_rows) = pixels(patch.y, patch.height, mask.height());
    let count = (columns.len() + outside) * (rows.len() + outside_rows);
    let sum: u64 = rows
        .flat_map(|y| columns.clone().map(move |x| (x, y)))
        .map(|(x, y)| u64::from(mask.get_pixel(x, y).0[0]))
        .sum();
    sum as f64 / 255.0 / count.max(1) as f64
}

/// The pixels of an axis whose centres lie in the stretch, and how many more would lie beyond it.
fn pixels(start: f64, length: f64, size: u32) -> (std::ops::Range<u32>, usize) {
    let mut first = (start - 0.5).ceil() as i64;
    let mut end = (start + length - 0.5).ceil() as i64;
    if end <= first {
        first = (start + length / 2.0).floor() as i64;
        end = first + 1;
    }
    let inside = |at: i64| at.clamp(0, i64::from(size)) as u32;
    let range = inside(first)..inside(end);
    let all = (end - first) as usize;
    let outside = all - range.len();
    (range, outside)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::perturb::Curve;

    const GRID: Grid = Grid { rows: 2, cols: 2 };

    fn curves() -> Curves {
        let curve = Curve::between(1.0, &[], 0.0);
        Curves {
            deletion: curve.clone(),
            insertion: curve,
        }
    }

    fn object(bounds: [f64; 4], mask: Option<PathBuf>) -> Object {
        let region = Rect {
            x: 0.0,
            y: 0.0,
            width: 40.0,
            height: 20.0,
        };
        let placement = Placement::new((40, 20), region).unwrap();
        let listed = ListedImage {
            number: 0,
            path: PathBuf::new(),
            class: None,
            bounds,
            mask,
        };
        Object::new(&listed, &placement, GRID).unwrap()
    }

    #[test]
    fn a_box_covers_patches_in_proportion() {
        let object = object([10.0, 0.0, 30.0, 6.0], None);
        assert_eq!(object.cover, [0.3, 0.3, 0.0, 0.0]);
        assert_eq!(object.in_box, [true, false, false, false]);
    }

    #[test]
    fn metrics_of_a_map_and_of_chance_as_computed_by_hand() {
        let object = object([0.0, 0.0, 20.0, 12.0], None);
        // Covered: all of the first patch, a fifth of the one below it.
        assert_eq!(object.cover, [1.0, 0.0, 0.2, 0.0]);
        let right = object.metrics(&[3.0, 1.0, 1.0, -7.0], curves());
        assert_eq!((right.on_object, right.in_box), (1.0, 1.0));
        assert!((right.mass - 3.2 / 5.0).abs() < 1e-12);
        let beside = object.metrics(&[0.0, 0.0, 2.0, 0.0], curves());
        assert_eq!((beside.on_object, beside.in_box), (0.0, 0.0));
        assert!((beside.mass - 0.2).abs() < 1e-12);
        assert_eq!(object.metrics(&[-1.0; 4], curves()).mass, 0.0);
        let chance = object.chance_metrics(curves());
        assert_eq!((chance.on_object, chance.in_box), (0.25, 0.25));
        assert!((chance.mass - 0.3).abs() < 1e-12);
    }

    #[test]
    fn a_mask_is_more_exact_than_the_box() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let mut mask = GrayImage::new(40, 20);
        for x in 20..40 {
            for y in 0..5 {
                mask.get_pixel_mut(x, y).0 = [255];
            }
        }
        mask.save(&path).unwrap();
        let object = object([0.0, 0.0, 40.0, 20.0], Some(path));
        assert_eq!(object.cover, [0.0, 0.5, 0.0, 0.0]);
        assert_eq!(object.in_box, [true; 4]);
    }

    #[test]
    fn patches_beyond_the_image_and_below_a_pixel_have_pixels() {
        assert_eq!(pixels(-4.0, 8.0, 10), (0..4, 4));
        assert_eq!(pixels(8.0, 4.0, 10), (8..10, 2));
        assert_eq!(pixels(3.25, 0.25, 10), (3..4, 0));
        assert_eq!(pixels(9.75, 0.25, 10), (9..10, 0));
        assert_eq!(pixels(-9.0, 4.0, 10).0.len(), 0);
    }
}
