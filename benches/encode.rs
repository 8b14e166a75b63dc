//! CPU time of a row from the payload's bytes to DynamoDB's JSON: decode, check, encode. `cargo bench --bench encode`.
//!
//! Three shapes of row, each as a RowBatch and as an ArrowBatch of 500 rows, on the allocator that the gateway uses. What
//! is measured is the thread's CPU time, so that a busy machine changes the result little; the results are for a batch, and
//! in rows ("elements") a second of CPU. docs/performance.md has the figures.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may panic")]

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int64Builder, ListBuilder, MapBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forebay::limits::CHUNK_TARGET_BYTES;
use forebay::payload::arrow::{ArrowPlan, IncomingArrow};
use forebay::payload::rows::{RowsCursor, RowsPlan};
use forebay::payload::{Chunk, Plan};
use forebay::proto::v1::{self, value::Kind};
use forebay::schema::{DataType, Field, KeyDef, Schema, TableDef};
use forebay::store::WriteOp;
use prost::Message as _;

#[path = "support/cpu_time.rs"]
mod cpu_time;

use cpu_time::CpuTime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 500;

/// The same rows in both payloads, and the table that they go into.
struct Case {
    name: &'static str,
    table: TableDef,
    rows: Vec<Vec<Kind>>,
    columns: Vec<(&'static str, ArrayRef)>,
}

fn case(name: &'static str, fields: Vec<Field>, rows: Vec<Vec<Kind>>, columns: Vec<(&'static str, ArrayRef)>) -> Case {
    let key = KeyDef {
        partition: vec![fields[0].name.clone()],
        sort: Vec::new(),
        partition_attribute: forebay::schema::table::default_partition_attribute(),
        sort_attribute: forebay::schema::table::default_sort_attribute(),
    };
    Case { name, table: TableDef::new("bench", Schema { fields }, key, "bench"), rows, columns }
}

fn id(row: usize) -> String {
    format!("customer-{row:08}")
}

/// Doubles as measurements give them: all digits are in use.
fn double(row: usize, column: usize) -> f64 {
    let mixed = (row as u64 * 31 + column as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1u64 << 53) as f64 * 1000.0
}

const FIRST_MICROS: i64 = 1_700_000_000_000_000;

fn doubles(column: usize) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| double(row, column))))
}

fn texts(text: impl Fn(usize) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(text)))
}

fn timestamps() -> ArrayRef {
    let micros = (0..ROWS as i64).map(|row| FIRST_MICROS + row);
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

fn list(values: Vec<Kind>) -> Kind {
    Kind::ListValue(v1::ListValue { values: values.into_iter().map(value).collect() })
}

fn value(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

fn array_of(element: DataType) -> DataType {
    DataType::Array { element: Box::new(element), contains_null: true }
}

/// The row that all figures of the project go by: 2 strings, 6 doubles, a long, a timestamp, an array of 8 doubles; about
/// 600 bytes of DynamoDB's JSON.
fn features() -> Case {
    const NAMES: [&str; 6] =
        ["basket_avg_7d", "basket_avg_30d", "basket_max_30d", "basket_min_30d", "basket_trend", "churn_score"];
    let mut fields = vec![Field::new("id", DataType::String, false), Field::new("segment", DataType::String, true)];
    fields.extend(NAMES.map(|name| Field::new(name, DataType::Double, true)));
    fields.push(Field::new("orders", DataType::Long, true));
    fields.push(Field::new("at", DataType::Timestamp, true));
    fields.push(Field::new("emb", array_of(DataType::Double), true));
    let row = |row: usize| {
        let mut values = vec![Kind::StringValue(id(row)), Kind::StringValue(format!("segment-{}", row % 9))];
        values.extend((0..6).map(|column| Kind::DoubleValue(double(row, column))));
        values.push(Kind::IntValue(row as i64 * 1001));
        values.push(Kind::TimestampMicros(FIRST_MICROS + row as i64));
        values.push(list((6..14).map(|column| Kind::DoubleValue(double(row, column))).collect()));
        values
    };
    let mut embeddings = ListBuilder::new(Float64Builder::new());
    for row in 0..ROWS {
        embeddings.append_value((6..14).map(|column| Some(double(row, column))));
    }
    let mut columns = vec![("id", texts(id)), ("segment", texts(|row| format!("segment-{}", row % 9)))];
    columns.extend(NAMES.iter().enumerate().map(|(column, name)| (*name, doubles(column))));
    columns.push(("orders", Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|row| row * 1001)))));
    columns.push(("at", timestamps()));
    columns.push(("emb", Arc::new(embeddings.finish())));
    case("features", fields, (0..ROWS).map(row).collect(), columns)
}

/// A key, a double and a timestamp.
fn narrow() -> Case {
    let fields = vec![
        Field::new("id", DataType::String, false),
        Field::new("score", DataType::Double, true),
        Field::new("at", DataType::Timestamp, true),
    ];
    let row = |row: usize| {
        let at = Kind::TimestampMicros(FIRST_MICROS + row as i64);
        vec![Kind::StringValue(id(row)), Kind::DoubleValue(double(row, 0)), at]
    };
    let columns = vec![("id", texts(id)), ("score", doubles(0)), ("at", timestamps())];
    case("narrow", fields, (0..ROWS).map(row).collect(), columns)
}

