//! Angles of rotary position embeddings in two dimensions, as timm's classes lay them out.
//!
//! With (y, x) of a patch and bands ω, a head's angles are y·ω, then x·ω (or x first): a quarter of
//! the head each. A pair of values is turned by each; the graph has the two values of a pair half a
//! head apart.
//!
//! ```text
//! mixed    angle = column · f_0 + row · f_1, f of each head learned (Heo et al. 2024)
//! EVA-02   y = (row + offset) / rows · rows of pre-training     ω_i = T^(−i / quarter)
//! DINOv3   y = 2 · (row + ½ + offset) / rows − 1                ω_i = 2π · T^(−i / quarter)
//! ```

use patchlight_onnx::{
    tensor::Tensor,
    vit::{BlockWeight as B, VitSpec},
};

use crate::families::recipe::{Recipe, Recipes};

/// Learned frequencies, where a network has such.
pub(super) const FREQUENCIES: &str = "rope.freqs";

/// Which of these, and what it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rotary {
    pub(super) centred: bool,
    /// Whether every head has learned frequencies of its own, which the file has.
    pub(super) learned: bool,
    pub(super) temperature: f64,
    pub(super) offset: f64,
    /// Rows and columns of the grid of pre-training, where positions are scaled to it.
    pub(super) reference: Option<[usize; 2]>,
    /// Whether columns come first.
    pub(super) columns_first: bool,
    /// Whether the two values of a pair lie half a head apart in the file, too.
    pub(super) halves: bool,
}

impl Rotary {
    /// Cosines and sines, `[patches, head size]`.
    pub(super) fn tables(&self, grid: [usize; 2], head_size: usize) -> [Vec<f32>; 2] {
        let quarter = head_size / 4;
        let tau = match self.centred {
            true => std::f64::consts::TAU,
            false => 1.0,
        };
        let bands: Vec<f64> = (0..quarter)
            .map(|band| tau * self.temperature.powf(-(band as f64) / quarter as f64))
            .collect();
        let position = |axis: usize, at: usize| {
            let (at, length) = (at as f64 + self.offset, grid[axis] as f64);
            match (self.centred, self.reference) {
                (true, _) => 2.0 * (at + 0.5) / length - 1.0,
                (false, Some(reference)) => at / length * reference[axis] as f64,
                (false, None) => at,
            }
        };
        let mut tables = [Vec::new(), Vec::new()];
        for row in 0..grid[0] {
            for column in 0..grid[1] {
                let mut both = [position(0, row), position(1, column)];
                if self.columns_first {
                    both.reverse();
                }
                let half = both
                    .iter()
                    .flat_map(|at| bands.iter().map(move |band| at * band));
                let half: Vec<f64> = half.collect();
                for angle in half.iter().chain(&half) {
                    tables[0].push(angle.cos() as f32);
                    tables[1].push(angle.sin() as f32);
                }
            }
        }
        tables
    }

    /// Cosines and sines of every block, `[heads, patches, head size]`, of the frequencies
    /// `[2, layers, heads, head size / 2]` in the file.
    pub(super) fn learned_tables(&self, recipes: &mut Recipes, spec: &VitSpec) {
        let (heads, half) = (spec.heads, spec.head_size() / 2);
        let shape = [2, spec.layers, heads, half];
        let (layers, [_, columns], columns_first) = (spec.layers, spec.grid(), self.columns_first);
        let kinds = [
            (B::RotaryCosines, f64::cos as fn(f64) -> f64),
            (B::RotarySines, f64::sin),
        ];
        for (layer, (weight, function)) in
            (0..layers).flat_map(|layer| kinds.map(|kind| (layer, kind)))
        {
            let recipe = Recipe::of([FREQUENCIES.to_owned()], move |file, made| {
                let frequencies = file.tensor(FREQUENCIES, &shape)?.to_f32();
                let of = |axis: usize, head: usize| {
                    let first = ((axis * layers + layer) * heads + head) * half;
                    &frequencies[first..first + half]
                };
                let mut values = Vec::with_capacity(made.iter().product());
                for head in 0..heads {
                    let (first, second) = (of(0, head), of(1, head));
                    for patch in 0..made[1] {
                        let mut at = [(patch / columns) as f32, (patch % columns) as f32];
                        if columns_first {
                            at.reverse();
                        }
                        // In float32, as the library has them: angles are large.
                        let angles = first.iter().zip(second);
                        let angles = angles.map(|(first, second)| at[0] * first + at[1] * second);
                        let half = angles.map(|angle| function(f64::from(angle)) as f32);
                        let half: Vec<f32> = half.collect();
                        values.extend(half.iter().chain(&half));
                    }
                }
                Ok(Tensor::f32(made.to_vec(), &values))
            });
            recipes.block(layer, weight, recipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_of_two_patches_beside_each_other() {
        let rotary = Rotary {
            centred: true,
            learned: false,
            temperature: 100.0,
            offset: 0.0,
            reference: None,
            columns_first: false,
            halves: true,
        };
        // One band of frequency 2π; rows are centred at 0, columns at −½ and ½: half a turn.
        let [cosines, sines] = rotary.tables([1, 2], 4);
        let near = |a: &[f32], b: [f32; 8]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&cosines, [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]));
        assert!(near(&sines, [0.0; 8]));
    }
}
