//! How much each token wrote into labels' logits through attention.
//!
//! With the directions u_c of the labels (the classifier's weights behind the last normalisation),
//! token j wrote Σ_l Σ_h ⟨a_lh[j] v_lh[j] O_lh, u_c⟩ (direct logit attribution). The output kernel O
//! is multiplied with u_c, not with the values, which costs tokens / labels times less.

use rayon::{
    ThreadPool,
    iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator},
};

use super::encoder::Encoder;

/// What attribution reads of a batch, image after image.
#[derive(Clone, Copy, Debug)]
pub struct AttributionInputs<'a> {
    /// `[image][label][hidden]`.
    pub directions: &'a [f32],
    /// As [`ClassTokenOutputs`](super::ClassTokenOutputs) has them.
    pub weighted_values: &'a [f32],
    /// The same.
    pub rounding_error: &'a [f32],
}

impl Encoder {
    /// Writes the tokens' part of each label's logit into `by_token` `[image][token][label]`, and
    /// what rounding changed in it into `rounding` `[image][label]`.
    ///
    /// # Panics
    /// If lengths do not fit so many images and labels, or a thread panics.
    pub fn attribute(
        &self,
        images: usize,
        inputs: AttributionInputs<'_>,
        by_token: &mut [f32],
        rounding: &mut [f32],
        pool: &ThreadPool,
    ) {
        let shape = self.shape();
        let (layers, hidden, heads) = (shape.layers, shape.hidden, shape.head_shape());
        let labels = rounding.len() / images.max(1);
        let of_layer = heads.tokens * hidden;
        assert_eq!(rounding.len(), images * labels);
        assert_eq!(by_token.len(), images * heads.tokens * labels);
        assert_eq!(inputs.directions.len(), images * labels * hidden);
        assert_eq!(inputs.weighted_values.len(), images * layers * of_layer);
        assert_eq!(inputs.rounding_error.len(), images * layers * hidden);

        // Blocks are added up afterwards in their order, so that threads do not change the sum.
        let task = |at: usize| {
            let (image, layer) = (at / layers, at % layers);
            let directions = &inputs.directions[image * labels * hidden..][..labels * hidden];
            let mut projected = vec![0.0; labels * hidden];
            let out = &self.blocks()[layer].out;
            self.instructions().project(out, directions, &mut projected);
            let read = &inputs.weighted_values[at * of_layer..][..of_layer];
            let mut of_block = vec![0.0; heads.tokens * labels];
            self.instructions()
                .attribute(heads, read, &projected, &mut of_block);
            let error = &inputs.rounding_error[at * hidden..][..hidden];
            let rounding = projected.chunks_exact(hidden).map(|direction| {
                let products = direction.iter().zip(error);
                products.map(|(a, b)| a * b).sum::<f32>()
            });
            (of_block, rounding.collect::<Vec<f32>>())
        };
        let of_blocks: Vec<_> = pool.install(|| {
            let tasks = (0..images * layers).into_par_iter();
            tasks.with_max_len(1).map(task).collect()
        });
        by_token.fill(0.0);
        rounding.fill(0.0);
        for (at, (of_block, of_rounding)) in of_blocks.iter().enumerate() {
            let image = at / layers;
            let by_token = &mut by_token[image * heads.tokens * labels..];
            add(by_token, of_block);
            add(&mut rounding[image * labels..], of_rounding);
        }
    }
}

fn add(sums: &mut [f32], terms: &[f32]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}
