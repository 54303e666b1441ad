//! Hostile images by the thousand, against the real program.
//!
//! `cargo test` sends a few hundred; `.ci/full` sends all of them, with what other projects have
//! collected:
//! ```sh
//! HOSTILE_FILES=10000 HOSTILE_CORPORA=/some/folder cargo test --test it hostile -- --nocapture
//! ```

mod bombs;
mod checkpoints;
mod crafted;
mod mutate;

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use self::mutate::Mutator;
use crate::{
    client::{self, Answer},
    process::{Server, models},
};

/// How many files in a short run.
const FEW: usize = 400;

/// What one file may take of the server's processor time. A file that took longer in real time,
/// beside others and whatever else the machine does, is sent once more alone.
const MAX_PROCESSOR_TIME: Duration = Duration::from_secs(5);

/// A file that takes longer than this hangs without computing, or for ever.
const HANGS: Duration = Duration::from_secs(60);

/// At a time.
const CLIENTS: usize = 4;

/// A file to send, and what to call it if the server does not take it well.
type Hostile = (String, Vec<u8>);

#[tokio::test]
async fn hostile_files_neither_end_nor_hang_nor_confuse_the_server() {
    let asked: Option<usize> = env::var("HOSTILE_FILES")
        .ok()
        .map(|count| count.parse().expect("HOSTILE_FILES is a number"));
    let server = Server::start(&["--request-timeout", "5m"]);
    let dog = fs::read(models("samples/dog.jpg")).unwrap();
    let before = predictions(&client::post(&server.address, "/classify", dog.clone()).await);

    let (files, next) = mpsc::channel(2 * CLIENTS);
    let making = tokio::task::spawn_blocking(move || {
        let count = asked.unwrap_or(FEW);
        make(count, asked.is_some(), |file| {
            files.blocking_send(file).is_ok()
        });
    });
    let next = Arc::new(Mutex::new(next));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(send_all(server.address.clone(), Arc::clone(&next))))
        .collect();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    let mut slow = Vec::new();
    for client in clients {
        let (answers, long) = client.await.expect("every file has its answer");
        slow.extend(long);
        for (status, count) in answers {
            *statuses.entry(status).or_default() += count;
        }
    }
    making.await.unwrap();
    eprintln!("answers by status: {statuses:?}; {} were slow", slow.len());
    for status in statuses.keys() {
        assert!((200..500).contains(status), "{status}");
    }
    for (name, file) in slow {
        let before = server.processor_time();
        send(&server.address, &name, file).await;
        let took = server.processor_time() - before;
        assert!(
            took <= MAX_PROCESSOR_TIME,
            "{name} takes {took:?} of processor time"
        );
    }
    let after = predictions(&client::post(&server.address, "/classify", dog).await);
    assert_eq!(before, after);
}

/// How often each status was answered, and the files that took long.
async fn send_all(
    address: String,
    next: Arc<Mutex<mpsc::Receiver<Hostile>>>,
) -> (BTreeMap<u16, usize>, Vec<Hostile>) {
    let (mut statuses, mut slow) = (BTreeMap::new(), Vec::new());
    loop {
        let Some((name, file)) = next.lock().await.recv().await else {
            return (statuses, slow);
        };
        let started = Instant::now();
        let status = send(&address, &name, file.clone()).await;
        *statuses.entry(status).or_default() += 1;
        if started.elapsed() > MAX_PROCESSOR_TIME {
            slow.push((name, file));
        }
    }
}

/// The status of an answer that is there in time and no fault of the server.
async fn send(address: &str, name: &str, file: Vec<u8>) -> u16 {
    // The framing is the body's own business: some files are whole bodies.
    let (kind, body) = crafted::framed(name, file);
    let headers = [("content-type", kind)];
    let sending = client::send(address, hyper::Method::POST, "/classify", &headers, body);
    let Ok(answer) = timeout(HANGS, sending).await else {
        panic!("{name} hangs");
    };
    let status = answer.status.as_u16();
    assert!(status < 500, "{name}: {}", answer.text());
    status
}

