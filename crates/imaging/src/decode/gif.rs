//! GIF: the first frame on its canvas, as Pillow draws it.
//!
//! Layout: GIF89a specification, §18–23. What the frame leaves uncovered gets the color of the
//! transparent index, or else of index 0, and a frame that reaches beyond the screen enlarges it:
//! so does Pillow (`GifImagePlugin.py`). Transparent pixels keep their palette's color.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};
use image::metadata::Orientation;

use super::{Header, ParsedHeader, Rgb8};

/// Index of each pixel of the frame, and the image.
const BYTES_PER_PIXEL: u64 = 1 + 3;

pub(super) fn peek(bytes: &[u8]) -> Result<ParsedHeader, String> {
    let frame = first_frame(bytes).ok_or("it has no frame")?;
    let pixels = u64::from(frame.canvas_width) * u64::from(frame.canvas_height);
    Ok(ParsedHeader {
        width: frame.canvas_width,
        height: frame.canvas_height,
        orientation: Orientation::NoTransforms,
        decoding_bytes: pixels * BYTES_PER_PIXEL,
        reducible: false,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Rgb8, String> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Unlimited); // the canvas, which holds the frame, is limited
    let mut decoder = options
        .read_info(bytes)
        .map_err(|error| error.to_string())?;
    let frame = decoder
        .next_frame_info()
        .map_err(|error| error.to_string())?
        .ok_or("it has no frame")?
        .clone();
    // Before anything is allocated: the decoder might see another frame first than `peek` did.
    let (stride, rows) = (header.width as usize, header.height as usize);
    let [left, width, top, height] =
        [frame.left, frame.width, frame.top, frame.height].map(usize::from);
    if width == 0 || left + width > stride || top + height > rows {
        return Err("its frame does not fit its canvas".to_owned());
    }
    let mut indices = vec![0; width * height];
    decoder
        .read_into_buffer(&mut indices)
        .map_err(|error| error.to_string())?;
    let palette = frame
        .palette
        .as_deref()
        .or_else(|| decoder.global_palette())
        .ok_or("it has no palette")?;
    let (colors, _) = palette.as_chunks::<3>();
    // Indices beyond the palette are black.
    let color = |index: u8| colors.get(usize::from(index)).copied().unwrap_or([0; 3]);

    let uncovered = color(frame.transparent.unwrap_or(0));
    let mut canvas = vec![uncovered; stride * rows];
    let rows = canvas.chunks_exact_mut(stride).skip(top);
    for (row, line) in rows.zip(indices.chunks_exact(width)) {
        for (pixel, &index) in row[left..left + width].iter_mut().zip(line) {
            *pixel = color(index);
        }
    }
    Rgb8::new(header.width, header.height, canvas.into_flattened())
        .ok_or_else(|| "it is incomplete".to_owned())
}

struct FirstFrame {
    canvas_width: u32,
    canvas_height: u32,
}

/// Walks to the first image descriptor.
fn first_frame(bytes: &[u8]) -> Option<FirstFrame> {
    let (&[w0, w1, h0, h1, flags, _, _], rest) = bytes.get(6..)?.split_first_chunk::<7>()?;
    let mut rest = rest.get(palette_bytes(flags)..)?;
    loop {
        match rest.split_first()? {
            (b'!', extension) => rest = skip_sub_blocks(extension.get(1..)?)?,
            (b',', descriptor) => {
                let &[x0, x1, y0, y1, fw0, fw1, fh0, fh1] = descriptor.first_chunk::<8>()?;
                let end = |start, size| {
                    u32::from(u16::from_le_bytes(start)) + u32::from(u16::from_le_bytes(size))
                };
                return Some(FirstFrame {
                    canvas_width: end([0, 0], [w0, w1]).max(end([x0, x1], [fw0, fw1])),
                    canvas_height: end([0, 0], [h0, h1]).max(end([y0, y1], [fh0, fh1])),
                });
            }
            (b';', _) => return None,
            // Pillow and the decoder both step over stray bytes.
            (_, next) => rest = next,
        }
    }
}

fn palette_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 {
        0
    } else {
        3 << ((flags & 7) + 1)
    }
}

/// Skips data blocks up to and including the empty one.
fn skip_sub_blocks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, next) = rest.split_first()?;
        rest = next.get(usize::from(length)..)?;
        if length == 0 {
            return Some(rest);
        }
    }
}
