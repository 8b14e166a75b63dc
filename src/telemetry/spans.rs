//! Spans: one a call, one a write attempt, one a DynamoDB call.
//!
//! A [`Tracing`] is handed in, not global: each gateway of a process has its own, and most have none. Only a call may begin a
//! trace; everything below makes a span only beneath one that is sampled, so that without sampling nothing is allocated. The
//! parent travels as OpenTelemetry's current context, which is attached while a future is polled. Attributes are names, counts
//! and outcomes, never values of rows.
//!
//! Callers: `middleware::trace` (calls), `pool::lane` (attempts), `store::observed` (DynamoDB calls), `cli` (commands).

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{
    FutureExt as _, Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::instruments::scope;

/// Makes spans, or none.
#[derive(Clone, Default)]
pub struct Tracing(Option<(SdkTracer, SdkTracerProvider)>);

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").field("on", &self.is_on()).finish()
    }
}

/// A span that is recorded; it ends with [`Span::end`], or with its last clone.
#[derive(Clone)]
pub struct Span(Context);

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.context()).finish()
    }
}

impl Tracing {
    /// Makes no span.
    pub fn off() -> Self {
        Self(None)
    }

    /// Makes spans of this provider.
    pub fn new(provider: SdkTracerProvider) -> Self {
        Self(Some((provider.tracer_with_scope(scope()), provider)))
    }

    /// Whether there may be spans.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A span for a call that comes in. Its parent is the caller's, by `traceparent` and `tracestate`.
    pub fn incoming(
        &self,
        name: &'static str,
        headers: &HeaderMap,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Option<Span> {
        let (tracer, _) = self.0.as_ref()?;
        // Without a parent of this thread's: a server polls many calls on it.
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes());
        recorded(tracer.build_with_context(builder, &parent))
    }

    /// A span that begins a trace here.
    pub fn root(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Option<Span> {
        let (tracer, _) = self.0.as_ref()?;
        recorded(tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), &Context::new()))
    }

    /// A span for the work of several calls: beneath the first, and linked to all. None where there is none.
    pub fn shared(
        &self,
        name: &'static str,
        calls: &[SpanContext],
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Option<Span> {
        let (tracer, _) = self.0.as_ref()?;
        let parent = Context::new().with_remote_span_context(calls.first()?.clone());
        let links = calls.iter().map(|call| Link::new(call.clone(), Vec::new(), 0)).collect();
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_links(links);
        recorded(tracer.build_with_context(builder.with_attributes(attributes()), &parent))
    }

    /// A span for a call that goes out, beneath the current span. None where that is not sampled, or there is none.
    pub fn outgoing(&self, name_and_attributes: impl FnOnce() -> (String, Vec<KeyValue>)) -> Option<Span> {
        let (tracer, _) = self.0.as_ref()?;
        Context::map_current(|parent| {
            if !parent.span().span_context().is_sampled() {
                return None;
            }
            let (name, attributes) = name_and_attributes();
            let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_attributes(attributes);
            recorded(tracer.build_with_context(builder, parent))
        })
    }

    /// Exports what there is, and ends. Blocks.
    pub(super) fn shutdown(&self) -> OTelSdkResult {
        self.0.as_ref().map_or(Ok(()), |(_, provider)| provider.shutdown())
    }
}

fn recorded(span: opentelemetry_sdk::trace::Span) -> Option<Span> {
    (span.is_recording() && span.span_context().is_sampled()).then(|| Span(Context::new().with_span(span)))
}

impl Span {
    /// What others need to name it as their parent, or to link to it.
    pub fn context(&self) -> SpanContext {
        self.0.span().span_context().clone()
    }

    /// The context in which what is beneath it runs.
    pub fn scope(&self) -> Context {
        self.0.clone()
    }

    /// Adds attributes.
    pub fn note(&self, attributes: impl IntoIterator<Item = KeyValue>) {
        self.0.span().set_attributes(attributes);
    }

