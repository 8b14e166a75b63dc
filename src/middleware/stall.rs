//! Ends a call whose client stops in the middle of a message.
//!
//! A quiet client is left alone: between two messages it may say nothing for as long as it likes, and keep-alive finds the
//! peers that are gone. But one that announces a message and does not send it holds the message's buffer. So a request's
//! body is watched: silence inside a message, for longer than the limit, is an error of the body; and so is waiting for one
//! message, in all its silences, for longer than the limit and what its size needs at [`MESSAGE_MIN_BYTES_PER_SECOND`]. Time
//! counts only while somebody reads the body; a stream that is not read has nothing to answer for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::limits::MESSAGE_MIN_BYTES_PER_SECOND;

/// A client has stopped in the middle of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message was begun, and {} for {} s", if *.is_slow { "its end did not come" } else { "nothing more of it came" }, limit.as_secs_f64())]
pub struct MessageStalled {
    /// How long it may be silent; or, where it is slow, how long this message may take.
    pub limit: Duration,
    /// Bytes came, but too few.
    pub is_slow: bool,
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
        let watch =
            |body| Body::new(Watched { body, place: Place::default(), limit, silence: None, waited: Duration::ZERO });
        self.inner.call(request.map(watch))
    }
}

/// A body that ends with an error when it stalls.
struct Watched {
    body: Body,
    place: Place,
    limit: Duration,
    /// Since when the client has been silent, and what runs out when that is too long.
    silence: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    /// How long this message was waited for, in earlier silences.
    waited: Duration,
}

/// Where in the sequence of length-prefixed messages the bytes have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the prefix: a flag and four bytes of length.
    Prefix { bytes: u8, length: u32 },
    /// So many bytes before the end of a message of this length.
    Message { left: u32, length: u32 },
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

    /// How long a message may be waited for in all, where a silence may take `limit`.
    fn patience(self, limit: Duration) -> Duration {
        let length = match self {
            // It is not known yet.
            Self::Prefix { .. } => 0,
            Self::Message { length, .. } => length,
        };
        limit + Duration::from_secs_f64(f64::from(length) / f64::from(MESSAGE_MIN_BYTES_PER_SECOND))
    }

    /// Goes on by these bytes. Says whether a message ended in them.
    fn advance(&mut self, mut data: &[u8]) -> bool {
        let mut has_ended = false;
        while let Some((&byte, rest)) = data.split_first() {
            *self = match *self {
                Self::Prefix { bytes, length } => {
                    data = rest;
                    // The first byte is the flag; it goes out again at the top.
                    let length = (length << 8) | u32::from(byte);
                    match (bytes, length) {
                        (0, _) => Self::Prefix { bytes: 1, length: 0 },
                        (1..4, _) => Self::Prefix { bytes: bytes + 1, length },
                        (_, 0) => {
                            has_ended = true;
                            Self::default()
                        }
                        (_, length) => Self::Message { left: length, length },
                    }
                }
                Self::Message { left, length } => {
                    let taken = data.len().min(left as usize);
                    data = &data[taken..];
                    match left - taken as u32 {
                        0 => {
                            has_ended = true;
                            Self::default()
                        }
                        left => Self::Message { left, length },
                    }
                }
            };
        }
        has_ended
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
            if let Some((since, _)) = self.silence.take() {
                self.waited += since.elapsed();
            }
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
                && self.place.advance(data)
            {
                self.waited = Duration::ZERO;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.place.is_between_messages() {
            return Poll::Pending;
        }
        let (limit, waited, patience) = (self.limit, self.waited, self.place.patience(self.limit));
        let wait = limit.min(patience.saturating_sub(waited));
        let silence = self.silence.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(wait))));
        ready!(silence.1.as_mut().poll(context));
        let is_slow = wait < limit;
        Poll::Ready(Some(Err(MessageStalled { limit: if is_slow { patience } else { limit }, is_slow }.into())))
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
                let before = at;
                at += part.len();
                let ends = boundaries.iter().any(|end| (before + 1..=at).contains(end));
                assert_eq!(place.advance(part), ends, "{at} by {step}");
                assert_eq!(place.is_between_messages(), boundaries.contains(&at), "{at} by {step}");
            }
        }
    }
    #[tokio::test(start_paused = true)]
    async fn a_message_of_single_bytes_is_waited_for_no_longer_than_its_size_deserves() {
        let limit = Duration::from_secs(30);
        // Announces 160 KiB, which may take ten seconds more, and sends a byte a second.
        let length = MESSAGE_MIN_BYTES_PER_SECOND * 10;
        let prefix = [&[0][..], &length.to_be_bytes()].concat();
        let bytes = futures_util::stream::unfold(Some(prefix), |next| async move {
            if next.is_none() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let data = Bytes::from(next.unwrap_or_else(|| vec![7]));
            Some((Ok::<_, tonic::Status>(Frame::data(data)), None))
        });
        let body = Body::new(http_body_util::StreamBody::new(bytes));
        let watched = Watched { body, place: Place::default(), limit, silence: None, waited: Duration::ZERO };
        let mut watched = Box::pin(watched);
        let begun = Instant::now();
        let error = loop {
            let frame = std::future::poll_fn(|context| http_body::Body::poll_frame(watched.as_mut(), context)).await;
            if let Err(error) = frame.unwrap() {
                break error;
            }
        };
        assert_eq!(
            error.downcast_ref(),
            Some(&MessageStalled { limit: Duration::from_secs(40), is_slow: true }),
            "{error}"
        );
        assert!((40..=41).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(error.to_string(), "a message was begun, and its end did not come for 40 s");
    }
}
