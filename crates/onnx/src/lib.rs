//! The ONNX file format, a small graph builder, and the ViT graph that patchlight runs.
//!
//! | module | one sentence |
//! |---|---|
//! | [`proto`] | every message of the format, so that a foreign file survives a rewrite whole |
//! | [`tensor`] | a constant: element type, shape, bytes |
//! | [`graph`] | names values, adds nodes, stores large constants beside the file |
//! | [`graph_index`], [`rename`](mod@rename) | producer and consumers of each value of an exported graph; new names for values |
//! | [`vit`] | a Vision Transformer whose outputs include its attention rollout |

pub mod graph;
pub mod graph_index;
pub mod proto;
pub mod rename;
pub mod tensor;
pub mod vit;
