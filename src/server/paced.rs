//! A socket that gives up on a client that dawdles.
//!
//! hyper has one timer for a request's head, and it also runs while a kept connection rests between
//! requests, where proxies want to rest longer than a head may take. It does not run at all before
//! the first byte, nor while an answer is written to a client that does not read. This wrapper has
//! a clock for each of these.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// What HTTP/2 begins with (RFC 9113, §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pace {
    /// For the head of a request, from its first byte; for the first one, from the connection on.
    pub(super) head: Duration,
    /// To take any bytes at all of an answer.
    pub(super) write: Duration,
}

/// How many requests began and ended on a connection; shared with what answers them.
#[derive(Debug, Default)]
pub(super) struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Requests {
    /// A request's head has been read. Its answer is being made until the value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.begun() == self.ended.load(Ordering::Relaxed)
    }
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Running(Arc<Requests>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// The wrapper. Its errors are of the kind [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub(super) struct Paced<S> {
    socket: S,
    pace: Pace,
    requests: Arc<Requests>,
    /// Runs while a head is awaited that has begun, and the number of requests before it.
    head: Option<(Pin<Box<Sleep>>, u64)>,
    /// Runs while the client takes nothing.
    write: Option<Pin<Box<Sleep>>>,
    /// How many of the first bytes agree with HTTP/2's; `None` once one did not.
    preface: Option<usize>,
}

impl<S> Paced<S> {
    /// The clock of the first head starts at once.
    pub(super) fn new(socket: S, pace: Pace, requests: Arc<Requests>) -> Self {
        Self {
            socket,
            pace,
            requests,
            head: Some((Box::pin(sleep(pace.head)), 0)),
            write: None,
            preface: Some(0),
        }
    }

    /// Bytes have come.
    fn heard(&mut self, bytes: &[u8]) {
        if let Some(agreed) = self.preface.filter(|&agreed| agreed < PREFACE.len()) {
            let expected = &PREFACE[agreed..];
            let length = expected.len().min(bytes.len());
            self.preface = (bytes[..length] == expected[..length]).then_some(agreed + length);
        }
        match self.preface {
            // From here on HTTP/2's own pings watch over the connection.
            Some(agreed) if agreed == PREFACE.len() => self.head = None,
            Some(_) => {}
            None if self.head.is_none() && self.requests.is_idle() => {
                let clock = Box::pin(sleep(self.pace.head));
                self.head = Some((clock, self.requests.begun()));
            }
            None => {}
        }
    }

    fn head_is_late(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.head {
            Some((_, before)) if self.requests.begun() > *before => {
                self.head = None;
                false
            }
            Some((clock, _)) => clock.as_mut().poll(context).is_ready(),
            None => false,
        }
    }

    /// Passes on what a write gave, unless the client has taken nothing for too long.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write = None;
            return outcome;
        }
        let deadline = Instant::now() + self.pace.write;
        let clock = self
            .write
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(clock.as_mut().poll(context));
        Poll::Ready(Err(late("the client does not take its answer")))
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(context, buffer);
        // Checked after the read as well as before the wait: a drip of bytes does not help.
        let late_head = self.head_is_late(context);
        match outcome {
            _ if late_head => Poll::Ready(Err(late("the request's head takes too long"))),
            Poll::Ready(Ok(())) => {
                self.heard(&buffer.filled()[before..]);
                outcome
            }
            _ => outcome,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_flush(context);
        self.written(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_shutdown(context);
        self.written(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const PACE: Pace = Pace {
        head: Duration::from_secs(10),
        write: Duration::from_secs(30),
    };

    fn pair() -> (DuplexStream, Paced<DuplexStream>, Arc<Requests>) {
        let (client, socket) = duplex(64);
        let requests = Arc::new(Requests::default());
        let paced = Paced::new(socket, PACE, Arc::clone(&requests));
        (client, paced, requests)
    }

    async fn read_on(paced: &mut Paced<DuplexStream>) -> io::Error {
        let mut buffer = [0; 64];
        loop {
            match paced.read(&mut buffer).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(why) => return why,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_given_up() {
        let (_client, mut paced, _) = pair();
        let began = Instant::now();
        assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), PACE.head.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_of_bytes_buys_no_time() {
        let (mut client, mut paced, _) = pair();
        let began = Instant::now();
        tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() <= PACE.head + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn rest_between_requests_is_no_dawdling_but_a_begun_head_is() {
        let (mut client, mut paced, requests) = pair();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(paced.read(&mut [0; 64]).await.unwrap(), 18);
        drop(requests.begin());
        let mut buffer = [0; 64];
        let resting = tokio::time::timeout(10 * PACE.head, paced.read(&mut buffer)).await;
        assert!(resting.is_err(), "it still waits");
        client.write_all(b"GET").await.unwrap();
        let began = Instant::now();
        assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), PACE.head.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn http_2_is_left_to_its_own_pings_once_it_has_said_hello() {
        let (mut client, mut paced, _) = pair();
        client.write_all(PREFACE).await.unwrap();
        let waiting = tokio::time::timeout(10 * PACE.head, read_on(&mut paced)).await;
        assert!(waiting.is_err(), "it still waits");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_hello_is_no_hello() {
        let (mut client, mut paced, _) = pair();
        client.write_all(&PREFACE[..5]).await.unwrap();
        assert_eq!(read_on(&mut paced).await.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (mut client, mut paced, _) = pair();
        let slow = tokio::spawn(async move {
            let mut byte = [0; 16];
            for _ in 0..8 {
                sleep(PACE.write / 2).await;
                client.read_exact(&mut byte).await.unwrap();
            }
            client
        });
        paced.write_all(&[0; 64 + 7 * 16]).await.unwrap();
        let _client = slow.await.unwrap();
        let why = paced.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::TimedOut);
    }
}
