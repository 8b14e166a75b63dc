//! The response stream of a write session, and how it ends.
//!
//! A stream that simply stops looks like success to a gRPC client. So the end is told apart from the messages: the session
//! says how it ended, and a session that dies without a word ends its stream with an error. Saying so needs no room among
//! the messages, which a client that does not read may have filled.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

use crate::api::status;
use crate::proto::v1;

/// Responses that may wait for a client before the session waits with them.
const RESPONSES_WAITING: usize = 16;

/// Where a session's responses go.
pub(super) type Responses = mpsc::Sender<v1::WriteResponse>;

/// How the session's stream ends: said once.
pub(super) type SaysEnd = oneshot::Sender<Result<(), Status>>;

/// What the client reads.
#[derive(Debug)]
pub struct ResponseStream {
    messages: mpsc::Receiver<v1::WriteResponse>,
    /// `None` once it was read.
    end: Option<oneshot::Receiver<Result<(), Status>>>,
}

/// A session's end of a stream, and the client's.
pub(super) fn response_stream() -> (Responses, SaysEnd, ResponseStream) {
    let (responses, messages) = mpsc::channel(RESPONSES_WAITING);
    let (says_end, end) = oneshot::channel();
    (responses, says_end, ResponseStream { messages, end: Some(end) })
}

impl Stream for ResponseStream {
    type Item = Result<v1::WriteResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = std::task::ready!(self.messages.poll_recv(context)) {
            return Poll::Ready(Some(Ok(message)));
        }
        // Everything that was said before the end has been read.
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let end = std::task::ready!(Pin::new(end).poll(context));
        self.end = None;
        Poll::Ready(match end {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(_died) => Some(Err(status::internal("the session's task failed; send again what was not acked"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_session_that_dies_without_a_word_is_no_success() {
        let (responses, says_end, mut stream) = response_stream();
        responses.send(v1::WriteResponse::default()).await.unwrap();
        drop((responses, says_end));
        assert!(stream.next().await.unwrap().is_ok(), "what was said before is heard");
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), tonic::Code::Internal);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn the_end_is_heard_after_everything_else_also_when_nobody_reads() {
        let (responses, says_end, mut stream) = response_stream();
        for _ in 0..RESPONSES_WAITING {
            responses.send(v1::WriteResponse::default()).await.unwrap();
        }
        says_end.send(Err(Status::resource_exhausted("unread"))).unwrap();
        drop(responses);
        for _ in 0..RESPONSES_WAITING {
            assert!(stream.next().await.unwrap().is_ok());
        }
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), tonic::Code::ResourceExhausted);
    }
}
