//! The rollout in the graph, beside attention that is known: by hand, and from full matrices in
//! float64. The weights are such that no block changes a token, so that attention can be computed
//! without the network.

use patchlight_import::Arch;
use patchlight_model::manifest::{HeadFusion, Precision};
use patchlight_onnx::{
    graph::Storage,
    tensor::Tensor,
    vit::{self, BlockWeight, PrecisionPlan, VitSpec, WeightId, Weights},
};
use patchlight_splitmix::SplitMix64;

use crate::support::GraphRunner;

const FUSIONS: [HeadFusion; 3] = [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min];

/// The class token alone, with a distillation token, with four registers.
const PREFIXES: [usize; 3] = [1, 2, 5];

/// Two rows of three patches.
fn spec(prefix: usize, heads: usize, head_fusion: HeadFusion) -> VitSpec {
    VitSpec {
        layers: 3,
        heads,
        hidden: 12,
        mlp: 4,
        image: [8, 12],
        patch: 4,
        prefix,
        classes: 2,
        ..Arch::VitTi16.spec(head_fusion)
    }
}

/// What the tokens are, and how each block compares them.
struct FixedAttention {
    spec: VitSpec,
    /// Rows of `hidden` values.
    tokens: Vec<f32>,
    /// Of each block: query and key kernels, `[hidden, hidden]`, columns grouped by head.
    kernels: Vec<[Vec<f32>; 2]>,
}

impl FixedAttention {
    /// Token `t` is the `t`-th unit vector, and compared by `sharpness` times itself.
    fn unit(spec: VitSpec, sharpness: f32) -> Self {
        let (tokens, hidden) = (spec.tokens(), spec.hidden);
        let diagonal = |rows: usize, value: f32| {
            let mut values = vec![0.0; rows * hidden];
            values
                .iter_mut()
                .step_by(hidden + 1)
                .for_each(|v| *v = value);
            values
        };
        let kernel = diagonal(hidden, sharpness);
        Self {
            tokens: diagonal(tokens, 1.0),
            kernels: vec![[kernel.clone(), kernel]; spec.layers],
            spec,
        }
    }

    /// Tokens and kernels drawn by a seed.
    fn drawn(spec: VitSpec, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut draw = |count: usize| -> Vec<f32> {
            let value = |bits: u64| (bits >> 40) as f32 / (1 << 23) as f32 - 1.0;
            (0..count).map(|_| value(random.next_u64())).collect()
        };
        let hidden = spec.hidden;
        Self {
            tokens: draw(spec.tokens() * hidden),
            kernels: (0..spec.layers)
                .map(|_| [draw(hidden * hidden), draw(hidden * hidden)])
                .collect(),
            spec,
        }
    }

    /// `rollout_by_start` as the graph makes it.
    fn in_the_graph(&mut self) -> Vec<f32> {
        let spec = self.spec.clone();
        let model = vit::build(
            &spec,
            &PrecisionPlan::uniform(Precision::Fp32),
            self,
            Storage::Inline,
        )
        .unwrap();
        let outputs =
            GraphRunner::from_model(&model).run("pixel_values", &[1, 3, 8, 12], &[0.5; 288]);
        outputs[2].1.clone()
    }

    /// The same by full matrices in float64.
    fn by_matrices(&self) -> Vec<f64> {
        let (n, layers) = (self.spec.tokens(), self.spec.layers);
        let matrices: Vec<Vec<f64>> = (0..layers).map(|layer| self.with_identity(layer)).collect();
        (0..layers)
            .flat_map(|start| {
                let mut product = identity(n);
                for matrix in &matrices[start..] {
                    product = times(matrix, &product, n);
                }
                product[..n].to_vec()
            })
            .collect()
    }

