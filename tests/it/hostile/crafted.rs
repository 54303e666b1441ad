//! What is no image, or more than one thing at once.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Hostile, bombs, mutate::Mutator};

/// A name that begins with this is a whole multipart body; with the next, a JSON body.
const MULTIPART: &str = "multipart: ";
const JSON: &str = "json: ";

/// The type under which a file is sent, and the body.
pub(crate) fn framed(name: &str, file: Vec<u8>) -> (&'static str, Vec<u8>) {
    match name {
        name if name.starts_with(MULTIPART) => ("multipart/form-data; boundary=B", file),
        name if name.starts_with(JSON) => ("application/json", file),
        _ => ("application/octet-stream", file),
    }
}

pub(crate) fn all(seeds: &[Hostile]) -> Vec<Hostile> {
    let mut files = wrong_types();
    for (name, image) in seeds.iter().take(8) {
        files.extend(polyglots(name, image));
    }
    files.extend(framings(&seeds[0].1));
    files
}

fn wrong_types() -> Vec<Hostile> {
    let mut files: Vec<Hostile> = Vec::new();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("one byte", b"\xff"),
        ("PDF", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"),
        ("ZIP", b"PK\x03\x04\x14\0\0\0\0\0"),
        ("ELF", b"\x7fELF\x02\x01\x01\0"),
        ("HTML", b"<!doctype html><script>alert(1)</script>"),
        (
            "SVG",
            b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        ),
        (
            "SVG bomb",
            b"<!DOCTYPE svg [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><svg>&b;</svg>",
        ),
        (
            "BMP",
            b"BM\xff\xff\xff\x7f\0\0\0\0\x36\0\0\0\x28\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f",
        ),
        ("TIFF", b"II*\0\x08\0\0\0\xff\xff"),
        ("ICO", b"\0\0\x01\0\xff\xff\0\0\0\0"),
        ("AVIF", b"\0\0\0\x20ftypavif\0\0\0\0"),
        ("JPEG XL", b"\xff\x0a\xff\xff"),
        ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("shell", b"#!/bin/sh\ncat /etc/passwd\n"),
        ("path", b"/etc/passwd"),
        ("URL", b"http://169.254.169.254/latest/meta-data/"),
        (
            "ImageMagick script",
            b"push graphic-context\nfill 'url(https://127.0.0.1/x\"|ls \"-la)'\n",
        ),
    ] {
        files.push((name.to_owned(), bytes.to_vec()));
    }
    let mut noise = Mutator::new(7);
    for magic in [
        &b"\xff\xd8\xff"[..],
        b"\xff\xd8\xff\xe0\x00\x10JFIF\0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF87a",
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBP",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"RIFF\xff\xff\xff\xffWEBPVP8L",
        b"RIFF\xff\xff\xff\xffWEBPVP8X",
    ] {
        for length in [0, 1, 7, 100, 5000] {
            let tail = (0..length).map(|_| noise.below(256) as u8);
            let bytes: Vec<u8> = magic.iter().copied().chain(tail).collect();
            files.push((
                format!("{} and {length} bytes of noise", magic.escape_ascii()),
                bytes,
            ));
        }
    }
    files
}

/// An image that is something else as well.
fn polyglots(name: &str, image: &[u8]) -> Vec<Hostile> {
    let archive = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let page = b"<script>alert(1)</script>";
    let with = |what: &str, bytes: Vec<u8>| (format!("{name} {what}"), bytes);
    vec![
        with("and an archive", [image, archive].concat()),
        with("and a page", [image, page].concat()),
        with("behind a page", [page, image].concat()),
        with("twice", [image, image].concat()),
        with("behind a BOM", [b"\xef\xbb\xbf", image].concat()),
        with("and zeros", [image, &[0; 100_000]].concat()),
    ]
}

/// Bodies whose framing is hostile.
fn framings(image: &[u8]) -> Vec<Hostile> {
    let part = |head: &str, content: &[u8]| {
        [b"--B\r\n", head.as_bytes(), b"\r\n\r\n", content, b"\r\n"].concat()
    };
    let part_header =
        "Content-Disposition: form-data; name=\"image\"; filename=\"../../etc/passwd\"";
    let end = b"--B--\r\n".to_vec();
    let long = format!(
        "Content-Disposition: form-data; name=\"image\"; filename=\"{}\"",
        "x".repeat(1 << 20)
    );
    let headers = format!("{}{part_header}", "X: y\r\n".repeat(50_000));
    let mut files: Vec<Hostile> = [
        ("in order", [part(part_header, image), end.clone()].concat()),
        (
            "17 images",
            [part(part_header, b"x").repeat(17), end.clone()].concat(),
        ),
        (
            "thousands of parts",
            [part(part_header, b"").repeat(20_000), end.clone()].concat(),
        ),
        ("a long name", [part(&long, image), end.clone()].concat()),
        (
            "many headers",
            [part(&headers, image), end.clone()].concat(),
        ),
        ("no end", part(part_header, image)),
        (
            "no head",
            [b"--B\r\n\r\n", image, b"\r\n--B--\r\n"].concat(),
        ),
        ("no boundary", image.to_vec()),
        ("only boundaries", b"--B\r\n".repeat(100_000)),
        (
            "binary head",
            [part("\0\u{1}\u{7f}: \0", image), end].concat(),
        ),
    ]
    .map(|(name, body)| (format!("{MULTIPART}{name}"), body))
    .into();
    let encoded = BASE64_STANDARD.encode(image);
    let bomb = BASE64_STANDARD.encode(bombs::png(60_000, 60_000));
    let deep = format!(
        "{{\"image\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for (name, body) in [
        ("in order", format!("{{\"image\":\"{encoded}\"}}")),
        (
            "as a URL",
            format!("{{\"image\":\"data:image/png;base64,{encoded}\"}}"),
        ),
        (
            "a file's URL",
            "{\"image\":\"file:///etc/passwd\"}".to_owned(),
        ),
        (
            "a web address",
            "{\"image\":\"http://127.0.0.1/x.png\"}".to_owned(),
        ),
        ("a bomb", format!("{{\"image\":\"{bomb}\"}}")),
        ("deep", deep),
        (
            "twice",
            format!("{{\"image\":\"{encoded}\",\"image\":\"{encoded}\"}}"),
        ),
        ("a number", "{\"image\":1e999}".to_owned()),
        ("null", "{\"image\":null}".to_owned()),
        (
            "lone surrogates",
            "{\"image\":\"\\ud800\\udfff\\ud800\"}".to_owned(),
        ),
        ("cut off", format!("{{\"image\":\"{encoded}")),
        (
            "many fields",
            format!("{{{}\"image\":\"\"}}", "\"a\":1,".repeat(100_000)),
        ),
    ] {
        files.push((format!("{JSON}{name}"), body.into_bytes()));
    }
    let mut mutator = Mutator::new(3);
    let whole: Vec<Hostile> = files
        .iter()
        .filter(|(name, _)| name.ends_with("in order"))
        .cloned()
        .collect();
    for number in 0..20 {
        for (name, body) in &whole {
            let body = mutator.mutate(body, image);
            files.push((format!("{name}, mutation {number}"), body));
        }
    }
    files
}
