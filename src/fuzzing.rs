//! What the fuzz targets call (`tests/fuzz`): every reader of bytes that others made, without the
//! network around it, and a connection without what answers behind it. Compiled for them and for
//! tests only.
//!
//! Each function takes any bytes whatever. A panic, a hang and memory without end are findings, and
//! so is an answer that breaks the reader's promise. Inputs that once were findings lie in
//! `tests/fuzz/findings` and are read again by every `cargo test`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "panicking is how a target reports a finding"
)]

mod connection;
mod readers;
#[cfg(test)]
mod tests;

use std::{fs, path::PathBuf, process, str, thread};

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use futures_util::FutureExt;
use patchlight_imaging::{
    Error as ImageError,
    decode::{self, Header, Image, Limits},
    preprocess::{
        Backend, Crop, CropRounding, Filter, Normalize, Pipeline, Preprocess, Resize, TensorForm,
    },
};
use patchlight_model::{Labels, Manifest};

pub use self::{
    connection::connection,
    readers::{checkpoint, graph, grpc, map_codec, oip},
};
use crate::{
    Error,
    explain::{self, PREVIEW_SIDE, RgbView},
    http::upload::{self, SentImage},
    service::MAX_IMAGES,
};

/// An image as it was uploaded: its header, its pixels whole and reduced, the tensors that models
/// would get, and the preview that would be stored.
pub fn image(data: &[u8]) {
    // Small, so that most of the time goes into different files and not into many pixels.
    let limits = Limits {
        max_pixels: 1 << 18,
        ..Limits::default()
    };
    let Ok(header) = decode::peek(data, &limits) else {
        return;
    };
    check_decoded(data, &header, decode::decode(data, &header));
    for side in [8, 32] {
        let reduction = header.reduction_for(side, side);
        if reduction > 1 {
            check_decoded(
                data,
                &header,
                decode::decode_reduced(data, &header, reduction),
            );
        }
    }
}

/// What becomes of an image that could be decoded.
fn check_decoded(bytes: &[u8], header: &Header, decoded: patchlight_imaging::Result<Image>) {
    let image = match decoded {
        Ok(image) => image,
        // A decoder's panic is fenced.
        Err(ImageError::ImageUndecodable { .. } | ImageError::DecoderPanicked { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let plain = image.stripped_copy(header, bytes, PREVIEW_SIDE);
    let (rgb, reduction) = (image.rgb, image.reduction);
    let side = |pixels: u32| pixels.div_ceil(reduction);
    let expected = (side(header.width), side(header.height));
    assert_eq!((rgb.width(), rgb.height()), expected);
    for preprocess in preprocesses() {
        let pipeline = Pipeline::new(&preprocess).expect("the values are in order");
        let prepared = pipeline.run_reduced(
            &rgb,
            (header.width, header.height),
            reduction,
            TensorForm::Normalized,
        );
        let values = prepared.tensor.view().normalized();
        let values = values.expect("they were asked for");
        assert_eq!(values.len(), 3 * 32 * 32);
        assert!(values.iter().all(|value| value.is_finite()));
        let region = prepared.region;
        assert!(region.x + region.width <= header.width);
        assert!(region.y + region.height <= header.height);
    }
    if let Some(plain) = plain {
        let copy = explain::decode_preview(&plain).expect("what could be decoded can be restored");
        assert_eq!(copy.pixels(), rgb.pixels());
    }
    let view = RgbView::new(rgb.width(), rgb.height(), rgb.pixels());
    let copy = view.and_then(|view| explain::encode_preview(view, PREVIEW_SIDE / 16));
    let copy = copy.and_then(|jpeg| explain::decode_preview(&jpeg));
    copy.expect("what was kept can be restored");
}

/// One of each kind, for an input of 32×32.
fn preprocesses() -> [Preprocess; 3] {
    let of = |resize, filter, crop| Preprocess {
        resize,
        filter,
        backend: Backend::Pillow,
        crop,
        normalize: Normalize {
            scale: 1.0 / 255.0,
            mean: [0.5; 3],
            std: [0.5; 3],
            bgr: false,
        },
    };
    let crop = |rounding| {
        Some(Crop {
            height: 32,
            width: 32,
            rounding,
            fill: [0; 3],
        })
    };
    let squash = Resize::Squash {
        height: 32,
        width: 32,
    };
    let edge = |size| Resize::ShortestEdge { size };
    [
        of(squash, Filter::Bilinear, None),
        of(edge(36), Filter::Bicubic, crop(CropRounding::HalfEven)),
        // Smaller than the crop, which is filled up.
        of(edge(21), Filter::Lanczos, crop(CropRounding::Floor)),
    ]
}

/// The body of a classification: its content type, a line feed, the body.
pub fn body(data: &[u8]) {
    let (content_type, body) = split_line(data);
    let Ok(value) = HeaderValue::from_bytes(content_type) else {
        return;
    };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value)]);
    let length = body.len();
    let read = upload::read_images(&headers, Bytes::copy_from_slice(body));
    match read.now_or_never() {
        Some(Ok(images)) => {
            assert!((1..=MAX_IMAGES).contains(&images.len()));
            let lengths = images.iter().map(|image| match image {
                SentImage::Bytes(bytes) => bytes.len(),
                SentImage::Url(url) => url.len(),
            });
            assert!(lengths.sum::<usize>() <= length);
        }
        Some(Err(Error::MalformedRequest(_))) => {}
        Some(Err(error)) => panic!("{error}"),
        None => panic!("it waits for more of a body that is whole"),
    }
}

/// A model's manifest and its labels.
pub fn manifest(data: &[u8]) {
    let _ = Labels::parse(data);
    let Ok(Ok(manifest)) = str::from_utf8(data).map(toml::from_str::<Manifest>) else {
        return;
    };
    if manifest.validate().is_err() {
        return;
    }
    Pipeline::new(&manifest.preprocess).expect("a valid manifest's preprocessing can be built");
    let text = toml::to_string(&manifest).expect("a manifest can be written");
    let again: Manifest = toml::from_str(&text).expect("what was written can be read");
    // Not by their values: a float may be NaN.
    assert_eq!(format!("{again:?}"), format!("{manifest:?}"));
}

/// What is before the first line feed, and what is behind it.
fn split_line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n');
    match end {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// A file with this content and ending, for readers that want one; it goes when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(ending: &str, content: &[u8]) -> Self {
        let name = format!(
            "patchlight-fuzz-{}-{:?}.{ending}",
            process::id(),
            thread::current().id()
        );
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).expect("the folder for temporary files can be written to");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = fs::remove_file(&self.0);
    }
}
