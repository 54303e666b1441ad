//! Position embeddings for another grid, resampled as the source library does it.

/// How a library resamples position embeddings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Interpolation {
    /// Cubic convolution of four neighbours with a = −0.75, whatever the scale: torch's `bicubic`
    /// without `align_corners`, as in transformers.
    Bicubic,
    /// The same from corner to corner: torch's `bicubic` with `align_corners`, as in torchvision.
    BicubicCorners,
    /// With antialiasing, and then a = −0.5: timm.
    BicubicAntialias,
    /// Linear from corner to corner: SciPy's `zoom` of order 1, as in the authors' JAX code.
    LinearCorners,
}

/// `[rows·columns, width]` from one grid to another, in float64, one axis after the other.
pub(super) fn grid(
    values: &[f32],
    from: [usize; 2],
    to: [usize; 2],
    interpolation: Interpolation,
) -> Vec<f32> {
    let width = values.len() / (from[0] * from[1]);
    let by_row = taps(from[0], to[0], interpolation);
    let by_column = taps(from[1], to[1], interpolation);
    let mut resampled = Vec::with_capacity(to[0] * to[1] * width);
    for row in &by_row {
        for column in &by_column {
            let mut sums = vec![0.0_f64; width];
            for &(y, vertical) in row {
                for &(x, horizontal) in column {
                    let source = &values[(y * from[1] + x) * width..][..width];
                    for (sum, &value) in sums.iter_mut().zip(source) {
                        *sum += vertical * horizontal * f64::from(value);
                    }
                }
            }
            resampled.extend(sums.into_iter().map(|sum| sum as f32));
        }
    }
    resampled
}

/// For each position of the result: source positions and their weights.
fn taps(from: usize, to: usize, interpolation: Interpolation) -> Vec<Vec<(usize, f64)>> {
    let scale = from as f64 / to as f64;
    let position = |at: usize| (at as f64 + 0.5) * scale;
    let last = from as i64 - 1;
    let corners = |at: usize| at as f64 * last as f64 / (to as f64 - 1.0).max(1.0);
    let bicubic = |center: f64| {
        let first = center.floor();
        (-1..=2)
            .map(|step| {
                let source = (first as i64 + step).clamp(0, last) as usize;
                (source, cubic(center - first - step as f64, -0.75))
            })
            .collect()
    };
    let antialiased = |at: usize| {
        let stretch = scale.max(1.0);
        let (center, support) = (position(at), 2.0 * stretch);
        let first = ((center - support + 0.5) as i64).max(0);
        let end = ((center + support + 0.5) as i64).min(last + 1);
        let weight = |source: i64| cubic((source as f64 - center + 0.5) / stretch, -0.5);
        let total: f64 = (first..end).map(weight).sum();
        (first..end)
            .map(|source| (source as usize, weight(source) / total))
            .collect()
    };
    let linear = |center: f64| {
        let (first, share) = (center.floor(), center.fract());
        let source = |step: i64| (first as i64 + step).clamp(0, last) as usize;
        vec![(source(0), 1.0 - share), (source(1), share)]
    };
    match interpolation {
        Interpolation::Bicubic => (0..to).map(|at| bicubic(position(at) - 0.5)).collect(),
        Interpolation::BicubicCorners => (0..to).map(|at| bicubic(corners(at))).collect(),
        Interpolation::LinearCorners => (0..to).map(|at| linear(corners(at))).collect(),
        Interpolation::BicubicAntialias => (0..to).map(antialiased).collect(),
    }
}

/// Keys' cubic convolution kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_every_position_add_up_to_one() {
        for interpolation in [
            Interpolation::Bicubic,
            Interpolation::BicubicCorners,
            Interpolation::BicubicAntialias,
            Interpolation::LinearCorners,
        ] {
            for (from, to) in [(1, 5), (7, 3), (4, 9), (14, 14), (3, 1)] {
                for taps in taps(from, to, interpolation) {
                    let total: f64 = taps.iter().map(|(_, weight)| weight).sum();
                    assert!((total - 1.0).abs() < 1e-9, "{interpolation:?} {from} {to}");
                }
            }
        }
    }

    #[test]
    fn linear_reaches_both_corners() {
        let values = [0.0, 10.0, 20.0, 30.0];
        let found = grid(&values, [2, 2], [3, 2], Interpolation::LinearCorners);
        assert_eq!(found, [0.0, 10.0, 10.0, 20.0, 20.0, 30.0]);
    }
}
