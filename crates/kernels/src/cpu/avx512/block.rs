//! Blocks of 32 rows by 32 columns that tiles or vectors multiply.

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;

/// Bytes of a tile's row: what a step of the inner dimension takes of each row.
pub(super) const TILE_BYTES: usize = 64;

/// Bytes of a row of the right factor, which is two tiles wide.
pub(super) const RIGHT_ROW: usize = 2 * TILE_BYTES;

/// Bytes of a step of the right factor.
pub(super) const RIGHT_STEP: usize = TILE_ROWS * RIGHT_ROW;

/// Two tiles of rows times two tiles of columns: what a block reads, and where its sums go. Each
/// step takes 64 bytes of every row of the left factor, and sixteen rows of 128 bytes of the right
/// one, which lie one after the other.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) left: *const u8,
    /// Bytes from one row to the next.
    pub(super) left_stride: usize,
    /// Rows whose sums are wanted, up to 32; those of the others may be anything.
    pub(super) rows: usize,
    pub(super) right: *const u8,
    pub(super) steps: usize,
    /// 32 numbers of 32 bits a row.
    pub(super) sums: *mut u8,
    /// Bytes from one row to the next.
    pub(super) sums_stride: usize,
}

impl Block {
    /// Where each of its rows of sums begins.
    pub(super) fn rows_of_sums(self) -> impl Iterator<Item = *const i32> {
        (0..2 * TILE_ROWS).map(move |row| {
            let row = self.sums.wrapping_add(row * self.sums_stride);
            row.cast_const().cast()
        })
    }
}

/// Multiplies blocks of bfloat16.
pub(super) trait Bf16Product {
    /// Sums of products, float32.
    ///
    /// # Safety
    /// The left factor has 32 rows of `64 · steps` bytes, the right one the steps, and there is room
    /// for 32 rows of sums.
    unsafe fn multiply_bf16(&self, block: Block);
}
