//! A row costs no allocation of its own: what is allocated for a batch is its chunk, however many rows there are.
//!
//! An allocator that counts says how many allocations a batch takes; ten times the rows may take only the few more by which
//! growing buffers double. One test function, so that no neighbour's allocations are counted.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::payload::rows::{RowsCursor, RowsPlan};
use forebay::payload::shard::ShardCounts;
use forebay::payload::{Plan, RowMode, Writes};
use forebay::proto::v1::value::Kind;
use forebay::proto::v1::{ListValue, MapEntry, MapValue, Row, RowBatch, StructValue, Value};
use forebay::schema::{KeyDef, StoreAssignment, TableDef, ddl};
use forebay::store::WriteOp;
use prost::Message as _;

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// Safety: every call is passed on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FEW: usize = 100;
const MANY: usize = 1_000;
/// By how much buffers that grow by doubling may differ: a few of them, each a few times.
const GROWTH: usize = 24;

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: impl Into<String>) -> Value {
    value(Kind::StringValue(text.into()))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

fn allocations(
    table: &TableDef,
    (session, writes): (&str, &Writes),
    rows: usize,
    row: &dyn Fn(usize) -> Vec<Value>,
) -> usize {
    let session = ddl::parse(session).unwrap();
    let plan = Plan::compile(table, &session, writes.clone(), 1).unwrap();
    // Of adaptive tables alone.
    plan.use_shards(Arc::new(ShardCounts::new([("hot\"", 8)])));
    let rows_plan = RowsPlan::compile(&plan).unwrap();
    let batch = RowBatch { rows: (0..rows).map(|at| Row { values: row(at) }).collect() }.encode_to_vec();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let chunk = RowsCursor::new(&batch).next_chunk(&plan, &rows_plan, usize::MAX / 2, 0).unwrap().unwrap();
    let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!((chunk.rows.len(), chunk.rejects.len()), (rows, 0), "{:?}", chunk.rejects.first());
    allocated
}

fn table(columns: &str, key: &[&str], mode: StoreAssignment) -> TableDef {
    let key = KeyDef {
        partition: key.iter().map(|column| (*column).to_owned()).collect(),
        sort: Vec::new(),
        partition_attribute: "_pk".to_owned(),
        sort_attribute: "_sk".to_owned(),
    };
    let mut table = TableDef::new("t", ddl::parse(columns).unwrap(), key, "t");
    table.store_assignment = mode;
    table.validate().unwrap();
    table
}

#[test]
fn ten_times_the_rows_take_no_more_allocations() {
    let own_types = "id STRING NOT NULL, day DATE NOT NULL, n BIGINT, d DOUBLE, f FLOAT, m DECIMAL(20, 4), b BINARY, yes BOOLEAN, \
                     at TIMESTAMP, wall TIMESTAMP_NTZ, list ARRAY<DOUBLE>, map MAP<STRING, INT>, s STRUCT<a: STRING, b: DATE>, \
                     texts ARRAY<STRING> OPTIONS (as_set = true), dt INTERVAL DAY TO SECOND, v VARIANT";
    let own = |at: usize| {
        let entry = |key: &str| MapEntry { key: Some(text(key)), value: Some(value(Kind::IntValue(1))) };
        let map = Kind::MapValue(MapValue { entries: ["a", "b", "c"].map(entry).to_vec() });
        let nested = Kind::StructValue(StructValue { values: vec![text("é\""), value(Kind::DateDays(7))] });
        vec![
            text(format!("id{at}")),
            value(Kind::DateDays(at as i32)),
            value(Kind::IntValue(-9)),
            value(Kind::DoubleValue(0.1)),
            value(Kind::FloatValue(0.1)),
            value(Kind::DecimalValue("-12.3400".to_owned())),
            value(Kind::BytesValue(vec![1, 2, 3].into())),
            value(Kind::BoolValue(true)),
            value(Kind::TimestampMicros(1)),
            value(Kind::TimestampNtzMicros(1)),
            list(vec![value(Kind::DoubleValue(1.5)); 5]),
            value(map),
            value(nested),
            list(vec![text("x"), text("y"), text("x")]),
            value(Kind::DayTimeIntervalMicros(5)),
            list(vec![value(Kind::IntValue(1)), text("two")]),
        ]
    };
    let strict = table(own_types, &["id", "day"], StoreAssignment::Strict);
    // Every column but the key is cast from text, or from another type, in mode LEGACY.
    let legacy = table(
        "id STRING NOT NULL, n BIGINT, d DOUBLE, m DECIMAL(9, 2), yes BOOLEAN, day DATE, at TIMESTAMP, s STRING, t STRING, \
         u STRING, short VARCHAR(3)",
        &["id"],
        StoreAssignment::Legacy,
    );
    let sent = "id STRING NOT NULL, n STRING, d STRING, m DOUBLE, yes STRING, day STRING, at STRING, s DOUBLE, \
                t TIMESTAMP, u DECIMAL(9, 2), short STRING";
    let cast = |at: usize| {
        vec![
            text(format!("id{at}")),
            text(" 12 "),
            text("1.5e3"),
            value(Kind::DoubleValue(1.005)),
            text("yes"),
            text("2024-2-29"),
            text("2024-02-29 12:00:00.5"),
            value(Kind::DoubleValue(1e10)),
            value(Kind::TimestampMicros(-1)),
            value(Kind::DecimalValue("1.50".to_owned())),
            text("abc  "),
        ]
    };
    // Each row another operation, in a table that orders them.
    let feed_types = "id STRING NOT NULL, v BIGINT NOT NULL, a STRING, b STRING DEFAULT 'x'";
    let mut ordered = table(feed_types, &["id"], StoreAssignment::Strict);
    ordered.sequence_by = Some("v".to_owned());
    let feed = |at: usize| {
        let op = ["put", "MERGE", "insert", "Delete"][at % 4];
        vec![text(op), text(format!("id{at}")), value(Kind::IntValue(at as i64)), Value { kind: None }]
    };
    // A place for each row, in a table whose number of places is fixed and in one where it is looked up.
    let shard_types = "id STRING NOT NULL, at BIGINT NOT NULL";
    let mut sharded = table(shard_types, &["id"], StoreAssignment::Strict);
    sharded.key.sort = vec!["at".to_owned()];
    sharded.write_shards = 16;
    let adaptive = TableDef { write_shards: 0, write_sharding_max_shards: 16, append_only: true, ..sharded.clone() };
    sharded.validate().unwrap();
    adaptive.validate().unwrap();
    let point =
        |at: usize| vec![text(if at.is_multiple_of(2) { "hot\"" } else { "cold" }), value(Kind::IntValue(at as i64))];
    let put = Writes::from(WriteOp::Put);
    let each = Writes { mode: RowMode::ByColumn("op".to_owned()), on_missing: None, store_assignment: None };
    let feed_sent = "op STRING, id STRING, v BIGINT, a STRING";
    for (name, table, session, writes, row) in [
        ("own types", &strict, own_types, &put, &own as &dyn Fn(usize) -> Vec<Value>),
        ("cast", &legacy, sent, &put, &cast),
        ("operations", &ordered, feed_sent, &each, &feed),
        ("write shards", &sharded, shard_types, &put, &point),
        ("adaptive shards", &adaptive, shard_types, &put, &point),
    ] {
        let few = allocations(table, (session, writes), FEW, row);
        let many = allocations(table, (session, writes), MANY, row);
        assert!(many <= few + GROWTH, "{name}: {few} allocations for {FEW} rows, {many} for {MANY}");
    }
}
