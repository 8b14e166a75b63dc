//! What checking and coercing a row costs beside encoding it. `cargo bench --bench coerce`.
//!
//! Rows of 11 and of 50 columns, flat and nested, as Arrow batches of 500 rows. Each is measured three ways: `alone`, a
//! hand-written encoder of just these columns that decodes the batch, writes the same items and hashes their keys, and checks
//! nothing: no nulls, no ranges, no lengths, no sizes; `same types`, the gateway's own way, where no value is coerced; and `all
//! coerced`, the same where every column but the key comes in another type than the table's (int for bigint, float for
//! double, date for timestamp), in mode ANSI, beside an `alone` of its own. The three outputs are compared byte by byte.
//!
//! Criterion gives microseconds of the thread's CPU time; the table at the end gives ratios, each from pairs of runs that
//! take turns, so that the machine's other work falls on both. docs/performance.md has the figures.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench may panic")]
#![allow(clippy::print_stdout, reason = "the table of ratios is for whoever runs it")]

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array as _, ArrayRef, Date32Array, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields};
use bytes::Bytes;
use criterion::measurement::Measurement as _;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forebay::limits::CHUNK_TARGET_BYTES;
use forebay::payload::arrow::{ArrowPlan, IncomingArrow};
use forebay::payload::item::{ItemWriter, name_json};
use forebay::payload::{Chunk, Plan};
use forebay::schema::{DataType, Field, KeyDef, Schema, StoreAssignment, TableDef};
use forebay::store::WriteOp;

#[path = "support/cpu_time.rs"]
mod cpu_time;

use cpu_time::CpuTime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 500;
/// Elements of a nested column's array.
const ELEMENTS: usize = 2;
/// Pairs of runs for a ratio.
const PAIRS: usize = 300;
const FIRST_DAY: i32 = 19_675;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The kinds of columns, in turn: what feature tables are made of.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Double,
    Long,
    Timestamp,
}

const TURN: [Kind; 5] = [Kind::Double, Kind::Double, Kind::Long, Kind::Double, Kind::Timestamp];

impl Kind {
    fn declared(self) -> DataType {
        match self {
            Self::Double => DataType::Double,
            Self::Long => DataType::Long,
            Self::Timestamp => DataType::Timestamp,
        }
    }

    /// So many values; the wide ones are those that the narrow ones become.
    fn array(self, values: usize, salt: usize, coerced: bool) -> ArrayRef {
        let mixed = |at: usize| ((at * 31 + salt + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let float = |at: usize| (mixed(at) >> 40) as f32 / 16_384.0;
        let int = |at: usize| (mixed(at) >> 36) as i32;
        let day = |at: usize| FIRST_DAY + (mixed(at) % 365) as i32;
        match (self, coerced) {
            (Self::Double, true) => Arc::new(Float32Array::from_iter_values((0..values).map(float))),
            (Self::Double, false) => {
                Arc::new(Float64Array::from_iter_values((0..values).map(|at| f64::from(float(at)))))
            }
            (Self::Long, true) => Arc::new(Int32Array::from_iter_values((0..values).map(int))),
            (Self::Long, false) => Arc::new(Int64Array::from_iter_values((0..values).map(|at| int(at).into()))),
            (Self::Timestamp, true) => Arc::new(Date32Array::from_iter_values((0..values).map(day))),
            (Self::Timestamp, false) => {
                let micros = (0..values).map(|at| i64::from(day(at)) * MICROS_PER_DAY);
                Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
            }
        }
    }
}

/// A shape of rows.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    columns: usize,
    nested: bool,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "11 columns, flat", columns: 11, nested: false },
    Shape { name: "50 columns, flat", columns: 50, nested: false },
    Shape { name: "11 columns, nested", columns: 11, nested: true },
    Shape { name: "50 columns, nested", columns: 50, nested: true },
];

impl Shape {
    fn kind(column: usize) -> Kind {
        TURN[column % TURN.len()]
    }

    fn table(self) -> TableDef {
        let mut fields = vec![Field::new("id", DataType::String, false)];
        for column in 1..self.columns {
            let declared = Self::kind(column).declared();
            let data_type = match self.nested {
                false => declared,
                true => DataType::Array {
                    element: Box::new(DataType::Struct(vec![
                        Field::new("a", declared.clone(), true),
                        Field::new("b", declared, true),
                    ])),
                    contains_null: true,
                },
            };
            fields.push(Field::new(format!("feature_{column:02}"), data_type, true));
        }
        let key = KeyDef {
            partition: vec!["id".to_owned()],
            sort: Vec::new(),
            partition_attribute: forebay::schema::table::default_partition_attribute(),
            sort_attribute: forebay::schema::table::default_sort_attribute(),
        };
        let mut table = TableDef::new("bench", Schema { fields }, key, "bench");
        table.store_assignment = StoreAssignment::Ansi;
        table
    }

