//! The outermost layer of a call: its span, its duration, its log line.
//!
//! A call ends when its last byte is given to the transport or nobody wants it any more, not when its response begins: the
//! response's body is watched for its trailers. A stream that a client leaves ends as `CANCELLED`. Names follow OpenTelemetry's
//! conventions for RPC; docs/telemetry.md says which version.
//!
//! While a call's future or its body is polled, its span is OpenTelemetry's current one, so that what runs within finds its
//! parent; a handler that spawns a task takes the span from the request's extensions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use tonic::Code;
use tower::{Layer, Service};

use crate::access::Peer;
use crate::proto::code_name;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::RpcLabel;
use crate::telemetry::spans::{Span, within};

/// What is served; other paths are `_OTHER`, because they come from outside.
const METHODS: [&str; 15] = [
    "forebay.v1.IngestService/Write",
    "forebay.v1.IngestService/WriteRows",
    "forebay.v1.ReadService/GetRow",
    "forebay.v1.ReadService/BatchGetRows",
    "forebay.v1.ReadService/ReadRange",
    "forebay.v1.ReadService/ReadSeries",
    "forebay.v1.TableService/ApplyTable",
    "forebay.v1.TableService/GetTable",
    "forebay.v1.TableService/ListTables",
    "forebay.v1.TableService/DropTable",
    "forebay.v1.TableService/CheckRows",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// A method that is not served.
const OTHER: &str = "_OTHER";
const CANCELLED: &str = code_name(Code::Cancelled);
const UNKNOWN: &str = code_name(Code::Unknown);
/// Statuses that are the server's failure, by the conventions; the others are the caller's.
const FAILURES: [&str; 6] = ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// Adds [`Trace`] to a service.
#[derive(Debug, Clone)]
pub struct TraceLayer {
    instruments: Arc<Instruments>,
}

impl TraceLayer {
    /// Counts with these instruments, and makes spans with their tracing.
    pub fn new(instruments: Arc<Instruments>) -> Self {
        Self { instruments }
    }
}

/// Watches the calls of the inner service.
#[derive(Debug, Clone)]
pub struct Trace<S> {
    inner: S,
    instruments: Arc<Instruments>,
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Trace { inner, instruments: Arc::clone(&self.instruments) }
    }
}

impl<S, B, R> Service<Request<B>> for Trace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Watched<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let call = Call::begin(&self.instruments, &mut request);
        let scope = call.span.as_ref().map(Span::scope);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut call = call;
            match within(scope, answer).await {
                Ok(response) => {
                    // An answer without messages has its status in its head.
                    if let Some(status) = status_of(response.headers()) {
                        call.end(status);
                    }
                    Ok(response.map(|body| Watched { body, call }))
                }
                Err(error) => {
                    call.end(UNKNOWN);
                    Err(error)
                }
            }
        })
    }
}

/// A call that goes on. Dropped without an end, it was left.
#[derive(Debug)]
struct Call {
    method: &'static str,
    started: Instant,
    instruments: Arc<Instruments>,
    span: Option<Span>,
    ended: bool,
}

impl Call {
    fn begin<B>(instruments: &Arc<Instruments>, request: &mut Request<B>) -> Self {
        let path = request.uri().path().trim_start_matches('/');
        let method = METHODS.iter().copied().find(|method| *method == path).unwrap_or(OTHER);
        // Probes and tools would fill the traces with what nobody asks for.
        let is_traced = method.starts_with("forebay.") || method == OTHER;
        let span = match is_traced {
            true => instruments.tracing.incoming(method, request.headers(), || attributes(method, request)),
            false => None,
        };
        if let Some(span) = &span {
            request.extensions_mut().insert(span.clone());
        }
        Self { method, started: Instant::now(), instruments: Arc::clone(instruments), span, ended: false }
    }

    fn end(&mut self, status: &'static str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let error = FAILURES.contains(&status).then_some(status);
        let label = RpcLabel { error, method: self.method, status, system: "grpc" };
        self.instruments.rpc_calls.get_or_create(&label).observe(seconds);
        if let Some(span) = self.span.take() {
            span.note([KeyValue::new("rpc.response.status_code", status)]);
            if let Some(error) = error {
                span.fail(error);
            }
            span.end();
        }
        // Streams log their own beginning and end.
        tracing::debug!(method = self.method, status, milliseconds = seconds * 1e3, "call ended");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A handler that panics is our fault, not its caller's.
        self.end(if std::thread::panicking() { UNKNOWN } else { CANCELLED });
    }
}

fn attributes<B>(method: &'static str, request: &Request<B>) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method)];
    if method == OTHER {
        attributes.push(KeyValue::new("rpc.method_original", request.uri().path().trim_start_matches('/').to_owned()));
    }
    if let Some(authority) = request.uri().authority() {
        attributes.push(KeyValue::new("server.address", authority.host().to_owned()));
        attributes.extend(authority.port_u16().map(|port| KeyValue::new("server.port", i64::from(port))));
    }
    if let Some(peer) = request.extensions().get::<Peer>() {
        attributes.push(KeyValue::new("network.peer.address", peer.address.ip().to_string()));
        attributes.push(KeyValue::new("network.peer.port", i64::from(peer.address.port())));
    }
    attributes
}

fn status_of(headers: &HeaderMap) -> Option<&'static str> {
    // What is no number of gRPC is UNKNOWN.
    Some(code_name(Code::from_bytes(headers.get("grpc-status")?.as_bytes())))
}

/// A response's body, watched until it ends.
#[derive(Debug)]
pub struct Watched<R> {
    body: R,
    call: Call,
}

impl<R: Body + Unpin> Body for Watched<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let frame = {
            let _beneath = this.call.span.as_ref().map(|span| span.scope().attach());
            std::task::ready!(Pin::new(&mut this.body).poll_frame(context))
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.end(status_of(trailers).unwrap_or(UNKNOWN));
                }
            }
            Some(Err(_)) | None => this.call.end(UNKNOWN),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_that_is_served_has_its_name_in_the_telemetry() {
        let mut served = BTreeSet::new();
        for descriptors in [
            crate::proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(descriptors).unwrap().file {
                for service in &file.service {
                    let names = service
                        .method
                        .iter()
                        .map(|method| format!("{}.{}/{}", file.package(), service.name(), method.name()));
                    served.extend(names);
                }
            }
        }
        let known: BTreeSet<_> = METHODS.iter().map(|method| (*method).to_owned()).collect();
        assert_eq!(served, known);
    }

    #[test]
    fn a_status_that_is_no_number_of_grpc_is_unknown() {
        let headers = |code: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
        assert_eq!(status_of(&headers("0")), Some("OK"));
        assert_eq!(status_of(&headers("16")), Some("UNAUTHENTICATED"));
        assert_eq!((status_of(&headers("17")), status_of(&headers("x"))), (Some(UNKNOWN), Some(UNKNOWN)));
        assert_eq!(status_of(&HeaderMap::new()), None);
    }
}
