//! Targets of readers that are private to their modules.

use std::{
    io::{Cursor, Write},
    str,
    sync::LazyLock,
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::Bytes;
use patchlight_imaging::preprocess::Resize;
use patchlight_import as import;
use patchlight_model::{Labels, Manifest, ModelInfo};
use patchlight_onnx::proto::ModelProto;
use prost::Message;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{TempFile, split_line};
use crate::{
    Error,
    explain::{self, Scale, Style, View},
    http::oip::infer::count_rows,
    oip::{ModelVariant, ParsedInferRequest, proto::ModelInferRequest},
    store::{self, Owner, SealedTokenStore, SealingKeys},
};

/// Larger tensors are not read: what a checkpoint announces is compared with the network first.
const MAX_ELEMENTS: usize = 1 << 20;

/// A checkpoint. The first byte says what the rest is.
pub fn checkpoint(data: &[u8]) {
    let Some((kind, content)) = data.split_first() else {
        return;
    };
    // Wrapped, since a mutated checksum would end the reading.
    let (ending, content) = match kind {
        b's' => ("safetensors", content.to_vec()),
        b'z' => ("npz", content.to_vec()),
        b't' => ("pth", content.to_vec()),
        b'i' => ("index.json", content.to_vec()),
        b'n' => ("npz", archive(&[("array.npy", content)])),
        b'p' => {
            let entries = [("m/data.pkl", content), ("m/data/0", &[1; 256])];
            ("pth", archive(&entries))
        }
        _ => return,
    };
    let file = TempFile::new(ending, &content);
    let Ok(mut tensors) = import::tensor_file::open(&file.0) else {
        return;
    };
    for name in tensors.names() {
        let shape = tensors.shape(&name).map(<[usize]>::to_vec);
        let shape = shape.expect("a tensor that is listed has a shape");
        let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if elements.is_some_and(|elements| elements <= MAX_ELEMENTS) {
            let _ = tensors.tensor(&name, &shape);
        }
    }
}

/// A zip archive whose entries are stored as they are.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        let started = writer.start_file(*name, options);
        started.expect("an entry can be begun");
        writer.write_all(content).expect("memory can be written to");
    }
    let archive = writer.finish().expect("an archive can be finished");
    archive.into_inner()
}

/// An ONNX file: as a message, and as a graph that was exported elsewhere.
pub fn graph(data: &[u8]) {
    let Ok(model) = ModelProto::decode(data) else {
        return;
    };
    // As bytes: floats may be NaN.
    let to_response = model.encode_to_vec();
    let again = ModelProto::decode(to_response.as_slice()).expect("what was written can be read");
    assert_eq!(again.encode_to_vec(), to_response);
    let file = TempFile::new("onnx", data);
    let _ = import::analyze_graph(&file.0);
}

/// The body of an inference request: a line with the face of the model, the body's coding and the
/// length of its JSON, `-` where a header is not sent; then the body.
pub fn oip(data: &[u8]) {
    const MAX: usize = 4;
    let (head, body) = split_line(data);
    let mut words = head.split(|&byte| byte == b' ');
    let variant = match words.next() {
        Some(b"image") => ModelVariant::Image,
        Some(b"explain") => ModelVariant::Explain,
        _ => ModelVariant::Plain,
    };
    let names = [
        header::CONTENT_ENCODING,
        HeaderName::from_static("inference-header-content-length"),
    ];
    let given = names
        .into_iter()
        .zip(words)
        .filter(|(_, word)| *word != b"-");
    let headers =
        given.filter_map(|(name, word)| Some((name, HeaderValue::from_bytes(word).ok()?)));
    let headers: HeaderMap = headers.collect();
    match count_rows(&headers, Bytes::copy_from_slice(body), MAX, variant, &MODEL) {
        Ok(rows) => assert!((1..=MAX).contains(&rows)),
        Err(
            Error::MalformedRequest(_)
            | Error::BodyTooLarge { .. }
            | Error::UnsupportedEncoding { .. }
            | Error::InvalidParameter { .. },
        ) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A message of gRPC that asks for inference. The first byte says of which variant of the model.
pub fn grpc(data: &[u8]) {
    const MAX: usize = 4;
    let Some((&variant, message)) = data.split_first() else {
        return;
    };
    let variant = ModelVariant::ALL[usize::from(variant) % ModelVariant::ALL.len()];
    let no_text = |_: &str| Err(Error::Internal);
    let read = ModelInferRequest::read(Bytes::copy_from_slice(message))
        .and_then(ModelInferRequest::into_request)
        .and_then(|request| ParsedInferRequest::new(request, variant, &MODEL, MAX, no_text));
    match read {
        Ok(parsed) => assert!((1..=MAX).contains(&parsed.rows.count())),
        Err(Error::MalformedRequest(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The demo with an input that is small enough to be sent as text.
static MODEL: LazyLock<ModelInfo> = LazyLock::new(|| {
    let manifest = include_str!("../../models/demo/model.toml");
    let mut manifest: Manifest = toml::from_str(manifest).expect("it is ours");
    manifest.preprocess.resize = Resize::Squash {
        height: 2,
        width: 2,
    };
    ModelInfo {
        name: "demo".to_owned(),
        directory: "demo".into(),
        labels: Labels::parse(b"").expect("it is empty"),
        digest: String::new(),
        input_size: manifest.input_size().expect("it is fixed above"),
        manifest,
    }
});

/// The id of a map, or a map as it lies in Redis; which, the first byte says.
pub fn map_codec(data: &[u8]) {
    const NOW: u64 = 1_800_000_000;
    match data.split_first() {
        Some((b'i', id)) => {
            let Ok(id) = str::from_utf8(id) else { return };
            assert!(SEALED_TOKENS.get(id, Owner::ANYONE, NOW).is_err());
            let _ = id.parse::<store::MapId>();
        }
        Some((_, entry)) => {
            if let Some((map, left)) = store::codec::decode(entry, NOW) {
                assert!(left > 0);
                check_map(&map);
            }
        }
        None => {}
    }
}

static SEALED_TOKENS: LazyLock<SealedTokenStore> = LazyLock::new(|| {
    let key = TempFile::new("key", b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let keys = SealingKeys::load(&key.0).expect("it is a key");
    SealedTokenStore::new(keys, Duration::from_secs(60))
});

/// Everything that the API reads of a map.
fn check_map(map: &store::AttentionMap) {
    let _ = (map.size(), map.kinds(), map.head(0, 0));
    let patches = map.patches(0).expect("the first rollout is kept");
    for view in [View::Overlay, View::Contour] {
        let style = Style {
            view,
            ..Style::default()
        };
        let scale = Scale::share(&patches);
        let drawn = explain::render(&patches, scale, &map.placement, None, &style);
        explain::png(drawn.view()).expect("what was drawn can be written");
    }
    explain::npy(&patches);
    let Some(attribution) = &map.attribution else {
        return;
    };
    for &class in &attribution.classes {
        let account = attribution.of(class, true);
        account.expect("there is an account of every class that is kept");
    }
}
