//! A map as a numpy file: format version 1.0 as in numpy's `numpy/lib/format.py` and NEP 1.

use super::{PatchMap, RenderError};

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// numpy leaves room for the first axis to grow to this many digits in place.
const GROWTH_DIGITS: usize = 21;

/// The data begins at a multiple of this.
const ALIGNMENT: usize = 64;

/// Little-endian float32 in C order, of shape (rows, cols); byte for byte what `numpy.save` writes.
pub fn npy(map: &PatchMap) -> Vec<u8> {
    let grid = map.grid();
    array(&[grid.rows, grid.cols], map.values())
}

/// The same for several maps, of shape (maps, rows, cols).
///
/// # Errors
///
/// When there are no maps, or their grids differ.
pub fn npy_stack(maps: &[PatchMap]) -> Result<Vec<u8>, RenderError> {
    let grid = maps.first().ok_or(RenderError::Sheet)?.grid();
    if maps.iter().any(|map| map.grid() != grid) {
        return Err(RenderError::Sheet);
    }
    let values: Vec<f32> = maps.iter().flat_map(PatchMap::values).copied().collect();
    Ok(array(&[maps.len(), grid.rows, grid.cols], &values))
}

/// At least two axes.
fn array(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}",
        lengths.join(", ")
    );
    header.push_str(&" ".repeat(GROWTH_DIGITS.saturating_sub(lengths[0].len())));
    // Before the header stand the magic and two bytes of length; a newline ends it.
    let unpadded = MAGIC.len() + 2 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');

    let mut bytes = Vec::with_capacity(MAGIC.len() + 2 + header.len() + size_of_val(values));
    bytes.extend_from_slice(MAGIC);
    // A few numbers of at most twenty digits: far below 65,536.
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Grid;

    #[test]
    fn bytes_are_those_of_numpy_for_square_oblong_single_and_tall_maps() {
        let goldens: [(usize, usize, &[u8]); 4] = [
            (14, 14, include_bytes!("../../tests/goldens/npy/14x14.npy")),
            (3, 5, include_bytes!("../../tests/goldens/npy/3x5.npy")),
            (1, 1, include_bytes!("../../tests/goldens/npy/1x1.npy")),
            (100, 2, include_bytes!("../../tests/goldens/npy/100x2.npy")),
        ];
        for (rows, cols, golden) in goldens {
            let values = (0..rows * cols).map(|i| (i as f32 - 2.0) / 16.0).collect();
            let map = PatchMap::new(Grid { rows, cols }, values).unwrap();
            assert!(npy(&map) == golden, "{rows}×{cols}");
        }
    }

    #[test]
    fn a_stack_is_numpys_array_with_three_axes() {
        let grid = Grid { rows: 3, cols: 5 };
        let map = |at: usize| {
            let values = (0..15).map(|i| ((at * 15 + i) as f32 - 2.0) / 16.0);
            PatchMap::new(grid, values.collect()).unwrap()
        };
        let stack = npy_stack(&[map(0), map(1)]).unwrap();
        assert!(stack == include_bytes!("../../tests/goldens/npy/2x3x5.npy"));
        assert_eq!(npy_stack(&[]), Err(RenderError::Sheet));
    }
}
