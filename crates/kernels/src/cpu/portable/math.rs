//! Exponential, nonlinearities and sums, operation by operation as the vector code computes them.

use crate::cpu::instructions::Activation;

/// Values of a vector.
pub(crate) const LANES: usize = 16;

/// ln 2 in two parts, of which the first has so few bits that its multiples by small integers are
/// exact.
pub(crate) const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// Coefficients of the exponential's Taylor series, the highest first: what is left out is below
/// 5.2e-9 within ± ln 2 / 2.
pub(crate) const EXP: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// Below this the exponential is 0: numbers near the end of float32's range would make what they
/// are multiplied with subnormal, which is slow.
pub(crate) const EXP_FROM: f32 = -80.0;

/// Coefficients of the error function's approximation 7.1.26 of Abramowitz & Stegun (error at most
/// 1.5e-7), the highest first.
pub(crate) const ERF: [f32; 5] = [
    1.061_405_4,
    -1.453_152_1,
    1.421_413_8,
    -0.284_496_72,
    0.254_829_6,
];

/// The argument's factor there.
pub(crate) const ERF_FACTOR: f32 = 0.327_591_1;

/// Twice √(2/π), of GELU's tanh approximation: 1 + tanh(u) = 2σ(2u).
pub(crate) const TANH_FACTOR: f32 = 2.0 * 0.797_884_6;

/// The cubic term there.
pub(crate) const TANH_CUBIC: f32 = 0.044_715;

/// The factor of the sigmoid approximation.
pub(crate) const QUICK: f32 = 1.702;

/// Beyond this, σ is 0 in float32 all but exactly.
pub(crate) const SIGMOID_TO: f32 = 80.0;

/// eˣ within 2 units in the last place, for x from [`EXP_FROM`] to 88.
pub(crate) fn exp(x: f32) -> f32 {
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = (-n).mul_add(LN_2[0], x);
    let r = (-n).mul_add(LN_2[1], r);
    let y = polynomial(&EXP, r);
    if x < EXP_FROM {
        return 0.0;
    }
    // n is at most 127 and above −126, so this is a normal number.
    y * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

fn polynomial(coefficients: &[f32], x: f32) -> f32 {
    let (first, rest) = coefficients
        .split_first()
        .map_or((0.0, &[][..]), |(a, b)| (*a, b));
    rest.iter()
        .fold(first, |y, coefficient| y.mul_add(x, *coefficient))
}

/// The nonlinearity.
pub(crate) fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => {
            let cubic = (x * x) * TANH_CUBIC;
            let inner = cubic.mul_add(x, x);
            x * sigmoid(inner * TANH_FACTOR)
        }
        Activation::QuickGelu => x * sigmoid(x * QUICK),
        Activation::Silu => x * sigmoid(x),
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    let negated = 0.0 - x;
    let bounded = if negated > SIGMOID_TO {
        SIGMOID_TO
    } else {
        negated
    };
    1.0 / (1.0 + exp(bounded))
}

/// x·Φ(x).
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / z.mul_add(ERF_FACTOR, 1.0);
    let y = polynomial(&ERF, t) * t;
    // Half of 1 − |erf|: the probability beyond |x|.
    let beyond = y * exp(0.0 - z * z) * 0.5;
    x * if x < 0.0 { beyond } else { 1.0 - beyond }
}

/// The sum of a vector's values: halves are added until one is left.
pub(crate) fn sum_of_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Goes through a row in four chains of vectors, and adds these up.
pub(crate) fn sum_in_chains(row: &[f32], step: impl Fn(f32, f32) -> f32) -> f32 {
    let mut chains = [[0.0; LANES]; 4];
    for (at, value) in row.iter().enumerate() {
        let sum = &mut chains[at / LANES % 4][at % LANES];
        *sum = step(*sum, *value);
    }
    let [a, b, c, d] = chains;
    sum_of_lanes(std::array::from_fn(|lane| {
        (a[lane] + b[lane]) + (c[lane] + d[lane])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_float64_within_two_units() {
        for at in 0..16_000 {
            let x = EXP_FROM + at as f32 * 0.01;
            let expected = f64::from(x).exp();
            let difference = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(difference < 2.4e-7, "exp({x})");
        }
        assert_eq!([exp(-80.1), exp(f32::NEG_INFINITY)], [0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan());
    }

    /// The Gauss error function by its Taylor series, which for arguments below 4 loses at most
    /// seven of sixteen digits to cancellation.
    fn erf(x: f64) -> f64 {
        if x.abs() > 4.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    /// Values of Python's `math.erf`.
    #[test]
    fn the_error_function_of_these_tests_is_that_of_python() {
        let expected = [
            (0.1, 0.112_462_916_018_284_9),
            (1.0, 0.842_700_792_949_714_9),
            (-2.0, -0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
        ];
        for (x, expected) in expected {
            assert!((erf(x) - expected).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn nonlinearities_are_those_of_their_definitions() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let definition = |activation, x: f64| match activation {
            Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Silu => x * sigmoid(x),
            Activation::Relu => x.max(0.0),
        };
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Silu,
            Activation::Relu,
        ] {
            for at in -2000..2000 {
                let x = at as f32 * 0.01;
                let expected = definition(activation, f64::from(x));
                let difference = (f64::from(activate(activation, x)) - expected).abs();
                assert!(
                    difference <= 4e-7 * f64::from(x.abs().max(1.0)),
                    "{activation:?}({x})"
                );
            }
        }
    }
}
