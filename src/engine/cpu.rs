//! What CPUs do to int8 products, and to numbers that are all but zero.

/// Inputs below this count as zero. Many CPUs take a hundred times as long for a subnormal number,
/// which a tensor of tiny values, or its products with weights, would be full of. A pixel's least
/// step is 2⁻⁸, and a sum that a bias goes into does not hold 2⁻⁶⁴.
const TINY: f32 = f32::from_bits((127 - 64) << 23);

/// The value as the engine takes it: zero if it is tiny. Numbers that are none stay as they are.
pub(super) fn flush_tiny(value: f32) -> f32 {
    if value.abs() < TINY { 0.0 } else { value }
}

/// Whether the fast instructions for products of unsigned and signed bytes may give wrong sums here.
///
/// x86 CPUs without VNNI add pairs of such products in 16 bits and cut off what does not fit
/// (`vpmaddubsw`), which bytes of full range exceed. With VNNI (AVX-512 or AVX, and AMX on top of
/// it), and on other architectures, sums have 32 bits.
pub(super) fn byte_products_saturate() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        !(std::arch::is_x86_feature_detected!("avx512vnni")
            || std::arch::is_x86_feature_detected!("avxvnni"))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_values_count_as_zero_and_all_others_as_they_are() {
        let tiny = [0.0, 1e-44, 1e-40, f32::MIN_POSITIVE, 2e-38, 1e-30, 5.4e-20];
        for value in tiny {
            for value in [value, -value] {
                assert_eq!(flush_tiny(value).to_bits(), 0, "{value:e}");
            }
        }
        for value in [5.5e-20, 1.0 / 255.0, 1.0, f32::MAX, f32::INFINITY] {
            assert_eq!(flush_tiny(value), value);
            assert_eq!(flush_tiny(-value), -value);
        }
        assert!(flush_tiny(f32::NAN).is_nan());
    }
}
