//! Lets one call of a service have larger messages than the others.
//!
//! The limit of a message is tonic's to keep, for a service as a whole. Raised for the sake of one call, it would let every
//! other one make the transport buffer as much, without the slot that bounds how many do so at once. So a service is there
//! twice, with either limit, and the path decides.

use std::task::{Context, Poll};

use http::Request;
use tonic::server::NamedService;
use tower::Service;

/// A service with the usual limit, and the same with a larger one for one path.
#[derive(Debug, Clone)]
pub struct LargeCalls<S> {
    path: &'static str,
    usual: S,
    large: S,
}

impl<S> LargeCalls<S> {
    /// Calls of `path` go to `large`, all others to `usual`.
    pub fn new(path: &'static str, usual: S, large: S) -> Self {
        Self { path, usual, large }
    }
}

impl<S: NamedService> NamedService for LargeCalls<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for LargeCalls<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.usual.poll_ready(context) {
            Poll::Ready(Ok(())) => self.large.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match request.uri().path() == self.path {
            true => self.large.call(request),
            false => self.usual.call(request),
        }
    }
}
