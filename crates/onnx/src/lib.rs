//! The ONNX file format, a small graph builder, and the ViT graph that patchlight runs.
//!
//! | module | one sentence |
//! |---|---|
//! | [`proto`] | every message of the format, so that a foreign file survives a rewrite whole |
//! | [`tensor`] | a constant: element type, shape, bytes |
//! | [`graph`] | names values, adds nodes, keeps large constants beside the file |
//! | [`wiring`], [`rename`](mod@rename) | who makes and who reads a value of a foreign graph; new names for values |
//! | [`vit`] | a Vision Transformer whose outputs include its attention rollout |

pub mod graph;
pub mod proto;
pub mod rename;
pub mod tensor;
pub mod vit;
pub mod wiring;
