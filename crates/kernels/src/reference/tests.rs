use super::*;

const SHAPE: AttentionShape = AttentionShape {
    tokens: 5,
    heads: 2,
    head_size: 4,
};

/// Values between −1 and 1 that a seed fixes.
fn values(count: usize, seed: usize) -> Vec<f16> {
    (0..count)
        .map(|at| f16::from_f32(((at * 7919 + seed * 104_729) % 2001) as f32 / 1000.0 - 1.0))
        .collect()
}

/// Attention by its definition in float64, with a bias of the keys, too.
#[test]
fn attention_is_that_of_the_definition() {
    let (tokens, width, size) = (SHAPE.tokens, SHAPE.width(), SHAPE.head_size);
    let (qk, v) = (values(tokens * 2 * width, 1), values(tokens * width, 2));
    let [query_bias, key_bias, value_bias] = [3, 4, 5].map(|seed| values(width, seed));
    let found = attention(&SHAPE, tokens, &qk, &v, &query_bias, &value_bias);
    for query in 0..tokens {
        let mut mean = vec![0.0; tokens];
        for head in 0..SHAPE.heads {
            let at = |d: usize| head * size + d;
            let q = |d| qk[query * 2 * width + at(d)].to_f64() + query_bias[at(d)].to_f64();
            let k = |key: usize, d| {
                qk[key * 2 * width + width + at(d)].to_f64() + key_bias[at(d)].to_f64()
            };
            let exponentials: Vec<f64> = (0..tokens)
                .map(|key| (0..size).map(|d| q(d) * k(key, d)).sum::<f64>().exp())
                .collect();
            let sum: f64 = exponentials.iter().sum();
            let probabilities: Vec<f64> = exponentials.iter().map(|e| e / sum).collect();
            for (mean, probability) in mean.iter_mut().zip(&probabilities) {
                *mean += probability / SHAPE.heads as f64;
            }
            for d in 0..size {
                let value =
                    |key: usize| v[key * width + at(d)].to_f64() + value_bias[at(d)].to_f64();
                let mixed: f64 = (0..tokens).map(|key| probabilities[key] * value(key)).sum();
                let found = found.mixed[query * width + at(d)].to_f64();
                assert!((found - mixed).abs() < 2e-3, "{found}, expected {mixed}");
            }
            if query == 0 {
                for (key, probability) in probabilities.iter().enumerate() {
                    let found = f64::from(found.class_rows[head * tokens + key]);
                    assert!((found - probability).abs() < 1e-3);
                }
            }
        }
        let row = &found.mean[query * SHAPE.mean_stride()..][..SHAPE.mean_stride()];
        for (found, mean) in row.iter().zip(&mean) {
            assert!((found.to_f64() - mean).abs() < 1e-3);
        }
        assert!(row[tokens..].iter().all(|&value| value == f16::ZERO));
    }
}

/// Two blocks by hand: the last row is e₀ + A₂[0], the first that times (I + A₁).
#[test]
fn rollout_is_a_product_of_matrices() {
    let shape = AttentionShape {
        tokens: 2,
        heads: 1,
        head_size: 16,
    };
    let row = |a: f32, b: f32| {
        let mut row = vec![f16::ZERO; shape.mean_stride()];
        (row[0], row[1]) = (f16::from_f32(a), f16::from_f32(b));
        row
    };
    let first = [row(0.5, 0.5), row(0.25, 0.75)].concat();
    let last = row(0.75, 0.25);
    let found = rollout(&shape, &[&first, &last]);
    // (1.75, 0.25) · ((1.5, 0.5), (0.25, 1.75)) = (2.6875, 1.3125), halved twice.
    assert_eq!(found, [2.6875 / 4.0, 1.3125 / 4.0, 1.75 / 2.0, 0.25 / 2.0]);
}

/// Tokens' attributions add up to ⟨mixed class token without its head's bias · O, u⟩.
#[test]
fn attributions_add_up_to_what_attention_wrote() {
    let (tokens, width) = (SHAPE.tokens, SHAPE.width());
    let (qk, v) = (values(tokens * 2 * width, 6), values(tokens * width, 7));
    let [query_bias, value_bias] = [8, 9].map(|seed| values(width, seed));
    let kernel = values(width * width, 10);
    let directions = values(3 * width, 11);
    let attended = attention(&SHAPE, 1, &qk, &v, &query_bias, &value_bias);
    let block = AttributionBlock {
        output_kernel: &kernel,
        values: &v,
        value_bias: &value_bias,
        class_rows: &attended.class_rows,
    };
    let by_token = attribution(&SHAPE, &directions, &[block]);
    for label in 0..3 {
        let found: f32 = (0..tokens).map(|token| by_token[token * 3 + label]).sum();
        let expected: f32 = (0..width)
            .map(|i| {
                let kernel = &kernel[i * width..][..width];
                let direction = &directions[label * width..][..width];
                let dot = kernel
                    .iter()
                    .zip(direction)
                    .map(|(a, b)| a.to_f32() * b.to_f32());
                attended.mixed[i].to_f32() * dot.sum::<f32>()
            })
            .sum();
        assert!(
            (found - expected).abs() < 1e-2,
            "{found}, expected {expected}"
        );
    }
}

#[test]
fn pixels_become_planes() {
    // Two pixels; (byte / 2 − 1) / 4 in the first channel.
    let bytes = [2, 10, 0, 10, 20, 255];
    let planes = normalize(&bytes, 0.5, [1.0, 0.0, 0.0], [4.0, 1.0, 0.5]);
    let expected = [0.0, 1.0, 5.0, 10.0, 0.0, 255.0].map(f16::from_f32);
    assert_eq!(planes, expected);
}
