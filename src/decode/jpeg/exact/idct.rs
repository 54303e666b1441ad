//! The inverse DCT: libjpeg's `islow`, after Loeffler, Ligtenberg and Moschytz (ICASSP 1989), with 13
//! fractional bits in its constants and two between its passes.
//!
//! Coefficients beyond what a picture can have are cut as libjpeg-turbo's vector code cuts them, to
//! 16 bits.

use super::{entropy::Block, frame::Quantizers};

const CONSTANT_BITS: u32 = 13;
const PASS_BITS: u32 = 2;

const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12299;
const F_1_847: i32 = 15137;
const F_1_961: i32 = 16069;
const F_2_053: i32 = 16819;
const F_2_562: i32 = 20995;
const F_3_072: i32 = 25172;

/// Writes the block's 8×8 samples to the start of `samples`, whose rows lie `stride` apart.
pub(super) fn block(block: &Block, quantizers: &Quantizers, samples: &mut [u8], stride: usize) {
    if block[1..].iter().all(|&value| value == 0) {
        // Flat, as most blocks of chroma are: what is below comes to this.
        let mean = i32::from(block[0].wrapping_mul(quantizers[0] as i16));
        let mean = (mean << PASS_BITS).clamp(i16::MIN.into(), i16::MAX.into());
        let mean = (((mean + (1 << 4)) >> (PASS_BITS + 3)) + 128).clamp(0, 255) as u8;
        for row in samples.chunks_mut(stride).take(8) {
            row[..8].fill(mean);
        }
        return;
    }
    let mut columns = [0i16; 64];
    for x in 0..8 {
        let at = |y: usize| block[8 * y + x].wrapping_mul(quantizers[8 * y + x] as i16);
        let column = [0, 1, 2, 3, 4, 5, 6, 7].map(at);
        let column = transform(column, CONSTANT_BITS - PASS_BITS);
        for (y, value) in column.into_iter().enumerate() {
            columns[8 * y + x] = value;
        }
    }
    let (rows, _) = columns.as_chunks::<8>();
    for (y, &row) in rows.iter().enumerate() {
        let row = transform(row, CONSTANT_BITS + PASS_BITS + 3);
        for (sample, value) in samples[y * stride..][..8].iter_mut().zip(row) {
            *sample = (i32::from(value) + 128).clamp(0, 255) as u8;
        }
    }
}

/// Eight values, scaled by `8^½ · 2^CONSTANT_BITS` and divided by `2^shift`. No sum leaves 32 bits: the
/// constants of the longest add up to less than 2¹⁶.
fn transform(input: [i16; 8], shift: u32) -> [i16; 8] {
    let wide = i32::from;
    // Even part.
    let (i2, i6) = (wide(input[2]), wide(input[6]));
    let even_2 = i2 * F_0_541 + i6 * (F_0_541 - F_1_847);
    let even_3 = i2 * (F_0_541 + F_0_765) + i6 * F_0_541;
    let even_0 = wide(input[0].wrapping_add(input[4])) << CONSTANT_BITS;
    let even_1 = wide(input[0].wrapping_sub(input[4])) << CONSTANT_BITS;
    let (a0, a3) = (even_0 + even_3, even_0 - even_3);
    let (a1, a2) = (even_1 + even_2, even_1 - even_2);

    // Odd part.
    let [i1, i3, i5, i7] = [input[1], input[3], input[5], input[7]];
    let (z3, z4) = (wide(i7.wrapping_add(i3)), wide(i5.wrapping_add(i1)));
    let z3_scaled = z3 * (F_1_175 - F_1_961) + z4 * F_1_175;
    let z4_scaled = z3 * F_1_175 + z4 * (F_1_175 - F_0_390);
    let (i1, i3, i5, i7) = (wide(i1), wide(i3), wide(i5), wide(i7));
    let b0 = i7 * (F_0_298 - F_0_899) - i1 * F_0_899 + z3_scaled;
    let b3 = i1 * (F_1_501 - F_0_899) - i7 * F_0_899 + z4_scaled;
    let b1 = i5 * (F_2_053 - F_2_562) - i3 * F_2_562 + z4_scaled;
    let b2 = i3 * (F_3_072 - F_2_562) - i5 * F_2_562 + z3_scaled;

    let round = 1 << (shift - 1);
    let scaled = |value: i32| {
        let value = (value + round) >> shift;
        value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    };
    [
        scaled(a0 + b3),
        scaled(a1 + b2),
        scaled(a2 + b1),
        scaled(a3 + b0),
        scaled(a3 - b0),
        scaled(a2 - b1),
        scaled(a1 - b2),
        scaled(a0 - b3),
    ]
}