    fn batch(self, coerced: bool) -> RecordBatch {
        let ids = StringArray::from_iter_values((0..ROWS).map(|row| format!("customer-{row:08}")));
        let mut columns: Vec<(String, ArrayRef)> = vec![("id".to_owned(), Arc::new(ids))];
        for column in 1..self.columns {
            let kind = Self::kind(column);
            let array = match self.nested {
                false => kind.array(ROWS, column, coerced),
                true => {
                    let values = |salt: usize| kind.array(ROWS * ELEMENTS, salt, coerced);
                    let (a, b) = (values(column), values(column + 100));
                    let field = |name: &str| ArrowField::new(name, a.data_type().clone(), true);
                    let fields = Fields::from(vec![field("a"), field("b")]);
                    let element = Arc::new(ArrowField::new("element", ArrowType::Struct(fields.clone()), true));
                    let structs = StructArray::new(fields, vec![a, b], None);
                    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(ELEMENTS, ROWS));
                    Arc::new(ListArray::new(element, offsets, Arc::new(structs), None))
                }
            };
            columns.push((format!("feature_{column:02}"), array));
        }
        RecordBatch::try_from_iter(columns).unwrap()
    }
}

/// The stream as a whole, and cut into its schema and its batch.
struct Ipc {
    whole: Bytes,
    schema: Bytes,
    batch: Bytes,
}

impl Ipc {
    fn of(batch: &RecordBatch) -> Self {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        let schema_bytes = writer.get_ref().len();
        writer.write(batch).unwrap();
        let whole = Bytes::from(writer.into_inner().unwrap());
        Self { schema: whole.slice(..schema_bytes), batch: whole.slice(schema_bytes..), whole }
    }
}

/// Writes one value, and nothing else.
type Put = Box<dyn Fn(usize, &mut ItemWriter)>;

fn put_double(writer: &mut ItemWriter, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    writer.raw(b"{\"N\":\"");
    writer.raw(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    writer.raw(b"\"}");
}

fn put_long(writer: &mut ItemWriter, value: i64) {
    writer.raw(b"{\"N\":\"");
    writer.raw(itoa::Buffer::new().format(value).as_bytes());
    writer.raw(b"\"}");
}

/// The hand-written writer of a column.
fn writer_of(array: &ArrayRef) -> Put {
    match array.data_type() {
        ArrowType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values().clone();
            Box::new(move |row, writer| put_double(writer, values[row]))
        }
        ArrowType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values().clone();
            Box::new(move |row, writer| put_double(writer, f64::from(values[row])))
        }
        ArrowType::Int64 => {
            let values = array.as_primitive::<Int64Type>().values().clone();
            Box::new(move |row, writer| put_long(writer, values[row]))
        }
        ArrowType::Int32 => {
            let values = array.as_primitive::<Int32Type>().values().clone();
            Box::new(move |row, writer| put_long(writer, values[row].into()))
        }
        ArrowType::Timestamp(..) => {
            let values = array.as_primitive::<TimestampMicrosecondType>().values().clone();
            Box::new(move |row, writer| put_long(writer, values[row]))
        }
        ArrowType::Date32 => {
            let values = array.as_primitive::<Date32Type>().values().clone();
            Box::new(move |row, writer| put_long(writer, i64::from(values[row]) * MICROS_PER_DAY))
        }
        ArrowType::Utf8 => {
            let values = array.as_string::<i32>().clone();
            Box::new(move |row, writer| {
                writer.raw(b"{\"S\":\"");
                writer.escaped(values.value(row));
                writer.raw(b"\"}");
            })
        }
        ArrowType::List(_) => {
            let list = array.as_list::<i32>().clone();
            let fields = list.values().as_struct();
            let columns: Vec<Put> = fields.columns().iter().map(writer_of).collect();
            let names: Vec<_> = fields.fields().iter().map(|field| name_json(field.name())).collect();
            Box::new(move |row, writer| {
                writer.raw(b"{\"L\":[");
                for (index, element) in (list.offsets()[row]..list.offsets()[row + 1]).enumerate() {
                    if index > 0 {
                        writer.raw(b",");
                    }
                    writer.raw(b"{\"M\":{");
                    for (column, (put, name)) in columns.iter().zip(&names).enumerate() {
                        if column > 0 {
                            writer.raw(b",");
                        }
                        writer.raw(name);
                        put(element as usize, writer);
                    }
                    writer.raw(b"}}");
                }
                writer.raw(b"]}");
            })
        }
        other => panic!("{other}"),
    }
}