    /// What it stands for has failed. There is no text, because messages may show values.
    pub fn fail(&self, error: &'static str) {
        self.0.span().set_attribute(KeyValue::new("error.type", error));
        self.0.span().set_status(Status::error(""));
    }

    /// Ends it.
    pub fn end(&self) {
        self.0.span().end();
    }
}

/// Runs a call beneath the span of this scope, where there is one.
pub async fn within<T>(scope: Option<Context>, call: impl Future<Output = T>) -> T {
    match scope {
        Some(scope) => call.with_context(scope).await,
        None => call.await,
    }
}

/// Adds attributes to the current span, where there is one.
pub fn note_current(attributes: impl FnOnce() -> Vec<KeyValue>) {
    Context::map_current(|current| {
        if current.has_active_span() {
            current.span().set_attributes(attributes());
        }
    });
}

/// Writes the current span into a call's headers, where there is one.
pub fn inject(headers: &mut HeaderMap) {
    Context::map_current(|current| {
        if current.has_active_span() {
            TraceContextPropagator::new().inject_context(current, &mut HeadersMut(headers));
        }
    });
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        // The propagator's own names, and hexadecimal digits; a `tracestate` that is no header is left out.
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracing(sampler: Sampler) -> (Tracing, InMemorySpanExporter) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).with_sampler(sampler);
        (Tracing::new(provider.build()), exporter)
    }

    fn parent(flags: &str) -> HeaderMap {
        let text = PARENT.replace("-01", flags);
        HeaderMap::from_iter([("traceparent".parse().unwrap(), text.parse().unwrap())])
    }

    #[test]
    fn the_callers_trace_goes_on_and_its_flag_decides() {
        let (tracing, exporter) = tracing(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
        drop(tracing.incoming("a", &parent("-01"), Vec::new));
        assert!(tracing.incoming("b", &parent("-00"), Vec::new).is_none(), "the caller does not sample");
        assert!(tracing.incoming("c", &HeaderMap::new(), Vec::new).is_none(), "nor does the gateway by itself");
        let spans = exporter.get_finished_spans().unwrap();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(spans[0].parent_span_is_remote);
    }

    #[test]
    fn a_broken_traceparent_is_no_parent() {
        let (tracing, _) = tracing(Sampler::AlwaysOn);
        for broken in ["", "00", "00-0af7-b7ad-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), broken.parse().unwrap())]);
            let span = tracing.incoming("a", &headers, Vec::new).unwrap();
            assert_ne!(span.context().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c", "{broken}");
        }
    }

    #[test]
    fn nothing_goes_out_beneath_no_span() {
        let (tracing, exporter) = tracing(Sampler::AlwaysOn);
        assert!(tracing.outgoing(|| unreachable!("it must not be described")).is_none());
        assert!(tracing.shared("attempt", &[], || unreachable!("it must not be described")).is_none());
        let span = tracing.incoming("a", &parent("-01"), Vec::new).unwrap();
        {
            let _beneath = span.scope().attach();
            let below = tracing.outgoing(|| ("b".to_owned(), Vec::new())).unwrap();
            assert_eq!(below.context().trace_id(), span.context().trace_id());
            let mut headers = HeaderMap::new();
            inject(&mut headers);
            let expected = format!("00-{}-{}-01", span.context().trace_id(), span.context().span_id());
            assert_eq!(headers["traceparent"], expected);
        }
        drop(span);
        assert_eq!(exporter.get_finished_spans().unwrap().len(), 2);
    }

    #[test]
    fn without_a_provider_nothing_is_made_or_described() {
        let tracing = Tracing::off();
        assert!(tracing.incoming("a", &parent("-01"), || unreachable!("it must not be described")).is_none());
        assert!(tracing.root("a", SpanKind::Client).is_none());
        let mut headers = HeaderMap::new();
        inject(&mut headers);
        assert!(headers.is_empty());
    }
}