    /// Rows of the heads' fused attention plus the identity, divided by their sums.
    fn with_identity(&self, layer: usize) -> Vec<f64> {
        let (n, heads) = (self.spec.tokens(), self.spec.heads);
        let of_heads: Vec<Vec<f64>> = (0..heads).map(|head| self.attention(layer, head)).collect();
        let mut matrix = identity(n);
        for (at, value) in matrix.iter_mut().enumerate() {
            let values = of_heads.iter().map(|head| head[at]);
            *value += match self.spec.head_fusion {
                HeadFusion::Mean => values.sum::<f64>() / heads as f64,
                HeadFusion::Max => values.fold(f64::NEG_INFINITY, f64::max),
                HeadFusion::Min => values.fold(f64::INFINITY, f64::min),
            };
        }
        for row in matrix.chunks_mut(n) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum);
        }
        matrix
    }

    /// Softmax of the queries against the keys of all tokens.
    fn attention(&self, layer: usize, head: usize) -> Vec<f64> {
        let VitSpec { hidden, heads, .. } = self.spec;
        let each = hidden / heads;
        let project = |kernel: &[f32]| -> Vec<Vec<f64>> {
            let rows = self
                .tokens
                .chunks(hidden)
                .map(|token| self.normalised(token));
            rows.map(|row| {
                let column = |at: usize| {
                    let weights = kernel.iter().skip(head * each + at).step_by(hidden);
                    weights.zip(&row).map(|(w, x)| f64::from(*w) * x).sum()
                };
                (0..each).map(column).collect()
            })
            .collect()
        };
        let [query, key] = &self.kernels[layer];
        let (queries, keys) = (project(query), project(key));
        let mut attention = Vec::new();
        for query in &queries {
            let score = |key: &Vec<f64>| -> f64 {
                let product: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                (product / (each as f64).sqrt()).exp()
            };
            let powers: Vec<f64> = keys.iter().map(score).collect();
            let sum: f64 = powers.iter().sum();
            attention.extend(powers.into_iter().map(|power| power / sum));
        }
        attention
    }

    fn normalised(&self, token: &[f32]) -> Vec<f64> {
        let values: Vec<f64> = token.iter().copied().map(f64::from).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        let deviation = (squares / values.len() as f64 + f64::from(self.spec.norm_epsilon)).sqrt();
        values.into_iter().map(|v| (v - mean) / deviation).collect()
    }
}

impl Weights for FixedAttention {
    type Error = std::io::Error;

    fn tensor(&mut self, weight: WeightId) -> Result<Tensor, Self::Error> {
        let shape = self.spec.shape(weight);
        let of_prefix = self.spec.prefix * self.spec.hidden;
        let values = match weight {
            WeightId::FinalNormScale
            | WeightId::Block(_, BlockWeight::AttentionNormScale | BlockWeight::MlpNormScale) => {
                vec![1.0; shape.iter().product()]
            }
            WeightId::Prefix => self.tokens[..of_prefix].to_vec(),
            WeightId::Positions => self.tokens[of_prefix..].to_vec(),
            WeightId::Block(layer, BlockWeight::QueryKernel) => self.kernels[layer][0].clone(),
            WeightId::Block(layer, BlockWeight::KeyKernel) => self.kernels[layer][1].clone(),
            // Images, values and MLPs add nothing.
            _ => vec![0.0; shape.iter().product()],
        };
        Ok(Tensor::f32(shape, &values))
    }
}

fn identity(n: usize) -> Vec<f64> {
    let mut matrix = vec![0.0; n * n];
    matrix
        .iter_mut()
        .step_by(n + 1)
        .for_each(|value| *value = 1.0);
    matrix
}

fn times(left: &[f64], right: &[f64], n: usize) -> Vec<f64> {
    let entry = |row: usize, column: usize| {
        let terms = (0..n).map(|k| left[row * n + k] * right[k * n + column]);
        terms.sum()
    };
    (0..n * n).map(|at| entry(at / n, at % n)).collect()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*found) - expected).abs();
        assert!(
            apart <= tolerance,
            "{what} at {at}: {found}, expected {expected}"
        );
    }
}

/// Every fusion with every prefix.
fn cases() -> impl Iterator<Item = (HeadFusion, usize, String)> {
    FUSIONS.into_iter().flat_map(|fusion| {
        PREFIXES
            .into_iter()
            .map(move |prefix| (fusion, prefix, format!("{fusion:?}, prefix {prefix}")))
    })
}

#[test]
fn rollout_is_the_product_of_full_matrices_in_float64() {
    for (fusion, prefix, what) in cases() {
        let mut forced = FixedAttention::drawn(spec(prefix, 3, fusion), prefix as u64);
        let expected = forced.by_matrices();
        assert_close(&forced.in_the_graph(), &expected, 1e-5, &what);
    }
}

#[test]
fn uniform_attention_spreads_the_rollout_as_computed_by_hand() {
    for (fusion, prefix, what) in cases() {
        let tokens = prefix + 6;
        // After L blocks 2^-L is still on the class token, and the rest is spread evenly.
        let expected: Vec<f64> = [3, 2, 1]
            .into_iter()
            .flat_map(|blocks| {
                let stays = 0.5_f64.powi(blocks);
                let mut row = vec![(1.0 - stays) / tokens as f64; tokens];
                row[0] += stays;
                row
            })
            .collect();
        let mut forced = FixedAttention::unit(spec(prefix, 1, fusion), 0.0);
        assert_close(&forced.in_the_graph(), &expected, 1e-6, &what);
    }
}

#[test]
fn identity_attention_leaves_the_rollout_on_the_class_token() {
    for (fusion, prefix, what) in cases() {
        let mut row = vec![0.0; prefix + 6];
        row[0] = 1.0;
        let mut forced = FixedAttention::unit(spec(prefix, 1, fusion), 20.0);
        assert_close(&forced.in_the_graph(), &row.repeat(3), 1e-6, &what);
    }
}
