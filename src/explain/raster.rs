//! Pixels: three bytes each, sRGB, row-major, without padding.

use super::RenderError;

/// Borrowed RGB pixels.
#[derive(Clone, Copy, Debug)]
pub struct RgbView<'a> {
    width: u32,
    height: u32,
    pixels: &'a [u8],
}

/// Owned RGB pixels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Raster {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl<'a> RgbView<'a> {
    /// `pixels` are `height` rows of `width` pixels of three bytes.
    ///
    /// # Errors
    ///
    /// When a side is zero or the length is not `width · height · 3`.
    pub fn new(width: u32, height: u32, pixels: &'a [u8]) -> Result<Self, RenderError> {
        check(width, height, pixels.len())?;
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Three bytes a pixel, row-major.
    pub fn pixels(&self) -> &'a [u8] {
        self.pixels
    }
}

impl Raster {
    /// `pixels` are `height` rows of `width` pixels of three bytes.
    ///
    /// # Errors
    ///
    /// When a side is zero or the length is not `width · height · 3`.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self, RenderError> {
        check(width, height, pixels.len())?;
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// A canvas of one color. A side of zero becomes one.
    pub(super) fn filled(size: (u32, u32), color: [u8; 3]) -> Self {
        let (width, height) = (size.0.max(1), size.1.max(1));
        Self {
            width,
            height,
            pixels: color.repeat(width as usize * height as usize),
        }
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Three bytes a pixel, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The same pixels, borrowed.
    pub fn view(&self) -> RgbView<'_> {
        RgbView {
            width: self.width,
            height: self.height,
            pixels: &self.pixels,
        }
    }

    /// One row, three bytes a pixel.
    pub(super) fn row_mut(&mut self, y: u32) -> &mut [u8] {
        let stride = self.width as usize * 3;
        &mut self.pixels[y as usize * stride..][..stride]
    }
}

impl From<RgbView<'_>> for Raster {
    fn from(view: RgbView<'_>) -> Self {
        Self {
            width: view.width,
            height: view.height,
            pixels: view.pixels.to_vec(),
        }
    }
}

/// Luma of a pixel with the weights of Rec. ITU-R BT.601, in 256ths.
pub(super) fn luma(pixel: &[u8]) -> u8 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    // The weights add up to 256.
    ((77 * red + 150 * green + 29 * blue) >> 8) as u8
}

fn check(width: u32, height: u32, found: usize) -> Result<(), RenderError> {
    if width == 0 || height == 0 {
        return Err(RenderError::EmptyImage { width, height });
    }
    if u64::from(width) * u64::from(height) * 3 != found as u64 {
        return Err(RenderError::PixelCount {
            width,
            height,
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_byte_and_an_empty_side_are_refused() {
        assert_eq!(
            Raster::new(2, 2, vec![0; 11]).unwrap_err().to_string(),
            "11 bytes for an RGB image of 2×2; three a pixel are needed"
        );
        assert!(RgbView::new(0, 2, &[]).is_err());
        // The product does not fit in 32 bits and must not wrap to zero.
        assert!(RgbView::new(1 << 31, 1 << 31, &[]).is_err());
    }
}
