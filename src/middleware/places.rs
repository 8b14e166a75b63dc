//! Lets so many calls of a kind in at once, and answers the others at once.
//!
//! A call takes its place before its message is read, and gives it back when its response begins: a unary call's handler is done
//! then. Callers: [`unary_writes`](super::unary_writes()) and [`load_shed`](super::load_shed()), which say which calls take one and why.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Adds [`Places`] to a service.
#[derive(Clone)]
pub struct PlacesLayer {
    takes_one: fn(&str) -> bool,
    places: Arc<Semaphore>,
    refusal: Arc<dyn Fn() -> Status + Send + Sync>,
}

impl fmt::Debug for PlacesLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacesLayer").field("places", &self.places).finish_non_exhaustive()
    }
}

impl PlacesLayer {
    /// Calls whose path `takes_one` need one of the places; `refusal` is the answer where none is free.
    pub(super) fn new(
        takes_one: fn(&str) -> bool,
        places: Arc<Semaphore>,
        refusal: impl Fn() -> Status + Send + Sync + 'static,
    ) -> Self {
        Self { takes_one, places, refusal: Arc::new(refusal) }
    }
}

/// Lets as many calls in as there are places.
#[derive(Debug, Clone)]
pub struct Places<S> {
    inner: S,
    layer: PlacesLayer,
}

impl<S> Layer<S> for PlacesLayer {
    type Service = Places<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Places { inner, layer: self.clone() }
    }
}

impl<S, B> Service<Request<B>> for Places<S>
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
        if !(self.layer.takes_one)(request.uri().path()) {
            return Box::pin(self.inner.call(request));
        }
        let Ok(place) = Arc::clone(&self.layer.places).try_acquire_owned() else {
            return Box::pin(std::future::ready(Ok((self.layer.refusal)().into_http())));
        };
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await;
            drop(place);
            response
        })
    }
}
