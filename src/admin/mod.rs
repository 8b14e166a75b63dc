//! The HTTP side port, for operators and orchestrators: `/livez`, `/readyz`, `/metrics`.
//!
//! Plain HTTP/1.1 on its own listener, off the public port. Ready means: not draining, and DynamoDB answered lately.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;
use crate::telemetry::Instruments;

/// Whether DynamoDB answers; set by the server's probe.
#[derive(Debug, Clone, Default)]
pub struct BackendHealth(Arc<AtomicBool>);

impl BackendHealth {
    /// Notes an answer, or none.
    pub fn set(&self, answers: bool) {
        self.0.store(answers, Ordering::Relaxed);
    }

    /// Whether DynamoDB answered the last probe.
    pub fn answers(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the side port shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The instruments.
    pub instruments: Arc<Instruments>,
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Whether DynamoDB answers.
    pub backend: BackendHealth,
}

/// Serves the side port until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.shutdown.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if !admin.backend.answers() {
        return (StatusCode::SERVICE_UNAVAILABLE, "DynamoDB does not answer\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.instruments.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n")).into_response()
        }
    }
}
