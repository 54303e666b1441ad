//! How a batch is divided among threads.

/// Fewer rows than this in a part are not worth another thread: its share of the weights has to be
/// read by each.
const ROWS_OF_PART: usize = 24;

/// Weights of so many bytes stay in a cache from one image to the next.
const CACHED_WEIGHTS: usize = 32 << 20;

/// Images that a thread takes through the network together at most: more do not fit into the second
/// cache with a panel of weights.
const TOGETHER: usize = 2;

/// Images of a batch, and who computes them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Division {
    /// The first images, which one thread computes each: no thread waits for another.
    pub(crate) alone: usize,
    /// How many of these a thread takes through the network together, so that weights are read once
    /// for all of them.
    pub(crate) together: usize,
    /// Into how many parts the tokens of each of the others are divided.
    pub(crate) parts: usize,
}

impl Division {
    /// A batch of `images` with `tokens` tokens each, for `weights` bytes of weights.
    ///
    /// As many images as keep all threads busy are computed alone; what is left is divided by
    /// tokens, so that no thread is idle for long.
    pub(crate) fn of(images: usize, tokens: usize, threads: usize, weights: usize) -> Self {
        let threads = threads.max(1);
        let left = images % threads;
        let parts = threads / left.max(1);
        let parts = parts.min(tokens / ROWS_OF_PART).max(1);
        let alone = if parts == 1 { images } else { images - left };
        // As many as leave no thread without.
        let together = match weights > CACHED_WEIGHTS {
            true => (alone / threads).clamp(1, TOGETHER),
            false => 1,
        };
        Self {
            alone,
            together,
            parts,
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
        let Division { alone, parts, .. } = Division::of(images, 197, threads, 0);
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
        assert_eq!(Division::of(1, 50, 16, 0).parts, 2);
        assert_eq!(division(1, 1), [1, 1]);
        let small = Division::of(1, 5, 16, 0);
        assert_eq!([small.alone, small.parts], [1, 1]);
    }

    #[test]
    fn large_weights_are_read_once_for_two_images_if_no_thread_is_left_without() {
        let together = |images, weights| Division::of(images, 197, 2, weights).together;
        assert_eq!(
            [1, 2, 3, 4, 8].map(|images| together(images, 300 << 20)),
            [1, 1, 1, 2, 2]
        );
        assert_eq!(together(8, 6 << 20), 1);
    }

    #[test]
    fn parts_cover_all_rows() {
        for parts in 1..9 {
            assert_eq!(lengths(197, parts).sum::<usize>(), 197);
        }
        assert_eq!(lengths(1, 3).collect::<Vec<_>>(), [0, 0, 1]);
    }
}
