//! Small files that announce, or really hold, far more than they weigh.

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::{png::PngEncoder, webp::WebPEncoder},
};

use super::Hostile;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// `large` adds those that really take their time to decode.
pub(crate) fn all(large: bool) -> Vec<Hostile> {
    let mut files = Vec::new();
    for (width, height) in [
        (60_000, 60_000),
        (u32::MAX, u32::MAX),
        (1 << 31, 1),
        (1, 1 << 31),
        (0, 0),
    ] {
        for color in [0, 2, 3, 4, 6] {
            for depth in [1, 8, 16] {
                let name = format!("PNG {width}x{height} color {color} depth {depth}");
                files.push((name, png_of(width, height, depth, color, &[])));
            }
        }
    }
    files.extend(text_bombs());
    files.extend(gifs());
    files.extend(bmps_and_tiffs());
    files.extend(jpegs());
    files.extend(webps());
    if large {
        // As large as is let in.
        files.push(("PNG of 40 megapixels".to_owned(), flat_png(6324, 6324)));
        files.push(("WebP of 40 megapixels".to_owned(), flat_webp(6324, 6324)));
        let gif = gif(6324, 6324, &[(6324, 6324)]);
        files.push(("GIF of 40 megapixels without data".to_owned(), gif));
    }
    files
}

/// A file that announces so many pixels and has none.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    png_of(width, height, 8, 2, &[])
}

fn png_of(width: u32, height: u32, depth: u8, color: u8, more: &[u8]) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&size[..], &[depth, color, 0, 0, 0]].concat();
    let chunks = [
        chunk(b"IHDR", &header),
        more.to_vec(),
        chunk(b"IDAT", b"\x78\x9c\x63\x60\x00\x00\x00\x02\x00\x01"),
        chunk(b"IEND", &[]),
    ];
    [PNG, &chunks.concat()].concat()
}

/// Text and profiles that unpack to 64 MiB, and many of them.
fn text_bombs() -> Vec<Hostile> {
    let packed = inflatable();
    let text = chunk(b"zTXt", &[b"Comment\0\0", &packed[..]].concat());
    let international = chunk(b"iTXt", &[b"Comment\0\x01\0\0\0", &packed[..]].concat());
    let profile = chunk(b"iCCP", &[b"profile\0\0", &packed[..]].concat());
    [
        ("zTXt bomb", text.clone()),
        ("iTXt bomb", international),
        ("iCCP bomb", profile),
        ("50 zTXt bombs", text.repeat(50)),
    ]
    .map(|(name, chunks)| (name.to_owned(), png_of(32, 32, 8, 2, &chunks)))
    .into()
}

/// A zlib stream of zeros, 8 MiB unpacked: what a flat image's pixels are packed to.
fn inflatable() -> Vec<u8> {
    let file = flat_png(4096, 683);
    let mut rest = &file[PNG.len()..];
    let mut packed = Vec::new();
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if body.starts_with(b"IDAT") {
            packed.extend_from_slice(&body[4..4 + length]);
        }
        rest = &body[(8 + length).min(body.len())..];
    }
    packed
}

fn flat_png(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let pixels = vec![0; width as usize * height as usize * 3];
    PngEncoder::new(&mut file)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    file
}

fn flat_webp(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let pixels = vec![0; width as usize * height as usize * 3];
    WebPEncoder::new_lossless(&mut file)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    file
}

fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [kind, body].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[..], &named, &crc(&named).to_be_bytes()].concat()
}

/// CRC-32 as PNG has it (annex D), bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn gifs() -> Vec<Hostile> {
    vec![
        (
            "GIF with a huge screen".to_owned(),
            gif(65_535, 65_535, &[(1, 1)]),
        ),
        (
            "GIF with a huge frame".to_owned(),
            gif(1, 1, &[(65_535, 65_535)]),
        ),
        (
            "GIF with 100,000 frames".to_owned(),
            gif(8, 8, &[(8, 8); 100_000]),
        ),
        ("GIF with huge later frames".to_owned(), {
            let mut frames = vec![(8, 8)];
            frames.extend([(65_535, 65_535); 1000]);
            gif(8, 8, &frames)
        }),
        ("GIF without a frame".to_owned(), gif(8, 8, &[])),
        ("GIF of nothing".to_owned(), gif(0, 0, &[(0, 0)])),
    ]
}

