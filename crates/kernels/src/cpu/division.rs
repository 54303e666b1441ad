//! How a batch is divided among threads.

/// Fewer rows than this in a part are not worth another thread: its share of the weights has to be
/// read by each.
const ROWS_OF_PART: usize = 24;

/// Images of a batch, and who computes them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Division {
    /// The first images, which one thread computes each: no thread waits for another.
    pub(crate) alone: usize,
    /// Into how many parts the tokens of each of the others are divided.
    pub(crate) parts: usize,
}

impl Division {
    /// A batch of `images` with `tokens` tokens each.
    ///
    /// As many images as keep all threads busy are computed alone; what is left is divided by
    /// tokens, so that no thread is idle for long.
    pub(crate) fn of(images: usize, tokens: usize, threads: usize) -> Self {
        let threads = threads.max(1);
        let left = images % threads;
        let parts = threads / left.max(1);
        let parts = parts.min(tokens / ROWS_OF_PART).max(1);
        match parts {
            1 => Self {
                alone: images,
                parts: 1,
            },
            parts => Self {
                alone: images - left,
                parts,
            },
        }
    }
}

/// `rows` in `parts` parts of nearly equal length.
pub(crate) fn lengths(rows: usize, parts: usize) -> impl Iterator<Item = usize> + Clone {
    (0..parts).map(move |part| (part + 1) * rows / parts - part * rows / parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division(images: usize, threads: usize) -> [usize; 2] {
        let Division { alone, parts } = Division::of(images, 197, threads);
        [alone, parts]
    }

    #[test]
    fn a_single_image_is_divided_among_all_threads() {
        assert_eq!(division(1, 2), [0, 2]);
        assert_eq!(division(1, 4), [0, 4]);
    }

    #[test]
    fn full_rounds_are_computed_alone_and_the_rest_is_divided() {
        assert_eq!(division(8, 2), [8, 2]);
        assert_eq!(division(3, 2), [2, 2]);
        assert_eq!(division(9, 4), [8, 4]);
        assert_eq!(division(10, 4), [8, 2]);
    }

    #[test]
    fn images_that_nearly_fill_a_round_are_not_divided() {
        assert_eq!(division(3, 4), [3, 1]);
        assert_eq!(division(5, 1), [5, 1]);
    }

    #[test]
    fn parts_are_not_smaller_than_they_pay() {
        assert_eq!(Division::of(1, 50, 16).parts, 2);
        assert_eq!(Division::of(1, 5, 16), Division { alone: 1, parts: 1 });
    }

    #[test]
    fn parts_cover_all_rows() {
        for parts in 1..9 {
            assert_eq!(lengths(197, parts).sum::<usize>(), 197);
        }
        assert_eq!(lengths(1, 3).collect::<Vec<_>>(), [0, 0, 1]);
    }
}
