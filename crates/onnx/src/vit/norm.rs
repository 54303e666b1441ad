//! Normalisation over the last axis: LayerNorm, or RMSNorm (Zhang & Sennrich 2019) in networks that
//! have that.
//!
//! ```text
//! LayerNorm   (x − mean x) / √(var x + ε) · γ + β
//! RMSNorm      x / √(mean x² + ε) · γ
//! ```

use super::{Builder, Weights};
use crate::graph::Value;

/// The type of the values that are normalised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// That of the blocks.
    Block,
    /// float32.
    Head,
}

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// `x`, normalised; the shift is of zeros where the network has none.
    pub(super) fn normalized(
        &mut self,
        place: Place,
        name: &str,
        x: &Value,
        [scale, shift]: [&Value; 2],
    ) -> Value {
        let epsilon = self.spec.norm_epsilon;
        if !self.spec.variant.rms_norm {
            return self.graph.layer_norm(name, x, scale, shift, epsilon);
        }
        // Squares of float16 overflow.
        let wide = match place {
            Place::Block => self.cast_to_float32(&format!("{name}/read"), x),
            Place::Head => x.clone(),
        };
        let root = self.root_of_mean_square(name, &wide);
        let divided = self.graph.div(&format!("{name}/divided"), &wide, &root);
        let divided = match place {
            Place::Block => self.cast_to_block_dtype(&format!("{name}/divided"), &divided),
            Place::Head => divided,
        };
        let scaled = self.graph.mul(&format!("{name}/scaled"), &divided, scale);
        self.graph.add(name, &scaled, shift)
    }

    /// √(mean x² + ε) over the last axis, which stays.
    pub(super) fn root_of_mean_square(&mut self, name: &str, x: &Value) -> Value {
        let name = |part: &str| format!("{name}/{part}");
        let graph = &mut self.graph;
        let squares = graph.mul(&name("state/squares"), x, x);
        let mean = graph.reduce("ReduceMean", &name("variance"), &squares, -1, true);
        let epsilon = graph.scalar(self.spec.norm_epsilon);
        let mean = graph.add(&name("variance/shifted"), &mean, &epsilon);
        graph.sqrt(&name("deviation"), &mean)
    }
}
