use std::f64::consts::PI;

use super::{huffman::*, idct};

/// T.81, A.3.3.
#[test]
fn the_inverse_dct_is_that_of_the_standard() {
    let quantizers = std::array::from_fn(|place| 1 + place as u16 % 5);
    let mut block = [0i16; 64];
    for (place, value) in [(0, 70), (1, -40), (8, 25), (10, 13), (27, -9), (63, 7)] {
        block[place] = value;
    }
    let mut samples = [0; 64];
    idct::block(&block, &quantizers, &mut samples, 8);
    let scale = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
    let wave =
        |n: usize, k: usize| ((2 * n + 1) as f64 * k as f64 * PI / 16.0).cos() * scale(k) / 2.0;
    for (place, &sample) in samples.iter().enumerate() {
        let (y, x) = (place / 8, place % 8);
        let exact: f64 = (0..64)
            .map(|k| {
                let value = f64::from(block[k]) * f64::from(quantizers[k]);
                value * wave(y, k / 8) * wave(x, k % 8)
            })
            .sum();
        let expected = (exact + 128.0).clamp(0.0, 255.0);
        assert!((f64::from(sample) - expected).abs() < 0.6, "{x} {y}");
    }
}

/// Codes of annex K, tables K.3 and K.5.
#[test]
fn codes_are_those_of_the_standard() {
    let dc = Table::new(&STANDARD_DC[0], true).unwrap();
    assert_eq!(dc.lookup[0], 2 << 8);
    assert_eq!(dc.lookup[0b0101_1111], 3 << 8 | 1);
    let ac = Table::new(&STANDARD_AC[0], false).unwrap();
    // The end of a block: 1010.
    assert_eq!(ac.lookup[0b1010_0000], 4 << 8);
    // Fifteen zeros and one of ten bits: 1111111111111110.
    assert_eq!(ac.last_code[16], 0xfffe);
}

#[test]
fn tables_with_more_codes_than_fit_are_refused() {
    let mut counts = [0; 16];
    counts[0] = 3;
    let surplus = Definition {
        counts,
        values: [0; 256],
    };
    assert!(Table::new(&surplus, false).is_err());
    let mut counts = [0; 16];
    counts[4] = 1;
    let size_16 = Definition {
        counts,
        values: [16; 256],
    };
    assert!(Table::new(&size_16, true).is_err());
    assert!(Table::new(&size_16, false).is_ok());
}
