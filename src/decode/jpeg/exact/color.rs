//! From components to RGB: libjpeg's rule for what they mean, and its arithmetic; for CMYK, Pillow's.

use super::header::{Frame, Headers};

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
        match (self, lines) {
            (Self::Grey, [grey]) => {
                pixels.extend(grey[..width].iter().flat_map(|&grey| [grey; 3]));
            }
            (Self::Rgb, [red, green, blue]) => {
                let [red, green, blue] = [red, green, blue].map(|line| &line[..width]);
                pixels.extend((0..width).flat_map(|x| [red[x], green[x], blue[x]]));
            }
            (Self::YCbCr, [luma, cb, cr]) => {
                let [luma, cb, cr] = [luma, cb, cr].map(|line| &line[..width]);
                pixels.extend((0..width).flat_map(|x| rgb(luma[x], cb[x], cr[x])));
            }
            (Self::Cmyk, [first, second, third, black]) => {
                let at = |x: usize| ([first[x], second[x], third[x]], black[x]);
                pixels.extend((0..width).flat_map(|x| under_black(at(x))));
            }
            (Self::Ycck, [luma, cb, cr, black]) => {
                // Cyan, magenta and yellow are what is missing to this RGB, and what is stored of
                // CMYK is the inverse.
                let at = |x: usize| {
                    (
                        rgb(luma[x], cb[x], cr[x]).map(|value| 255 - value),
                        black[x],
                    )
                };
                pixels.extend((0..width).flat_map(|x| under_black(at(x))));
            }
            _ => {}
        }
    }
}

/// T.871's conversion with 16 fractional bits.
fn rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, cb, cr) = (i32::from(luma), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = luma + ((91_881 * cr + HALF) >> 16);
    let green = luma + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = luma + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Inverted CMYK, as Adobe stores it, to RGB.
fn under_black((inks, black): ([u8; 3], u8)) -> [u8; 3] {
    let light = u32::from(black);
    inks.map(|ink| {
        // Rounded division by 255.
        let product = u32::from(255 - ink) * light + 128;
        (light - ((product + (product >> 8)) >> 8).min(light)) as u8
    })
}
