//! The relative Mahalanobis distance (Ren et al. 2021, "A Simple Fix to Mahalanobis Distance for
//! Improving Near-OOD Detection"): how much farther an image is from the nearest class than from all
//! images together. Both covariances are shrunk; matrices and means are kept in float16.

use half::f16;

/// Measures distances. About 2·d² + 2·k·d bytes for d dimensions and k classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    /// Mean over all images.
    mean: Vec<f32>,
    /// Whitens differences to a class's mean: lower triangular, row by row.
    within: Scaled,
    /// Whitens differences to the mean over all images.
    overall: Scaled,
    /// Each class's mean, the mean over all images subtracted, whitened as `within` does.
    classes: Scaled,
}

/// Numbers in float16, all multiplied by one float32, so that none leaves float16's range.
#[derive(Clone, Debug, PartialEq)]
struct Scaled {
    scale: f32,
    values: Vec<f16>,
}

impl Detector {
    /// Of the inverses of two Cholesky factors, `dimensions` squared each.
    pub(crate) fn new<'a>(
        mean: &[f64],
        classes: impl Iterator<Item = &'a [f64]>,
        within: &[f64],
        overall: &[f64],
    ) -> Self {
        let size = mean.len();
        let triangle = |matrix: &[f64]| -> Vec<f64> {
            let rows = (0..size).map(|row| &matrix[row * size..][..=row]);
            rows.flatten().copied().collect()
        };
        let whitened = classes.flat_map(|class| {
            let centred: Vec<f64> = class.iter().zip(mean).map(|(a, b)| a - b).collect();
            let rows = (0..size).map(move |row| {
                let row = within[row * size..][..=row].iter();
                row.zip(&centred).map(|(a, b)| a * b).sum::<f64>()
            });
            rows.collect::<Vec<f64>>()
        });
        let whitened: Vec<f64> = whitened.collect();
        Self {
            mean: mean.iter().map(|&value| value as f32).collect(),
            classes: Scaled::of(&whitened),
            within: Scaled::of(&triangle(within)),
            overall: Scaled::of(&triangle(overall)),
        }
    }

    /// Length of the features.
    pub fn dimensions(&self) -> usize {
        self.mean.len()
    }

    /// How many classes it has a mean of.
    pub fn classes(&self) -> usize {
        self.classes.values.len() / self.dimensions().max(1)
    }

    /// The squared distance to the nearest class minus that to all images. `features` are as many
    /// as there are [`dimensions`](Self::dimensions).
    pub fn distance(&self, features: &[f32]) -> f64 {
        let pairs = features.iter().zip(&self.mean);
        let centred: Vec<f32> = pairs.map(|(value, mean)| value - mean).collect();
        let near = self.within.times(&centred);
        let classes = self.classes.values.chunks(self.dimensions().max(1));
        let squared = classes.map(|class| {
            let pairs = class.iter().zip(&near);
            let distances = pairs.map(|(mean, value)| value - mean.to_f32() * self.classes.scale);
            distances.map(|distance| distance * distance).sum::<f32>()
        });
        let nearest = squared.fold(f32::INFINITY, f32::min);
        let overall = self.overall.times(&centred);
        let overall: f32 = overall.iter().map(|value| value * value).sum();
        f64::from(nearest) - f64::from(overall)
    }

    /// The numbers as bytes, little-endian: dimensions, classes (u32), mean (f32), then each matrix
    /// as its scale (f32) and values (f16): within, overall, classes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let counts = [self.dimensions() as u32, self.classes() as u32];
        bytes.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
        bytes.extend(self.mean.iter().flat_map(|value| value.to_le_bytes()));
        for matrix in [&self.within, &self.overall, &self.classes] {
            bytes.extend(matrix.scale.to_le_bytes());
            bytes.extend(matrix.values.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. `None` if the bytes are not that, exactly, or
    /// a number in them is not finite.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [dimensions, classes] = [(); 2].map(|()| take::<4>(&mut rest).map(u32::from_le_bytes));
        let (dimensions, classes) = (dimensions? as usize, classes? as usize);
        let triangle = dimensions.checked_mul(dimensions.checked_add(1)?)? / 2;
        let of_classes = dimensions.checked_mul(classes)?;
        let total = dimensions
            .checked_mul(4)?
            .checked_add(12)?
            .checked_add(triangle.checked_mul(4)?)?
            .checked_add(of_classes.checked_mul(2)?)?;
        if rest.len() != total || dimensions == 0 || classes == 0 {
            return None;
        }
        let mean = floats(&mut rest, dimensions)?;
        let mut matrix = |count| {
            let scale = *floats(&mut rest, 1)?.first()?;
            let (values, after) = rest.split_at_checked(2 * count)?;
            rest = after;
            let (pairs, _) = values.as_chunks::<2>();
            let values: Vec<f16> = pairs.iter().map(|&pair| f16::from_le_bytes(pair)).collect();
            let finite = values.iter().all(|value| value.is_finite());
            finite.then_some(Scaled { scale, values })
        };
        Some(Self {
            mean,
            within: matrix(triangle)?,
            overall: matrix(triangle)?,
            classes: matrix(of_classes)?,
        })
    }
}

impl Scaled {
    fn of(values: &[f64]) -> Self {
        let largest = values
            .iter()
            .fold(0.0_f64, |most, value| most.max(value.abs()));
        let scale = if largest > 0.0 { largest as f32 } else { 1.0 };
        let values = values
            .iter()
            .map(|value| f16::from_f64(value / f64::from(scale)));
        Self {
            scale,
            values: values.collect(),
        }
    }

    /// The product of a lower triangular matrix and a vector.
    fn times(&self, vector: &[f32]) -> Vec<f32> {
        let mut rest = self.values.as_slice();
        let rows = (1..=vector.len()).map(|length| {
            let (row, after) = rest.split_at(length);
            rest = after;
            let products = row.iter().zip(vector).map(|(a, b)| a.to_f32() * b);
            products.sum::<f32>() * self.scale
        });
        rows.collect()
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn floats(bytes: &mut &[u8], count: usize) -> Option<Vec<f32>> {
    let floats = (0..count).map(|_| take::<4>(bytes).map(f32::from_le_bytes));
    floats
        .map(|value| value.filter(|value| value.is_finite()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector() -> Detector {
        let classes = [[2.0, 0.0], [-2.0, 1.0]];
        let classes = classes.iter().map(<[f64; 2]>::as_slice);
        Detector::new(
            &[0.0, 0.5],
            classes,
            &[1.0, 0.0, 0.5, 2.0],
            &[0.5, 0.0, 0.0, 0.5],
        )
    }

    #[test]
    fn bytes_are_read_back_and_others_refused() {
        let detector = detector();
        let bytes = detector.to_bytes();
        assert_eq!(Detector::from_bytes(&bytes), Some(detector));
        assert_eq!(Detector::from_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Detector::from_bytes(&[&bytes[..], &[0]].concat()), None);
        let mut vast = bytes.clone();
        vast[..8].fill(0xff);
        assert_eq!(Detector::from_bytes(&vast), None);
        let mut infinite = bytes;
        infinite[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes());
        assert_eq!(Detector::from_bytes(&infinite), None);
    }

    /// At the first class's mean only the distance to all images is left.
    #[test]
    fn at_a_class_the_distance_is_that_to_all_images_with_the_other_sign() {
        let expected = -(1.0 + 0.0625);
        let found = detector().distance(&[2.0, 0.0]);
        assert!((found - expected).abs() < 2e-3, "{found}");
    }
}
