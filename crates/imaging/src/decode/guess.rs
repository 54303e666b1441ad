//! What bytes look like that are no image which is read.

/// First bytes of what people send by mistake, and what to call it.
const SIGNATURES: [(&[u8], &str); 16] = [
    (b"\0\0\x01\0", "it looks like an icon"),
    (b"8BPS", "it looks like a Photoshop document"),
    (b"\xff\x0a", "it looks like JPEG XL"),
    (b"\0\0\0\x0cJXL ", "it looks like JPEG XL"),
    (b"\0\0\0\x0cjP  ", "it looks like JPEG 2000"),
    (b"\xff\x4f\xff\x51", "it looks like JPEG 2000"),
    (b"%PDF", "it looks like PDF"),
    (b"%!PS", "it looks like PostScript"),
    (b"PK\x03\x04", "it looks like a ZIP archive"),
    (b"\x1f\x8b", "it looks like gzip"),
    (b"RIFF", "it looks like a RIFF file that is not WebP"),
    (b"\x1aE\xdf\xa3", "it looks like a Matroska or WebM video"),
    (b"OggS", "it looks like Ogg"),
    (b"ID3", "it looks like MP3"),
    (b"\x7fELF", "it looks like a program"),
    (
        b"data:",
        "it looks like a data: URL, which belongs into JSON",
    ),
];

/// What the bytes look like, in words for the client.
pub(super) fn guess(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        return "it is empty";
    }
    if let Some((_, words)) = SIGNATURES
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
    {
        return words;
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return guess_brands(bytes);
    }
    guess_text(&bytes[..bytes.len().min(512)])
}

/// What iPhones send, and how they send something else.
const HEIC: &str = "it looks like HEIC; an iPhone sends JPEG with Settings, Camera, Formats, Most \
                    Compatible, and heif-convert makes one of a file";

/// What browsers save.
const AVIF: &str = "it looks like AVIF; avifdec makes PNG or JPEG of it";

/// Of files in boxes (ISO/IEC 14496-12, section 4.3): by the major brand, or where that names only
/// the family, by those that it is compatible with.
fn guess_brands(bytes: &[u8]) -> &'static str {
    let length = bytes
        .first_chunk()
        .map_or(0, |&length| u32::from_be_bytes(length)) as usize;
    let brands = &bytes[8..length.clamp(12, bytes.len().max(12)).min(bytes.len())];
    let (brands, _) = brands.as_chunks::<4>();
    // What stands between is a version, and no brand.
    let codec = |brand: &[u8; 4]| match brand {
        b"avif" | b"avis" => Some(AVIF),
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" => Some(HEIC),
        _ => None,
    };
    let family = matches!(brands.first(), Some(b"mif1" | b"msf1" | b"miaf"));
    let named = match brands {
        [major, _, others @ ..] if family => codec(major).or_else(|| others.iter().find_map(codec)),
        [major, ..] => codec(major),
        [] => None,
    };
    named.unwrap_or(if family {
        "it looks like HEIF"
    } else {
        "it looks like a video"
    })
}

fn guess_text(start: &[u8]) -> &'static str {
    let start = start
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(start)
        .trim_ascii_start();
    let lower = start.to_ascii_lowercase();
    let contains = |word: &[u8]| lower.windows(word.len()).any(|window| window == word);
    if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
        "it looks like HTML"
    } else if lower.starts_with(b"<") && contains(b"<svg") {
        "it looks like SVG"
    } else if lower.starts_with(b"<") {
        "it looks like XML or HTML"
    } else if lower.starts_with(b"{") || lower.starts_with(b"[") {
        "it looks like JSON"
    } else if start
        .iter()
        .all(|&byte| byte >= 0x20 || byte.is_ascii_whitespace())
    {
        "it looks like text"
    } else {
        "its first bytes belong to no format that is known here"
    }
}
