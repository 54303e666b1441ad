//! AVX-512 with VNNI: 512-bit vectors, and products of bytes added up in 32 bits.

mod amx;
mod attention;
mod bf16;
mod block;
mod float32;
mod int8;
mod math;
mod projection;
mod rows;
mod tile;

use std::{arch::x86_64::__cpuid, ops::Range};

use self::tile::Sink;
use super::{
    division::{for_each_part, ranges},
    instructions::{Epilogue, HeadFusion, HeadShape, Instructions, KeysAndValues, Operand},
    portable::mismatched,
    rounding::{QuantizedMut, Rounding},
    weights::{Kernel, Linear, Norm},
};

/// AVX-512 (F, BW, DQ, VL) with VNNI. A value exists only where the processor has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512 {
    /// Whether products of layers are AMX's. Only where [`amx::is_usable`] has said so.
    amx: bool,
    /// Whether there are products of bfloat16.
    bf16: bool,
    /// Whether attention is in bfloat16; only where there are its products.
    bf16_attention: bool,
}

impl Avx512 {
    /// None if the processor lacks an extension, or the system does not keep its registers.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Self {
            amx: false,
            bf16: false,
            bf16_attention: false,
        })
    }

    /// The same with products of bfloat16.
    pub(crate) fn detect_bf16() -> Option<Self> {
        let avx512 = Self::detect().filter(|_| is_x86_feature_detected!("avx512bf16"));
        avx512.map(|found| Self {
            bf16: true,
            ..found
        })
    }

    /// The same with AMX.
    pub(crate) fn detect_amx() -> Option<Self> {
        let avx512 = Self::detect_bf16().filter(|_| amx::is_usable());
        avx512.map(|found| Self { amx: true, ..found })
    }

    /// The same for a network; `rounding` is the widest number that its layers round to.
    ///
    /// Attention is in bfloat16 where the network is anyway, and in integer networks where AMX takes
    /// a fraction of the time; elsewhere it would gain a few percent and cost accuracy.
    pub(crate) fn for_layers(self, rounding: Option<Rounding>) -> Self {
        let bf16 = self.bf16 && rounding == Some(Rounding::Bf16);
        let bf16_attention = match self.amx {
            true => rounding.is_some(),
            false => bf16 && multiplies_bf16_twice_as_fast(),
        };
        Self {
            bf16,
            bf16_attention,
            ..self
        }
    }
}

/// AMD's processors multiply pairs of bfloat16 at the rate of single float32 values, Intel's take
/// twice as long (uops.info, VDPBF16PS beside VFMADD231PS with 512 bits).
fn multiplies_bf16_twice_as_fast() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx]
        .map(u32::to_le_bytes)
        .concat()
        == b"AuthenticAMD"
}

