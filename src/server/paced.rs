//! A socket that gives up on a client that dawdles.
//!
//! hyper has one timer for a request's head, and it also runs while a kept connection rests between
//! requests, where proxies want to rest longer than a head may take. It does not run at all before
//! the first byte, nor while an answer is written to a client that does not read. This wrapper has
//! a clock for each of these.
//!
//! It also tells a client that has said all it has to say from one that has gone, while its answer is
//! made. Both end their side of the connection in the same way; but only where nobody is left does
//! the system refuse what is sent there. So after a moment the client gets interim answers
//! (`100 Continue`), which anyone who waits for an answer skips (RFC 9110, §15.2).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::requests::Requests;

/// What HTTP/2 begins with (RFC 9113, §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Asks a client that has ended its side whether it is still there.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How often. Most answers are there before the first time.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Bytes that are read to see whether the client has left, while nobody wants to read.
const AHEAD: usize = 256;

/// How long a client may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pace {
    /// For the head of a request, from its first byte; for the first one, from the connection on.
    pub(super) head: Duration,
    /// To take any bytes at all of an answer.
    pub(super) write: Duration,
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
    /// What was read while nobody wanted to.
    ahead: BytesMut,
    /// Whether the client has ended its side behind that.
    ended: bool,
    /// Until such a client is asked whether it is there.
    asking: Option<Pin<Box<Sleep>>>,
    /// What is still to be sent of the question.
    question: &'static [u8],
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
            ahead: BytesMut::new(),
            ended: false,
            asking: None,
            question: &[],
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
            // From here on the connection's requests are watched, which share it.
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

impl<S: AsyncRead + AsyncWrite + Unpin> Paced<S> {
    /// Looks whether the client of an answer that is being made is still there. hyper does not read
    /// meanwhile, since `half_close` is set.
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.preface.is_some() || !self.requests.is_making() {
            self.asking = None;
            return Ok(());
        }
        if self.ahead.is_empty() && !self.ended {
            let mut space = [0; AHEAD];
            let mut buffer = ReadBuf::new(&mut space);
            if let Poll::Ready(outcome) = Pin::new(&mut self.socket).poll_read(context, &mut buffer)
            {
                outcome?;
                self.ended = buffer.filled().is_empty();
                self.ahead.extend_from_slice(buffer.filled());
                // If hyper waits for the body, it was for this.
                context.waker().wake_by_ref();
            }
        }
        if self.ended && self.ahead.is_empty() && self.requests.interim() {
            let clock = self
                .asking
                .get_or_insert_with(|| Box::pin(sleep(ASK_EVERY)));
            if clock.as_mut().poll(context).is_ready() {
                clock.as_mut().reset(Instant::now() + ASK_EVERY);
                self.question = INTERIM;
                // Registers the clock anew.
                context.waker().wake_by_ref();
            }
        }
        Ok(())
    }

    /// Sends what is left of a question: nothing else may come in between.
    fn poll_question(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.question.is_empty() {
            let outcome = Pin::new(&mut self.socket).poll_write(context, self.question);
            let sent = ready!(self.written(context, outcome))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.question = &self.question[sent..];
        }
        Poll::Ready(Ok(()))
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
        let outcome = match self.ahead.is_empty() {
            false => {
                let length = self.ahead.len().min(buffer.remaining());
                buffer.put_slice(&self.ahead[..length]);
                self.ahead.advance(length);
                Poll::Ready(Ok(()))
            }
            true if self.ended => Poll::Ready(Ok(())),
            true => Pin::new(&mut self.socket).poll_read(context, buffer),
        };
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_question(context))?;
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_question(context))?;
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look(context)?;
        ready!(self.poll_question(context))?;
        let outcome = Pin::new(&mut self.socket).poll_flush(context);
        self.written(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_shutdown(context);
        self.written(context, outcome)
    }
}

#[cfg(test)]
mod tests;
