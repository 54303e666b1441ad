//! How a batch is divided among threads.

use std::ops::Range;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// Fewer rows than this in a part are not worth another thread, each of which reads all weights.
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
    /// How each of the others is divided.
    pub(crate) parts: Parts,
}

/// How the work on one image is divided among threads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Parts {
    /// Parts of its tokens, each of which goes through most of a block on a thread: few meetings,
    /// but every thread reads all weights.
    pub(crate) rows: usize,
    /// Parts of a product's output channels, a thread each: weights are read once in all, and
    /// threads meet after every product. What lies between products is divided by tokens.
    pub(crate) columns: usize,
}

impl Parts {
    /// All on one thread.
    pub(crate) const ONE: Self = Self {
        rows: 1,
        columns: 1,
    };

    /// Threads that work on the image.
    pub(crate) fn threads(self) -> usize {
        self.rows * self.columns
    }
}

impl Division {
    /// A batch of `images` with `tokens` tokens each, for `weights` bytes of weights.
    ///
    /// As many images as keep all threads busy are computed alone; what is left is divided, so that
    /// no thread is idle for long: by tokens where a cache holds the weights, and by output channels
    /// where they come from memory.
    pub(crate) fn of(images: usize, tokens: usize, threads: usize, weights: usize) -> Self {
        let threads = threads.max(1);
        let left = images % threads;
        let of_image = threads / left.max(1);
        let from_memory = weights > CACHED_WEIGHTS;
        let parts = match from_memory {
            true => Parts {
                columns: of_image,
                ..Parts::ONE
            },
            false => Parts {
                rows: of_image.min(tokens / ROWS_OF_PART).max(1),
                ..Parts::ONE
            },
        };
        let alone = if parts == Parts::ONE {
            images
        } else {
            images - left
        };
        // As many as leave no thread without.
        let together = match from_memory {
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

/// The same as ranges, without empty ones.
pub(crate) fn ranges(rows: usize, parts: usize) -> Vec<Range<usize>> {
    let ends = (0..=parts).map(|part| part * rows / parts);
    let ranges = ends.clone().zip(ends.skip(1));
    let ranges = ranges.map(|(first, end)| first..end);
    ranges.filter(|range| !range.is_empty()).collect()
}

/// Parts of an image, on a thread each; a single one on this.
pub(crate) fn for_each_part<T: Send>(mut parts: Vec<T>, run: impl Fn(T) + Send + Sync) {
    match parts.len() {
        1 => parts.drain(..).for_each(run),
        _ => parts.into_par_iter().with_max_len(1).for_each(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn division(images: usize, threads: usize) -> [usize; 2] {
        let Division { alone, parts, .. } = Division::of(images, 197, threads, 0);
        assert_eq!(parts.columns, 1);
        [alone, parts.rows]
    }

    #[test]
    fn weights_that_come_from_memory_are_divided_and_not_read_by_all() {
        let parts = |images, threads| Division::of(images, 197, threads, 300 << 20).parts;
        assert_eq!([parts(1, 2).rows, parts(1, 2).columns], [1, 2]);
        assert_eq!(parts(2, 16).columns, 8);
        assert_eq!(parts(8, 2).threads(), 2);
        assert_eq!(parts(1, 1), Parts::ONE);
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
        assert_eq!(Division::of(1, 50, 16, 0).parts.rows, 2);
        assert_eq!(division(1, 1), [1, 1]);
        let small = Division::of(1, 5, 16, 0);
        assert_eq!((small.alone, small.parts), (1, Parts::ONE));
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
        assert_eq!(ranges(5, 2), [0..2, 2..5]);
        assert_eq!(ranges(2, 3), [0..1, 1..2]);
    }
}
