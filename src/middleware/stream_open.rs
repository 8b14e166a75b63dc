//! Bounds the streams of each principal: how many it opens a second, and how many it has open at once.
//!
//! What happens within a stream is no matter of a layer: tower sees a stream as one request, and is done with it when the head
//! of the response is out. So the permit goes into the body of the response, which the transport keeps until the stream ends.
//! Rates within streams are `api::ingest::quota`'s.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::access::Caller;
use crate::quota::{Quotas, StreamPermit, UsedUp};
use crate::telemetry::Instruments;
use crate::telemetry::instruments::{PrincipalLabel, ReasonLabel};

/// The calls that are streams.
pub const STREAMS: [&str; 3] =
    ["/forebay.v1.IngestService/Write", "/forebay.v1.ReadService/ReadRange", "/forebay.v1.ReadService/ReadSeries"];

/// Adds [`StreamOpen`] to a service.
#[derive(Debug, Clone)]
pub struct StreamOpenLayer {
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    quotas: Quotas,
    refusal: fn(&UsedUp) -> Status,
    instruments: Arc<Instruments>,
}

/// Lets as many streams in as their principals may open.
#[derive(Debug, Clone)]
pub struct StreamOpen<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl StreamOpenLayer {
    /// By these limits, with the answer to those that are refused.
    pub fn new(quotas: Quotas, refusal: fn(&UsedUp) -> Status, instruments: Arc<Instruments>) -> Self {
        Self { gate: Arc::new(Gate { quotas, refusal, instruments }) }
    }
}

impl<S> Layer<S> for StreamOpenLayer {
    type Service = StreamOpen<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StreamOpen { inner, gate: Arc::clone(&self.gate) }
    }
}

impl Gate {
    fn refuse(&self, caller: &Caller, used_up: &UsedUp) -> Response<Body> {
        self.instruments.calls_refused.get_or_create(&ReasonLabel { reason: used_up.limit }).inc();
        let label = PrincipalLabel::of(&caller.name());
        self.instruments.rate_limited_calls.get_or_create(&label).inc();
        (self.refusal)(used_up).into_http()
    }
}

impl<S, B> Service<Request<B>> for StreamOpen<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !STREAMS.contains(&request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let caller = Caller::of(request.extensions());
        let permit = match self.gate.quotas.try_open_stream(&caller) {
            Ok(permit) => permit,
            Err(used_up) => return Box::pin(std::future::ready(Ok(self.gate.refuse(&caller, &used_up)))),
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?;
            Ok(response.map(|body| Body::new(Held { body, _permit: permit })))
        })
    }
}

/// A response's body, with the right to have it.
struct Held {
    body: Body,
    _permit: StreamPermit,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
