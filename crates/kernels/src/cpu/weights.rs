//! Weights of an encoder, packed once for the products that read them.
//!
//! A kernel `[in, out]` is cut into panels of [`PANEL`] output channels. A panel of a float32 kernel
//! has the channels of one input after those of the one before. A panel of an int8 kernel is two
//! halves, each of which has, for each group of four inputs, the four bytes of every channel: what
//! one VNNI instruction multiplies, and what AMX loads as a row of a tile. The half that AMX
//! multiplies with all rows before the next has no gaps, so that it fits into the first cache. A
//! panel of a bfloat16 kernel is the same with the two values of two inputs as the four bytes.
//! Missing channels and inputs are zero.

use half::bf16;

use super::{
    aligned::Aligned,
    rounding::{INPUT_MULTIPLE, Rounding},
};

/// Output channels of a panel: four vectors of sixteen.
pub(crate) const PANEL: usize = 64;

/// Output channels of half a panel: two tiles.
pub(crate) const HALF_PANEL: usize = PANEL / 2;

/// Inputs that one int8 instruction adds up.
pub(crate) const GROUP: usize = 4;

/// Inputs that one bfloat16 instruction adds up.
pub(crate) const PAIR: usize = 2;

/// Added to a token's integers, which are stored unsigned.
pub(crate) const ZERO_POINT: i32 = 128;

/// Scale and shift of a layer normalisation.
#[derive(Clone, Debug)]
pub struct Norm {
    /// γ, one value for each channel.
    pub scale: Vec<f32>,
    /// β.
    pub shift: Vec<f32>,
}

/// A linear layer `x · kernel + bias`.
#[derive(Debug)]
pub struct Linear {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: Kernel,
    /// Filled up with zeros to whole panels.
    pub(crate) bias: Aligned<f32>,
}

/// A packed kernel.
#[derive(Debug)]
pub(crate) enum Kernel {
    Int8(Int8Kernel),
    /// Bytes of `[panel][half][pair of inputs][channel of the half][input of the pair]`,
    /// little-endian.
    Bf16(Aligned<i8>),
    Float32(Aligned<f32>),
}

/// Integers with a scale for each output channel.
#[derive(Debug)]
pub(crate) struct Int8Kernel {
    /// `[panel][half][group of inputs][channel of the half][input of the group]`.
    pub(crate) values: Aligned<i8>,
    pub(crate) scale: Aligned<f32>,
    /// What [`ZERO_POINT`] adds to the sum of each channel.
    pub(crate) offset: Aligned<i32>,
}

/// Why weights do not make an encoder.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} has {found} values, expected {expected}")]
pub struct WrongLength {
    /// Which weight.
    pub what: &'static str,
    /// How many there are.
    pub found: usize,
    /// How many there should be.
    pub expected: usize,
}

pub(crate) fn expect_length(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), WrongLength> {
    match found == expected {
        true => Ok(()),
        false => Err(WrongLength {
            what,
            found,
            expected,
        }),
    }
}

impl Norm {
    /// Checks that scale and shift have one value for each of `channels`.
    ///
    /// # Errors
    /// If they have not.
    pub fn new(scale: Vec<f32>, shift: Vec<f32>, channels: usize) -> Result<Self, WrongLength> {
        expect_length("a normalisation's scale", scale.len(), channels)?;
        expect_length("a normalisation's shift", shift.len(), channels)?;
        Ok(Self { scale, shift })
    }
}

