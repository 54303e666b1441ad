//! What stands where a patch was taken away.

use std::{fmt, str::FromStr};

use super::PatchLayout;

/// What stands where a patch was taken away. None is neutral: each is an image of its own, and the
/// curves depend on it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Fill {
    /// The image's own mean color: no shapes, and no color that was not there.
    #[default]
    Mean,
    /// The image blurred by a Gaussian of one patch's width: colors stay, shapes go.
    Blur,
    /// Zero in the model's units: grey where inputs are centred, black where they are not.
    Zero,
}

impl Fill {
    /// The values of `--fill`.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("mean", Self::Mean),
        ("blur", Self::Blur),
        ("zero", Self::Zero),
    ];

    /// The fill for a whole input tensor, of its size.
    pub fn of(self, input: &[f32], layout: &PatchLayout) -> Vec<f32> {
        let plane = layout.height * layout.width;
        match self {
            Self::Zero => vec![0.0; input.len()],
            Self::Mean => input
                .chunks(plane)
                .flat_map(|values| {
                    let sum: f64 = values.iter().copied().map(f64::from).sum();
                    let mean = (sum / values.len() as f64) as f32;
                    std::iter::repeat_n(mean, values.len())
                })
                .collect(),
            Self::Blur => {
                let kernel = gaussian(layout.patch as f64);
                input
                    .chunks(plane)
                    .flat_map(|values| {
                        // Blurring along rows and turning, twice, is a blur in both directions.
                        let once = blur_and_transpose(values, layout.width, &kernel);
                        blur_and_transpose(&once, layout.height, &kernel)
                    })
                    .collect()
            }
        }
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, fill)| fill == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Fill {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        let (_, fill) = found.ok_or("it must be one of mean, blur, zero")?;
        Ok(*fill)
    }
}

/// One side of a Gaussian, its middle first, out to three standard deviations; with its mirror
/// image it adds up to 1.
fn gaussian(deviation: f64) -> Vec<f32> {
    let reach = (3.0 * deviation).ceil() as usize;
    let weight = |at: usize| (-0.5 * (at as f64 / deviation).powi(2)).exp();
    let total = (1..=reach).map(weight).sum::<f64>() * 2.0 + 1.0;
    (0..=reach).map(|at| (weight(at) / total) as f32).collect()
}

/// Blurs every row and writes it as a column. Rows are extended by their end values.
fn blur_and_transpose(values: &[f32], width: usize, kernel: &[f32]) -> Vec<f32> {
    let height = values.len() / width;
    let mut transposed = vec![0.0; values.len()];
    for (y, row) in values.chunks_exact(width).enumerate() {
        for x in 0..width {
            let mut sum = row[x] * kernel[0];
            for (by, weight) in kernel.iter().enumerate().skip(1) {
                let (left, right) = (x.saturating_sub(by), (x + by).min(width - 1));
                sum += (row[left] + row[right]) * weight;
            }
            transposed[x * height + y] = sum;
        }
    }
    transposed
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: PatchLayout = PatchLayout {
        height: 6,
        width: 10,
        patch: 2,
        grid: [3, 5],
    };

    #[test]
    fn mean_is_each_planes_own() {
        let mut input = vec![1.0; 180];
        input[60..120].fill(-2.0);
        input[120..150].fill(4.0);
        let fill = Fill::Mean.of(&input, &LAYOUT);
        assert_eq!((fill[0], fill[60], fill[179]), (1.0, -2.0, 2.5));
    }

    #[test]
    fn blur_keeps_a_plain_image_and_spreads_a_point_evenly() {
        let plain = Fill::Blur.of(&[0.7; 180], &LAYOUT);
        assert!(plain.iter().all(|value| (value - 0.7).abs() < 1e-5));

        let layout = PatchLayout {
            height: 15,
            width: 15,
            patch: 1,
            grid: [15, 15],
        };
        let mut input = vec![0.0; 3 * 225];
        input[7 * 15 + 7] = 1.0;
        let fill = Fill::Blur.of(&input, &layout);
        let at = |y: usize, x: usize| fill[y * 15 + x];
        assert!((fill.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!((at(7, 5), at(5, 7)), (at(7, 9), at(9, 7)));
        // A Gaussian of deviation 1 falls by exp(-1/2) at distance 1.
        assert!((at(7, 8) / at(7, 7) - (-0.5_f32).exp()).abs() < 1e-5);
        assert_eq!(fill[225..], [0.0; 450]);
    }

    #[test]
    fn names_are_read_back() {
        for (name, fill) in Fill::NAMES {
            assert_eq!(name.parse(), Ok(fill));
            assert_eq!(fill.to_string(), name);
        }
        assert!("black".parse::<Fill>().is_err());
    }
}
