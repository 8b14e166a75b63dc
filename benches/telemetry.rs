//! What telemetry costs: an update of an instrument, a call's measuring with and without a span, an attempt's, a scrape.
//! `cargo bench --bench telemetry`.
//!
//! `call` is the outermost layer around a service that answers at once; `bare` is that service alone. Spans are given to a processor that drops them: their export is a thread's of its own.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may panic")]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use forebay::middleware::TraceLayer;
use forebay::telemetry::instruments::{OutcomeLabel, PrincipalLabel, RpcLabel};
use forebay::telemetry::{FloatCounter, Instruments, Tracing};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor};
use tonic::body::Body;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes spans, and drops them.
#[derive(Debug)]
struct Dropped;

impl SpanProcessor for Dropped {
    fn on_start(&self, _span: &mut Span, _parent: &Context) {}

    fn on_end(&self, span: SpanData) {
        drop(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn instruments(sampler: Sampler) -> Arc<Instruments> {
    let provider = SdkTracerProvider::builder().with_span_processor(Dropped).with_sampler(sampler);
    let resource = Resource::builder_empty().build();
    let metrics = SdkMeterProvider::builder().with_resource(resource.clone());
    Arc::new(Instruments::exporting(metrics, Tracing::new(provider.with_resource(resource).build())))
}

fn updates(criterion: &mut Criterion) {
    let instruments = Instruments::new();
    let mut group = criterion.benchmark_group("instrument");
    group.bench_function("counter", |bencher| bencher.iter(|| instruments.batches.inc()));
    let sum = FloatCounter::default();
    group.bench_function("float_counter", |bencher| bencher.iter(|| sum.inc_by(black_box(1.5))));
    group.bench_function("histogram", |bencher| bencher.iter(|| instruments.ack_seconds.observe(black_box(0.02))));
    let label = OutcomeLabel { outcome: "ok" };
    group.bench_function("family_static_label", |bencher| {
        bencher.iter(|| instruments.attempts.get_or_create(&label).inc());
    });
    group.bench_function("family_owned_label", |bencher| {
        bencher.iter(|| {
            let label = PrincipalLabel { principal: black_box("spark-prod").to_owned() };
            instruments.principal_rows.get_or_create(&label).inc_by(500);
        });
    });
    let label = RpcLabel { error: None, method: "forebay.v1.ReadService/GetRow", status: "OK", system: "grpc" };
    group.bench_function("histogram_with_four_labels", |bencher| {
        bencher.iter(|| instruments.rpc_calls.get_or_create(&label).observe(black_box(0.004)));
    });
    group.bench_function("new", |bencher| bencher.iter(Instruments::new));
    for principal in 0..100 {
        let label = PrincipalLabel { principal: format!("principal-{principal}") };
        instruments.principal_rows.get_or_create(&label).inc();
    }
    group.bench_function("scrape", |bencher| bencher.iter(|| instruments.encode().unwrap()));
    group.finish();
}

fn calls(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let inner = || {
        service_fn(|_request: Request<Body>| async { Ok::<_, Infallible>(tonic::Status::ok("").into_http::<Body>()) })
    };
    let request = |traceparent: Option<&'static str>| {
        let request = Request::builder().uri("http://gateway:50051/forebay.v1.ReadService/GetRow");
        let request = match traceparent {
            Some(traceparent) => request.header("traceparent", traceparent),
            None => request,
        };
        request.body(Body::empty()).unwrap()
    };
    async fn read<R>(response: Response<R>)
    where
        R: http_body::Body + Unpin,
        R::Error: std::fmt::Debug,
    {
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            drop(frame.unwrap());
        }
    }
    let mut group = criterion.benchmark_group("call");
    group.bench_function("bare", |bencher| {
        let mut service = inner();
        bencher.iter(|| {
            runtime.block_on(async {
                read(service.ready().await.unwrap().call(request(None)).await.unwrap()).await;
            });
        });
    });
    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let by_parent = || Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    for (name, instruments, traceparent) in [
        ("tracing_off", Arc::new(Instruments::new()), Some(SAMPLED)),
        ("no_parent_unsampled", instruments(by_parent()), None),
        ("parent_unsampled", instruments(by_parent()), Some(UNSAMPLED)),
        ("parent_sampled", instruments(by_parent()), Some(SAMPLED)),
    ] {
        let mut service = TraceLayer::new(instruments).layer(inner());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    read(service.ready().await.unwrap().call(request(traceparent)).await.unwrap()).await;
                });
            });
        });
    }
    group.finish();
}

fn attempts(criterion: &mut Criterion) {
    let sampled = instruments(Sampler::AlwaysOn);
    let call = sampled.tracing.root("call", opentelemetry::trace::SpanKind::Server).unwrap();
    let sessions = [call.context()];
    let mut group = criterion.benchmark_group("attempt");
    group.bench_function("span_with_a_link_and_dynamodbs_beneath", |bencher| {
        bencher.iter(|| {
            let attempt = sampled.tracing.shared("write attempt", &sessions, Vec::new).unwrap();
            let _beneath = attempt.scope().attach();
            let call = sampled.tracing.outgoing(|| ("BatchWriteItem cards".to_owned(), Vec::new())).unwrap();
            call.end();
            attempt.end();
        });
    });
    group.bench_function("no_session_is_traced", |bencher| {
        bencher.iter(|| black_box(sampled.tracing.shared("write attempt", &[], Vec::new)));
    });
    group.bench_function("nothing_is_traced_at_dynamodb", |bencher| {
        bencher.iter(|| black_box(sampled.tracing.outgoing(|| (String::new(), Vec::new()))));
    });
    group.finish();
}

criterion_group!(benches, updates, calls, attempts);
criterion_main!(benches);
