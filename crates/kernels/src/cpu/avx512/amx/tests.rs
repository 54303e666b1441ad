use super::*;
use crate::cpu::{avx512::Avx512, instructions::QuantizedTokens, weights::Kernel};

/// What tiles compute, in plain Rust: for processors without them.
struct Emulated;

impl TileUnit for Emulated {
    unsafe fn multiply<const ROW_TILES: usize>(
        &self,
        tokens: *const u8,
        stride: usize,
        weights: *const i8,
        steps: usize,
        sums: *mut i32,
    ) {
        for row in 0..16 * ROW_TILES {
            for channel in 0..32 {
                let mut sum = 0;
                for input in 0..64 * steps {
                    // SAFETY: by the contract.
                    unsafe {
                        let token = *tokens.add(row * stride + input);
                        let weight = *weights.add((input / 4 * 64 + channel) * 4 + input % 4);
                        sum += i32::from(token) * i32::from(weight);
                    }
                }
                // SAFETY: as above.
                unsafe { *sums.add(row * 64 + channel) = sum };
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
        let run = |multiply: &dyn Fn(Epilogue<'_>)| {
            let mut out = vec![0.0; rows * outputs];
            multiply(Epilogue::Store(&mut out));
            out
        };
        // SAFETY: the processor has AVX-512 VNNI, and AMX where it is used.
        unsafe {
            let expected = run(&|into| int8::multiply(tokens.view(), &layer, kernel, into));
            let found =
                run(&|into| multiply_in_tiles(&Emulated, tokens.view(), &layer, kernel, into));
            assert_eq!(found, expected);
            if amx {
                let found = run(&|into| multiply(tokens.view(), &layer, kernel, into));
                assert_eq!(found, expected);
            }
        }
    }
}
