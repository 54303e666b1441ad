use half::bf16;

use super::*;
use crate::cpu::{
    avx512::Avx512,
    instructions::{Epilogue, HeadFusion, HeadShape, Instructions, KeysAndValues},
    rounding::QuantizedTokens,
    weights::Kernel,
};

/// What tiles compute, in plain Rust: for processors without them.
struct Emulated;

impl TileUnit for Emulated {
    unsafe fn multiply_bytes<const ROW_TILES: usize>(&self, block: Block, _: &[i8]) {
        for row in 0..16 * ROW_TILES {
            for column in 0..32 {
                let mut sum = 0;
                for at in 0..64 * block.steps {
                    // SAFETY: by the contract.
                    unsafe {
                        let left = *block.left.add(row * block.left_stride + at);
                        let right = *block.right.add((at / 4 * 32 + column) * 4 + at % 4);
                        sum += i32::from(left) * i32::from(right.cast_signed());
                    }
                }
                let sums = block
                    .sums
                    .wrapping_add(row * block.sums_stride)
                    .cast::<i32>();
                // SAFETY: as above.
                unsafe { *sums.add(column) = sum };
            }
        }
    }
}

impl Bf16Product for Emulated {
    unsafe fn multiply_bf16(&self, block: Block) {
        let value = |bits: u16| f32::from_bits(u32::from(bits) << 16);
        for row in 0..32 {
            for column in 0..32 {
                let mut sum = 0.0;
                for at in 0..32 * block.steps {
                    // SAFETY: by the contract.
                    unsafe {
                        let left = block
                            .left
                            .add(row * block.left_stride)
                            .cast::<u16>()
                            .add(at);
                        let right = block.right.cast::<u16>();
                        let right = right.add((at / 2 * 32 + column) * 2 + at % 2);
                        sum += value(*left) * value(*right);
                    }
                }
                let sums = block
                    .sums
                    .wrapping_add(row * block.sums_stride)
                    .cast::<f32>();
                // SAFETY: as above.
                unsafe { *sums.add(column) = sum };
            }
        }
    }
}

type Fused<'a> = Option<(&'a mut [f32], HeadFusion)>;

/// What a processor is asked to compute.
struct Attended {
    mixed: Vec<f32>,
    fused: Vec<f32>,
}

/// Attention in bfloat16 is within 2e-3 of a probability, and within 1 % of the largest value.
#[test]
fn attention_in_tiles_is_that_in_float32_but_for_rounding() {
    if Avx512::detect().is_none() || !is_x86_feature_detected!("avx512bf16") {
        println!("SKIPPED: this processor has no AVX-512 VNNI with bfloat16");
        return;
    }
    for (tokens, heads, size, count) in [(37, 3, 30, 37), (197, 2, 64, 98), (33, 1, 96, 1)] {
        let shape = HeadShape {
            tokens,
            heads,
            size,
        };
        let (hidden, row) = (shape.hidden(), shape.row());
        let noise = |seed: usize, scale: f32| -> Vec<f32> {
            let value = |at: usize| ((at * 7919 + seed * 104_729) % 2001) as f32 / 1000.0 - 1.0;
            (0..tokens * hidden).map(|at| value(at) * scale).collect()
        };
        let (queries, keys, values) = (noise(1, 0.5), noise(2, 1.0), noise(3, 1.0));
        let queries = &queries[..count * hidden];
        let of_image = KeysAndValues {
            keys: &keys,
            values: &values,
        };
        let run = |attend: &dyn Fn(&mut [f32], Fused<'_>)| {
            let mut attended = Attended {
                mixed: vec![f32::NAN; count * hidden],
                fused: vec![f32::NAN; count * row],
            };
            attend(
                &mut attended.mixed,
                Some((&mut attended.fused, HeadFusion::Mean)),
            );
            attended
        };
        let avx512 = Avx512::detect().unwrap();
        let mut transposed = vec![0.0; heads * size * row];
        for (head, out) in transposed.chunks_exact_mut(size * row).enumerate() {
            avx512.prepare_head(shape, head, of_image, out, &mut []);
        }
        let prepared = KeysAndValues {
            keys: &transposed,
            values: &[],
        };
        let expected = run(&|mixed, fused| {
            avx512.attend(shape, queries, prepared, of_image, mixed, fused);
        });

        let mut tiles = [
            attention::bf16::keys_len(shape),
            attention::bf16::values_len(shape),
        ]
        .map(|of_head| vec![0.0; heads * of_head]);
        let [keys, values] = &mut tiles;
        let of_heads = keys.chunks_exact_mut(attention::bf16::keys_len(shape));
        let of_heads = of_heads.zip(values.chunks_exact_mut(attention::bf16::values_len(shape)));
        for (head, (keys, values)) in of_heads.enumerate() {
            // SAFETY: the processor has the instructions.
            unsafe { attention::bf16::prepare_head(shape, head, of_image, keys, values) };
        }
        let [keys, values] = &tiles;
        let prepared = KeysAndValues { keys, values };
        let emulated = run(&|mixed, fused| {
            // SAFETY: as above.
            unsafe { attention::bf16::attend(&Emulated, shape, queries, prepared, mixed, fused) }
        });
        let vectors = run(&|mixed, fused| {
            // SAFETY: as above.
            unsafe {
                let unit = super::super::bf16::Vectors::new();
                attention::bf16::attend(&unit, shape, queries, prepared, mixed, fused);
            }
        });
        let mut found = vec![emulated, vectors];
        if is_usable() {
            // SAFETY: tiles are usable.
            found.push(run(&|mixed, fused| unsafe {
                attend(shape, queries, prepared, mixed, fused);
            }));
        }
        for found in found {
            let largest = expected.mixed.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            for (found, expected) in found.mixed.iter().zip(&expected.mixed) {
                assert!(
                    (found - expected).abs() <= 1e-2 * largest,
                    "{found}, not {expected}"
                );
            }
            for (found, expected) in found.fused.iter().zip(&expected.fused) {
                assert!((found - expected).abs() <= 2e-3, "{found}, not {expected}");
            }
        }
    }
}

