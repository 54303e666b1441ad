//! A model directory: what it says of itself, its labels and whether its files are whole.

pub mod manifest;
