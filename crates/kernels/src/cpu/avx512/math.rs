//! Exponential, nonlinearities and sums, sixteen values at a time; the same operations as in
//! [`portable`](crate::cpu::portable), which says where they come from.

use std::{arch::x86_64::*, f32::consts};

use crate::cpu::{
    instructions::Activation,
    portable::{ERF, ERF_FACTOR, EXP, EXP_FROM, LN_2, QUICK, SIGMOID_TO, TANH_CUBIC, TANH_FACTOR},
};

/// eˣ.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn exp(x: __m512) -> __m512 {
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
        _mm512_mul_ps(x, _mm512_set1_ps(consts::LOG2_E)),
    );
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2[0]), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2[1]), r);
    // A number that is none stays none.
    let valid = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(EXP_FROM));
    _mm512_maskz_scalef_ps(valid, polynomial(EXP, r), n)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn polynomial<const TERMS: usize>(coefficients: [f32; TERMS], x: __m512) -> __m512 {
    let mut y = _mm512_set1_ps(coefficients[0]);
    for coefficient in &coefficients[1..] {
        y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(*coefficient));
    }
    y
}

/// The nonlinearity of each value.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn activate(activation: Activation, x: __m512) -> __m512 {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => {
            let cubic = _mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(TANH_CUBIC));
            let inner = _mm512_fmadd_ps(cubic, x, x);
            _mm512_mul_ps(
                x,
                sigmoid(_mm512_mul_ps(inner, _mm512_set1_ps(TANH_FACTOR))),
            )
        }
        Activation::QuickGelu => _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(x, _mm512_set1_ps(QUICK)))),
        Activation::Silu => _mm512_mul_ps(x, sigmoid(x)),
        // The second operand is the result where one is no number.
        Activation::Relu => _mm512_max_ps(_mm512_setzero_ps(), x),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn sigmoid(x: __m512) -> __m512 {
    let negated = _mm512_sub_ps(_mm512_setzero_ps(), x);
    let bounded = _mm512_min_ps(_mm512_set1_ps(SIGMOID_TO), negated);
    let one = _mm512_set1_ps(1.0);
    _mm512_div_ps(one, _mm512_add_ps(one, exp(bounded)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn gelu(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    let z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(consts::FRAC_1_SQRT_2));
    let t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(ERF_FACTOR), one));
    let y = _mm512_mul_ps(polynomial(ERF, t), t);
    let decay = exp(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z)));
    let beyond = _mm512_mul_ps(_mm512_mul_ps(y, decay), _mm512_set1_ps(0.5));
    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
    let below = _mm512_mask_blend_ps(negative, _mm512_sub_ps(one, beyond), beyond);
    _mm512_mul_ps(x, below)
}

/// The sum of a vector's values: halves are added until one is left.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn sum_of_lanes(x: __m512) -> f32 {
    let halves = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    let quarters = _mm_add_ps(
        _mm256_castps256_ps128(halves),
        _mm256_extractf128_ps::<1>(halves),
    );
    let pairs = _mm_add_ps(quarters, _mm_movehl_ps(quarters, quarters));
    let single = _mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs));
    _mm_cvtss_f32(single)
}

/// The sum of four chains.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn sum_of_chains([a, b, c, d]: [__m512; 4]) -> f32 {
    sum_of_lanes(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
}