impl Instructions for Avx512 {
    fn name(&self) -> &'static str {
        match (self.amx, self.bf16) {
            (true, _) => "AMX",
            (false, true) => "AVX-512 BF16",
            (false, false) => "AVX-512 VNNI",
        }
    }

    fn has_bf16(&self) -> bool {
        self.bf16
    }

    fn normalize(&self, rows: &[f32], norm: &Norm, epsilon: f32, out: &mut [f32]) {
        // SAFETY: `Avx512` exists only where the processor has the instructions; so below.
        unsafe { rows::normalize(rows, norm, epsilon, out) }
    }

    fn quantize(
        &self,
        rows: &[f32],
        width: usize,
        stride: usize,
        rounding: Rounding,
        out: &mut QuantizedMut<'_>,
    ) {
        // SAFETY: as above.
        unsafe { rows::quantize(rows, width, stride, rounding, out) }
    }

    fn normalize_and_quantize(
        &self,
        rows: &[f32],
        norm: &Norm,
        epsilon: f32,
        rounding: Rounding,
        out: &mut QuantizedMut<'_>,
    ) {
        // SAFETY: as above.
        unsafe { rows::normalize_and_quantize(rows, norm, epsilon, rounding, out) }
    }

    fn multiply(&self, input: Operand<'_>, layer: &Linear, epilogue: Epilogue<'_>, parts: usize) {
        let sink = Sink::new(epilogue, layer);
        for_each_part(ranges(layer.panels(), parts), |panels: Range<usize>| {
            match (input, &layer.kernel) {
                (Operand::Int8(tokens), Kernel::Int8(kernel)) if self.amx => {
                    // SAFETY: as above, and `amx` says that tiles are usable. The sink is made for
                    // the layer, and no other part has its panels.
                    unsafe { amx::multiply(tokens, layer, kernel, panels, sink) }
                }
                (Operand::Int8(tokens), Kernel::Int8(kernel)) => {
                    // SAFETY: as above.
                    unsafe { int8::multiply(tokens, layer, kernel, panels, sink) }
                }
                (Operand::Bf16(tokens), Kernel::Bf16(values)) if self.amx => {
                    // SAFETY: as above.
                    unsafe { amx::multiply_bf16(tokens, layer, values, panels, sink) }
                }
                (Operand::Bf16(tokens), Kernel::Bf16(values)) if self.bf16 => {
                    // SAFETY: as above, and `bf16` says that the instructions are there.
                    unsafe { bf16::multiply(tokens, layer, values, panels, sink) }
                }
                (Operand::Float32(rows), Kernel::Float32(values)) => {
                    // SAFETY: as above.
                    unsafe { float32::multiply(rows, layer, values, panels, sink) }
                }
                _ => mismatched(),
            }
        });
    }

    fn prepared_len(&self, shape: HeadShape) -> [usize; 2] {
        match self.bf16_attention {
            true => [
                attention::bf16::keys_len(shape),
                attention::bf16::values_len(shape),
            ],
            false => [shape.size * shape.row(), 0],
        }
    }

    fn prepare_head(
        &self,
        shape: HeadShape,
        head: usize,
        of_image: KeysAndValues<'_>,
        out_keys: &mut [f32],
        out_values: &mut [f32],
    ) {
        // SAFETY: as above, and `bf16_attention` says that there is bfloat16.
        unsafe {
            match self.bf16_attention {
                true => {
                    attention::bf16::prepare_head(shape, head, of_image, out_keys, out_values);
                }
                false => attention::transpose_keys(shape, head, of_image.keys, out_keys),
            }
        }
    }

    fn attend_one(
        &self,
        shape: HeadShape,
        head: usize,
        query: &[f32],
        keys: &[f32],
        out: &mut [f32],
    ) {
        // SAFETY: as above.
        unsafe { attention::attend_one(shape, head, query, keys, out) }
    }

    fn weigh_values(
        &self,
        shape: HeadShape,
        head: usize,
        values: &[f32],
        weights: &[f32],
        out: &mut [f32],
    ) {
        // SAFETY: as above.
        unsafe { attention::weigh_values(shape, head, values, weights, out) }
    }

    fn add_weighted(&self, weight: f32, row: &[f32], sum: &mut [f32]) {
        // SAFETY: as above.
        unsafe { rows::add_weighted(weight, row, sum) }
    }

    fn attend(
        &self,
        shape: HeadShape,
        queries: &[f32],
        prepared: KeysAndValues<'_>,
        of_image: KeysAndValues<'_>,
        mixed: &mut [f32],
        fused: Option<(&mut [f32], HeadFusion)>,
    ) {
        // SAFETY: as above, and `amx` says that tiles are usable.
        unsafe {
            match (self.bf16_attention, self.amx) {
                (true, true) => amx::attend(shape, queries, prepared, mixed, fused),
                (true, false) => {
                    let unit = bf16::Vectors::new();
                    attention::bf16::attend(&unit, shape, queries, prepared, mixed, fused);
                }
                (false, _) => {
                    let of_image = KeysAndValues {
                        keys: prepared.keys,
                        ..of_image
                    };
                    attention::attend(shape, queries, of_image, mixed, fused);
                }
            }
        }
    }

    fn project(&self, layer: &Linear, directions: &[f32], out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { projection::project(layer, directions, out) }
    }

    fn attribute(&self, shape: HeadShape, read: &[f32], projected: &[f32], out: &mut [f32]) {
        // SAFETY: as above.
        unsafe { projection::attribute(shape, read, projected, out) }
    }
}
