//! HTTP/2 as frames: for what no honest client sends.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The header list of a call, without compression.
pub fn call_headers(path: &str) -> Vec<u8> {
    // Of HPACK's table: `:method: POST` and `:scheme: http`.
    let mut out = vec![0x83, 0x86];
    for (name, value) in
        [(":path", path), (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers")]
    {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).expect("short"));
            out.extend(text.as_bytes());
        }
    }
    out
}

/// A way to make a server busy for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Calls that are cancelled in the same breath.
    RapidReset,
    /// Calls that are cancelled one by one, each after it has begun.
    PacedReset,
    /// More calls than a connection may have, so that the server resets them.
    Refused,
    /// A header list without end.
    Continuation,
    Ping,
    Settings,
    Priority,
    WindowUpdate,
    /// DATA without data and without end.
    EmptyData,
    /// Frames that HTTP/2 does not know.
    Unknown,
}

impl Flood {
    pub const ALL: [Self; 10] = [
        Self::RapidReset,
        Self::PacedReset,
        Self::Refused,
        Self::Continuation,
        Self::Ping,
        Self::Settings,
        Self::Priority,
        Self::WindowUpdate,
        Self::EmptyData,
        Self::Unknown,
    ];

    /// Frames that are sent at once.
    fn frames_at_once(self) -> usize {
        if self == Self::PacedReset { 2 } else { 64 }
    }

    /// What is said before.
    fn opening(self) -> Vec<u8> {
        match self {
            Self::Continuation => frame(HEADERS, 0, 1, &call_headers(METHOD)),
            Self::EmptyData => frame(HEADERS, END_HEADERS, 1, &call_headers(METHOD)),
            _ => Vec::new(),
        }
    }

    /// The next frames; `sent` were before.
    fn frames(self, sent: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for number in (sent..).take(self.frames_at_once()) {
            let number = u32::try_from(number).expect("a test is short");
            out.extend(match self {
                Self::RapidReset | Self::PacedReset if number % 2 == 0 => {
                    frame(HEADERS, END_HEADERS, number + 1, &call_headers(METHOD))
                }
                Self::RapidReset | Self::PacedReset => frame(RST_STREAM, 0, number, &8_u32.to_be_bytes()),
                Self::Refused => frame(HEADERS, END_HEADERS, number * 2 + 1, &call_headers(METHOD)),
                // A header of its own in each: `a: b`.
                Self::Continuation => frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']),
                Self::Ping => frame(PING, 0, 0, &[0; 8]),
                Self::Settings => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]),
                Self::Priority => frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]),
                Self::WindowUpdate => frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
                Self::EmptyData => frame(DATA, 0, 1, &[]),
                Self::Unknown => frame(0xbe, 0, 0, b"grease"),
            });
        }
        out
    }
}

/// A call that waits for more, so that it is open until somebody ends it.
const METHOD: &str = "/forebay.v1.IngestService/Write";

/// A connection that has said its preface.
pub struct RawConnection {
    pub write: OwnedWriteHalf,
    /// Reads on, and ends with the connection.
    pub reading: JoinHandle<u64>,
}

impl RawConnection {
    /// From any address of this host, such as 127.0.0.2.
    pub async fn open(from: [u8; 4], to: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Self::begin(stream).await
    }

    async fn begin(stream: TcpStream) -> std::io::Result<Self> {
        let (mut read, mut write) = stream.into_split();
        write.write_all(PREFACE).await?;
        write.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        let reading = tokio::spawn(async move {
            let (mut scrap, mut bytes) = (vec![0; 16 * 1024], 0);
            while let Ok(read @ 1..) = read.read(&mut scrap).await {
                bytes += read as u64;
            }
            bytes
        });
        Ok(Self { write, reading })
    }

    pub fn is_closed(&self) -> bool {
        self.reading.is_finished()
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Sends the next frames of a flood: how many; `None` where the connection is closed.
pub async fn flood_step(connection: &mut RawConnection, kind: Flood, sent: &mut usize) -> Option<usize> {
    let mut bytes = if *sent == 0 { kind.opening() } else { Vec::new() };
    bytes.extend(kind.frames(*sent));
    if connection.is_closed() || connection.write.write_all(&bytes).await.is_err() {
        return None;
    }
    *sent += kind.frames_at_once();
    Some(kind.frames_at_once())
}

/// Floods over one connection until it is closed, with a pause after each write. How many frames were sent; `None` where
/// `most` were, and it was not closed.
pub async fn flood(connection: &mut RawConnection, kind: Flood, pause: Duration, most: usize) -> Option<usize> {
    let mut sent = 0;
    while sent < most {
        if flood_step(connection, kind, &mut sent).await.is_none() {
            return Some(sent);
        }
        tokio::time::sleep(pause).await;
    }
    None
}
