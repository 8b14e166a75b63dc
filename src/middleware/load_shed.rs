//! Bounds the unary calls that are in handlers at once, for the process as a whole.
//!
//! A call that waits for its turn costs memory and helps nobody: its caller gives up and calls again. So there is no queue:
//! beyond the bound calls are answered at once, with the time to come back, and the client or its load balancer goes to another
//! gateway. Streams are bounded elsewhere (slots of write sessions, `stream_open`), for they last. Health is never shed: a
//! gateway that is busy must not look dead. Nor is reflection, which people ask.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::stream_open::STREAMS;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::ReasonLabel;

/// Paths of the services that are bounded.
const OURS: &str = "/forebay.v1.";

/// Adds [`LoadShed`] to a service.
#[derive(Debug, Clone)]
pub struct LoadShedLayer {
    places: Arc<Semaphore>,
    refusal: fn() -> Status,
    instruments: Arc<Instruments>,
}

/// Lets so many unary calls in at once.
#[derive(Debug, Clone)]
pub struct LoadShed<S> {
    inner: S,
    layer: LoadShedLayer,
}

impl LoadShedLayer {
    /// With room for so many calls, and the answer where there is none.
    pub fn new(max_calls: usize, refusal: fn() -> Status, instruments: Arc<Instruments>) -> Self {
        let places = Arc::new(Semaphore::new(max_calls.min(Semaphore::MAX_PERMITS)));
        Self { places, refusal, instruments }
    }
}

impl<S> Layer<S> for LoadShedLayer {
    type Service = LoadShed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LoadShed { inner, layer: self.clone() }
    }
}

impl<S, B> Service<Request<B>> for LoadShed<S>
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
        let path = request.uri().path();
        if !path.starts_with(OURS) || STREAMS.contains(&path) {
            return Box::pin(self.inner.call(request));
        }
        let LoadShedLayer { places, refusal, instruments } = &self.layer;
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            instruments.calls_refused.get_or_create(&ReasonLabel { reason: "overloaded" }).inc();
            return Box::pin(std::future::ready(Ok(refusal().into_http())));
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            // A unary call's handler is done when its response begins.
            let response = call.await;
            drop(place);
            response
        })
    }
}
