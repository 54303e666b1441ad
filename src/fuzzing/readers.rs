//! Targets whose readers are deep inside.

use std::{
    io::{Cursor, Write},
    str,
    sync::LazyLock,
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::Bytes;
use prost::Message;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{Scratch, line};
use crate::{
    Error,
    explain::{self, Scale, Style, View},
    http::oip::infer::count_rows,
    import,
    model::{Labels, Manifest, ModelInfo},
    oip::Face,
    onnx::proto::ModelProto,
    preprocess::Resize,
    store::{self, Owner, SignedStore, SigningKeys},
};

/// Larger tensors are not read: what a checkpoint announces is compared with the network first.
const MOST_ELEMENTS: usize = 1 << 20;

/// A checkpoint. The first byte says what the rest is.
pub fn checkpoint(data: &[u8]) {
    let Some((kind, content)) = data.split_first() else {
        return;
    };
    // Wrapped, for whoever mutates a checksum gets no further.
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
    let file = Scratch::new(ending, &content);
    let Ok(mut tensors) = import::tensor_file::open(&file.0) else {
        return;
    };
    for name in tensors.names() {
        let shape = tensors.shape(&name).map(<[usize]>::to_vec);
        let shape = shape.expect("a tensor that is listed has a shape");
        let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if elements.is_some_and(|elements| elements <= MOST_ELEMENTS) {
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
    let written = model.encode_to_vec();
    let again = ModelProto::decode(written.as_slice()).expect("what was written can be read");
    assert_eq!(again.encode_to_vec(), written);
    let file = Scratch::new("onnx", data);
    let _ = import::look_at_graph(&file.0);
}

/// The body of an inference request: a line with the face of the model, the body's coding and the
/// length of its JSON, `-` where a header is not sent; then the body.
pub fn oip(data: &[u8]) {
    const MOST: usize = 4;
    let (head, body) = line(data);
    let mut words = head.split(|&byte| byte == b' ');
    let face = match words.next() {
        Some(b"image") => Face::Image,
        Some(b"explain") => Face::Explain,
        _ => Face::Plain,
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
    match count_rows(&headers, Bytes::copy_from_slice(body), MOST, face, &MODEL) {
        Ok(rows) => assert!((1..=MOST).contains(&rows)),
        Err(
            Error::MalformedRequest(_)
            | Error::BodyTooLarge { .. }
            | Error::UnsupportedEncoding { .. }
            | Error::InvalidParameter { .. },
        ) => {}
        Err(why) => panic!("{why}"),
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
        manifest,
    }
});

/// The id of a map, or a map as it lies in Redis; which, the first byte says.
pub fn kept(data: &[u8]) {
    const NOW: u64 = 1_800_000_000;
    match data.split_first() {
        Some((b'i', id)) => {
            let Ok(id) = str::from_utf8(id) else { return };
            assert!(SIGNED.find(id, Owner::ANYONE, NOW).is_err());
            let _ = id.parse::<store::MapId>();
        }
        Some((_, entry)) => {
            if let Some((map, left)) = store::entry::read(entry, NOW) {
                assert!(left > 0);
                shown(&map);
            }
        }
        None => {}
    }
}

static SIGNED: LazyLock<SignedStore> = LazyLock::new(|| {
    let key = Scratch::new("key", b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let keys = SigningKeys::load(&key.0).expect("it is a key");
    SignedStore::new(keys, Duration::from_secs(60))
});

/// Everything that is asked of a map.
fn shown(map: &store::KeptMap) {
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
    let Some(evidence) = &map.evidence else {
        return;
    };
    for &class in &evidence.classes {
        let account = evidence.of(class, true);
        account.expect("there is an account of every class that is kept");
    }
}
