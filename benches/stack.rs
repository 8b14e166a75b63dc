//! What the layers before the handlers cost, and what a session does for its quota and for telemetry: nanoseconds of CPU time.
//!
//! ```text
//! cargo bench --bench stack
//! ```
//!
//! Each layer is called alone over a service that answers at once, and so is the stack of all of them; what the service
//! alone takes, with the request that is made for it, is taken off. All take turns over many rounds, and the least of the
//! rounds counts: other processes can only make a round slower. Budgets are in docs/performance.md: 3 % of the CPU time of
//! a batch's rows, and 30 µs of a point read.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use forebay::access::{
    ApiKey, Caller, Credential, Grants, Identity, KeyIdError, Limits, NewKey, Policy, Principal, Rate,
};
use forebay::limits::MESSAGE_STALL_TIMEOUT;
use forebay::middleware::auth::Authenticator;
use forebay::middleware::{AuthLayer, StallLayer, StreamOpenLayer, TraceLayer, load_shed, unary_writes};
use forebay::payload::rows;
use forebay::proto::v1::{self, value::Kind};
use forebay::quota::{Cost, Quotas, Usage};
use forebay::telemetry::session_board::Progress;
use forebay::telemetry::{Instruments, Tracing};
use futures_util::FutureExt as _;
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt as _, service_fn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Principals, each with a key: what a large installation has.
const PRINCIPALS: usize = 1_000;
const ROUNDS: usize = 60;
const CALLS: u32 = 2_000;
const BATCH_ROWS: usize = 500;
/// BatchWriteItem calls, of 25 rows each.
const CALLS_OF_A_BATCH: u32 = 20;
/// CPU time of a row in the gateway, in nanoseconds: docs/performance.md.
const ROW_NANOS: f64 = 6_300.0;
const POINT_READ_BUDGET_NANOS: f64 = 30_000.0;

const GET_ROW: &str = "/forebay.v1.ReadService/GetRow";
const WRITE: &str = "/forebay.v1.IngestService/Write";
const WRITE_ROWS: &str = "/forebay.v1.IngestService/WriteRows";

/// Something that is measured: does it so many times.
struct Subject<'a> {
    name: &'static str,
    run: Box<dyn FnMut(u32) + 'a>,
    /// The subject whose time is taken off.
    less: Option<usize>,
    /// Of all rounds, in nanoseconds each.
    least: f64,
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// A service that is called over and over, with a request for a path.
fn calls<'a, S, R>(mut service: S, path: &'static str, key: &'a str) -> Box<dyn FnMut(u32) + 'a>
where
    S: Service<Request<Body>, Response = Response<R>> + 'a,
    S::Error: std::fmt::Debug,
{
    Box::new(move |times| {
        for _ in 0..times {
            let request = Request::post(path)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("user-agent", "grpc-rust")
                .header("authorization", key)
                .body(Body::empty());
            let request = request.expect("a request of constants is one");
            let ready = service.ready().now_or_never().expect("no layer makes a call wait");
            let response = ready.expect("no layer fails").call(request).now_or_never();
            black_box(response.expect("everything answers at once").expect("no layer fails"));
        }
    })
}

/// Answers at once.
async fn at_once(request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
    black_box(request);
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert("grpc-status", http::HeaderValue::from_static("0"));
    Ok(response)
}

/// Makes spans, and throws them away: exporting them is another thread's.
#[derive(Debug)]
struct Discard;

impl SpanExporter for Discard {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        black_box(spans);
        Ok(())
    }
}

fn tracer() -> SdkTracerProvider {
    SdkTracerProvider::builder().with_simple_exporter(Discard).build()
}

fn refused() -> Status {
    Status::unavailable("refused")
}

fn policy(keys: &[NewKey]) -> Result<Policy, Failure> {
    let rate = |per_second: u32| {
        // Never used up here: what is measured is a batch that goes at once.
        let per_second = per_second.try_into().map_err(|_| "a rate is above 0")?;
        Ok::<_, Failure>(Some(Rate { per_second, burst: u32::MAX.try_into().map_err(|_| "a burst is above 0")? }))
    };
    let limits = Limits {
        write_rows: rate(1_000_000)?,
        write_kib: rate(1_000_000)?,
        read_rows: rate(1_000_000)?,
        stream_opens: rate(1_000_000)?,
        streams: 1_000_000.try_into().ok(),
        ..Limits::default()
    };
    let (mut principals, mut api_keys) = (HashMap::new(), HashMap::new());
    for key in keys {
        let shown = key.as_shown()?;
        let name: Arc<str> = shown.id().into();
        let principal = Principal { name: Arc::clone(&name), grants: Grants::default(), limits, operator: false };
        principals.insert(Arc::clone(&name), Arc::new(principal));
        let api_key =
            ApiKey { id: Arc::clone(&name), sha256: shown.sha256(), principal: Arc::clone(&name), expires_at: None };
        api_keys.insert(name, Arc::new(api_key));
    }
    Ok(Policy { principals, api_keys, ..Policy::default() })
}

