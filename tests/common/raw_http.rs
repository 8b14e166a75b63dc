//! A gRPC call as bytes: for what no honest client sends.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::ServiceExt as _;

/// A body that says what it is told, and ends when its sender is dropped.
struct Told(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A call under way.
pub struct RawCall {
    /// `None` once the client has half-closed.
    pub body: Option<mpsc::UnboundedSender<Bytes>>,
    response: tokio::task::JoinHandle<(i32, String)>,
}

impl RawCall {
    /// Calls a method, `IngestService/Write`.
    pub fn start(channel: Channel, method: &str) -> Self {
        let (body, told) = mpsc::unbounded_channel();
        let request = http::Request::post(format!("/forebay.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(Told(told)))
            .expect("a request");
        let response = tokio::spawn(async move {
            let response = channel.oneshot(request).await.expect("an answer");
            if let Some(status) = status(response.headers()) {
                return status;
            }
            let mut body = response.into_body();
            loop {
                match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                    Some(Ok(frame)) => {
                        if let Some(status) = frame.trailers_ref().and_then(status) {
                            return status;
                        }
                    }
                    Some(Err(error)) => return (error.code() as i32, error.message().to_owned()),
                    None => panic!("a call without a status"),
                }
            }
        });
        Self { body: Some(body), response }
    }

    pub fn say(&self, bytes: impl Into<Bytes>) {
        // A call that has ended does not read.
        let _ended = self.body.as_ref().expect("not half-closed").send(bytes.into());
    }

    /// The status, when it comes.
    pub async fn status(self) -> (tonic::Code, String) {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.response).await.expect("a status in time");
        let (code, message) = answer.expect("a call");
        (tonic::Code::from_i32(code), message)
    }

    pub fn has_ended(&self) -> bool {
        self.response.is_finished()
    }
}

fn status(headers: &http::HeaderMap) -> Option<(i32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
    Some((code, message.replace("%20", " ")))
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut out = vec![0];
    out.extend((message.len() as u32).to_be_bytes());
    out.extend(message);
    out.into()
}

/// A request of a write session with its prefix.
pub fn request(message: forebay::proto::v1::write_request::Message) -> Bytes {
    framed(&forebay::proto::v1::WriteRequest { message: Some(message) }.encode_to_vec())
}
