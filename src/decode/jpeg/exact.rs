//! Huffman-coded JPEG of 8 bits, pixel for pixel as libjpeg-turbo decodes it: what the fast decoders
//! are not proven right on. Any sampling, any order of scans, sequential or progressive, one to four
//! components without two.
//!
//! ```text
//!  segments ──► Headers: frame, tables, colours          header
//!     scan ──► Bits ──► coefficients of 8×8 blocks       bits, huffman, entropy
//!                          └──► samples                  idct
//!                                 └──► rows of pixels    upsample, color
//! ```
//!
//! A picture in one sequential scan is drawn as it is read, one row of MCUs behind; of any other all
//! coefficients are kept until the last scan. Damaged data is treated as libjpeg treats it: a bad
//! code is a zero, and what is missing up to the next restart is grey. What is left out: libjpeg
//! smooths progressive pictures whose last scans are missing; here they are refused.
//!
//! Formats and arithmetic: ITU-T T.81 and T.871. Where they leave a choice, libjpeg's: its `islow`
//! inverse DCT, its triangle filter for chroma at half the size, its color conversion.

mod bits;
mod color;
mod entropy;
mod frame;
mod header;
mod huffman;
mod idct;
#[cfg(test)]
mod tests;
mod upsample;

use self::{
    color::Conversion,
    entropy::{Coefficients, ScanDecoder},
    frame::Frame,
    header::{Event, Headers, Segments},
    upsample::Upsampler,
};
use super::super::Rgb8;

/// Every pixel. Blocks; bounded by the picture's size times its number of scans.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8, String> {
    let mut segments = Segments::new(bytes)?;
    let mut headers = Headers::default();
    let Event::Scan(scan) = headers.advance(&mut segments)? else {
        return Err("it ends before its pixels".to_owned());
    };
    headers.fill_missing_tables();
    let mut frame = headers.drawn_frame()?;
    let conversion = Conversion::of(&headers, &frame)?;
    let mut rows = Rows::new(&frame, conversion)?;

    let in_one_scan = scan.components.len() == frame.components.len();
    if in_one_scan && !frame.progressive {
        let mut coefficients = Coefficients::one_row(&frame);
        frame.take_tables(&scan, &headers)?;
        let mut decoder = ScanDecoder::new(&frame, &scan, &headers, segments.data())?;
        for row in 0..frame.mcu_rows {
            coefficients.clear();
            decoder.row(&frame, &mut coefficients, 0)?;
            rows.draw(&frame, &coefficients, 0, row);
        }
        segments.resume(decoder.into_bits());
        if !matches!(headers.advance(&mut segments)?, Event::End) {
            return Err("it has a second scan of pixels that it had already".to_owned());
        }
    } else {
        let mut coefficients = Coefficients::whole(&frame);
        let mut scan = scan;
        loop {
            frame.take_tables(&scan, &headers)?;
            frame.progress(&scan)?;
            let mut decoder = ScanDecoder::new(&frame, &scan, &headers, segments.data())?;
            for row in 0..decoder.rows(&frame) {
                decoder.row(&frame, &mut coefficients, row)?;
            }
            segments.resume(decoder.into_bits());
            match headers.advance(&mut segments)? {
                Event::Scan(next) => scan = next,
                Event::End => break,
            }
        }
        frame.check_complete()?;
        for row in 0..frame.mcu_rows {
            rows.draw(&frame, &coefficients, row, row);
        }
    }
    rows.finish(&frame)
}

/// Turns rows of MCUs into rows of pixels, one behind: the triangle filter looks at the next.
struct Rows {
    upsamplers: Vec<Upsampler>,
    conversion: Conversion,
    /// The upsampled row of each component.
    lines: Vec<Vec<u8>>,
    pixels: Vec<u8>,
}

impl Rows {
    fn new(frame: &Frame, conversion: Conversion) -> Result<Self, String> {
        let upsamplers = frame
            .components
            .iter()
            .map(|component| Upsampler::new(frame, component))
            .collect::<Result<Vec<_>, _>>()?;
        let lines = upsamplers.iter().map(Upsampler::line).collect();
        Ok(Self {
            upsamplers,
            conversion,
            lines,
            pixels: Vec::with_capacity(3 * frame.width * frame.height),
        })
    }

    /// Takes the MCU row `row`, whose blocks are the `stored`-th row of MCUs in `coefficients`.
    fn draw(&mut self, frame: &Frame, coefficients: &Coefficients, stored: usize, row: usize) {
        for (index, component) in frame.components.iter().enumerate() {
            let samples = self.upsamplers[index].next_row();
            let stride = component.padded_blocks() * 8;
            let quantizers = component.quantizers();
            for y in 0..component.v.min(component.blocks_high - row * component.v) {
                let blocks = coefficients.row(index, stored * component.v + y);
                let first = y * 8 * stride;
                for (x, block) in blocks.iter().take(component.blocks_wide).enumerate() {
                    idct::block(block, quantizers, &mut samples[first + x * 8..], stride);
                }
            }
        }
        if row > 0 {
            self.emit(frame, row - 1);
        }
        for upsampler in &mut self.upsamplers {
            upsampler.turn();
        }
    }

    fn finish(mut self, frame: &Frame) -> Result<Rgb8, String> {
        self.emit(frame, frame.mcu_rows - 1);
        let side = |pixels: usize| u32::try_from(pixels).map_err(|error| error.to_string());
        Rgb8::new(side(frame.width)?, side(frame.height)?, self.pixels)
            .ok_or_else(|| "it is incomplete".to_owned())
    }

    fn emit(&mut self, frame: &Frame, row: usize) {
        let first = row * 8 * frame.max_v;
        for y in first..(first + 8 * frame.max_v).min(frame.height) {
            for (upsampler, line) in self.upsamplers.iter().zip(&mut self.lines) {
                upsampler.row(y, row, line);
            }
            self.conversion
                .row(&self.lines, frame.width, &mut self.pixels);
        }
    }
}