fn new_key(number: usize) -> Result<NewKey, KeyIdError> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    NewKey::generate(&format!("principal{number}"), |bytes| {
        random.fill(bytes);
        Ok(())
    })
}

/// A message of the row that all figures of the project go by.
fn row_batch() -> Vec<u8> {
    let value = |kind| v1::Value { kind: Some(kind) };
    let row = |number: usize| {
        let double = |column: usize| value(Kind::DoubleValue((number * 31 + column) as f64 / 7.0));
        let mut values = vec![value(Kind::StringValue(format!("customer-{number:09}")))];
        values.push(value(Kind::StringValue(format!("segment-{}", number % 9))));
        values.extend((0..6).map(double));
        values.push(value(Kind::IntValue(number as i64 * 1001)));
        values.push(value(Kind::TimestampMicros(1_767_225_600_000_000)));
        values.push(value(Kind::ListValue(v1::ListValue { values: (0..8).map(double).collect() })));
        v1::Row { values }
    };
    v1::RowBatch { rows: (0..BATCH_ROWS).map(row).collect() }.encode_to_vec()
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let keys = (0..PRINCIPALS).map(new_key).collect::<Result<Vec<_>, _>>()?;
    let (_policy, watch) = watch::channel(Arc::new(policy(&keys)?));
    let shown = keys[PRINCIPALS / 2].as_shown()?;
    let header = format!("Bearer {}", keys[PRINCIPALS / 2].reveal());
    let credential = Credential::ApiKey { id: shown.id().into(), sha256: shown.sha256() };
    let caller = Caller::known(Identity { principal: shown.id().into(), credential, expires_at: None }, watch.clone());

    let (quotas, instruments) = (Quotas::new(), Arc::new(Instruments::new()));
    let slots = Arc::new(Semaphore::new(1_000));
    let traced = Arc::new(Instruments::exporting(SdkMeterProvider::builder(), Tracing::new(tracer())));
    let (trace, trace_sampled) = (TraceLayer::new(Arc::clone(&instruments)), TraceLayer::new(Arc::clone(&traced)));
    let auth = AuthLayer::new(Authenticator::new(watch, None), |_| refused(), Arc::clone(&instruments));
    let stream_open = StreamOpenLayer::new(quotas.clone(), |_| refused(), Arc::clone(&instruments));
    let load_shed = load_shed(1_000, refused, Arc::clone(&instruments));
    let unary_writes = unary_writes(slots, refused);
    let stall = StallLayer::new(MESSAGE_STALL_TIMEOUT);
    // As in server.rs.
    let stack = tower::ServiceBuilder::new()
        .layer(trace.clone())
        .layer(auth.clone())
        .layer(stream_open.clone())
        .layer(load_shed.clone())
        .layer(unary_writes.clone())
        .layer(stall)
        .service(service_fn(at_once));
    let batch = row_batch();
    let seat = instruments.session_board.enter("session", "table", caller.name(), Instant::now());
    let call = traced.tracing.root("call", SpanKind::Server).ok_or("every call is sampled")?.context();

    let mut subjects: Vec<Subject<'_>> = Vec::new();
    let mut add = |name, less, run| {
        subjects.push(Subject { name, run, less, least: f64::INFINITY });
        subjects.len() - 1
    };
    let bare = add("(the request, and a service that answers)", None, calls(service_fn(at_once), GET_ROW, &header));
    let mut layers = vec![
        add("trace", Some(bare), calls(trace.layer(service_fn(at_once)), GET_ROW, &header)),
        add(
            "trace, of a call that is sampled",
            Some(bare),
            calls(trace_sampled.layer(service_fn(at_once)), GET_ROW, &header),
        ),
        add("auth, by API key", Some(bare), calls(auth.layer(service_fn(at_once)), GET_ROW, &header)),
    ];
    // The caller of a request that was not authenticated is anyone, who is not counted: above the layer is the one that says so.
    let counted = auth.layer(stream_open.layer(service_fn(at_once)));
    layers.push(add(
        "stream_open, a read",
        Some(bare),
        calls(stream_open.layer(service_fn(at_once)), GET_ROW, &header),
    ));
    layers.push(add("stream_open, a stream", Some(layers[2]), calls(counted, WRITE, &header)));
    layers.push(add("load_shed", Some(bare), calls(load_shed.layer(service_fn(at_once)), GET_ROW, &header)));
    layers.push(add(
        "unary_writes, a read",
        Some(bare),
        calls(unary_writes.layer(service_fn(at_once)), GET_ROW, &header),
    ));
    layers.push(add("unary_writes", Some(bare), calls(unary_writes.layer(service_fn(at_once)), WRITE_ROWS, &header)));
    layers.push(add("stall", Some(bare), calls(stall.layer(service_fn(at_once)), GET_ROW, &header)));
    let read = add("the whole stack, GetRow", Some(bare), calls(stack.clone(), GET_ROW, &header));
    let stream = add("the whole stack, Write", Some(bare), calls(stack.clone(), WRITE, &header));
    let unary = add("the whole stack, WriteRows", Some(bare), calls(stack, WRITE_ROWS, &header));
    let key = add(
        "a read's quota and count",
        None,
        Box::new(|times| {
            for _ in 0..times {
                let spent = quotas.try_acquire(Usage::Read, &caller, &[("table", Cost::rows(1))]);
                black_box(spent).expect("it is never used up");
                let label = forebay::telemetry::instruments::PrincipalLabel { principal: caller.name().to_string() };
                instruments.principal_reads.get_or_create(&label).inc_by(1);
            }
        }),
    );
    let rows = add(
        "counting a batch's rows",
        None,
        Box::new(|times| (0..times).for_each(|_| _ = black_box(rows::count(black_box(&batch))))),
    );
    let quota = add(
        "a batch's quota",
        None,
        Box::new(|times| {
            for _ in 0..times {
                black_box(quotas.limit(Usage::Write, &caller, "table"));
                let cost = Cost { rows: BATCH_ROWS as u32, bytes: batch.len() as u64 };
                let quotas = quotas.clone();
                let caller = caller.clone();
                // As a session does it.
                let spent = Box::pin(async move { quotas.acquire(Usage::Write, &caller, "table", cost).await });
                black_box(spent.now_or_never()).expect("it goes at once").expect("it is below the burst");
            }
        }),
    );
    let telemetry = add(
        "a batch's counters",
        None,
        Box::new(|times| {
            for _ in 0..times {
                instruments.batches.inc();
                instruments.count_received(&caller.name(), 0, batch.len() as u64);
                instruments.count_received(&caller.name(), BATCH_ROWS as u64, 0);
                instruments.count_rows("committed", BATCH_ROWS as u64);
                instruments.ack_seconds.observe(0.01);
                // Once when it came, once a chunk, once when it was acked.
                for _ in 0..3 {
                    seat.show(Progress { rows: 500, bytes: 300_000, unacked_batches: 1, ..Progress::default() });
                }
            }
        }),
    );
    let spans = add(
        "a batch's spans where its call is sampled",
        None,
        Box::new(|times| {
            for _ in 0..times * CALLS_OF_A_BATCH {
                let call = std::slice::from_ref(&call);
                let attributes = |name: &'static str| vec![KeyValue::new("table", name), KeyValue::new("items", 25)];
                let attempt = traced.tracing.shared("write attempt", call, || attributes("bench"));
                let attempt = attempt.expect("every call is sampled");
                let _within = attempt.scope().attach();
                let named = || ("BatchWriteItem bench".to_owned(), attributes("bench"));
                let outgoing = traced.tracing.outgoing(named).expect("every call is sampled");
                outgoing.note([KeyValue::new("outcome", "ok")]);
                outgoing.end();
                attempt.end();
            }
        }),
    );

    for round in 0..ROUNDS {
        for subject in &mut subjects {
            let before = cpu_time();
            (subject.run)(CALLS);
            let took = (cpu_time() - before).as_secs_f64() * 1e9 / f64::from(CALLS);
            // The first round warms up.
            if round > 0 {
                subject.least = subject.least.min(took);
            }
        }
    }

    let nanos = |index: usize| {
        let subject = &subjects[index];
        (subject.least - subject.less.map_or(0.0, |less| subjects[less].least)).max(0.0)
    };
    let mut out = std::io::stdout();
    for (index, subject) in subjects.iter().enumerate() {
        writeln!(out, "{:<45} {:>8.0} ns", subject.name, nanos(index))?;
    }
    let point_read = nanos(read) + nanos(key);
    let percent = 100.0 * point_read / POINT_READ_BUDGET_NANOS;
    writeln!(out, "\na point read:        {:.2} µs, {percent:.1} % of 30 µs", point_read / 1e3)?;
    let batch_nanos = nanos(rows) + nanos(quota) + nanos(telemetry);
    let rows_nanos = ROW_NANOS * BATCH_ROWS as f64;
    let percent = 100.0 * batch_nanos / rows_nanos;
    writeln!(
        out,
        "a batch of 500 rows: {:.2} µs, {percent:.2} % of its rows' {:.2} ms",
        batch_nanos / 1e3,
        rows_nanos / 1e6
    )?;
    let percent = 100.0 * nanos(spans) / rows_nanos;
    writeln!(out, "its spans, if sampled: {:.2} µs more, {percent:.2} %", nanos(spans) / 1e3)?;
    let percent = 100.0 * (nanos(unary) + batch_nanos) / rows_nanos;
    writeln!(out, "500 rows by WriteRows: {:.2} µs, {percent:.2} %", (nanos(unary) + batch_nanos) / 1e3)?;
    writeln!(out, "opening a stream:    {:.2} µs, once", nanos(stream) / 1e3)?;
    Ok(())
}
