//! The side port's listener: HTTP/1.1 with bounds on everything that a peer could hold.
//!
//! So many connections at once; a request's head must come in time, and an idle connection ends by the same clock; a body is
//! not taken; no connection lasts for ever, so that one whose peer does not read its answers ends, too. Caller: the side
//! port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::limits::{ADMIN_CONNECTION_MAX_AGE, ADMIN_HEADER_TIMEOUT, ADMIN_MAX_CONNECTIONS, ADMIN_MAX_HEAD_BYTES};

/// What a connection gets to end, once it should.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// After an error that is not one connection's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves until `stop`; then connections finish the request that they are at.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(ADMIN_MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the side port cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// The next connection, when there is a place for it: others wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = match Arc::clone(places).acquire_owned().await {
        Ok(place) => place,
        Err(_closed) => unreachable!("the semaphore is never closed"),
    };
    Ok((listener.accept().await?.0, place))
}

async fn serve_connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEADER_TIMEOUT)
        .max_buf_size(ADMIN_MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::time::timeout(ADMIN_CONNECTION_MAX_AGE, stop.cancelled()).await.unwrap_or_default() } => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(CLOSE_GRACE, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return tracing::debug!("a connection to the side port was cut off"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the side port ended with an error");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, std::convert::Infallible> {
    if !request.body().is_end_stream() {
        let close = [(header::CONNECTION, "close")];
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, close, "a request to this port has no body\n").into_response());
    }
    router.oneshot(request.map(Body::new)).await
}
