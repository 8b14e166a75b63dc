//! CPU time of a row that is written under a condition, in the ways that DynamoDB offers. `cargo bench --bench conditional`.
//!
//! - `one PutItem each`: what the store does, 64 in flight.
//! - `statements, all present` and `statements, all new`: BatchExecuteStatement of 25, 4 in flight. First conditional UPDATEs;
//!   those that find no item are sent again as INSERTs, so that a new row is sent twice.
//! - `BatchWriteItem`: 25 rows without a condition, 4 in flight, to compare.
//!
//! Everything that a client pays is included: the body, the SDK's call, its signature, HTTP, the answer. The stub on the other
//! side answers at once and has a thread of its own, whose time is not counted. The results are in rows ("elements") a second
//! of the thread's CPU time.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may panic")]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::store::dynamodb::DynamoDb;
use forebay::store::{BatchWrite, OneWrite, SequenceRule, Span, Store, StoreConfig, WriteItem, WriteOp};
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;

#[path = "support/cpu_time.rs"]
mod cpu_time;
#[path = "conditional/statements.rs"]
mod statements;
#[path = "../tests/common/stub_store.rs"]
mod stub_store;

use cpu_time::CpuTime;
use statements::{Statements, Stored};
use stub_store::{StubOptions, StubStore};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a client's message.
const ROWS: usize = 500;
/// Items or statements of a call, where there are several.
const BATCH: usize = 25;
/// PutItem calls in flight.
const SINGLES_IN_FLIGHT: usize = 64;
/// Calls of 25 in flight.
const BATCHES_IN_FLIGHT: usize = 4;
const TABLE: &str = "bench";
const SEQUENCE: &str = "version";

/// A row like the others' in these benchmarks: 11 columns, about 600 bytes.
fn row(index: usize) -> WriteItem {
    let key = format!(r#""id":{{"S":"customer-{index:09}"}}"#);
    let sequence = format!(r#"{{"N":"{}"}}"#, 1_700_000_000_000_u64 + index as u64);
    let number = |column: usize| format!(r#"{{"N":"0.{:015}"}}"#, (index + 1) * 7_919 * (column + 3));
    let features = (0..6).map(|column| format!(r#","feature_{column}":{}"#, number(column))).collect::<String>();
    let vector = (0..8).map(number).collect::<Vec<_>>().join(",");
    let head = format!(r#"{{{key},"{SEQUENCE}":"#);
    let rest = format!(
        r#","segment":{{"S":"segment-{}"}},"updated_at":{{"S":"2026-07-01T12:34:56.123456Z"}}{features},"vector":{{"L":[{vector}]}}}}"#,
        index % 100
    );
    let span = Span { start: head.len() as u32, end: (head.len() + sequence.len()) as u32 };
    let json = Bytes::from(format!("{head}{sequence}{rest}"));
    WriteItem { sequence: Some(span), ..WriteItem::new(WriteOp::Put, json, key.len() as u32) }
}

/// A stub's runtime and thread end with the process.
fn serve<T: Send + 'static>(start: impl FnOnce(tokio::net::TcpListener) -> T + Send + 'static) -> String {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            let _serving = start(listener);
            std::future::pending::<()>().await;
        });
    });
    receive.recv().unwrap()
}

fn conditional(criterion: &mut Criterion<CpuTime>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows: Vec<WriteItem> = (0..ROWS).map(row).collect();
    let rule = Arc::new(SequenceRule { attribute: SEQUENCE.into(), expiry_attribute: Some("_expires_at".into()) });
    let mut group = criterion.benchmark_group("conditional");
    group.throughput(Throughput::Elements(ROWS as u64));

    let endpoint_url = Some(serve(|listener| StubStore::start(listener, StubOptions::default()).unwrap()));
    let static_credentials = Some(("bench".to_owned(), "bench".to_owned()));
    let config = StoreConfig { endpoint_url, static_credentials, ..StoreConfig::default() };
    let store = runtime.block_on(DynamoDb::connect(&config)).unwrap();
    group.bench_function("one PutItem each", |bencher| {
        let request =
            |item: &WriteItem| OneWrite { table: TABLE.into(), item: item.clone(), sequence: Some(Arc::clone(&rule)) };
        bencher.iter(|| {
            let calls = rows.iter().map(|item| store.write_one(request(item)));
            run(&runtime, calls, SINGLES_IN_FLIGHT)
        });
    });
    for (name, stored) in [("statements, all present", Stored::All), ("statements, all new", Stored::Nothing)] {
        let url = serve(move |listener| statements::stub(listener, stored));
        let statements = Statements::connect(&url);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let calls = rows.chunks(BATCH).map(|items| statements.write(TABLE, SEQUENCE, items));
                run(&runtime, calls, BATCHES_IN_FLIGHT)
            });
        });
    }
    group.bench_function("BatchWriteItem", |bencher| {
        let rows: Vec<WriteItem> = rows.iter().map(|row| WriteItem { sequence: None, ..row.clone() }).collect();
        bencher.iter(|| {
            let calls = rows
                .chunks(BATCH)
                .map(|items| store.batch_write(BatchWrite { table: TABLE.into(), items: items.to_vec() }));
            run(&runtime, calls, BATCHES_IN_FLIGHT)
        });
    });
    group.finish();
}

fn run<T, E: std::fmt::Debug>(
    runtime: &Runtime,
    calls: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
    in_flight: usize,
) {
    runtime.block_on(async {
        let mut done = futures_util::stream::iter(calls).buffer_unordered(in_flight);
        while let Some(call) = done.next().await {
            call.unwrap();
        }
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = conditional
}
criterion_main!(benches);
