//! One number for every patch.

use super::RenderError;

/// How patches lie: `rows` of `cols` patches, row-major. Not necessarily square.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Grid {
    /// Rows of patches.
    pub rows: usize,
    /// Patches in a row.
    pub cols: usize,
}

/// One finite number for every patch of a grid, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchMap {
    grid: Grid,
    values: Vec<f32>,
}

impl Grid {
    /// How many patches there are.
    pub fn patches(self) -> usize {
        self.rows * self.cols
    }
}

impl PatchMap {
    /// `values` are row-major, one for every patch.
    ///
    /// # Errors
    ///
    /// When the grid has no patches, the lengths disagree, or a value is not finite.
    pub fn new(grid: Grid, values: Vec<f32>) -> Result<Self, RenderError> {
        let Grid { rows, cols } = grid;
        if rows == 0 || cols == 0 {
            return Err(RenderError::EmptyGrid { rows, cols });
        }
        if rows.checked_mul(cols) != Some(values.len()) {
            return Err(RenderError::ValueCount {
                rows,
                cols,
                found: values.len(),
            });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(RenderError::NotFinite {
                index,
                value: values[index],
            });
        }
        Ok(Self { grid, values })
    }

    /// How the patches lie.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The numbers, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_too_few_a_nan_and_an_empty_grid_are_refused() {
        let grid = Grid { rows: 2, cols: 3 };
        assert_eq!(
            PatchMap::new(grid, vec![0.0; 5]).unwrap_err().to_string(),
            "5 values for a grid of 2×3 patches; 6 are needed"
        );
        assert_eq!(
            PatchMap::new(grid, vec![0.0, 1.0, f32::INFINITY, 0.0, 0.0, 0.0]),
            Err(RenderError::NotFinite {
                index: 2,
                value: f32::INFINITY
            })
        );
        assert_eq!(
            PatchMap::new(Grid { rows: 0, cols: 3 }, Vec::new()),
            Err(RenderError::EmptyGrid { rows: 0, cols: 3 })
        );
    }

    #[test]
    fn a_grid_need_not_be_square() {
        let map = PatchMap::new(Grid { rows: 1, cols: 3 }, vec![0.1, 0.2, 0.3]).unwrap();
        assert_eq!(map.grid().patches(), 3);
        assert_eq!(map.values(), [0.1, 0.2, 0.3]);
    }
}
