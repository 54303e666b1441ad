//! Whatever color a decoder gives → RGB8, as Pillow's `convert("RGB")` does it.

use image::{ColorType, ImageDecoder, RgbImage};

/// An image of interleaved red, green, blue bytes; rows from the top, without gaps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rgb8 {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Rgb8 {
    /// An image of these pixels; `None` if a side is 0 or `pixels` is not `3 × width × height`
    /// bytes long.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let fits = width > 0 && height > 0 && pixels.len() as u64 == rgb_bytes(width, height);
        fits.then_some(Self {
            width,
            height,
            pixels,
        })
    }

    /// In pixels; not 0.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels; not 0.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// `3 × width × height` bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The same bytes, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

impl From<RgbImage> for Rgb8 {
    fn from(image: RgbImage) -> Self {
        let (width, height) = image.dimensions();
        Self {
            width,
            height,
            pixels: image.into_raw(),
        }
    }
}

impl From<Rgb8> for RgbImage {
    fn from(image: Rgb8) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "Rgb8 always has 3 × width × height bytes"
        )]
        Self::from_raw(image.width, image.height, image.pixels).expect("3 × width × height bytes")
    }
}

/// Bytes of an RGB8 image. Cannot overflow: 3 · 2³² · 2³² would, but sides are limited first.
pub(super) fn rgb_bytes(width: u32, height: u32) -> u64 {
    3 * u64::from(width) * u64::from(height)
}

/// Runs a decoder of the `image` crate, whose size must be the one that was peeked.
pub(super) fn read(
    decoder: impl ImageDecoder,
    (width, height): (u32, u32),
) -> Result<Rgb8, String> {
    if decoder.dimensions() != (width, height) {
        let (other_width, other_height) = decoder.dimensions();
        return Err(format!(
            "it announces {width}×{height} pixels and then {other_width}×{other_height}"
        ));
    }
    let color = decoder.color_type();
    let samples = usize::try_from(decoder.total_bytes())
        .map_err(|_| "it does not fit into memory".to_owned())?;
    let mut raw = vec![0; samples];
    decoder
        .read_image(&mut raw)
        .map_err(|error| error.to_string())?;
    let pixels = to_rgb(raw, color)?;
    Rgb8::new(width, height, pixels).ok_or_else(|| "it is incomplete".to_owned())
}

/// Drops alpha, repeats grey, and keeps the high byte of 16 bits (in native byte order).
fn to_rgb(raw: Vec<u8>, color: ColorType) -> Result<Vec<u8>, String> {
    const HIGH: usize = if cfg!(target_endian = "little") { 1 } else { 0 };
    Ok(match color {
        ColorType::Rgb8 => raw,
        ColorType::L8 => gather::<1>(&raw, [0; 3]),
        ColorType::La8 => gather::<2>(&raw, [0; 3]),
        ColorType::Rgba8 => gather::<4>(&raw, [0, 1, 2]),
        ColorType::L16 => gather::<2>(&raw, [HIGH; 3]),
        ColorType::La16 => gather::<4>(&raw, [HIGH; 3]),
        ColorType::Rgb16 => gather::<6>(&raw, [HIGH, 2 + HIGH, 4 + HIGH]),
        ColorType::Rgba16 => gather::<8>(&raw, [HIGH, 2 + HIGH, 4 + HIGH]),
        other => return Err(format!("its color type {other:?} is not supported")),
    })
}

/// From each `N` bytes, those at `offsets`.
fn gather<const N: usize>(raw: &[u8], offsets: [usize; 3]) -> Vec<u8> {
    let (pixels, _) = raw.as_chunks::<N>();
    pixels
        .iter()
        .flat_map(|pixel| offsets.map(|offset| pixel[offset]))
        .collect()
}

/// Inverted CMYK, as Adobe stores it, to RGB.
pub(in crate::decode) fn under_black(inks: [u8; 3], black: u8) -> [u8; 3] {
    let light = u32::from(black);
    inks.map(|ink| {
        // Rounded division by 255.
        let product = u32::from(255 - ink) * light + 128;
        (light - ((product + (product >> 8)) >> 8).min(light)) as u8
    })
}
