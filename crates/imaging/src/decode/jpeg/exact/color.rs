//! From components to RGB: libjpeg's rule for what they mean, and its arithmetic; for CMYK,
//! Pillow's.

use super::{frame::Frame, header::Headers};
use crate::decode::color::under_black;

/// What the components are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Conversion {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

impl Conversion {
    /// Of three components: JFIF says YCbCr, then Adobe's segment decides, then the ids.
    pub(super) fn of(headers: &Headers, frame: &Frame) -> Result<Self, String> {
        let ids: Vec<u8> = frame.components.iter().map(|part| part.id).collect();
        Ok(match (ids.len(), headers.adobe) {
            (1, _) => Self::Grey,
            (3, _) if headers.jfif => Self::YCbCr,
            (3, Some(0)) => Self::Rgb,
            (3, Some(_)) => Self::YCbCr,
            (3, None) if ids == *b"RGB" => Self::Rgb,
            (3, None) => Self::YCbCr,
            (4, None | Some(0)) => Self::Cmyk,
            (4, Some(_)) => Self::Ycck,
            (count, _) => return Err(format!("it has {count} color components")),
        })
    }

    /// Appends `width` pixels of a row whose components are `lines`.
    pub(super) fn row(self, lines: &[Vec<u8>], width: usize, pixels: &mut Vec<u8>) {
        let start = pixels.len();
        pixels.resize(start + 3 * width, 0);
        let (row, _) = pixels[start..].as_chunks_mut::<3>();
        match (self, lines) {
            (Self::Grey, [grey]) => each(row, [grey; 3], |grey, _, _| [grey; 3]),
            (Self::Rgb, [red, green, blue]) => each(row, [red, green, blue], |r, g, b| [r, g, b]),
            (Self::YCbCr, [luma, cb, cr]) => each(row, [luma, cb, cr], rgb),
            (Self::Cmyk | Self::Ycck, [first, second, third, black]) => {
                let parts = [first, second, third];
                match self {
                    Self::Cmyk => each(row, parts, |c, m, y| [c, m, y]),
                    // Cyan, magenta and yellow are what is missing to this RGB.
                    _ => each(row, parts, |luma, cb, cr| {
                        rgb(luma, cb, cr).map(|value| 255 - value)
                    }),
                }
                for (pixel, &black) in row.iter_mut().zip(black) {
                    *pixel = under_black(*pixel, black);
                }
            }
            _ => {}
        }
    }
}

/// Makes each pixel of three parts.
fn each(row: &mut [[u8; 3]], parts: [&Vec<u8>; 3], write: impl Fn(u8, u8, u8) -> [u8; 3]) {
    let [a, b, c] = parts;
    for (pixel, ((&a, &b), &c)) in row.iter_mut().zip(a.iter().zip(b).zip(c)) {
        *pixel = write(a, b, c);
    }
}

/// T.871's conversion with 16 fractional bits.
#[inline]
fn rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, cb, cr) = (i32::from(luma), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = luma + ((91_881 * cr + HALF) >> 16);
    let green = luma + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = luma + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}
