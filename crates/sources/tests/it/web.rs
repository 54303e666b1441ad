//! Models on plain web servers.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use sha2::{Digest, Sha256};

use crate::support::{Machine, golden, tree, weights};

/// A web server: files by their paths, and how the next bodies end.
#[derive(Clone, Default)]
struct Web(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Bytes after which an answer that is not of one byte breaks.
    breaks: VecDeque<usize>,
    /// Whether contents have ETags.
    etags: bool,
    /// Paths and ranges that were asked for.
    asked: Vec<(String, String)>,
}

impl Web {
    fn start() -> (Self, String) {
        let web = Self::default();
        web.0.lock().unwrap().etags = true;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = web.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || server.answer(stream));
            }
        });
        (web, address)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap();
        state.files.insert(path.to_owned(), bytes.to_vec());
    }

    fn put_checkpoint(&self, folder: &str) {
        for entry in fs::read_dir(golden("transformers/plain")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            self.put(&format!("{folder}/{name}"), &fs::read(&path).unwrap());
        }
    }

    fn asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let first = lines.next()?.ok()?;
        let path = first.split(' ').nth(1)?.to_owned();
        let mut headers = BTreeMap::new();
        for line in lines {
            let line = line.ok()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut state = self.0.lock().unwrap();
        let range = headers.get("range").cloned().unwrap_or_default();
        state.asked.push((path.clone(), range.clone()));
        let found = state.files.get(path.split('?').next()?).cloned();
        let Some(bytes) = found else {
            let body = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return stream.write_all(body.as_bytes()).ok();
        };
        let etag = format!("\"{}\"", &hex::encode(Sha256::digest(&bytes))[..12]);
        let tag = match state.etags {
            true => format!("ETag: {etag}\r\n"),
            false => String::new(),
        };
        let same = headers.get("if-range").is_none_or(|wanted| *wanted == etag);
        let asked = range.strip_prefix("bytes=").filter(|_| same);
        let (status, content, more) = match asked.and_then(|range| range.split_once('-')) {
            Some((from, to)) => {
                let from: usize = from.parse().ok()?;
                let to = to.parse().map_or(bytes.len(), |last: usize| last + 1);
                let more = format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, bytes.len());
                ("206 Partial Content", bytes[from..to].to_vec(), more)
            }
            None => ("200 OK", bytes, String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{tag}{more}Content-Length: {}\r\nConnection: close\r\n\r\n",
            content.len()
        );
        let end = match content.len() {
            ..=1 => content.len(),
            _ => state
                .breaks
                .pop_front()
                .unwrap_or(usize::MAX)
                .min(content.len()),
        };
        drop(state);
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&content[..end]).ok()?;
        stream.shutdown(Shutdown::Both).ok()
    }
}

const NEEDED: [&str; 3] = [
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
];

#[test]
fn a_folder_of_a_server_that_lists_nothing() {
    let (web, server) = Web::start();
    web.put_checkpoint("/models/tiny%20vit");
    let machine = Machine::with(&[]);
    let fetched = machine
        .fetch(&format!("{server}/models/tiny%20vit/"))
        .unwrap();
    assert_eq!(tree(weights(&fetched).parent().unwrap()), NEEDED);
    let message = machine.refusal(&format!("{server}/models/other"));
    assert!(message.contains("a web server lists nothing"), "{message}");
}

