//! Symmetric matrices as far as covariances need them; row-major float64.

/// The inverse of the Cholesky factor L of a positive definite matrix, L·Lᵀ = `matrix`: lower
/// triangular, row-major, the upper half zero. `None` if the matrix is not positive definite.
pub(crate) fn inverse_cholesky(matrix: &[f64], size: usize) -> Option<Vec<f64>> {
    let mut lower = vec![0.0; size * size];
    for row in 0..size {
        for column in 0..=row {
            let dot = dot(
                &lower[row * size..][..column],
                &lower[column * size..][..column],
            );
            let rest = matrix[row * size + column] - dot;
            lower[row * size + column] = match row == column {
                true if rest > 0.0 && rest.is_finite() => rest.sqrt(),
                true => return None,
                false => rest / lower[column * size + column],
            };
        }
    }
    // Row by row: L·X = I.
    let mut inverse = vec![0.0; size * size];
    for row in 0..size {
        let mut solved = vec![0.0; row + 1];
        for above in 0..row {
            let factor = lower[row * size + above];
            let earlier = &inverse[above * size..][..=above];
            let sums = solved.iter_mut().zip(earlier);
            sums.for_each(|(sum, value)| *sum -= factor * value);
        }
        solved[row] += 1.0;
        let pivot = lower[row * size + row];
        let target = &mut inverse[row * size..][..=row];
        target
            .iter_mut()
            .zip(&solved)
            .for_each(|(to, from)| *to = from / pivot);
    }
    Some(inverse)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L = [[2, 0], [1, 3]].
    #[test]
    fn the_factor_of_a_known_matrix_is_inverted() {
        let inverse = inverse_cholesky(&[4.0, 2.0, 2.0, 10.0], 2).unwrap();
        let expected = [0.5, 0.0, -1.0 / 6.0, 1.0 / 3.0];
        assert!(
            inverse
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-15)
        );
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_none() {
        assert_eq!(inverse_cholesky(&[1.0, 1.0, 1.0, 1.0], 2), None);
        assert_eq!(inverse_cholesky(&[f64::NAN], 1), None);
    }
}
