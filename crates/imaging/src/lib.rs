//! From the bytes of an image to the input tensor of a Vision Transformer.
//!
//! | module | one sentence |
//! |---|---|
//! | [`decode`] | bytes → upright RGB8, under limits, with decoder panics caught |
//! | [`preprocess`] | RGB8 → the input tensor, with Pillow's arithmetic |
//!
//! Nothing here waits, reads a file or keeps state: bytes in, pixels and tensors out.

pub mod decode;
mod error;
mod format;
pub mod preprocess;

pub use self::error::{Error, Result};
