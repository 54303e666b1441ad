use half::bf16;
use rayon::ThreadPoolBuilder;

use super::*;
use crate::cpu::{Activation, AttributionInputs, HeadFusion, InstructionSet, rounding::Rounding};

/// Sizes that fill neither vectors nor panels nor groups of inputs.
const SHAPE: EncoderShape = EncoderShape {
    layers: 3,
    heads: 3,
    hidden: 90,
    mlp: 150,
    image: [12, 20],
    patch: 4,
    prefix: 1,
    read: 1,
    norm_epsilon: 1e-6,
    activation: Activation::Gelu,
    head_fusion: HeadFusion::Mean,
};

const LABELS: usize = 3;

/// Values around zero that a seed fixes.
struct Values(u64);

impl Values {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * scale).collect()
    }

    fn linear(&mut self, [inputs, outputs]: [usize; 2], rounding: Option<Rounding>) -> Linear {
        let bias = self.take(outputs, 0.1);
        let size = 1.7 / (inputs as f32).sqrt();
        match rounding {
            Some(Rounding::Int8) => {
                let values: Vec<i8> = (0..inputs * outputs)
                    .map(|_| (self.next() * 127.0) as i8)
                    .collect();
                let scale: Vec<f32> = (0..outputs)
                    .map(|_| (1.2 + self.next()) * size / 127.0)
                    .collect();
                Linear::int8([inputs, outputs], &values, &scale, Some(&bias)).unwrap()
            }
            Some(Rounding::Bf16) => {
                let values = self.take(inputs * outputs, size).into_iter();
                let values: Vec<bf16> = values.map(bf16::from_f32).collect();
                Linear::bf16([inputs, outputs], &values, Some(&bias)).unwrap()
            }
            None => {
                let values = self.take(inputs * outputs, size);
                Linear::float32([inputs, outputs], &values, Some(&bias)).unwrap()
            }
        }
    }

    fn norm(&mut self, channels: usize) -> Norm {
        let scale = self.take(channels, 0.3).iter().map(|v| v + 1.0).collect();
        Norm::new(scale, self.take(channels, 0.1), channels).unwrap()
    }
}

fn encoder(shape: EncoderShape, rounding: Option<Rounding>, set: InstructionSet) -> Encoder {
    let mut values = Values(7);
    let (hidden, mlp) = (shape.hidden, shape.mlp);
    let embedding = Embedding {
        projection: values.linear([3 * shape.patch * shape.patch, hidden], None),
        table: values.take(shape.tokens() * hidden, 0.5),
        norm: None,
    };
    let block = |layer: usize| {
        // One layer of a rounding encoder stays in float32.
        let mut linear = |sizes, at| values.linear(sizes, rounding.filter(|_| at != layer));
        let square = [hidden, hidden];
        let [queries, keys, value] = [0; 3].map(|at| linear(square, at));
        let (out, up, down) = (
            linear(square, 1),
            linear([hidden, mlp], 2),
            linear([mlp, hidden], 3),
        );
        Block {
            attention_norm: values.norm(hidden),
            queries,
            keys,
            values: value,
            out,
            mlp_norm: values.norm(hidden),
            up,
            down,
        }
    };
    let blocks = (0..shape.layers).map(block).collect();
    Encoder::build(shape, embedding, blocks, set).unwrap()
}

/// Everything that an encoder makes of a batch.
#[derive(Clone, Debug, PartialEq)]
struct Made {
    states: Vec<f32>,
    by_start: Vec<f32>,
    attention: Vec<f32>,
    weighted_values: Vec<f32>,
    rounding_error: Vec<f32>,
    other: Vec<f32>,
    by_token: Vec<f32>,
    rounding: Vec<f32>,
}

