//! A client that sends bytes as they are.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::process::Server;

/// How long an answer may take on a slow machine.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    /// Bytes sent so far, as far as a test counts them.
    pub(crate) sent: usize,
}

/// One answer of a connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Raw {
    pub(crate) async fn connect(server: &Server) -> Self {
        let socket = TcpStream::connect(&server.address).await.unwrap();
        Self { socket, sent: 0 }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Whether the server has said anything within a moment.
    pub(crate) async fn has_answer(&self) -> bool {
        let mut byte = [0];
        let look = timeout(Duration::from_millis(1), self.socket.peek(&mut byte));
        matches!(look.await, Ok(Ok(read)) if read > 0)
    }

    /// Everything until the server closes, or is silent for long.
    pub(crate) async fn answers(&mut self) -> Vec<Answer> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            match timeout(READ_TIMEOUT, self.socket.read(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
                Ok(_) => break,
                Err(_) => panic!("the server neither answers nor closes"),
            }
        }
        split(&bytes)
    }
}

/// Sends everything, then reads until the server closes the connection.
pub(crate) async fn ask(server: &Server, request: impl AsRef<[u8]>) -> Vec<Answer> {
    let mut raw = Raw::connect(server).await;
    // The server may close before it has read everything; what it said is read all the same.
    let _ = raw.socket.write_all(request.as_ref()).await;
    raw.answers().await
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Splits what came into answers, by their lengths.
fn split(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, rest) = bytes.split_at(end.expect("a whole head") + 4);
        let mut lines = str::from_utf8(head).expect("a head is text").lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let answer = Answer {
            status: status.and_then(|code| code.parse().ok()).expect("a status"),
            headers,
        };
        let length = answer.header("content-length").parse().unwrap_or(0);
        bytes = &rest[usize::min(length, rest.len())..];
        answers.push(answer);
    }
    answers
}
