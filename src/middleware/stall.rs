//! Ends a call whose client stops in the middle of a message.
//!
//! A quiet client is left alone: between two messages it may say nothing for as long as it likes, and keep-alive finds the
//! peers that are gone. But one that announces a message and does not send it holds the message's buffer. So a request's
//! body is watched: silence inside a message, for longer than the limit, is an error of the body; and so is waiting for one
//! message, in all its silences, for longer than the limit and what its size needs at [`MESSAGE_MIN_BYTES_PER_SECOND`]. Time
//! counts only while somebody reads the body; a stream that is not read has nothing to answer for.
//!
//! A call that is not a stream of requests has nothing to be quiet about: its one message and its end are due, and while they do
//! not come it holds a place among the calls of everybody. So there the clock runs from the beginning to the end of the request.

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
#[error("a message was {}, and {} for {} s", if *.is_begun { "begun" } else { "due" }, if *.is_slow { "its end did not come" } else { "nothing more of it came" }, limit.as_secs_f64())]
pub struct MessageStalled {
    /// Some of a message had come; else, of a call that is not a stream, its message or its end was due.
    pub is_begun: bool,
    /// How long it may be silent; or, where it is slow, how long this message may take.
    pub limit: Duration,
    /// Bytes came, but too few.
    pub is_slow: bool,
}

/// The calls whose clients may send many messages, and be quiet between them.
const REQUEST_STREAMS: [&str; 3] = [
    "/forebay.v1.IngestService/Write",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

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
        let may_be_quiet = REQUEST_STREAMS.contains(&request.uri().path());
        let watch = |body| Body::new(Watched::new(body, limit, may_be_quiet));
        self.inner.call(request.map(watch))
    }
}

/// A body that ends with an error when it stalls.
struct Watched {
    body: Body,
    /// Between messages; else it is the whole request that is due.
    may_be_quiet: bool,
    /// The longest message so far, where the whole request is due.
    longest: u32,
    place: Place,
    limit: Duration,
    /// Since when the client has been silent, and what runs out when that is too long.
    silence: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    /// How long this message, or the whole request, was waited for, in earlier silences.
    waited: Duration,
}

impl Watched {
    fn new(body: Body, limit: Duration, may_be_quiet: bool) -> Self {
        Self { body, may_be_quiet, longest: 0, place: Place::default(), limit, silence: None, waited: Duration::ZERO }
    }

    /// How long what is due may be waited for in all.
    fn patience(&mut self) -> Duration {
        self.longest = match self.may_be_quiet {
            true => self.place.length(),
            false => self.longest.max(self.place.length()),
        };
        self.limit + Duration::from_secs_f64(f64::from(self.longest) / f64::from(MESSAGE_MIN_BYTES_PER_SECOND))
    }
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

    /// How long the message is, as far as is known.
    fn length(self) -> u32 {
        match self {
            Self::Prefix { .. } => 0,
            Self::Message { length, .. } => length,
        }
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
                && self.may_be_quiet
            {
                self.waited = Duration::ZERO;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let is_begun = !self.place.is_between_messages();
        if self.may_be_quiet && !is_begun {
            return Poll::Pending;
        }
        let (limit, waited, patience) = (self.limit, self.waited, self.patience());
        let wait = limit.min(patience.saturating_sub(waited));
        let silence = self.silence.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(wait))));
        ready!(silence.1.as_mut().poll(context));
        let is_slow = wait < limit;
        Poll::Ready(Some(Err(
            MessageStalled { is_begun, limit: if is_slow { patience } else { limit }, is_slow }.into()
        )))
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

    /// Reads a request of these parts, a second before each, then nothing and no end; says when it was given up.
    async fn given_up_after(parts: Vec<Vec<u8>>, may_be_quiet: bool) -> Option<(Duration, String)> {
        let parts = futures_util::stream::unfold(parts.into_iter(), |mut parts| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            match parts.next() {
                Some(part) => Some((Ok::<_, tonic::Status>(Frame::data(Bytes::from(part))), parts)),
                None => std::future::pending().await,
            }
        });
        let body = Body::new(http_body_util::StreamBody::new(parts));
        let mut watched = Box::pin(Watched::new(body, Duration::from_secs(30), may_be_quiet));
        let begun = Instant::now();
        let read = async {
            loop {
                let frame =
                    std::future::poll_fn(|context| http_body::Body::poll_frame(watched.as_mut(), context)).await;
                if let Err(error) = frame.unwrap() {
                    return (begun.elapsed(), error.to_string());
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), read).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn fault_6_a_call_that_is_no_stream_owes_its_message_and_its_end() {
        let message = vec![0, 0, 0, 0, 1, 7];
        let said = "a message was due, and nothing more of it came for 30 s";
        let (after, words) = given_up_after(vec![], false).await.unwrap();
        assert_eq!((after.as_secs(), words.as_str()), (30, said));
        // The end does not come, nor do empty messages without end put it off.
        let (after, _) = given_up_after(vec![message.clone()], false).await.unwrap();
        assert!((30..=32).contains(&after.as_secs()), "{after:?}");
        let (after, _) = given_up_after(vec![vec![0; 5]; 1000], false).await.unwrap();
        assert!((30..=32).contains(&after.as_secs()), "{after:?}");
        // A stream may be quiet before its messages and between them.
        assert_eq!(given_up_after(vec![message.clone(), message], true).await, None);
        assert_eq!(given_up_after(vec![], true).await, None);
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
        let mut watched = Box::pin(Watched::new(body, limit, true));
        let begun = Instant::now();
        let error = loop {
            let frame = std::future::poll_fn(|context| http_body::Body::poll_frame(watched.as_mut(), context)).await;
            if let Err(error) = frame.unwrap() {
                break error;
            }
        };
        assert_eq!(
            error.downcast_ref(),
            Some(&MessageStalled { is_begun: true, limit: Duration::from_secs(40), is_slow: true }),
            "{error}"
        );
        assert!((40..=41).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(error.to_string(), "a message was begun, and its end did not come for 40 s");
    }
}