/// Subnormal numbers, which many CPUs take a hundred times as long for, and numbers whose products
/// with weights are subnormal: all of them are as good as zero.
#[tokio::test]
async fn a_tensor_of_tiny_numbers_gives_the_answer_of_zeros() {
    let server = Server::demo();
    let ask = |value: f32| {
        let body = value.to_le_bytes().repeat(3 * 224 * 224);
        let headers = [("inference-header-content-length", "0")];
        let address = server.address.clone();
        async move {
            let path = "/v2/models/demo/infer";
            let answer = client::send(&address, hyper::Method::POST, path, &headers, body).await;
            assert_eq!(answer.status, 200, "{value:e}: {}", answer.text());
            let length = answer.header("inference-header-content-length");
            let length: usize = length.parse().expect("a length");
            answer.body.slice(length..)
        }
    };
    let zeros = ask(0.0).await;
    assert_eq!(zeros.len() % 4, 0);
    for tiny in [1e-44, -1e-40, f32::MIN_POSITIVE, 2e-38, -1e-30] {
        assert_eq!(ask(tiny).await, zeros, "{tiny:e}");
    }
    assert_ne!(ask(0.5).await, zeros);
}

/// Hands out at least `count` files, until `take` returns false.
fn make(count: usize, all: bool, mut take: impl FnMut(Hostile) -> bool) {
    let mut made = 0;
    let mut hand = |file| {
        made += 1;
        take(file).then_some(made)
    };
    let seeds = seeds();
    let collected = collected();
    let fixed = bombs::all(all).into_iter().chain(crafted::all(&seeds));
    for file in fixed.chain(collected.iter().cloned()) {
        if hand(file).is_none() {
            return;
        }
    }
    let mut mutator = Mutator::new(1);
    let mut number = 0;
    loop {
        let seed = &seeds[number % seeds.len()];
        let other = &seeds[mutator.below(seeds.len())];
        let file = (
            format!("mutation {number} of {}", seed.0),
            mutator.mutate(&seed.1, &other.1),
        );
        number += 1;
        match hand(file) {
            Some(made) if made < count => {}
            _ => return,
        }
    }
}

/// Images that are in order.
fn seeds() -> Vec<Hostile> {
    let mut found = Vec::new();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let [pillow, others] = ["pillow", "bmp_tiff"].map(|folder| goldens.join(folder));
    for folder in [models("samples"), pillow, others] {
        gather(&folder, &mut found);
    }
    // Short ones are mutated faster and in more places that matter.
    found.retain(|(_, bytes)| bytes.len() < 64 << 10);
    found.sort();
    assert!(found.len() >= 8, "few seeds");
    found
}

/// What others have collected, where it was fetched.
fn collected() -> Vec<Hostile> {
    let mut found = Vec::new();
    if let Some(folder) = env::var_os("HOSTILE_CORPORA") {
        gather(Path::new(&folder), &mut found);
        eprintln!("{} files from {}", found.len(), folder.display());
    }
    found.retain(|(_, bytes)| bytes.len() <= 10 << 20);
    found.sort();
    found
}

fn gather(folder: &Path, found: &mut Vec<Hostile>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => gather(&path, found),
            false if looks_like_an_image(&path) => {
                let bytes = fs::read(&path).unwrap_or_default();
                found.push((path.display().to_string(), bytes));
            }
            false => {}
        }
    }
}

fn looks_like_an_image(path: &Path) -> bool {
    const SUFFIXES: [&str; 16] = [
        "png", "apng", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "ico", "fli", "jp2",
        "j2k", "psd", "pcx", "bin",
    ];
    let suffix = path.extension().and_then(|suffix| suffix.to_str());
    suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix.to_lowercase().as_str()))
}

fn predictions(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["predictions"].clone()
}