#[test]
fn a_file_that_breaks_is_gone_on_with_and_one_that_changed_begins_anew() {
    let (web, server) = Web::start();
    let bytes: Vec<u8> = (0..600_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    web.put("/vit.safetensors", &bytes);
    web.0.lock().unwrap().breaks.extend([100_000, 200_000]);
    let address = format!("{server}/vit.safetensors");
    let machine = Machine::with(&[]);
    let fetched = machine.fetch(&address).unwrap();
    assert_eq!(fs::read(weights(&fetched)).unwrap(), bytes);
    let ranges: Vec<String> = web
        .asked()
        .into_iter()
        .filter(|(path, _)| path == "/vit.safetensors")
        .map(|(_, range)| range)
        .collect();
    assert_eq!(ranges, ["bytes=0-0", "", "bytes=100000-", "bytes=300000-"]);

    let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    web.put("/vit.safetensors", &other);
    let again = machine.fetch(&address).unwrap();
    assert_eq!(fs::read(weights(&again)).unwrap(), other);
    assert_ne!(fetched.origin.revision, again.origin.revision);
}

#[test]
fn without_an_etag_nothing_is_gone_on_with_and_the_content_is_the_revision() {
    let (web, server) = Web::start();
    web.0.lock().unwrap().etags = false;
    web.put("/vit.pth", &[7; 300_000]);
    web.0.lock().unwrap().breaks.extend([100_000]);
    let machine = Machine::with(&[]);
    let fetched = machine.fetch(&format!("{server}/vit.pth")).unwrap();
    assert_eq!(fs::read(weights(&fetched)).unwrap(), [7; 300_000]);
    assert_eq!(fetched.origin.revision.len(), 64);
    let ranges: Vec<String> = web.asked().into_iter().map(|(_, range)| range).collect();
    assert!(
        !ranges.iter().any(|range| range.starts_with("bytes=1")),
        "{ranges:?}"
    );
}

#[test]
fn a_pinned_file_has_its_digest_or_is_refused() {
    let (web, server) = Web::start();
    web.put("/vit.pth", b"weights");
    let machine = Machine::with(&[]);
    let digest = hex::encode(Sha256::digest(b"weights"));
    assert!(
        machine
            .fetch(&format!("{server}/vit.pth#sha256={digest}"))
            .is_ok()
    );
    let other = hex::encode(Sha256::digest(b"others"));
    let message = machine.refusal(&format!("{server}/vit.pth#sha256={other}"));
    assert!(
        message.contains(&digest) && message.contains(&other),
        "{message}"
    );
    assert!(
        tree(machine.home.path())
            .iter()
            .all(|path| !path.contains(&other))
    );
}

#[test]
fn a_signed_address_is_asked_as_it_is_and_nothing_beside_it() {
    let (web, server) = Web::start();
    web.put("/vit.pth", b"weights");
    web.put("/config.json", b"{}");
    let machine = Machine::with(&[]);
    let fetched = machine
        .fetch(&format!("{server}/vit.pth?Signature=s"))
        .unwrap();
    assert_eq!(fetched.origin.address, format!("{server}/vit.pth"));
    let paths: Vec<String> = web.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/vit.pth?Signature=s", "/vit.pth?Signature=s"]);
}

#[test]
fn one_file_of_weights_is_a_checkpoint_in_a_folder_and_by_itself() {
    let (web, server) = Web::start();
    let bytes = fs::read(golden("torchvision/tiny/weights.pth")).unwrap();
    web.put("/alone/pytorch_model.bin", &bytes);
    web.put("/vit_b_16-c867db91.pth", &bytes);
    let machine = Machine::with(&[]);
    for address in ["alone/", "vit_b_16-c867db91.pth"] {
        let fetched = machine.fetch(&format!("{server}/{address}")).unwrap();
        assert_eq!(fs::read(weights(&fetched)).unwrap(), bytes);
        // It has the right to the download.
        drop(fetched);
        let refused = machine.prepare(&format!("{server}/{address}")).unwrap_err();
        // It is torchvision's, and no stock model, which only its user can tell.
        assert!(refused.to_string().contains("no stock model"), "{refused}");
    }
}

#[test]
fn weights_that_need_a_description_say_so_and_the_download_is_kept() {
    let (web, server) = Web::start();
    let weights = golden("timm/class_token/model.safetensors");
    web.put("/vit.safetensors", &fs::read(&weights).unwrap());
    let machine = Machine::with(&[]);
    let message = machine
        .prepare(&format!("{server}/vit.safetensors"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("config.json"), "{message}");
    web.asked();
    web.put(
        "/config.json",
        &fs::read(golden("timm/class_token/config.json")).unwrap(),
    );
    assert!(
        machine
            .prepare(&format!("{server}/vit.safetensors"))
            .is_ok()
    );
}
