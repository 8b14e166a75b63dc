//! Logs each call when its response begins: method, HTTP status and milliseconds. At debug level, because streams log their own
//! beginning and end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, Service};

/// Adds [`Trace`] to a service.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceLayer;

/// Logs the calls of the inner service.
#[derive(Debug, Clone)]
pub struct Trace<S> {
    inner: S,
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Trace { inner }
    }
}

impl<S, B, R> Service<Request<B>> for Trace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Box::pin(self.inner.call(request));
        }
        let method = request.uri().path().to_owned();
        let started = Instant::now();
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?;
            let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok()).unwrap_or("0");
            let milliseconds = started.elapsed().as_secs_f64() * 1e3;
            tracing::debug!(method, status, milliseconds, "call answered");
            Ok(response)
        })
    }
}
