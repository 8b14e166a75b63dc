//! Bounds the memory of unary calls that carry rows: `WriteRows` and `CheckRows` take one of the write sessions' slots before
//! their message is read.
//!
//! The transport buffers a whole message before a handler sees it. A streaming session takes its slot when it starts; a
//! unary call must take it here, because its handler starts when the message is there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// The path of `CheckRows`.
pub const CHECK_ROWS: &str = "/forebay.v1.TableService/CheckRows";
/// The calls that take a slot.
const CALLS: [&str; 2] = ["/forebay.v1.IngestService/WriteRows", CHECK_ROWS];

/// Adds [`UnaryWrites`] to a service.
#[derive(Debug, Clone)]
pub struct UnaryWritesLayer {
    slots: Arc<Semaphore>,
    refusal: fn() -> Status,
}

/// Lets as many unary calls with rows in as there are slots.
#[derive(Debug, Clone)]
pub struct UnaryWrites<S> {
    inner: S,
    slots: Arc<Semaphore>,
    refusal: fn() -> Status,
}

impl UnaryWritesLayer {
    /// With the slots that streaming sessions take, too, and the answer where none is free.
    pub fn new(slots: Arc<Semaphore>, refusal: fn() -> Status) -> Self {
        Self { slots, refusal }
    }
}

impl<S> Layer<S> for UnaryWritesLayer {
    type Service = UnaryWrites<S>;

    fn layer(&self, inner: S) -> Self::Service {
        UnaryWrites { inner, slots: Arc::clone(&self.slots), refusal: self.refusal }
    }
}

/// How long a client should wait where no slot is free.
pub const SLOT_RETRY: Duration = Duration::from_secs(1);

impl<S, B> Service<Request<B>> for UnaryWrites<S>
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
        if !CALLS.contains(&request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let refused = (self.refusal)().into_http();
            return Box::pin(async move { Ok(refused) });
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await;
            drop(slot);
            response
        })
    }
}
