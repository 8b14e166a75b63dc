//! Ends a call whose client stops in the middle of a message.
//!
//! A quiet client is left alone: between two messages it may say nothing for as long as it likes, and keep-alive finds the
//! peers that are gone. But one that announces a message and does not send it holds the message's buffer. So a request's
//! body is watched: silence inside a message, for longer than the limit, is an error of the body. Time counts only while
//! somebody reads the body; a stream that is not read has nothing to answer for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use tonic::body::Body;
use tower::{Layer, Service};

/// A client has stopped in the middle of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message was begun, and nothing more of it came for {} s", limit.as_secs_f64())]
pub struct MessageStalled {
    /// How long it may be silent.
    pub limit: Duration,
}

/// Adds [`Stall`] to a service.
#[derive(Debug, Clone, Copy)]
pub struct StallLayer {
    limit: Duration,
}

impl StallLayer {
    /// Silence inside a message may last this long.
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

/// Watches the bodies of the inner service's requests.
#[derive(Debug, Clone)]
pub struct Stall<S> {
    inner: S,
    limit: Duration,
}

impl<S> Layer<S> for StallLayer {
    type Service = Stall<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Stall { inner, limit: self.limit }
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Stall<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.limit;
        let watch = |body| Body::new(Watched { body, place: Place::default(), limit, silence: None });
        self.inner.call(request.map(watch))
    }
}

/// A body that ends with an error when it stalls.
struct Watched {
    body: Body,
    place: Place,
    limit: Duration,
    /// Runs out when the client has been silent for too long.
    silence: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// Where in the sequence of length-prefixed messages the bytes have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the prefix: a flag and four bytes of length.
    Prefix { bytes: u8, length: u32 },
    /// So many bytes before the end of a message.
    Message { left: u32 },
}

impl Default for Place {
    fn default() -> Self {
        Self::Prefix { bytes: 0, length: 0 }
    }
}

impl Place {
    fn is_between_messages(self) -> bool {
        self == Self::default()
    }

    fn advance(&mut self, mut data: &[u8]) {
        while let Some((&byte, rest)) = data.split_first() {
            *self = match *self {
                Self::Prefix { bytes, length } => {
                    data = rest;
                    // The first byte is the flag; it goes out again at the top.
                    let length = (length << 8) | u32::from(byte);
                    match (bytes, length) {
                        (0, _) => Self::Prefix { bytes: 1, length: 0 },
                        (1..4, _) => Self::Prefix { bytes: bytes + 1, length },
                        (_, 0) => Self::default(),
                        (_, left) => Self::Message { left },
                    }
                }
                Self::Message { left } => {
                    let taken = data.len().min(left as usize);
                    data = &data[taken..];
                    match left - taken as u32 {
                        0 => Self::default(),
                        left => Self::Message { left },
                    }
                }
            };
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.silence = None;
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                self.place.advance(data);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.place.is_between_messages() {
            return Poll::Pending;
        }
        let limit = self.limit;
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(silence.as_mut().poll(context));
        Poll::Ready(Some(Err(MessageStalled { limit }.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        // Three messages: 3 bytes, none, 300 bytes.
        let mut stream = vec![0, 0, 0, 0, 3, 7, 7, 7, 0, 0, 0, 0, 0, 1, 0, 0, 1, 44];
        stream.extend([9; 300]);
        let boundaries = [0, 8, 13, stream.len()];
        for step in 1..=stream.len() {
            let (mut place, mut at) = (Place::default(), 0);
            for part in stream.chunks(step) {
                place.advance(part);
                at += part.len();
                assert_eq!(place.is_between_messages(), boundaries.contains(&at), "{at} by {step}");
            }
        }
    }
}