#[test]
fn tiles_give_the_bits_of_vnni() {
    if Avx512::detect().is_none() {
        println!("SKIPPED: this processor has no AVX-512 VNNI");
        return;
    }
    let amx = is_usable();
    println!(
        "tiles tested: emulated{}",
        if amx {
            ", AMX"
        } else {
            "; this processor has no AMX"
        }
    );
    for (rows, inputs, outputs) in [
        (7, 64, 64),
        (33, 100, 130),
        (48, 192, 70),
        (98, 256, 64),
        (15, 4, 3),
    ] {
        let values: Vec<i8> = (0..inputs * outputs)
            .map(|at| ((at * 7919) % 255) as u8 as i8)
            .collect();
        let values: Vec<i8> = values.into_iter().map(|value| value.max(-127)).collect();
        let layer = Linear::int8([inputs, outputs], &values, &vec![0.01; outputs], None).unwrap();
        let Kernel::Int8(kernel) = &layer.kernel else {
            unreachable!("packed as int8");
        };
        let mut tokens = QuantizedTokens::new(rows, inputs);
        let tokens = tokens.split([rows].into_iter()).remove(0);
        tokens.scale.fill(0.5);
        for (row, bytes) in tokens
            .bytes
            .chunks_mut(tokens.stride)
            .take(rows)
            .enumerate()
        {
            for (at, byte) in bytes[..inputs].iter_mut().enumerate() {
                *byte = (row * 31 + at * 57) as u8;
            }
        }
        let run = |multiply: &dyn Fn(Range<usize>, Sink<'_>)| {
            let mut out = vec![0.0; rows * outputs];
            let sink = Sink::new(Epilogue::Store(&mut out), &layer);
            // As two threads would.
            let (first, last) = (0..1, 1..layer.panels());
            multiply(last, sink);
            multiply(first, sink);
            out
        };
        let tokens = tokens.view();
        // SAFETY: the processor has AVX-512 VNNI, and AMX where it is used; this thread alone
        // computes panels.
        unsafe {
            let expected =
                run(&|panels, sink| int8::multiply(tokens, &layer, kernel, panels, sink));
            let found = run(&|panels, sink| {
                multiply_in_tiles(&Emulated, tokens, &layer, kernel, panels, sink);
            });
            assert_eq!(found, expected);
            if amx {
                let found = run(&|panels, sink| multiply(tokens, &layer, kernel, panels, sink));
                assert_eq!(found, expected);
            }
        }
    }
}

/// Products of bfloat16 in tiles are those of vectors but for the order of the sums.
#[test]
fn bfloat16_in_tiles_is_that_in_vectors() {
    if Avx512::detect().is_none() || !is_x86_feature_detected!("avx512bf16") {
        eprintln!("SKIPPED: this processor has no AVX-512 VNNI with bfloat16");
        return;
    }
    let amx = is_usable();
    for (rows, inputs, outputs) in [(1, 32, 64), (33, 50, 130), (48, 97, 70), (5, 3, 3)] {
        let noise = |at: usize| ((at * 7919) % 2001) as f32 / 1000.0 - 1.0;
        let values: Vec<bf16> = (0..inputs * outputs)
            .map(|at| bf16::from_f32(noise(at)))
            .collect();
        let bias: Vec<f32> = (0..outputs).map(noise).collect();
        let layer = Linear::bf16([inputs, outputs], &values, Some(&bias)).unwrap();
        let Kernel::Bf16(kernel) = &layer.kernel else {
            unreachable!("packed as bfloat16");
        };
        let mut tokens = QuantizedTokens::new(rows, 2 * inputs);
        let mut tokens = tokens.split([rows].into_iter()).remove(0);
        // What another layer left must not count, whatever it is.
        tokens.bytes.fill(0xff);
        let row: Vec<f32> = (0..rows * inputs).map(|at| noise(at * 31 + 5)).collect();
        Avx512::detect()
            .unwrap()
            .quantize(&row, inputs, inputs, Rounding::Bf16, &mut tokens);
        let tokens = tokens.view();
        let run = |multiply: &dyn Fn(Range<usize>, Sink<'_>)| {
            let mut out = vec![0.0; rows * outputs];
            let sink = Sink::new(Epilogue::Store(&mut out), &layer);
            multiply(0..layer.panels(), sink);
            out
        };
        let check = |found: Vec<f32>, expected: &[f32]| {
            for (found, expected) in found.iter().zip(expected) {
                let bound = 1e-6 * inputs as f32;
                assert!((found - expected).abs() < bound, "{found} for {expected}");
            }
        };
        // SAFETY: the processor has AVX-512 with bfloat16, and AMX where it is used; this thread
        // alone computes panels.
        unsafe {
            let expected = run(&|panels, sink| {
                super::super::bf16::multiply(tokens, &layer, kernel, panels, sink);
            });
            let found = run(&|panels, sink| {
                multiply_bf16_in_tiles(&Emulated, tokens, &layer, kernel, panels, sink);
            });
            check(found, &expected);
            if amx {
                let found =
                    run(&|panels, sink| multiply_bf16(tokens, &layer, kernel, panels, sink));
                check(found, &expected);
            }
        }
    }
}
