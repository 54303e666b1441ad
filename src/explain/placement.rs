//! Where the map lies on the image.

use patchlight_imaging::preprocess::ExactRegion;

use super::{Grid, RenderError};

/// A rectangle in pixels, from its upper left corner; edges may fall between pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// To the right.
    pub width: f64,
    /// Downwards.
    pub height: f64,
}

impl From<ExactRegion> for Rect {
    fn from(region: ExactRegion) -> Self {
        Self {
            x: region.x,
            y: region.y,
            width: region.width,
            height: region.height,
        }
    }
}

/// What the model saw of the upright image, resize and crop undone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    image: (u32, u32),
    region: Rect,
}

impl Placement {
    /// `image` is the width and height of the upright original; `region` is the part of it that
    /// became the model's input, in its pixels. The region may exceed the image where
    /// preprocessing padded.
    ///
    /// # Errors
    ///
    /// When the image has no pixels or the region no area.
    pub fn new(image: (u32, u32), region: Rect) -> Result<Self, RenderError> {
        let (width, height) = image;
        if width == 0 || height == 0 {
            return Err(RenderError::EmptyImage { width, height });
        }
        let finite = [region.x, region.y, region.width, region.height]
            .iter()
            .all(|edge| edge.is_finite());
        if !finite || region.width <= 0.0 || region.height <= 0.0 {
            return Err(RenderError::Region { region });
        }
        Ok(Self { image, region })
    }

    /// Width and height of the upright original.
    pub fn image(&self) -> (u32, u32) {
        self.image
    }

    /// What the model saw, in pixels of the upright original.
    pub fn region(&self) -> Rect {
        self.region
    }

    /// Where one patch lies, in pixels of the upright original.
    pub fn patch(&self, grid: Grid, row: usize, col: usize) -> Rect {
        let width = self.region.width / grid.cols as f64;
        let height = self.region.height / grid.rows as f64;
        Rect {
            x: self.region.x + width * col as f64,
            y: self.region.y + height * row as f64,
            width,
            height,
        }
    }

    /// The region on a smaller or larger copy of the whole image.
    pub(super) fn region_on(&self, canvas: (u32, u32)) -> Rect {
        let across = f64::from(canvas.0) / f64::from(self.image.0);
        let down = f64::from(canvas.1) / f64::from(self.image.1);
        Rect {
            x: self.region.x * across,
            y: self.region.y * down,
            width: self.region.width * across,
            height: self.region.height * down,
        }
    }
}

/// `size`, or the size in the same proportion whose longer side is `max_side`.
pub(super) fn bounded(size: (u32, u32), max_side: u32) -> (u32, u32) {
    let (width, height) = size;
    let long = width.max(height);
    if long <= max_side {
        return size;
    }
    let scaled = |side: u32| {
        // At most `max_side`, which is a u32.
        (f64::from(side) * f64::from(max_side) / f64::from(long)).round() as u32
    };
    (scaled(width).max(1), scaled(height).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { rows: 14, cols: 14 };

    fn rect(x: f64, y: f64, width: f64, height: f64) -> Rect {
        Rect {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn squashed_patches_are_as_oblong_as_the_image() {
        let placement = Placement::new((640, 420), rect(0.0, 0.0, 640.0, 420.0)).unwrap();
        assert_eq!(
            placement.patch(GRID, 13, 7),
            rect(320.0, 390.0, 640.0 / 14.0, 30.0)
        );
    }

    #[test]
    fn a_centre_crop_of_a_landscape_image_starts_to_the_right() {
        let placement = Placement::new((640, 420), rect(138.0, 28.0, 364.0, 364.0)).unwrap();
        assert_eq!(placement.patch(GRID, 0, 0), rect(138.0, 28.0, 26.0, 26.0));
        assert_eq!(placement.patch(GRID, 2, 13), rect(476.0, 80.0, 26.0, 26.0));
    }

    #[test]
    fn a_centre_crop_of_a_portrait_image_starts_further_down() {
        let placement = Placement::new((420, 640), rect(28.0, 138.0, 364.0, 364.0)).unwrap();
        assert_eq!(placement.patch(GRID, 13, 0), rect(28.0, 476.0, 26.0, 26.0));
    }

    #[test]
    fn patches_of_an_upscaled_image_may_be_smaller_than_a_pixel() {
        let placement = Placement::new((7, 7), rect(0.0, 0.0, 7.0, 7.0)).unwrap();
        assert_eq!(placement.patch(GRID, 1, 2), rect(1.0, 0.5, 0.5, 0.5));
    }

    #[test]
    fn a_smaller_copy_scales_the_region_by_each_axis() {
        let placement = Placement::new((4000, 3001), rect(500.0, 0.0, 3000.0, 3001.0)).unwrap();
        assert_eq!(
            placement.region_on((1000, 750)),
            rect(125.0, 0.0, 750.0, 750.0)
        );
    }

    #[test]
    fn a_region_without_area_and_an_empty_image_are_refused() {
        assert!(Placement::new((10, 10), rect(0.0, 0.0, 0.0, 4.0)).is_err());
        assert!(Placement::new((10, 10), rect(0.0, f64::NAN, 1.0, 4.0)).is_err());
        assert!(Placement::new((0, 10), rect(0.0, 0.0, 1.0, 4.0)).is_err());
    }

    #[test]
    fn bounding_keeps_the_proportion_and_at_least_one_pixel() {
        assert_eq!(bounded((4000, 3000), 1024), (1024, 768));
        assert_eq!(bounded((3000, 4000), 1024), (768, 1024));
        assert_eq!(bounded((1024, 3), 1024), (1024, 3));
        assert_eq!(bounded((60_000, 2), 1024), (1024, 1));
    }
}
