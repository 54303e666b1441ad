//! Class means and covariances of features, an image at a time: two passes, in memory that depends
//! on classes and dimensions only.

use crate::{detector::Detector, matrix::inverse_cholesky};

/// First pass: where the classes lie.
#[derive(Clone, Debug)]
pub struct Means {
    dimensions: usize,
    counts: Vec<u64>,
    sums: Vec<f64>,
}

/// Second pass: how features scatter about their class's mean, and about that of all.
#[derive(Clone, Debug)]
pub struct Scatter {
    means: Means,
    overall: Vec<f64>,
    within: Covariance,
    between: Covariance,
}

/// A covariance matrix in the making, of values whose mean is subtracted already.
#[derive(Clone, Debug)]
struct Covariance {
    products: Vec<f64>,
    /// Σ ‖x‖⁴, which the shrinkage needs.
    fourth: f64,
    count: u64,
}

/// A covariance shrunk towards a multiple of the identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// Row-major.
    pub matrix: Vec<f64>,
    /// The share of the identity, from 0 to 1.
    pub shrinkage: f64,
}

impl Means {
    /// Nothing seen yet.
    pub fn new(classes: usize, dimensions: usize) -> Self {
        Self {
            dimensions,
            counts: vec![0; classes],
            sums: vec![0.0; classes * dimensions],
        }
    }

    /// Adds an image of a class.
    pub fn add(&mut self, features: &[f32], class: usize) {
        self.counts[class] += 1;
        let sums = &mut self.sums[class * self.dimensions..][..self.dimensions];
        let pairs = sums.iter_mut().zip(features);
        pairs.for_each(|(sum, &value)| *sum += f64::from(value));
    }

    /// Ends the first pass.
    pub fn finish(mut self) -> Scatter {
        let dimensions = self.dimensions;
        let count: u64 = self.counts.iter().sum();
        let mut overall = vec![0.0; dimensions];
        for class in self.sums.chunks(dimensions.max(1)) {
            let pairs = overall.iter_mut().zip(class);
            pairs.for_each(|(all, sum)| *all += sum);
        }
        overall
            .iter_mut()
            .for_each(|sum| *sum /= count.max(1) as f64);
        let classes = self.sums.chunks_mut(dimensions.max(1)).zip(&self.counts);
        for (sums, &count) in classes {
            sums.iter_mut().for_each(|sum| *sum /= count.max(1) as f64);
        }
        let covariance = || Covariance {
            products: vec![0.0; dimensions * dimensions],
            fourth: 0.0,
            count: 0,
        };
        Scatter {
            means: self,
            overall,
            within: covariance(),
            between: covariance(),
        }
    }
}

impl Scatter {
    /// Adds an image again that the first pass saw.
    pub fn add(&mut self, features: &[f32], class: usize) {
        let dimensions = self.means.dimensions;
        let mean = &self.means.sums[class * dimensions..][..dimensions];
        let centred = |mean: &[f64]| -> Vec<f64> {
            let pairs = features.iter().zip(mean);
            pairs
                .map(|(&value, mean)| f64::from(value) - mean)
                .collect()
        };
        self.within.add(&centred(mean));
        self.between.add(&centred(&self.overall));
    }

    /// The detector of these classes; those without an image are no candidates.
    ///
    /// # Errors
    /// If the features do not vary, so that no distance can be measured in them.
    pub fn finish(self) -> Result<Detector, DegenerateFeatures> {
        let dimensions = self.means.dimensions;
        let within = self.within.ledoit_wolf(dimensions);
        let overall = self.between.ledoit_wolf(dimensions);
        let invert = |shrunk: &Shrunk| {
            inverse_cholesky(&shrunk.matrix, dimensions).ok_or(DegenerateFeatures)
        };
        let classes = self.means.sums.chunks(dimensions).zip(&self.means.counts);
        let classes = classes
            .filter(|(_, count)| **count > 0)
            .map(|(mean, _)| mean);
        Ok(Detector::new(
            &self.overall,
            classes,
            &invert(&within)?,
            &invert(&overall)?,
        ))
    }
}

/// The features of all images are the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the model's features are the same for all images, so no distance can be measured in them")]
pub struct DegenerateFeatures;

impl Covariance {
    fn add(&mut self, centred: &[f64]) {
        let size = centred.len();
        for (row, value) in centred.iter().enumerate() {
            let target = &mut self.products[row * size..][..=row];
            let pairs = target.iter_mut().zip(centred);
            pairs.for_each(|(sum, other)| *sum += value * other);
        }
        let norm: f64 = centred.iter().map(|value| value * value).sum();
        self.fourth += norm * norm;
        self.count += 1;
    }

    /// The shrinkage of Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional
    /// covariance matrices".
    fn ledoit_wolf(&self, size: usize) -> Shrunk {
        let count = self.count.max(1) as f64;
        let p = size as f64;
        let at = |row: usize, column: usize| match row >= column {
            true => self.products[row * size + column] / count,
            false => self.products[column * size + row] / count,
        };
        let indices = || (0..size).flat_map(|row| (0..size).map(move |column| (row, column)));
        let mut matrix: Vec<f64> = indices().map(|(row, column)| at(row, column)).collect();
        let mean = (0..size).map(|at| matrix[at * size + at]).sum::<f64>() / p;
        let squares: f64 = matrix.iter().map(|value| value * value).sum();
        let delta = (squares - p * mean * mean) / p;
        let beta = ((self.fourth / count - squares) / (p * count)).clamp(0.0, delta.max(0.0));
        let shrinkage = if delta > 0.0 { beta / delta } else { 0.0 };
        matrix
            .iter_mut()
            .for_each(|value| *value *= 1.0 - shrinkage);
        (0..size).for_each(|at| matrix[at * size + at] += shrinkage * mean);
        Shrunk { matrix, shrinkage }
    }
}

/// The covariance of `images` that have mean zero, shrunk as the detector's are.
pub fn shrunk_covariance<'a>(images: impl Iterator<Item = &'a [f64]>, dimensions: usize) -> Shrunk {
    let mut covariance = Covariance {
        products: vec![0.0; dimensions * dimensions],
        fourth: 0.0,
        count: 0,
    };
    images.for_each(|image| covariance.add(image));
    covariance.ledoit_wolf(dimensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_do_not_vary_are_refused() {
        let mut means = Means::new(2, 3);
        means.add(&[1.0, 2.0, 3.0], 0);
        let mut scatter = means.finish();
        scatter.add(&[1.0, 2.0, 3.0], 0);
        assert_eq!(scatter.finish().unwrap_err(), DegenerateFeatures);
    }

    #[test]
    fn no_images_at_all_are_refused() {
        assert!(Means::new(2, 3).finish().finish().is_err());
    }
}
