//! The parts of a logit that a mean over the patches, or a learned query, carries.
//!
//! With w the classifier's kernel, x the patches' last states and P their number:
//!
//! ```text
//! mean of normalised patches   φ_c[j] = ⟨norm(x_j), w_c⟩ / P            rest = b_c
//! normalised mean of patches   φ_c[j] = ⟨x_j, u_c⟩ / P                  rest = ⟨β, w_c⟩ + b_c
//! learned query                φ_c[j] = Σ_h a_h[j] · ⟨v_hj O_h, u_c⟩
//! ```
//!
//! The first is exact and freezes nothing. u_c is w_c through the normalisation, whose deviation is
//! taken as given; where the query has none, u_c = w_c. What the query reads of prefix tokens, and
//! its MLP, are the rest.

use super::{Builder, FinalNorm, PooledQuery, ReaderShare, Value, Weights, as_i64};

impl<W: Weights + ?Sized> Builder<'_, '_, W> {
    /// What the classifier reads of the patches through their mean; `tokens` `[batch·tokens,
    /// hidden]` is what the mean is taken of.
    pub(super) fn mean_share(
        &mut self,
        tokens: &Value,
        norm: Option<&FinalNorm>,
        weights: &Value,
    ) -> ReaderShare {
        const NAME: &str = "evidence/of_mean";
        let spec = self.spec;
        let [prefix, total, hidden] = [spec.prefix, spec.tokens(), spec.hidden].map(as_i64);
        let directions = match norm {
            None => weights.clone(),
            Some(norm) => self.through_norm(NAME, weights, &norm.state, &norm.scale),
        };
        let share = self.graph.scalar(1.0 / spec.patches() as f32);
        let graph = &mut self.graph;
        let directions = graph.mul(&format!("{NAME}/of_patch"), &directions, &share);
        let columns = graph.transpose(&format!("{NAME}/columns"), &directions, &[0, 2, 1]);
        let tokens = graph.reshape(&format!("{NAME}/tokens"), tokens, &[-1, total, hidden]);
        let patches = match prefix {
            0 => tokens,
            _ => graph.slice(&format!("{NAME}/patches"), &tokens, 1, prefix, total),
        };
        ReaderShare {
            patches: graph.matmul(NAME, &patches, &columns),
            rest: Vec::new(),
        }
    }

    /// What the classifier reads through a learned query.
    pub(super) fn query_share(&mut self, query: &PooledQuery, weights: &Value) -> ReaderShare {
        const NAME: &str = "evidence/of_query";
        let spec = self.spec;
        let skipped = spec.pool_skips();
        let [prefix, total, hidden] =
            [spec.prefix - skipped, spec.tokens() - skipped, spec.hidden].map(as_i64);
        let rows = as_i64(spec.attribution_labels() + 1);
        let directions = match &query.norm {
            None => weights.clone(),
            Some(norm) => self.through_norm(NAME, weights, &norm.state, &norm.scale),
        };
        let graph = &mut self.graph;
        let flat = graph.reshape(&format!("{NAME}/flat"), &directions, &[-1, hidden]);
        let read = graph.linear_transposed(&format!("{NAME}/read/flat"), &flat, &query.out_kernel);
        let read = graph.reshape(&format!("{NAME}/read"), &read, &[-1, rows, hidden]);
        let columns = graph.transpose(&format!("{NAME}/columns"), &read, &[0, 2, 1]);
        let shape = [-1, total, hidden];
        let values = graph.reshape(&format!("{NAME}/values"), &query.values, &shape);
        let tokens = graph.matmul(NAME, &values, &columns);

        let other = graph.reshape(
            &format!("{NAME}/other/column"),
            &query.other,
            &[-1, hidden, 1],
        );
        let other = graph.matmul(&format!("{NAME}/other/written"), &directions, &other);
        let other = graph.reshape(&format!("{NAME}/other"), &other, &[-1, rows]);
        if prefix == 0 {
            return ReaderShare {
                patches: tokens,
                rest: vec![other],
            };
        }
        let prefixed = graph.slice(&format!("{NAME}/prefix"), &tokens, 1, 0, prefix);
        let name = format!("{NAME}/prefix/sum");
        let prefixed = graph.reduce("ReduceSum", &name, &prefixed, 1, false);
        ReaderShare {
            patches: graph.slice(&format!("{NAME}/patches"), &tokens, 1, prefix, total),
            rest: vec![other, prefixed],
        }
    }
}