impl Linear {
    /// Packs an int8 kernel `[in, out]` (row-major, from −127 to 127) with one scale for each output
    /// channel. Without a bias it is zero.
    ///
    /// # Errors
    /// If a length does not fit `[inputs, outputs]`.
    pub fn int8(
        [inputs, outputs]: [usize; 2],
        values: &[i8],
        scale: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, WrongLength> {
        expect_length("a kernel", values.len(), inputs * outputs)?;
        expect_length("a kernel's scale", scale.len(), outputs)?;
        let panels = outputs.div_ceil(PANEL);
        let mut packed = Aligned::zeroed(panels * panel_len(inputs));
        let mut offset = Aligned::zeroed(panels * PANEL);
        for (input, row) in values.chunks_exact(outputs).enumerate() {
            for (output, &value) in row.iter().enumerate() {
                packed[int8_position(inputs, input, output)] = value;
                offset[output] += ZERO_POINT * i32::from(value);
            }
        }
        Ok(Self {
            inputs,
            outputs,
            kernel: Kernel::Int8(Int8Kernel {
                values: packed,
                scale: padded(scale, panels * PANEL),
                offset,
            }),
            bias: packed_bias(bias, outputs)?,
        })
    }

    /// Packs a bfloat16 kernel `[in, out]`, row-major. Without a bias it is zero.
    ///
    /// # Errors
    /// If a length does not fit `[inputs, outputs]`.
    pub fn bf16(
        [inputs, outputs]: [usize; 2],
        values: &[bf16],
        bias: Option<&[f32]>,
    ) -> Result<Self, WrongLength> {
        expect_length("a kernel", values.len(), inputs * outputs)?;
        let bytes = inputs * Rounding::Bf16.size();
        let mut packed = Aligned::zeroed(outputs.div_ceil(PANEL) * panel_len(bytes));
        for (input, row) in values.chunks_exact(outputs).enumerate() {
            for (output, value) in row.iter().enumerate() {
                let at = bf16_position(inputs, input, output);
                let [low, high] = value.to_le_bytes().map(u8::cast_signed);
                packed[at..at + 2].copy_from_slice(&[low, high]);
            }
        }
        Ok(Self {
            inputs,
            outputs,
            kernel: Kernel::Bf16(packed),
            bias: packed_bias(bias, outputs)?,
        })
    }

    /// Packs a float32 kernel `[in, out]`, row-major. Without a bias it is zero.
    ///
    /// # Errors
    /// If a length does not fit `[inputs, outputs]`.
    pub fn float32(
        [inputs, outputs]: [usize; 2],
        values: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, WrongLength> {
        expect_length("a kernel", values.len(), inputs * outputs)?;
        let mut packed = Aligned::zeroed(outputs.div_ceil(PANEL) * inputs * PANEL);
        for (input, row) in values.chunks_exact(outputs).enumerate() {
            for (panel, channels) in row.chunks(PANEL).enumerate() {
                let at = (panel * inputs + input) * PANEL;
                packed[at..at + channels.len()].copy_from_slice(channels);
            }
        }
        Ok(Self {
            inputs,
            outputs,
            kernel: Kernel::Float32(packed),
            bias: packed_bias(bias, outputs)?,
        })
    }

    /// What its input is rounded to, if it is.
    pub(crate) fn rounding(&self) -> Option<Rounding> {
        match self.kernel {
            Kernel::Int8(_) => Some(Rounding::Int8),
            Kernel::Bf16(_) => Some(Rounding::Bf16),
            Kernel::Float32(_) => None,
        }
    }

    /// Bytes of a row of its input, if that is rounded.
    pub(crate) fn rounded_input(&self) -> Option<usize> {
        let rounding = self.rounding()?;
        Some(self.inputs * rounding.size())
    }

    /// How many panels the output channels make.
    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Bytes of memory that the weights take.
    pub fn bytes(&self) -> usize {
        self.bias.bytes()
            + match &self.kernel {
                Kernel::Int8(kernel) => {
                    kernel.values.bytes() + kernel.scale.bytes() + kernel.offset.bytes()
                }
                Kernel::Bf16(values) => values.bytes(),
                Kernel::Float32(values) => values.bytes(),
            }
    }
}

/// Bytes of one panel of an int8 or bfloat16 kernel whose inputs have so many bytes.
pub(crate) fn panel_len(inputs: usize) -> usize {
    inputs.next_multiple_of(INPUT_MULTIPLE) * PANEL
}

/// Where the two bytes of a value of a bfloat16 kernel lie.
pub(crate) fn bf16_position(inputs: usize, input: usize, output: usize) -> usize {
    int8_position(2 * inputs, 2 * input, output)
}

/// Where a value of an int8 kernel lies.
pub(crate) fn int8_position(inputs: usize, input: usize, output: usize) -> usize {
    let in_half = (input / GROUP * HALF_PANEL + output % HALF_PANEL) * GROUP + input % GROUP;
    output / HALF_PANEL * (panel_len(inputs) / 2) + in_half
}

fn packed_bias(bias: Option<&[f32]>, outputs: usize) -> Result<Aligned<f32>, WrongLength> {
    let bias = bias.map_or(&[][..], |bias| bias);
    if !bias.is_empty() {
        expect_length("a bias", bias.len(), outputs)?;
    }
    Ok(padded(bias, outputs.next_multiple_of(PANEL)))
}

fn padded(values: &[f32], len: usize) -> Aligned<f32> {
    let mut padded = Aligned::zeroed(len);
    padded[..values.len()].copy_from_slice(values);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_inputs_of_a_channel_lie_side_by_side() {
        let values: Vec<i8> = (0..70).map(|at| at as i8).collect();
        let linear = Linear::int8([7, 10], &values, &[1.0; 10], None).unwrap();
        let Kernel::Int8(kernel) = &linear.kernel else {
            unreachable!("packed as int8");
        };
        // Channel 0 of inputs 0 to 3, then channel 1.
        assert_eq!(kernel.values[..8], [0, 10, 20, 30, 1, 11, 21, 31]);
        // Inputs 4 to 6 of channel 0, and one that is missing.
        assert_eq!(kernel.values[128..132], [40, 50, 60, 0]);
        assert_eq!(kernel.offset[0], 128 * (10 + 20 + 30 + 40 + 50 + 60));
    }

    #[test]
    fn two_bfloat16_inputs_of_a_channel_lie_side_by_side() {
        let values: Vec<bf16> = (0..30_u8).map(bf16::from).collect();
        let linear = Linear::bf16([3, 10], &values, None).unwrap();
        let Kernel::Bf16(kernel) = &linear.kernel else {
            unreachable!("packed as bfloat16");
        };
        let value =
            |at: usize| bf16::from_le_bytes([kernel[at], kernel[at + 1]].map(i8::cast_unsigned));
        // Channel 0 of inputs 0 and 1, then channel 1; input 2, and one that is missing.
        assert_eq!(
            [0, 2, 4, 6].map(|at| value(at).to_f32()),
            [0.0, 10.0, 1.0, 11.0]
        );
        assert_eq!(
            [128, 130, 132].map(|at| value(at).to_f32()),
            [20.0, 0.0, 21.0]
        );
    }

    #[test]
    fn channels_beyond_a_panel_begin_the_next() {
        let mut values = vec![0.0; 2 * 65];
        values[64] = 1.0;
        values[129] = 2.0;
        let linear = Linear::float32([2, 65], &values, None).unwrap();
        let Kernel::Float32(packed) = &linear.kernel else {
            unreachable!("packed as float32");
        };
        assert_eq!(linear.panels(), 2);
        assert_eq!([packed[128], packed[192]], [1.0, 2.0]);
    }

    #[test]
    fn a_wrong_length_is_named() {
        let error = Linear::int8([4, 4], &[0; 15], &[1.0; 4], None).unwrap_err();
        assert_eq!(error.to_string(), "a kernel has 15 values, expected 16");
        assert!(Linear::float32([4, 4], &[0.0; 16], Some(&[0.0; 3])).is_err());
    }
}
