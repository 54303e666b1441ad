//! Memory that starts at a cache line, so that no vector load crosses one.

use std::{
    ops::{Deref, DerefMut},
    slice,
};

/// Plain numbers, for which any bits are a value.
///
/// # Safety
/// The type must have no padding, no invalid bit patterns, an alignment of at most [`LINE`] bytes
/// and a size that divides it.
pub(crate) unsafe trait Number: Copy {}

// SAFETY: primitive numbers of one and four bytes.
unsafe impl Number for u8 {}
// SAFETY: as above.
unsafe impl Number for i8 {}
// SAFETY: as above.
unsafe impl Number for f32 {}
// SAFETY: as above.
unsafe impl Number for i32 {}

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// A fixed number of values, zero at first, the first at the start of a cache line.
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    number: std::marker::PhantomData<T>,
}

impl<T: Number> Aligned<T> {
    /// Zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        Self {
            lines: vec![Line([0; LINE]); lines],
            len,
            number: std::marker::PhantomData,
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * LINE
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines are initialised and hold at least `len` values; `Number` says that the
        // alignment fits and that their bytes are values.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is exclusive, and any bytes written are valid lines.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.len)
    }
}
