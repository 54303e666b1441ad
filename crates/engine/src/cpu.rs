//! What the CPU's instructions do to int8 products.

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
