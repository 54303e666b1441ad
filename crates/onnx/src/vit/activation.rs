//! The nonlinearities of MLPs.

/// The nonlinearity of the MLPs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Activation {
    /// GELU with the Gauss error function.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// x · σ(1.702 x), GELU's sigmoid approximation, as in CLIP.
    QuickGelu,
    /// x · σ(x).
    Silu,
    /// max(x, 0).
    Relu,
}
