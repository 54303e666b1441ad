//! Operators for CPUs: a Vision Transformer's encoder as one, attribution as another.
//!
//! A graph of the runtime's own operators makes some thousand passes over memory for an image, with
//! a barrier between threads after each. Here a thread takes an image through the whole network:
//! scales, biases, nonlinearity and the residual stream are taken up where a product ends, and of
//! attention a few queries at a time are in the first cache from scores to mixed values. Threads
//! meet within an image only where there are more of them than images.
//!
//! Weights are packed once ([`Linear`]), and all sessions of a model share them. Every step exists
//! in plain Rust, which is what tests compare with, and once more for each instruction set
//! ([`InstructionSet`]); one is chosen at load.

mod aligned;
mod attribution;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod division;
mod encoder;
mod instructions;
mod operators;
mod portable;
mod rollout;
mod rounding;
mod shape;
mod weights;

pub use self::{
    attribution::AttributionInputs,
    encoder::{BatchMaps, BatchOutputs, Block, ClassTokenOutputs, Embedding, Encoder},
    instructions::{Activation, HeadFusion},
    operators::{ATTRIBUTION, DOMAIN, ENCODER, EncoderOperators},
    shape::EncoderShape,
    weights::{Linear, Norm, WrongLength},
};

use self::{instructions::Instructions, rounding::Rounding};

/// Instructions that an encoder can be computed with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InstructionSet {
    /// Plain Rust: correct everywhere, and slow.
    Portable,
    /// AVX-512 with VNNI, on x86.
    Avx512Vnni,
    /// The same with products of bfloat16.
    Avx512Bf16,
    /// The same with AMX for products of layers.
    Amx,
}

impl InstructionSet {
    /// All but plain Rust, the fastest first.
    pub const ALL: [Self; 3] = [Self::Amx, Self::Avx512Bf16, Self::Avx512Vnni];

    /// The fastest that this processor has, if it is faster than ONNX Runtime's operators.
    pub fn detect() -> Option<Self> {
        let mut sets = Self::ALL.into_iter();
        sets.find(|set| set.instructions().is_some())
    }

    /// Whether it has products of bfloat16.
    pub fn has_bf16(self) -> bool {
        let instructions = self.instructions();
        instructions.is_some_and(|instructions| instructions.has_bf16())
    }

    /// None if the processor lacks them.
    fn instructions(self) -> Option<Box<dyn Instructions>> {
        self.instructions_for(Some(Rounding::Bf16))
    }

    /// The same for an encoder; `rounding` is the widest number that its layers round to.
    fn instructions_for(self, rounding: Option<Rounding>) -> Option<Box<dyn Instructions>> {
        #[cfg(target_arch = "x86_64")]
        let avx512 = |found: Option<avx512::Avx512>| -> Option<Box<dyn Instructions>> {
            Some(Box::new(found?.for_layers(rounding)))
        };
        match self {
            Self::Portable => Some(Box::new(portable::Portable)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => avx512(avx512::Avx512::detect()),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => avx512(avx512::Avx512::detect_bf16()),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => avx512(avx512::Avx512::detect_amx()),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512Vnni | Self::Avx512Bf16 | Self::Amx => None,
        }
    }
}

/// Why there is no encoder.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EncoderError {
    /// Weights do not fit the network's sizes.
    #[error(transparent)]
    Weights(#[from] WrongLength),
    /// The processor lacks the instruction set.
    #[error("this processor lacks the instructions of {0:?}")]
    Instructions(InstructionSet),
    /// A layer multiplies bfloat16, which the processor does not.
    #[error("this processor has no products of bfloat16")]
    Bf16,
}

impl Encoder {
    /// An encoder that computes with these instructions.
    ///
    /// # Errors
    /// If weights do not have the shape's sizes, or the processor lacks the instructions.
    pub fn build(
        shape: EncoderShape,
        embedding: Embedding,
        blocks: Vec<Block>,
        set: InstructionSet,
    ) -> Result<Self, EncoderError> {
        let layers = blocks.iter().flat_map(Block::layers);
        let rounding = layers
            .filter_map(Linear::rounding)
            .max_by_key(|it| it.size());
        let instructions = set.instructions_for(rounding);
        let instructions = instructions.ok_or(EncoderError::Instructions(set))?;
        if rounding == Some(Rounding::Bf16) && !instructions.has_bf16() {
            return Err(EncoderError::Bf16);
        }
        Ok(Self::new(shape, embedding, blocks, instructions)?)
    }
}
