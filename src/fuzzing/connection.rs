//! A whole connection: bytes in, bounded bytes and time out.

use std::{pin::pin, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
    runtime,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    http,
    server::connection::{ConnectionInfo, Shared, speak},
};

/// Bytes of a body that are taken.
const MAX_BODY: usize = 4 << 10;

/// How long that may take to come.
const UPLOAD: Duration = Duration::from_secs(30);

/// Bytes of the longest answer's body, which is several pieces long.
const ANSWER: usize = 20_000;

/// Bytes of its head, and of any other answer.
const HEAD: usize = 1 << 10;

/// No request is shorter: a frame's head and a byte, or a line.
const SHORTEST_REQUEST: usize = 10;

/// What comes back whatever was sent: settings, one error, one goodbye, pings and questions.
const ONCE: usize = 16 << 10;

/// How long a connection may last at the utmost besides the time that its client takes to send, in
/// time that is not waited for: two heads, bodies and answers that nobody sends or takes, and a
/// rest after each.
const LONGEST: Duration = Duration::from_secs(600);

/// How a client behaves, by the bits of a byte.
#[derive(Clone, Copy)]
struct Behavior(u8);

impl Behavior {
    /// Few places are left when it comes.
    fn crowded(self) -> bool {
        self.0 & 1 != 0
    }

    /// It reads what comes back.
    fn reads(self) -> bool {
        self.0 & 2 != 0
    }

    /// It ends its side behind what it sends.
    fn half_closes(self) -> bool {
        self.0 & 4 != 0
    }

    /// It leaves behind what it sends.
    fn leaves(self) -> bool {
        self.0 & 8 != 0
    }

    /// Bytes that it sends at a time, a second apart.
    fn at_a_time(self) -> usize {
        match self.0 >> 4 {
            0 => usize::MAX,
            some => 1 << some,
        }
    }
}

/// A connection's bytes after a byte that says how the client behaves. It ends within bounded
/// time, whatever the client does or does not, sends bounded bytes, and leaves nothing behind.
///
/// The clock is a paused one: where everything waits, it jumps.
pub fn connection(data: &[u8]) {
    let Some((&behavior, bytes)) = data.split_first() else {
        return;
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs only memory");
    runtime.block_on(converse(Behavior(behavior), bytes.to_vec()));
}

async fn converse(behavior: Behavior, bytes: Vec<u8>) {
    let (client, socket) = duplex(1 << 10);
    let routes = Router::new()
        .route("/", get(async || vec![b'x'; ANSWER]).post(take))
        .fallback(async || StatusCode::NOT_FOUND);
    let routes = http::guarded(routes, MAX_BODY as u64);
    let shared = Shared::new(routes, Duration::from_secs(75));
    let info = ConnectionInfo {
        crowded: behavior.crowded(),
        open: 1,
        client: None,
    };
    let closing = watch::Sender::new(false);
    let sent = bytes.len();
    let began = Instant::now();
    let serving = speak(socket, shared.clone(), info, closing.subscribe());
    let sending = (sent / behavior.at_a_time()) as u64;
    let longest = LONGEST + Duration::from_secs(sending);
    let serving = async { timeout(longest, pin!(serving)).await.is_ok() };
    let (ended, received) = tokio::join!(serving, behave(client, behavior, bytes));
    assert!(ended, "it had not ended after {:?}", began.elapsed());
    let requests = sent / SHORTEST_REQUEST + 1;
    let bound = ONCE + requests * (ANSWER + HEAD);
    assert!(received <= bound, "{received} bytes for {sent}");
    // Streams that were cut off learn of it a moment later.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(shared.unread_bytes(), 0, "an answer is still counted");
}

/// Bounds its time, as every handler does that reads a body.
async fn take(body: Body) -> Response {
    match timeout(UPLOAD, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body.len().to_string().into_response(),
        Ok(Err(_)) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Sends and reads; how many bytes were read.
async fn behave(client: DuplexStream, behavior: Behavior, bytes: Vec<u8>) -> usize {
    let (mut reading, mut writing) = split(client);
    let read = async {
        let mut received = 0;
        let mut buffer = [0; 4 << 10];
        while behavior.reads() {
            match reading.read(&mut buffer).await {
                Ok(count) if count > 0 => received += count,
                _ => break,
            }
        }
        received
    };
    let write = async {
        for piece in bytes.chunks(behavior.at_a_time()) {
            if writing.write_all(piece).await.is_err() {
                break;
            }
            if behavior.at_a_time() < usize::MAX {
                sleep(Duration::from_secs(1)).await;
            }
        }
        if behavior.half_closes() {
            // The server may have ended first.
            let _ = writing.shutdown().await;
        }
    };
    if behavior.leaves() {
        tokio::select! {
            received = read, if behavior.reads() => received,
            () = write => 0,
        }
    } else {
        let (received, ()) = tokio::join!(read, write);
        // Whoever neither reads nor leaves is there until it is given up.
        if !behavior.reads() {
            sleep(LONGEST).await;
        }
        drop((reading, writing));
        received
    }
}
