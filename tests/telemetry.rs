//! Promises of the telemetry: what a trace shows, what /metrics shows, and what it costs when nobody asks.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/scripted_store.rs"]
mod scripted_store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay::client::{self, Client, OpenOptions};
use forebay::payload::EncodedRow;
use forebay::pool::{BatchTicket, MemoryBudget, Pool, PoolConfig, PoolTable, SessionEvent, SessionLink, WindowConfig};
use forebay::server::Gateway;
use forebay::store::{Store, WriteItem, WriteOp};
use forebay::telemetry::{Instruments, Tracing};
use gateway::{eventually, get, int, rows, table, text};
use opentelemetry::Value;
use opentelemetry::trace::{FutureExt as _, SpanId, SpanKind, Status};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};
use scripted_store::{Fate, ScriptedStore};

/// Finished spans.
#[derive(Clone)]
struct Spans(InMemorySpanExporter);

impl Spans {
    fn new(sampler: Sampler) -> (Self, Tracing) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).with_sampler(sampler);
        (Self(exporter), Tracing::new(provider.build()))
    }

    fn all(&self) -> Vec<SpanData> {
        self.0.get_finished_spans().unwrap()
    }

    /// Waits for a span of this name: calls end a moment after their client has the answer.
    async fn named(&self, name: &str) -> SpanData {
        eventually(name, || self.all().iter().any(|span| span.name == name)).await;
        self.all().into_iter().find(|span| span.name == name).unwrap()
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|there| there.key.as_str() == key).map(|there| there.value.clone())
}

fn says(span: &SpanData, key: &str) -> String {
    attribute(span, key).unwrap_or_else(|| panic!("{} has no {key}: {span:?}", span.name)).to_string()
}

/// A gateway whose spans can be looked at, and a client of it.
async fn traced(sampler: Sampler) -> (Gateway, Client, Spans) {
    let (spans, tracing) = Spans::new(sampler);
    let instruments = Arc::new(Instruments::exporting(SdkMeterProvider::builder(), tracing));
    let gateway = Gateway::start_with_instruments(gateway::settings(|_| {}), instruments).await.unwrap();
    let client = client::connect(&gateway.endpoint()).unwrap();
    (gateway, client, spans)
}

const DDL: &str = "id STRING NOT NULL, n BIGINT";

/// Enough that every lane has several.
const ROWS: i64 = 200;

