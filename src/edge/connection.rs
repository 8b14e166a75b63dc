//! A connection as the transport gets it: bytes both ways, and beside them somebody who counts frames.
//!
//! It knows who is at the other end (each request's extensions get a copy), holds its slot, and ends with an error when its
//! client says nothing ([`crate::limits::PREFACE_TIMEOUT`]), does not speak HTTP/2, or floods. That the transport ends it for
//! what its client does is seen and counted, too. Caller: `accept` makes them, the
//! transport uses them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::caps::{Origin, Slot};
use super::flood::{Flood, FloodLimits, Guard};
use super::frames::{Follower, FrameHead};
use super::refused::Refusals;
use crate::access::Peer;

/// Why a connection was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Ended {
    #[error("it said nothing of HTTP/2 in time")]
    Silent,
    #[error("it had said nothing when the gateway stopped")]
    Stopping,
    #[error("it does not speak HTTP/2")]
    NotHttp2,
    #[error("it sends frames that cost and carry nothing ({})", .0.reason())]
    Flood(Flood),
    /// By the transport, which has said so to the client.
    #[error("HTTP/2 does not allow what it does (error code {0})")]
    Transport(u32),
}

/// HTTP/2's error code for what is too much of something.
const ENHANCE_YOUR_CALM: u32 = 11;

impl Ended {
    fn reason(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Stopping => "stopping",
            Self::NotHttp2 => "not_http2",
            Self::Flood(flood) => flood.reason(),
            Self::Transport(ENHANCE_YOUR_CALM) => "flood_http2",
            Self::Transport(_) => "http2_error",
        }
    }
}

/// The bytes' way.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection. See the module.
pub struct Connection {
    transport: Transport,
    peer: Peer,
    received: Follower,
    sent: Follower,
    guard: Guard,
    /// Until the client has begun to speak HTTP/2.
    patience: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    ended: Option<Ended>,
    is_counted: bool,
    refusals: Arc<Refusals>,
    /// Dropped with the connection.
    _slot: Slot,
}

/// What a connection is made of beside its bytes.
pub(super) struct Terms {
    pub(super) peer: Peer,
    pub(super) flood: FloodLimits,
    /// The client has begun to speak HTTP/2 by then.
    pub(super) speak_by: Instant,
    /// From then on nobody waits for it: the transport would, for its first word.
    pub(super) stop: CancellationToken,
    pub(super) refusals: Arc<Refusals>,
    pub(super) slot: Slot,
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, terms: Terms) -> Self {
        Self::new(Transport::Plain(stream), terms)
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, terms: Terms) -> Self {
        Self::new(Transport::Tls(Box::new(stream)), terms)
    }

    fn new(transport: Transport, terms: Terms) -> Self {
        let Terms { peer, flood, speak_by, stop, refusals, slot } = terms;
        let patience = async move {
            tokio::select! {
                () = tokio::time::sleep_until(speak_by) => Ended::Silent,
                () = stop.cancelled() => Ended::Stopping,
            }
        };
        Self {
            transport,
            peer,
            received: Follower::of_client(),
            sent: Follower::of_server(),
            guard: Guard::new(flood, Instant::now()),
            patience: Some(Box::pin(patience)),
            ended: None,
            is_counted: false,
            refusals,
            _slot: slot,
        }
    }

    /// Ends the connection.
    fn end(&mut self, ended: Ended) -> io::Error {
        self.count(ended);
        self.ended = Some(ended);
        io::Error::new(io::ErrorKind::ConnectionAborted, ended)
    }

    /// Counts and logs why the connection ends: once.
    fn count(&mut self, ended: Ended) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        self.refusals.count(ended.reason(), Some(self.peer.address), &ended);
        if matches!(ended, Ended::Flood(_) | Ended::Transport(ENHANCE_YOUR_CALM)) {
            self.refusals.flooded(Origin::of(self.peer.address.ip()));
        }
    }

    fn still_good(&mut self) -> io::Result<()> {
        match self.ended {
            Some(ended) => Err(self.end(ended)),
            None => Ok(()),
        }
    }

    fn watch_received(&mut self, mut data: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        loop {
            match self.received.next(&mut data) {
                Ok(Some(head)) => {
                    self.patience = None;
                    if let Err(flood) = self.guard.received(head, now) {
                        return Err(self.end(Ended::Flood(flood)));
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => return Err(self.end(Ended::NotHttp2)),
            }
        }
    }

    fn watch_sent(&mut self, mut data: &[u8], now: Instant) -> io::Result<()> {
        // The server's side has no preface that could be wrong.
        while let Ok(Some(head)) = self.sent.next(&mut data) {
            if let Err(flood) = self.guard.sent(head, now) {
                return Err(self.end(Ended::Flood(flood)));
            }
            // It is short and written at once; a code that is cut off is not seen, and nothing is lost but a number.
            if head.kind == FrameHead::GOAWAY
                && let Some(code) = data.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes)
                && code != 0
            {
                self.count(Ended::Transport(code));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.still_good()?;
        let before = buffer.filled().len();
        let read = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_pending()
            && let Some(patience) = &mut self.patience
        {
            let ended = ready!(patience.as_mut().poll(context));
            return Poll::Ready(Err(self.end(ended)));
        }
        ready!(read)?;
        let data = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.watch_received(data))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.still_good()?;
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, data),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, data),
        })?;
        self.watch_sent(data.get(..written).unwrap_or_default(), Instant::now())?;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.still_good()?;
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        })?;
        let (now, mut left) = (Instant::now(), written);
        for part in parts {
            let taken = part.len().min(left);
            self.watch_sent(part.get(..taken).unwrap_or_default(), now)?;
            left -= taken;
            if left == 0 {
                break;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