impl Made {
    fn parts(&self) -> [(&'static str, &[f32]); 8] {
        [
            ("states", &self.states),
            ("by_start", &self.by_start),
            ("attention", &self.attention),
            ("weighted_values", &self.weighted_values),
            ("rounding_error", &self.rounding_error),
            ("other", &self.other),
            ("by_token", &self.by_token),
            ("rounding", &self.rounding),
        ]
    }

    /// What it holds of one of `images` images.
    fn image(&self, image: usize, images: usize) -> Vec<f32> {
        let of_image =
            |part: &[f32]| part[image * part.len() / images..][..part.len() / images].to_vec();
        self.parts()
            .iter()
            .flat_map(|(_, part)| of_image(part))
            .collect()
    }
}

fn run(encoder: &Encoder, pixels: &[f32], threads: usize) -> Made {
    let images = pixels.len() / encoder.shape().image_len();
    let division = Division::of(images, encoder.shape().tokens(), threads, 0);
    run_divided(encoder, pixels, threads, division)
}

fn run_divided(encoder: &Encoder, pixels: &[f32], threads: usize, division: Division) -> Made {
    let shape = encoder.shape();
    let (layers, tokens, hidden) = (shape.layers, shape.tokens(), shape.hidden);
    let images = pixels.len() / shape.image_len();
    let zeros = |of_image: usize| vec![f32::NAN; images * of_image];
    let mut made = Made {
        states: zeros(shape.read * hidden),
        by_start: zeros(layers * tokens),
        attention: zeros(layers * shape.heads * tokens),
        weighted_values: zeros(layers * tokens * hidden),
        rounding_error: zeros(layers * hidden),
        other: zeros(hidden),
        by_token: zeros(tokens * LABELS),
        rounding: zeros(LABELS),
    };
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let outputs = BatchOutputs {
        states: &mut made.states,
        maps: Some(BatchMaps {
            by_start: &mut made.by_start,
            class_token: Some(ClassTokenOutputs {
                attention: &mut made.attention,
                weighted_values: &mut made.weighted_values,
                rounding_error: &mut made.rounding_error,
                other: &mut made.other,
            }),
        }),
    };
    encoder.run_divided(division, pixels, outputs, &pool);
    let inputs = AttributionInputs {
        directions: &Values(99).take(images * LABELS * hidden, 1.0),
        weighted_values: &made.weighted_values,
        rounding_error: &made.rounding_error,
    };
    encoder.attribute(
        images,
        inputs,
        &mut made.by_token,
        &mut made.rounding,
        &pool,
    );
    made
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Euclidean norm of the difference over that of what is expected.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.iter().zip(expected);
    let difference = norm(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut expected.iter().map(|v| f64::from(*v))).max(1e-6)
}

/// The instruction sets of this processor other than plain Rust.
fn fast_sets() -> Vec<InstructionSet> {
    let (there, missing): (Vec<_>, Vec<_>) = InstructionSet::ALL
        .into_iter()
        .partition(|set| set.instructions().is_some());
    eprintln!("instruction sets tested: {there:?}; not of this processor: {missing:?}");
    there
}

/// Those of them that have the products.
fn fast_sets_with(rounding: Option<Rounding>) -> Vec<InstructionSet> {
    let mut sets = fast_sets();
    sets.retain(|&set| has(set, rounding));
    eprintln!("of these with {rounding:?}: {sets:?}");
    sets
}

fn has(set: InstructionSet, rounding: Option<Rounding>) -> bool {
    rounding != Some(Rounding::Bf16) || set.has_bf16()
}

fn compare(shape: EncoderShape, rounding: Option<Rounding>) {
    let pixels = Values(3).take(2 * shape.image_len(), 1.0);
    let expected = encoder(shape, rounding, InstructionSet::Portable);
    let expected = run(&expected, &pixels, 2);
    for set in fast_sets_with(rounding) {
        let found = run(&encoder(shape, rounding, set), &pixels, 2);
        for ((name, found), (_, expected)) in found.parts().into_iter().zip(expected.parts()) {
            let int8 = rounding == Some(Rounding::Int8);
            match set {
                // Attention is in bfloat16, and sums of bfloat16 have another order. A value that is
                // rounded the other way is most of a token's rounding error.
                InstructionSet::Amx | InstructionSet::Avx512Bf16
                    if rounding == Some(Rounding::Bf16) || set == InstructionSet::Amx && int8 =>
                {
                    let difference = difference(found, expected);
                    let bounded = !name.starts_with("rounding");
                    assert!(
                        !bounded || difference < 5e-2,
                        "{name} of {shape:?}: {difference}"
                    );
                }
                _ => assert_eq!(bits(found), bits(expected), "{set:?}: {name} of {shape:?}"),
            }
        }
    }
}

#[test]
fn float32_and_int8_have_the_bits_of_the_reference() {
    compare(SHAPE, None);
    compare(SHAPE, Some(Rounding::Int8));
}

#[test]
fn bfloat16_is_as_close_to_the_reference_as_the_order_of_sums_allows() {
    let whole = EncoderShape {
        heads: 2,
        hidden: 128,
        mlp: 256,
        ..SHAPE
    };
    for shape in [SHAPE, whole] {
        compare(shape, Some(Rounding::Bf16));
    }
}

#[test]
fn bfloat16_is_close_to_float32() {
    let pixels = Values(3).take(2 * SHAPE.image_len(), 1.0);
    let [float32, bf16] = [None, Some(Rounding::Bf16)].map(|rounding| {
        let encoder = encoder(SHAPE, rounding, InstructionSet::Portable);
        run(&encoder, &pixels, 1)
    });
    let difference = difference(&bf16.states, &float32.states);
    assert!((1e-4..2e-2).contains(&difference), "{difference}");
    assert!(bf16.rounding_error.iter().any(|&error| error != 0.0));
}

#[test]
fn every_nonlinearity_and_head_fusion_has_the_bits_of_the_reference() {
    for activation in [
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::Relu,
    ] {
        compare(
            EncoderShape {
                activation,
                ..SHAPE
            },
            None,
        );
    }
    for head_fusion in [HeadFusion::Max, HeadFusion::Min] {
        compare(
            EncoderShape {
                head_fusion,
                ..SHAPE
            },
            None,
        );
    }
}

#[test]
fn other_sizes_have_the_bits_of_the_reference() {
    let wide = EncoderShape {
        heads: 1,
        hidden: 136,
        ..SHAPE
    };
    let two_read = EncoderShape {
        prefix: 2,
        read: 2,
        ..SHAPE
    };
    let pooled = EncoderShape {
        read: SHAPE.tokens(),
        ..SHAPE
    };
    // More inputs than are multiplied at once.
    let long = EncoderShape {
        layers: 1,
        mlp: 2100,
        image: [8, 8],
        ..SHAPE
    };
    let panels = EncoderShape {
        heads: 2,
        hidden: 128,
        mlp: 256,
        image: [32, 32],
        ..SHAPE
    };
    for shape in [wide, two_read, pooled, long, panels] {
        compare(shape, None);
        compare(shape, Some(Rounding::Int8));
    }
}

#[test]
fn an_image_has_the_same_bits_alone_and_in_any_batch_and_on_any_threads() {
    for set in fast_sets().into_iter().chain([InstructionSet::Portable]) {
        let roundings = [None, Some(Rounding::Int8), Some(Rounding::Bf16)];
        for rounding in roundings.into_iter().filter(|&rounding| has(set, rounding)) {
            let encoder = encoder(
                EncoderShape {
                    image: [32, 32],
                    ..SHAPE
                },
                rounding,
                set,
            );
            let len = encoder.shape().image_len();
            let pixels = Values(5).take(3 * len, 1.0);
            let batch = run(&encoder, &pixels, 2);
            for image in 0..3 {
                // The directions of the batch's first image are those of a single one.
                let only = run(&encoder, &pixels[image * len..][..len], 1);
                let parts = run(&encoder, &pixels[image * len..][..len], 3);
                assert_eq!(only, parts);
                for columns in [2, 5] {
                    let parts = Parts { rows: 1, columns };
                    let division = Division {
                        alone: 0,
                        together: 1,
                        parts,
                    };
                    let image = &pixels[image * len..][..len];
                    assert_eq!(only, run_divided(&encoder, image, 2, division), "{set:?}");
                }
                let of_states = only.states.len();
                let in_batch = &batch.states[image * of_states..][..of_states];
                assert_eq!(
                    bits(&only.states),
                    bits(in_batch),
                    "{set:?}, {rounding:?}, image {image}"
                );
                if image == 0 {
                    assert_eq!(bits(&only.image(0, 1)), bits(&batch.image(0, 3)));
                }
            }
        }
    }
}

#[test]
fn images_that_go_through_the_network_together_have_the_bits_of_single_ones() {
    let pooled = EncoderShape {
        read: SHAPE.tokens(),
        ..SHAPE
    };
    for set in fast_sets().into_iter().chain([InstructionSet::Portable]) {
        let (int8, bf16) = (Some(Rounding::Int8), Some(Rounding::Bf16));
        for (shape, rounding) in [(SHAPE, int8), (SHAPE, None), (pooled, int8), (SHAPE, bf16)] {
            if !has(set, rounding) {
                continue;
            }
            let encoder = encoder(shape, rounding, set);
            let pixels = Values(5).take(5 * shape.image_len(), 1.0);
            let divided = |together| {
                let division = Division {
                    alone: 5,
                    together,
                    parts: Parts::ONE,
                };
                run_divided(&encoder, &pixels, 2, division)
            };
            assert_eq!(divided(2), divided(1), "{set:?}");
            assert_eq!(divided(3), divided(1), "{set:?}");
        }
    }
}

#[test]
fn without_maps_the_states_are_the_same() {
    let encoder = encoder(SHAPE, Some(Rounding::Int8), InstructionSet::Portable);
    let pixels = Values(3).take(SHAPE.image_len(), 1.0);
    let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut states = vec![0.0; SHAPE.hidden];
    let outputs = BatchOutputs {
        states: &mut states,
        maps: None,
    };
    encoder.run(&pixels, outputs, &pool);
    assert_eq!(states, run(&encoder, &pixels, 1).states);
}

#[test]
fn weights_of_another_size_are_refused() {
    let mut values = Values(1);
    let embedding = Embedding {
        projection: values.linear([48, 90], None),
        table: values.take(16 * 90, 1.0),
        norm: None,
    };
    let error = Encoder::build(SHAPE, embedding, Vec::new(), InstructionSet::Portable).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the list of blocks has 0 values, expected 3"
    );
}
