//! HTTP/1.1 message by message, as far as DynamoDB's protocol uses it: every message says how long it is.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request or an answer.
#[derive(Debug, Clone)]
pub struct Message {
    /// The first line and the headers but for the length, each with its line end.
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    pub fn answer(status: u16, body: &Value) -> Self {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\n");
        Self { head, body: body.to_string().into_bytes() }
    }

    pub fn with_body(&self, body: Vec<u8>) -> Self {
        Self { head: self.head.clone(), body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A connection, message by message.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next message; `None` at the end of the connection.
    pub async fn read(&mut self) -> io::Result<Option<Message>> {
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 2;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let head = std::str::from_utf8(&self.buffer[..head_end]).expect("headers are ASCII");
        let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
        let length = head.lines().find(is_length).and_then(|line| line.split_once(':')?.1.trim().parse().ok());
        let length: usize = length.expect("DynamoDB's messages say how long they are");
        let head = head.lines().filter(|line| !is_length(line)).flat_map(|line| [line, "\r\n"]).collect();
        let body_start = head_end + 2;
        while self.buffer.len() < body_start + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let body = self.buffer[body_start..body_start + length].to_vec();
        self.buffer.drain(..body_start + length);
        Ok(Some(Message { head, body }))
    }

    pub async fn write(&mut self, message: &Message) -> io::Result<()> {
        let mut bytes = format!("{}content-length: {}\r\n\r\n", message.head, message.body.len()).into_bytes();
        bytes.extend_from_slice(&message.body);
        self.stream.write_all(&bytes).await
    }
}