/// Frames of one color, or the beginning of it.
fn gif(width: u16, height: u16, frames: &[(u16, u16)]) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.extend([0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    for &(width, height) in frames {
        file.extend([0x2c, 0, 0, 0, 0]);
        file.extend(width.to_le_bytes());
        file.extend(height.to_le_bytes());
        // Codes of three bits: clear, the color 0 once, end.
        file.extend([0, 2, 2, 0x44, 0x01, 0]);
    }
    file.push(0x3b);
    file
}

/// Sides that are not there, runs without end, and lists of millions of strips.
fn bmps_and_tiffs() -> Vec<Hostile> {
    let bmp = |width: i32, height: i32, bits: u16, packing: u32| {
        let mut file = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
        file.extend(width.to_le_bytes());
        file.extend(height.to_le_bytes());
        file.extend([1, 0]);
        file.extend(bits.to_le_bytes());
        file.extend(packing.to_le_bytes());
        file.extend([0; 20]);
        file.extend([255; 64]);
        file
    };
    // Width, height, bits, packing, kind, where strips are, rows of one, how long they are.
    let tiff = |tags: &[(u16, u16, u32, u32)]| {
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        file.extend((tags.len() as u16).to_le_bytes());
        for &(tag, kind, count, value) in tags {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(count.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file.extend([0; 4]);
        file
    };
    let size = |side| [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8)];
    let strips = |count, at| [(273, 4, count, at), (278, 4, 1, 1), (279, 4, count, at)];
    let of = |packing, side, count, at| {
        let kind = [(259, 3, 1, packing), (262, 3, 1, 1)];
        tiff(&[&size(side)[..], &kind, &strips(count, at)].concat())
    };
    vec![
        ("BMP of 2 billion rows".to_owned(), bmp(1, i32::MIN, 24, 0)),
        ("BMP of negative width".to_owned(), bmp(-8, 8, 24, 0)),
        ("BMP of nothing".to_owned(), bmp(0, 0, 8, 0)),
        (
            "BMP of 36 megapixels in runs".to_owned(),
            bmp(6000, 6000, 8, 1),
        ),
        ("BMP of 36 megapixels".to_owned(), bmp(6000, 6000, 32, 0)),
        ("TIFF of 4 billion".to_owned(), of(1, u32::MAX, 1, 8)),
        ("TIFF of 36 megapixels".to_owned(), of(8, 6000, 1, 8)),
        ("TIFF of 36 megapixels of fax".to_owned(), of(4, 6000, 1, 8)),
        (
            "TIFF of 4 billion strips".to_owned(),
            of(5, 6000, u32::MAX, 8),
        ),
        ("TIFF of strips from itself".to_owned(), of(1, 16, 16, 8)),
    ]
}

fn jpegs() -> Vec<Hostile> {
    let (width, height) = (64_u16, 64_u16);
    let pixels: Vec<u8> = (0..64 * 64 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let encode = |progressive| {
        let mut file = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut file, 80);
        encoder.set_progressive(progressive);
        let rgb = jpeg_encoder::ColorType::Rgb;
        encoder.encode(&pixels, width, height, rgb).unwrap();
        file
    };
    let (baseline, progressive) = (encode(false), encode(true));
    let mut files = Vec::new();
    for (name, file) in [("baseline", &baseline), ("progressive", &progressive)] {
        for (width, height) in [(65_535, 65_535), (65_535, 1), (6324, 6324), (0, 0), (64, 0)] {
            let announced = resized(file, width, height);
            files.push((
                format!("{name} JPEG that announces {width}x{height}"),
                announced,
            ));
        }
    }
    // Every scan walks over all coefficients once more.
    let scan = last_scan(&progressive);
    let body = &progressive[..progressive.len() - 2];
    for count in [100, 20_000] {
        let mut file = [body, &scan.repeat(count), b"\xff\xd9"].concat();
        files.push((format!("JPEG with {count} scans"), file.clone()));
        file = resized(&file, 6000, 6000);
        files.push((format!("large JPEG with {count} scans"), file));
    }
    let comment = [b"\xff\xfe\xff\xff".to_vec(), vec![b'x'; 65_533]].concat();
    let many = [&baseline[..2], &comment.repeat(100), &baseline[2..]].concat();
    files.push(("JPEG with 6 MB of comments".to_owned(), many));
    files
}

/// The same file with other sides in its frame header (ITU-T T.81, B.2.2).
fn resized(file: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut file = file.to_vec();
    let frame = file
        .windows(2)
        .position(|two| matches!(two, [0xff, 0xc0 | 0xc2]));
    let at = frame.expect("a frame header") + 5;
    file[at..at + 2].copy_from_slice(&height.to_be_bytes());
    file[at + 2..at + 4].copy_from_slice(&width.to_be_bytes());
    file
}

fn last_scan(file: &[u8]) -> Vec<u8> {
    let start = file.windows(2).rposition(|two| two == b"\xff\xda");
    file[start.expect("a scan")..file.len() - 2].to_vec()
}

fn webps() -> Vec<Hostile> {
    let riff = |chunks: &[u8]| {
        let length = u32::try_from(chunks.len() + 4).unwrap().to_le_bytes();
        [b"RIFF", &length[..], b"WEBP", chunks].concat()
    };
    let part = |kind: &[u8; 4], body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let padding = vec![0; body.len() % 2];
        [kind, &length[..], body, &padding].concat()
    };
    let canvas = |flags, side: u32| {
        let side = side.to_le_bytes();
        let body = [&[flags, 0, 0, 0], &side[..3], &side[..3]].concat();
        part(b"VP8X", &body)
    };
    let still = flat_webp(8, 8);
    let stream = still[12..].to_vec();
    // Position, size less one, duration and flags.
    let head = [0, 0, 0, 0, 0, 0, 7, 0, 0, 7, 0, 0, 100, 0, 0, 0];
    let frame = part(b"ANMF", &[&head[..], &stream].concat());
    let global = part(b"ANIM", &[0; 6]);
    let lossless = part(b"VP8L", b"\x2f\xff\xff\xff\x0f\x00\x00\x00");
    let lossy = part(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a\xff\x3f\xff\x3f\x00\x00");
    vec![
        (
            "WebP with the largest canvas".to_owned(),
            riff(&[canvas(0, 0xff_ffff), stream].concat()),
        ),
        (
            "WebP that moves on the largest canvas".to_owned(),
            riff(&[canvas(2, 0xff_ffff), global.clone(), frame.clone()].concat()),
        ),
        (
            "WebP with 50,000 frames".to_owned(),
            riff(&[canvas(2, 7), global, frame.repeat(50_000)].concat()),
        ),
        (
            "lossless WebP that announces 16384x16384".to_owned(),
            riff(&lossless),
        ),
        (
            "lossy WebP that announces 16383x16383".to_owned(),
            riff(&lossy),
        ),
        (
            "WebP with a frame larger than its canvas".to_owned(),
            riff(&[canvas(0, 7), lossless].concat()),
        ),
    ]
}
