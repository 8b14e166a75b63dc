//! CPU time of a row from its lane's inbox to its outcome, without encoding and without DynamoDB. `cargo bench --bench lane`.
//!
//! `queue` is the pure part: push, take_batch, settle. `pool` is the whole of it, with a store that answers at once: the
//! split by lane, the inbox, the lane's task, the task of each attempt, the ticket. The results are for a message of 500 rows,
//! and in rows ("elements") a second of the thread's CPU time.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may panic")]

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forebay::payload::EncodedRow;
use forebay::pool::queue::{ItemOutcome, Part, Standing, TableQueue, Taken};
use forebay::pool::retry::RetryConfig;
use forebay::pool::{BatchTicket, MemoryBudget, Pool, PoolConfig, PoolTable, SessionEvent, SessionLink};
use forebay::schema::TableDef;
use forebay::store::{
    BatchGetDone, BatchWrite, ControlError, ControlRecord, GetKeys, Item, OneWrite, ReadError, Store, StoreFuture,
    TableDescription, WriteDone, WriteError, WriteItem, WriteOp,
};
use forebay::telemetry::Instruments;
use tokio::time::Instant;

#[path = "support/cpu_time.rs"]
mod cpu_time;

use cpu_time::CpuTime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a client's message.
const ROWS: u32 = 500;
/// Bytes of a row's JSON; the queue never reads more than its key.
const ROW_BYTES: usize = 600;

/// A message's rows, over so many keys.
fn encoded(keys: u32) -> Vec<EncodedRow> {
    let mut buffer = Vec::new();
    let mut ends = Vec::new();
    for row in 0..ROWS {
        let start = buffer.len();
        let key = format!("\"id\":{{\"S\":\"customer-{:09}\"}}", row % keys);
        buffer.push(b'{');
        buffer.extend_from_slice(key.as_bytes());
        buffer.resize(start + ROW_BYTES - 1, b' ');
        buffer.push(b'}');
        ends.push((start..buffer.len(), key.len() as u32));
    }
    let buffer = Bytes::from(buffer);
    let row = |(row_index, (range, key_len))| {
        let key_hash = u64::from(row_index % keys).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let item = WriteItem::new(WriteOp::Put, buffer.slice(range), key_len);
        let item_bytes = item.json.len() as u32;
        EncodedRow { row_index, item, partition_hash: key_hash, key_hash, item_bytes }
    };
    (0..ROWS).zip(ends).map(row).collect()
}

fn queue(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    let now = Instant::now();
    for (name, keys) in [("different keys", ROWS), ("ten rows a key", ROWS / 10)] {
        let rows = encoded(keys);
        let parts = || {
            let part = |row| Part::new(row, 0, false, None);
            rows.iter().cloned().map(part).collect::<Vec<_>>()
        };
        let mut queue = TableQueue::new(true, false, RetryConfig::default());
        let mut rng = fastrand::Rng::with_seed(1);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched(
                parts,
                |parts| {
                    let mut reports = 0;
                    parts.into_iter().for_each(|part| queue.push(part));
                    while let Some(Taken::Attempt(batch)) = queue.take(now, f64::INFINITY) {
                        for slot in batch.slots {
                            let outcome = ItemOutcome::Confirmed;
                            queue.settle(slot, outcome, now, &mut rng, |_| Standing::Live, &mut |_| reports += 1);
                        }
                    }
                    assert_eq!(reports, ROWS);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Confirms everything at once.
struct AtOnce;

impl Store for AtOnce {
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let done = WriteDone { unprocessed: Vec::new(), write_units: request.items.len() as f64 };
        Box::pin(ready(Ok(done)))
    }

    fn write_one(&self, _: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(ready(Ok(WriteDone { unprocessed: Vec::new(), write_units: 1.0 })))
    }

    fn get(&self, _: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        Box::pin(ready(Ok(None)))
    }

    fn batch_get(&self, _: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        Box::pin(ready(Ok(BatchGetDone::default())))
    }

    fn describe_table<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        Box::pin(ready(Ok(None)))
    }

    fn create_table<'a>(&'a self, _: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        Box::pin(ready(Ok(())))
    }

    fn delete_table<'a>(&'a self, _: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(ready(Ok(())))
    }

    fn ensure_control_table<'a>(&'a self, _: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(ready(Ok(())))
    }

    fn put_record<'a>(&'a self, _: &'a str, _: ControlRecord, _: bool) -> StoreFuture<'a, (), ControlError> {
        Box::pin(ready(Ok(())))
    }

    fn get_record<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        Box::pin(ready(Ok(None)))
    }

    fn scan_records<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        Box::pin(ready(Ok(Vec::new())))
    }
}

fn pool(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("pool");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let instruments = Arc::new(Instruments::new());
    let store: Arc<dyn Store> = Arc::new(AtOnce);
    let (pool, _tasks) = Pool::start(&PoolConfig::for_cores(2), &store, &instruments);
    let memory = MemoryBudget::new(64 * 1024 * 1024, Arc::clone(&instruments));
    let (session, mut events) = SessionLink::new(1, false);
    let table = PoolTable::new("bench");
    let rows = encoded(ROWS);
    group.bench_function("different keys", |bencher| {
        bencher.iter_batched(
            || rows.clone(),
            |rows| {
                runtime.block_on(async {
                    let ticket = BatchTicket::new(1, Arc::clone(&session));
                    ticket.expect(ROWS);
                    pool.submit(&table, &ticket, rows, memory.reserve(1024 * 1024).await);
                    ticket.seal();
                    assert!(matches!(events.recv().await, Some(SessionEvent::BatchDone(_))));
                });
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = queue, pool
}
criterion_main!(benches);
