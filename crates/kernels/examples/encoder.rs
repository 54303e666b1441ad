//! Times an encoder with random weights: `encoder [LAYERS HIDDEN HEADS SIDE THREADS]`, by default
//! ViT-L/16 on two threads. For work on kernels; `patchlight bench` measures a model.

use std::{env, hint::black_box, time::Instant};

use half::bf16;
use patchlight_kernels::cpu::{
    Activation, AttributionInputs, BatchMaps, BatchOutputs, Block, ClassTokenOutputs, Embedding,
    Encoder, EncoderShape, HeadFusion, InstructionSet, Linear, Norm,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<usize> = env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let at = |at: usize, default| given.get(at).copied().unwrap_or(default);
    let (layers, hidden, heads, side, threads) =
        (at(0, 24), at(1, 1024), at(2, 16), at(3, 224), at(4, 2));
    let shape = EncoderShape {
        layers,
        heads,
        hidden,
        mlp: 4 * hidden,
        image: [side, side],
        patch: 16,
        prefix: 1,
        read: 1,
        norm_epsilon: 1e-6,
        activation: Activation::Gelu,
        head_fusion: HeadFusion::Mean,
    };
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    for set in InstructionSet::ALL {
        for precision in ["int8", "bf16", "float32"] {
            let Ok(encoder) = encoder(shape, precision, set) else {
                println!("{set:?} {precision}: not of this processor");
                continue;
            };
            for (batch, maps) in [(1, false), (1, true), (8, false), (8, true)] {
                let ms = time(&encoder, batch, maps, &pool);
                println!("{set:?} {precision} batch {batch} maps {maps}: {ms:.2} ms an image");
            }
        }
    }
    Ok(())
}

/// The least of several runs, in milliseconds an image.
fn time(encoder: &Encoder, batch: usize, maps: bool, pool: &ThreadPool) -> f64 {
    let shape = encoder.shape();
    let (layers, tokens, hidden) = (shape.layers, shape.tokens(), shape.hidden);
    let labels = 6;
    let pixels: Vec<f32> = (0..batch * shape.image_len())
        .map(|at| ((at * 7919) % 2001) as f32 / 1000.0 - 1.0)
        .collect();
    let zeros = |of_image: usize| vec![0.0_f32; batch * of_image];
    let mut states = zeros(hidden);
    let mut by_start = zeros(layers * tokens);
    let mut attention = zeros(layers * shape.heads * tokens);
    let mut values = zeros(layers * tokens * hidden);
    let mut errors = zeros(layers * hidden);
    let mut other = zeros(hidden);
    let mut by_token = zeros(tokens * labels);
    let mut rounding = zeros(labels);
    let directions = vec![0.01; batch * labels * hidden];
    let mut best = f64::MAX;
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < 3.0 {
        let run = Instant::now();
        let class_token = ClassTokenOutputs {
            attention: &mut attention,
            weighted_values: &mut values,
            rounding_error: &mut errors,
            other: &mut other,
        };
        let of_maps = BatchMaps {
            by_start: &mut by_start,
            class_token: Some(class_token),
        };
        let outputs = BatchOutputs {
            states: &mut states,
            maps: maps.then_some(of_maps),
        };
        encoder.run(&pixels, outputs, pool);
        if maps {
            let inputs = AttributionInputs {
                directions: &directions,
                weighted_values: &values,
                rounding_error: &errors,
            };
            encoder.attribute(batch, inputs, &mut by_token, &mut rounding, pool);
        }
        black_box(&states);
        best = best.min(run.elapsed().as_secs_f64() * 1e3 / batch as f64);
    }
    best
}

fn encoder(
    shape: EncoderShape,
    precision: &str,
    set: InstructionSet,
) -> Result<Encoder, Box<dyn std::error::Error>> {
    let hidden = shape.hidden;
    let linear = |[inputs, outputs]: [usize; 2], precision| {
        let size = 1.7 / (inputs as f32).sqrt();
        let noise =
            (0..inputs * outputs).map(|at| ((at * 7919 + at / 13) % 255) as f32 / 127.0 - 1.0);
        let bias = vec![0.01; outputs];
        match precision {
            "int8" => {
                let values: Vec<i8> = noise.map(|value| (value * 127.0) as i8).collect();
                Linear::int8(
                    [inputs, outputs],
                    &values,
                    &vec![size / 127.0; outputs],
                    Some(&bias),
                )
            }
            "bf16" => {
                let values: Vec<bf16> = noise.map(|value| bf16::from_f32(value * size)).collect();
                Linear::bf16([inputs, outputs], &values, Some(&bias))
            }
            _ => {
                let values: Vec<f32> = noise.map(|value| value * size).collect();
                Linear::float32([inputs, outputs], &values, Some(&bias))
            }
        }
    };
    let norm = || Norm::new(vec![1.0; hidden], vec![0.0; hidden], hidden);
    let embedding = Embedding {
        projection: linear([3 * shape.patch * shape.patch, hidden], "float32")?,
        table: vec![0.1; shape.tokens() * hidden],
        norm: None,
    };
    let block = || {
        Ok::<_, Box<dyn std::error::Error>>(Block {
            attention_norm: norm()?,
            queries: linear([hidden, hidden], precision)?,
            keys: linear([hidden, hidden], precision)?,
            values: linear([hidden, hidden], precision)?,
            out: linear([hidden, hidden], precision)?,
            mlp_norm: norm()?,
            up: linear([hidden, shape.mlp], precision)?,
            down: linear([shape.mlp, hidden], precision)?,
        })
    };
    let blocks = (0..shape.layers)
        .map(|_| block())
        .collect::<Result<_, _>>()?;
    Ok(Encoder::build(shape, embedding, blocks, set)?)
}
