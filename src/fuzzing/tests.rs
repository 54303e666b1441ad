//! Inputs that once broke a target stay harmless.

use std::{fs, path::Path};

/// Every file of `tests/fuzz/findings/NAME`, read by the target of that name.
fn read_all(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/findings")
        .join(name);
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        target(&fs::read(path).unwrap());
    }
}

#[test]
fn images() {
    read_all("image", super::image);
}

#[test]
fn bodies() {
    read_all("body", super::body);
}

#[test]
fn manifests() {
    read_all("manifest", super::manifest);
}

#[test]
fn checkpoints() {
    read_all("checkpoint", super::checkpoint);
}

#[test]
fn graphs() {
    read_all("graph", super::graph);
}

#[test]
fn inference_requests() {
    read_all("oip", super::oip);
}

/// Those of a stock client besides, with every bit of them turned round.
#[test]
fn messages_of_grpc() {
    read_all("grpc", super::grpc);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/grpc");
    for name in ["request_raw.binpb", "request_typed.binpb"] {
        let message = fs::read(folder.join(name)).unwrap();
        for variant in 0..3 {
            let whole = [&[variant], &message[..]].concat();
            for at in 1..whole.len() {
                super::grpc(&whole[..at]);
                for bit in 0..8 {
                    let mut turned = whole.clone();
                    turned[at] ^= 1 << bit;
                    super::grpc(&turned);
                }
            }
        }
    }
}

#[test]
fn kept_maps() {
    read_all("map_codec", super::map_codec);
}

#[test]
fn connections() {
    read_all("connection", super::connection);
}

/// Each manner of a client with requests in both versions, whole and cut off anywhere: a small part
/// of what the fuzzer tries.
#[test]
fn a_connection_ends_however_a_client_behaves() {
    let http_1 = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let http_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\
        \0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84\
        \0\0\x03\x01\x05\0\0\0\x03\x82\x86\x84";
    for bytes in [&http_1[..], chunked, http_2] {
        for manner in 0..=u8::MAX {
            let cut = usize::from(manner) * 7 % bytes.len();
            for bytes in [bytes, &bytes[..cut]] {
                super::connection(&[&[manner], bytes].concat());
            }
        }
    }
}