/// A list of four structs and a map of four entries.
fn nested() -> Case {
    const KEYS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
    let event = vec![
        Field::new("kind", DataType::String, true),
        Field::new("value", DataType::Double, true),
        Field::new("count", DataType::Long, true),
    ];
    let weights =
        DataType::Map { key: Box::new(DataType::String), value: Box::new(DataType::Double), value_contains_null: true };
    let fields = vec![
        Field::new("id", DataType::String, false),
        Field::new("events", array_of(DataType::Struct(event)), true),
        Field::new("weights", weights, true),
    ];
    let row = |row: usize| {
        let event = |index: usize| {
            let values =
                vec![Kind::StringValue(KEYS[index].into()), Kind::DoubleValue(double(row, index)), Kind::IntValue(9)];
            Kind::StructValue(v1::StructValue { values: values.into_iter().map(value).collect() })
        };
        let entry = |index: usize| v1::MapEntry {
            key: Some(value(Kind::StringValue(KEYS[index].into()))),
            value: Some(value(Kind::DoubleValue(double(row, index)))),
        };
        let weights = Kind::MapValue(v1::MapValue { entries: (0..4).map(entry).collect() });
        vec![Kind::StringValue(id(row)), list((0..4).map(event).collect()), weights]
    };
    let arrow_fields = [
        ("kind", arrow_schema::DataType::Utf8),
        ("value", arrow_schema::DataType::Float64),
        ("count", arrow_schema::DataType::Int64),
    ];
    let arrow_fields = arrow_fields.map(|(name, data_type)| arrow_schema::Field::new(name, data_type, true));
    let mut events = ListBuilder::new(StructBuilder::from_fields(arrow_fields.to_vec(), ROWS * 4));
    let mut weights = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    for row in 0..ROWS {
        for (index, key) in KEYS.iter().enumerate() {
            let event = events.values();
            event.field_builder::<StringBuilder>(0).unwrap().append_value(key);
            event.field_builder::<Float64Builder>(1).unwrap().append_value(double(row, index));
            event.field_builder::<Int64Builder>(2).unwrap().append_value(9);
            event.append(true);
            weights.keys().append_value(key);
            weights.values().append_value(double(row, index));
        }
        events.append(true);
        weights.append(true).unwrap();
    }
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", texts(id)), ("events", Arc::new(events.finish())), ("weights", Arc::new(weights.finish()))];
    case("nested", fields, (0..ROWS).map(row).collect(), columns)
}

fn row_batch(case: &Case) -> Vec<u8> {
    let row = |values: &Vec<Kind>| v1::Row { values: values.iter().cloned().map(value).collect() };
    v1::RowBatch { rows: case.rows.iter().map(row).collect() }.encode_to_vec()
}

/// The schema message, and the batch.
fn arrow_batch(case: &Case, compression: Option<CompressionType>) -> (Bytes, Bytes) {
    let batch = RecordBatch::try_from_iter(case.columns.clone()).unwrap();
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    let schema_bytes = writer.get_ref().len();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    // A message's bytes lie anywhere in memory, so most buffers are not aligned.
    let shifted = Bytes::from([&[0][..], &bytes].concat()).slice(1..);
    (shifted.slice(..schema_bytes), shifted.slice(schema_bytes..))
}

fn encode_rows(batch: &[u8], plan: &Plan, rows_plan: &RowsPlan) -> Vec<Chunk> {
    let mut cursor = RowsCursor::new(batch);
    std::iter::from_fn(|| cursor.next_chunk(plan, rows_plan, CHUNK_TARGET_BYTES, 0).unwrap()).collect()
}

fn encode_arrow(batch: &Bytes, plan: &Plan, arrow_plan: &ArrowPlan) -> Vec<Chunk> {
    let mut cursor = arrow_plan.decode(batch.clone()).unwrap();
    std::iter::from_fn(|| cursor.next_chunk(plan, CHUNK_TARGET_BYTES, 0).unwrap()).collect()
}

fn items(chunks: &[Chunk]) -> Vec<Bytes> {
    chunks.iter().flat_map(|chunk| &chunk.rows).map(|row| row.item.json.clone()).collect()
}

fn encode(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(ROWS as u64));
    for case in [features(), narrow(), nested()] {
        let rows = row_batch(&case);
        let plan = Plan::compile(&case.table, &case.table.schema, WriteOp::Put, 1).unwrap();
        let rows_plan = RowsPlan::compile(&plan).unwrap();
        let expected = items(&encode_rows(&rows, &plan, &rows_plan));
        assert_eq!(expected.len(), ROWS);
        let mean_bytes = expected.iter().map(Bytes::len).sum::<usize>() / ROWS;
        eprintln!("{}: {mean_bytes} bytes of JSON a row; RowBatch {} bytes a row", case.name, rows.len() / ROWS);
        group.bench_with_input(BenchmarkId::new("rows", case.name), &rows, |bencher, rows| {
            bencher.iter(|| encode_rows(rows, &plan, &rows_plan));
        });
        for (name, compression) in [("arrow", None), ("arrow-lz4", Some(CompressionType::LZ4_FRAME))] {
            let (schema, batch) = arrow_batch(&case, compression);
            let incoming = IncomingArrow::parse(&schema).unwrap();
            let plan = Plan::compile(&case.table, incoming.schema(), WriteOp::Put, 1).unwrap();
            let arrow_plan = ArrowPlan::compile(&plan, incoming).unwrap();
            assert_eq!(items(&encode_arrow(&batch, &plan, &arrow_plan)), expected, "both payloads give the same text");
            group.bench_with_input(BenchmarkId::new(name, case.name), &batch, |bencher, batch| {
                bencher.iter(|| encode_arrow(batch, &plan, &arrow_plan));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = encode
}
criterion_main!(benches);