/// Writes rows, and one that is rejected.
async fn write(client: &Client, table: &str) {
    let mut writer = client.writer(OpenOptions::new(table)).await.unwrap();
    let good = (0..ROWS).map(|n| vec![text(format!("k{n}")), int(n)]);
    writer.send_rows(rows(good.chain([vec![int(3), int(3)]]))).await.unwrap();
    writer.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_shows_client_stream_attempt_and_dynamodb() {
    let (_gateway, client, spans) = traced(Sampler::ParentBased(Box::new(Sampler::AlwaysOff))).await;
    table(&client, "cards", DDL, &["id"], &[]).await;
    assert!(spans.all().is_empty(), "a call without a sampled parent is not sampled here");

    let (clients, tracing) = Spans::new(Sampler::AlwaysOn);
    let root = tracing.root("forebay load", SpanKind::Client).unwrap();
    write(&client, "cards").with_context(root.scope()).await;
    root.end();

    let stream = spans.named("forebay.v1.IngestService/Write").await;
    let attempt = spans.named("write attempt").await;
    let call = spans.named("BatchWriteItem cards").await;
    let root = &clients.all()[0];
    let chain = [root.span_context.span_id(), stream.parent_span_id];
    assert_eq!(chain[0], chain[1], "the stream is beneath the client");
    assert_eq!(attempt.parent_span_id, stream.span_context.span_id(), "the attempt is beneath the stream");
    assert_eq!(call.parent_span_id, attempt.span_context.span_id(), "DynamoDB's call is beneath the attempt");
    for span in [&stream, &attempt, &call] {
        assert_eq!(span.span_context.trace_id(), root.span_context.trace_id(), "{}", span.name);
        assert!(matches!(span.status, Status::Unset), "{span:?}");
        assert!(attribute(span, "error.type").is_none(), "{span:?}");
    }

    assert_eq!((stream.span_kind.clone(), call.span_kind.clone()), (SpanKind::Server, SpanKind::Client));
    assert_eq!(says(&stream, "rpc.system.name"), "grpc");
    assert_eq!(says(&stream, "rpc.method"), "forebay.v1.IngestService/Write");
    assert_eq!(says(&stream, "rpc.response.status_code"), "OK");
    assert_eq!(says(&stream, "server.address"), "127.0.0.1");
    assert_eq!(says(&stream, "forebay.table"), "cards");
    assert_eq!((says(&stream, "forebay.rows"), says(&stream, "forebay.rejected")), ("201".into(), "1".into()));
    assert!(says(&stream, "forebay.session_id").contains('-'));
    assert_eq!(
        attempt.links.iter().map(|link| link.span_context.span_id()).collect::<Vec<_>>(),
        [stream.span_context.span_id()]
    );
    assert_eq!(says(&attempt, "forebay.outcome"), "ok");
    // A call of one item is no batch, and has no size.
    let sum = |name: &str, key: &str| -> i64 {
        let all = spans.all();
        let counts = all.iter().filter(|span| span.name == name).map(|span| attribute(span, key));
        counts.map(|count| count.map_or(1, |count| count.to_string().parse::<i64>().unwrap())).sum()
    };
    // An attempt's span ends a moment after its rows are acked.
    gateway::eventually("every row is in a span", || sum("write attempt", "forebay.items") >= ROWS).await;
    assert_eq!(sum("write attempt", "forebay.items"), ROWS);
    assert_eq!(sum("BatchWriteItem cards", "db.operation.batch.size"), ROWS);
    assert_eq!(says(&call, "db.system.name"), "aws.dynamodb");
    assert_eq!(says(&call, "db.operation.name"), "BatchWriteItem");
    assert_eq!(says(&call, "db.collection.name"), "cards");
    assert_eq!(says(&call, "server.address"), "127.0.0.1");
    assert!(stream.end_time >= call.end_time, "the stream's span ends when the stream does");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_have_their_dynamodb_calls_beneath_them() {
    let (_gateway, client, spans) = traced(Sampler::AlwaysOn).await;
    table(&client, "cards", DDL, &["id"], &[]).await;
    write(&client, "cards").await;
    get(&client, "cards", vec![text("k7")]).await.unwrap();
    let read = spans.named("forebay.v1.ReadService/GetRow").await;
    let call = spans.named("GetItem cards").await;
    assert_eq!(call.parent_span_id, read.span_context.span_id());
    assert_eq!(says(&read, "forebay.table"), "cards");
    let all = spans.all();
    let roots = all.iter().filter(|span| span.parent_span_id == SpanId::INVALID);
    assert!(roots.into_iter().all(|span| span.span_kind == SpanKind::Server), "only calls begin a trace: {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_has_the_queries_of_its_whole_stream_beneath_it() {
    let (_gateway, client, spans) = traced(Sampler::AlwaysOn).await;
    table(&client, "visits", "id STRING NOT NULL, at BIGINT NOT NULL", &["id"], &["at"]).await;
    let mut writer = client.writer(OpenOptions::new("visits")).await.unwrap();
    writer.send_rows(rows((0..10).map(|at| vec![text("a"), int(at)]))).await.unwrap();
    writer.finish().await.unwrap();
    let mut range = client.reader().range("visits", vec![text("a")], client::RangeOptions::default()).await.unwrap();
    while range.next().await.unwrap().is_some() {}
    let read = spans.named("forebay.v1.ReadService/ReadRange").await;
    let query = spans.named("Query visits").await;
    assert_eq!(query.parent_span_id, read.span_context.span_id());
    assert_eq!(says(&query, "db.response.returned_rows"), "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_has_its_status_and_says_whose_fault_it_is() {
    let (gateway, client, spans) = traced(Sampler::AlwaysOn).await;
    client.reader().get_row("nowhere", vec![text("a")], &[]).await.unwrap_err();
    let read = spans.named("forebay.v1.ReadService/GetRow").await;
    assert_eq!(says(&read, "rpc.response.status_code"), "NOT_FOUND");
    assert!(matches!(read.status, Status::Unset), "the caller's mistake is no failure of the server: {read:?}");

    let mut unknown = tonic::client::Grpc::new(client.channel());
    unknown.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/made.Up/Method");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    unknown.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
    let other = spans.named("_OTHER").await;
    assert_eq!(says(&other, "rpc.response.status_code"), "UNIMPLEMENTED");
    assert_eq!(says(&other, "error.type"), "UNIMPLEMENTED");
    assert_eq!(says(&other, "rpc.method_original"), "made.Up/Method");
    assert!(matches!(other.status, Status::Error { .. }), "{other:?}");

    let metrics = gateway.instruments().encode().unwrap();
    let line = r#"rpc_server_call_duration_seconds_count{error_type="UNIMPLEMENTED",rpc_method="_OTHER",rpc_response_status_code="UNIMPLEMENTED",rpc_system_name="grpc"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(!metrics.contains("made"), "what a caller made up is no label: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_its_client_leaves_is_cancelled_and_was_open_until_then() {
    let (gateway, client, spans) = traced(Sampler::AlwaysOn).await;
    table(&client, "cards", DDL, &["id"], &[]).await;
    let session = gateway::RawSession::open(&client, gateway::open("cards")).await;
    eventually("a session", || gateway.instruments().sessions.get() == 1).await;
    assert!(!spans.all().iter().any(|span| span.name.ends_with("/Write")), "its head is out, and it goes on");
    drop(session);
    let stream = spans.named("forebay.v1.IngestService/Write").await;
    assert_eq!(says(&stream, "rpc.response.status_code"), "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tracing_off_no_span_is_made_whatever_the_caller_asks() {
    let (gateway, client) = gateway::start().await;
    table(&client, "cards", DDL, &["id"], &[]).await;
    let (clients, tracing) = Spans::new(Sampler::AlwaysOn);
    let root = tracing.root("forebay load", SpanKind::Client).unwrap();
    write(&client, "cards").with_context(root.scope()).await;
    root.end();
    assert_eq!(clients.all().len(), 1, "the client's own");
    assert!(!gateway.instruments().tracing.is_on());
    assert!(!gateway.instruments().exports());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_callers_trace_stays_unsampled() {
    let (_gateway, client, spans) = traced(Sampler::ParentBased(Box::new(Sampler::AlwaysOn))).await;
    let mut tables = forebay::proto::v1::table_service_client::TableServiceClient::new(client.channel());
    let list = |traceparent: &'static str| {
        let mut request = tonic::Request::new(forebay::proto::v1::ListTablesRequest::default());
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        request
    };
    tables.list_tables(list("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")).await.unwrap();
    tables.list_tables(list("00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")).await.unwrap();
    let span = spans.named("forebay.v1.TableService/ListTables").await;
    assert_eq!(span.span_context.trace_id().to_string(), "1af7651916cd43dd8448eb211c80319c");
    assert_eq!(spans.all().len(), 1);
}

/// A row as the payload's plan makes it.
fn row(key: &str) -> EncodedRow {
    let key_text = format!(r#""id":{{"S":"{key}"}}"#);
    let item = WriteItem::new(WriteOp::Put, Bytes::from(format!("{{{key_text}}}")), key_text.len() as u32);
    let (partition_hash, item_bytes) = (key.len() as u64, item.json.len() as u32);
    EncodedRow { row_index: 0, item, partition_hash, key_hash: u64::from(key.as_bytes()[0]), item_bytes }
}

#[tokio::test]
async fn an_attempt_with_rows_of_two_sessions_is_linked_to_both() {
    let (spans, tracing) = Spans::new(Sampler::AlwaysOn);
    let calls = ["one", "two"].map(|name| tracing.root(name, SpanKind::Server).unwrap());
    let instruments = Arc::new(Instruments::exporting(SdkMeterProvider::builder(), tracing));
    let store: Arc<dyn Store> = ScriptedStore::with(|call| {
        let after = if call.number == 0 { Duration::from_millis(100) } else { Duration::ZERO };
        Fate::Written.after(after)
    });
    let config = PoolConfig { lanes: 1, window: WindowConfig { first: 1, most: 1 }, ..PoolConfig::for_cores(1) };
    let (pool, _tasks) = Pool::start(&config, &store, &instruments);
    let memory = MemoryBudget::new(1 << 20, Arc::clone(&instruments));

    // The first row holds the only place, so that those of both sessions meet in the second attempt.
    let mut waiting = Vec::new();
    for (seq, key, span) in [(1, "first", None), (2, "a", Some(&calls[0])), (3, "b", Some(&calls[1]))] {
        let (link, events) = SessionLink::traced(seq, false, span.map(forebay::telemetry::Span::context));
        let ticket = BatchTicket::new(seq, link);
        ticket.expect(1);
        pool.submit(&PoolTable::new("t"), &ticket, vec![row(key)], memory.reserve(1024).await);
        ticket.seal();
        waiting.push(events);
        eventually("the first call", || instruments.attempts_in_flight.get() == 1).await;
    }
    for events in &mut waiting {
        assert!(matches!(events.recv().await, Some(SessionEvent::BatchDone(_))));
    }
    let attempt = spans.named("write attempt").await;
    let linked: Vec<_> = attempt.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [calls[0].context().span_id(), calls[1].context().span_id()]);
    assert_eq!(attempt.parent_span_id, calls[0].context().span_id(), "beneath the first");
    assert_eq!(spans.all().len(), 1, "the attempt without a traced session has no span");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_busy_gateway_are_all_in_the_documents_table() {
    let (gateway, client) = gateway::start().await;
    table(&client, "cards", DDL, &["id"], &[]).await;
    write(&client, "cards").await;
    get(&client, "cards", vec![text("k7")]).await.unwrap();
    let page = include_str!("../docs/telemetry.md");
    let documented: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(" |")?.0)))
        .collect();
    let text = gateway.instruments().encode().unwrap();
    let shown: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(shown.len() > 15, "{text}");
    assert!(shown.is_subset(&documented), "not documented: {:?}", shown.difference(&documented));
    for needed in ["rpc_server_call_duration_seconds", "db_client_operation_duration_seconds"] {
        assert!(shown.contains(&(needed, "histogram")), "{text}");
    }
}
