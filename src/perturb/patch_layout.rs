//! Where patches lie in an input tensor.

use patchlight_model::ModelInfo;

/// How a model divides its input into patches: `3 × height × width` values in planes, rows from the
/// top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PatchLayout {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Rows and columns of patches. What is left over at the right and below is no part of any
    /// patch, and never changed.
    pub grid: [usize; 2],
}

impl PatchLayout {
    /// That of a model.
    pub fn of(model: &ModelInfo) -> Self {
        let (height, width) = model.input_size;
        let manifest = &model.manifest;
        Self {
            height,
            width,
            patch: manifest.architecture.patch,
            grid: manifest.tokens.grid,
        }
    }

    /// `input` with the patches that `replaced` marks taken from `fill`, a tensor of the same size.
    pub fn replace(&self, input: &[f32], fill: &[f32], replaced: &[bool]) -> Vec<f32> {
        let [_, columns] = self.grid;
        let mut result = input.to_vec();
        let marked = (0..replaced.len()).filter(|&patch| replaced[patch]);
        for patch in marked {
            let (row, column) = (patch / columns, patch % columns);
            for plane in 0..3 {
                for line in 0..self.patch {
                    let y = row * self.patch + line;
                    let at = (plane * self.height + y) * self.width + column * self.patch;
                    result[at..][..self.patch].copy_from_slice(&fill[at..][..self.patch]);
                }
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_the_same_square_of_every_plane_and_remainders_stay() {
        // Two rows of three patches of 2 × 2, a line and a column left over.
        let layout = PatchLayout {
            height: 5,
            width: 7,
            patch: 2,
            grid: [2, 3],
        };
        let replaced = [false, false, false, false, true, true];
        let result = layout.replace(&[0.0; 105], &[1.0; 105], &replaced);
        for (at, value) in result.into_iter().enumerate() {
            let (y, x) = (at % 35 / 7, at % 7);
            let inside = (2..4).contains(&y) && (2..6).contains(&x);
            assert_eq!(value == 1.0, inside, "{y} {x}");
        }
    }
}