/// An item with the hashes of its key, as lanes need it.
type Item = (Bytes, u64);

/// Decodes and encodes, cuts the bytes into items and hashes their keys, and does nothing else. Names are prepared, as a
/// plan's are.
fn alone(ipc: &Ipc, names: &[Box<[u8]>]) -> Vec<Item> {
    let batch = StreamReader::try_new(&ipc.whole[..], None).unwrap().next().unwrap().unwrap();
    let columns: Vec<Put> = batch.columns().iter().map(writer_of).collect();
    let mut writer = ItemWriter::with_capacity(CHUNK_TARGET_BYTES);
    let hasher = foldhash::fast::FixedState::with_seed(1);
    let mut spans = Vec::new();
    for row in 0..batch.num_rows() {
        let (start, mut hash) = (writer.len(), 0);
        for (column, (put, name)) in columns.iter().zip(names).enumerate() {
            writer.raw(if column > 0 { b"," } else { b"{" });
            writer.raw(name);
            put(row, &mut writer);
            if column == 0 {
                let mut hashing = hasher.build_hasher();
                hashing.write(&writer.as_slice()[start + 1..]);
                hash = hashing.finish();
            }
        }
        writer.raw(b"}");
        spans.push((start..writer.len(), hash));
    }
    let bytes = Bytes::from(writer.into_buffer());
    spans.into_iter().map(|(span, hash)| (bytes.slice(span), hash)).collect()
}

/// The gateway's way.
struct Gateway {
    plan: Plan,
    arrow: ArrowPlan,
}

impl Gateway {
    fn new(table: &TableDef, ipc: &Ipc) -> Self {
        let incoming = IncomingArrow::parse(&ipc.schema).unwrap();
        let plan = Plan::compile(table, incoming.schema(), WriteOp::Put, 1).unwrap();
        let arrow = ArrowPlan::compile(&plan, incoming).unwrap();
        Self { plan, arrow }
    }

    fn encode(&self, ipc: &Ipc) -> Vec<Chunk> {
        let mut cursor = self.arrow.decode(ipc.batch.clone()).unwrap();
        std::iter::from_fn(|| cursor.next_chunk(&self.plan, CHUNK_TARGET_BYTES, 0).unwrap()).collect()
    }
}

fn rows(chunks: &[Chunk]) -> Vec<Item> {
    assert!(chunks.iter().all(|chunk| chunk.rejects.is_empty()));
    chunks.iter().flat_map(|chunk| &chunk.rows).map(|row| (row.item.json.clone(), row.key_hash)).collect()
}

/// The middle of the ratios of pairs of runs.
fn ratio(mut one: impl FnMut(), mut other: impl FnMut()) -> f64 {
    let cpu = |run: &mut dyn FnMut()| {
        let start = CpuTime.start();
        run();
        CpuTime.end(start).as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..PAIRS).map(|_| cpu(&mut one) / cpu(&mut other)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[PAIRS / 2]
}

fn coerce(criterion: &mut Criterion<CpuTime>) {
    let mut lines = Vec::new();
    let mut group = criterion.benchmark_group("coerce");
    group.throughput(Throughput::Elements(ROWS as u64));
    for shape in SHAPES {
        let table = shape.table();
        let names: Vec<_> = table.schema.fields.iter().map(|field| name_json(&field.name)).collect();
        let mut ratios = Vec::new();
        for (name, coerced) in [("same types", false), ("all coerced", true)] {
            let ipc = Ipc::of(&shape.batch(coerced));
            let gateway = Gateway::new(&table, &ipc);
            let chunks = gateway.encode(&ipc);
            assert_eq!(rows(&chunks), alone(&ipc, &names), "both write the same");
            assert_eq!(chunks.iter().all(|chunk| chunk.coercions.is_empty()), !coerced);
            group.bench_function(BenchmarkId::new(format!("alone, {name}"), shape.name), |bencher| {
                bencher.iter(|| alone(&ipc, &names));
            });
            group.bench_function(BenchmarkId::new(name, shape.name), |bencher| bencher.iter(|| gateway.encode(&ipc)));
            ratios.push(ratio(|| drop(gateway.encode(&ipc)), || drop(alone(&ipc, &names))));
        }
        lines.push(format!("{:<20} {:>12.3} {:>12.3}", shape.name, ratios[0], ratios[1]));
    }
    group.finish();
    println!(
        "CPU time against encoding alone, median of {PAIRS} pairs\n{:<20} {:>12} {:>12}",
        "", "same types", "all coerced"
    );
    lines.iter().for_each(|line| println!("{line}"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = coerce
}
criterion_main!(benches);
