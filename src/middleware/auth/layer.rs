//! The layer itself: what it does with a request, whatever its credential is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::{Authenticator, Refusal, Shown};
use crate::access::{Caller, Peer};
use crate::telemetry::Instruments;
use crate::telemetry::instruments::ReasonLabel;

/// Paths that need no credential: load balancers and kubelets that ask for health have none.
const OPEN_TO_ALL: &str = "/grpc.health.v1.Health/";

/// Adds [`Auth`] to a service.
#[derive(Debug, Clone)]
pub struct AuthLayer {
    door: Option<Arc<Door>>,
}

#[derive(Debug)]
struct Door {
    authenticator: Authenticator,
    refusal: fn(Refusal) -> Status,
    instruments: Arc<Instruments>,
}

/// Lets in who is known, with a [`Caller`] in the request's extensions.
#[derive(Debug, Clone)]
pub struct Auth<S> {
    inner: S,
    door: Option<Arc<Door>>,
}

impl AuthLayer {
    /// Lets in whom the authenticator knows; all others get this answer.
    pub fn new(authenticator: Authenticator, refusal: fn(Refusal) -> Status, instruments: Arc<Instruments>) -> Self {
        Self { door: Some(Arc::new(Door { authenticator, refusal, instruments })) }
    }

    /// Lets everybody in, as [`Caller::anyone`].
    pub fn open() -> Self {
        Self { door: None }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Auth { inner, door: self.door.clone() }
    }
}

impl Door {
    fn refuse<B>(&self, refusal: Refusal, request: &Request<B>) -> Response<Body> {
        let reason = refusal.label();
        self.instruments.calls_refused.get_or_create(&ReasonLabel { reason }).inc();
        // Whose old key still comes, and from where: what the client is not told.
        let key = super::key_id(request.headers());
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        tracing::info!(reason, key, peer = peer.map(tracing::field::display), "a call is refused");
        (self.refusal)(refusal).into_http()
    }
}

/// The request as the layers below see it. They need no secret, and what is not there cannot be logged.
fn admit<B>(mut request: Request<B>, caller: Caller) -> Request<B> {
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(caller);
    request
}

impl<S, B> Service<Request<B>> for Auth<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(door) = &self.door else { return Box::pin(self.inner.call(request)) };
        if request.uri().path().starts_with(OPEN_TO_ALL) {
            return Box::pin(self.inner.call(request));
        }
        let shown = door.authenticator.shown(request.headers(), request.extensions(), SystemTime::now());
        let token = match shown {
            Ok(Shown::Token(token)) => token.to_owned(),
            Ok(Shown::Good(identity)) => match door.authenticator.caller(identity) {
                Ok(caller) => return Box::pin(self.inner.call(admit(request, caller))),
                Err(refusal) => return Box::pin(std::future::ready(Ok(door.refuse(refusal, &request)))),
            },
            Err(refusal) => return Box::pin(std::future::ready(Ok(door.refuse(refusal, &request)))),
        };
        let door = Arc::clone(door);
        // The one that was polled ready goes with the call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let identity = door.authenticator.token(&token).await;
            match identity.and_then(|identity| door.authenticator.caller(identity)) {
                Ok(caller) => inner.call(admit(request, caller)).await,
                Err(refusal) => Ok(door.refuse(refusal, &request)),
            }
        })
    }
}
