//! The rows that are written, encoded before anything is measured: the load generator copies bytes and does no more.
//!
//! The row that all figures of the project go by: 2 strings, 6 doubles, a long, a timestamp, an array of 8 doubles; about
//! 600 bytes of DynamoDB's JSON.

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, ListBuilder};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use forebay::client::convert::{rows_from_arrow, schema_from_arrow};
use forebay::proto::server::batch::Payload;
use forebay::proto::v1;
use prost::Message as _;

use crate::Failure;

/// The table.
pub(crate) const TABLE: &str = "bench";
/// Its key column.
pub(crate) const KEY: &str = "id";
/// The column that orders its rows, where one does.
const SEQUENCE: &str = "at";

const DOUBLES: [&str; 6] = ["avg_7d", "avg_30d", "max_30d", "min_30d", "trend", "score"];
const VECTOR: usize = 8;
const FIRST_MICROS: i64 = 1_767_225_600_000_000;

/// How rows travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// `RowBatch`.
    Rows,
    /// `ArrowBatch`.
    Arrow,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rows => "RowBatch",
            Self::Arrow => "ArrowBatch",
        }
    }
}

/// A session's batches. They are sent round and round; there are more of them than the window lets wait, so no two writes
/// of a key meet in the gateway.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) open: v1::Open,
    pub(crate) batches: Vec<Payload>,
    pub(crate) batch_rows: usize,
}

/// The key of a row.
pub(crate) fn key(number: u64) -> String {
    format!("customer-{number:09}")
}

/// The table's definition. With `sequenced`, a column orders its rows, and each is a conditional call of its own.
pub(crate) fn table(sequenced: bool) -> Result<v1::Table, Failure> {
    let key = v1::Key { partition: vec![KEY.to_owned()], ..v1::Key::default() };
    let mut schema = schema_from_arrow(&schema())?;
    let mut sequence_by = String::new();
    if sequenced {
        schema.fields.iter_mut().filter(|field| field.name == SEQUENCE).for_each(|field| field.nullable = false);
        sequence_by = SEQUENCE.to_owned();
    }
    Ok(v1::Table { name: TABLE.to_owned(), schema: Some(schema), key: Some(key), sequence_by, ..v1::Table::default() })
}

/// Batches with the rows from `first` on.
pub(crate) fn prepare(form: Form, first: u64, batches: usize, batch_rows: usize) -> Result<Prepared, Failure> {
    let schema = schema();
    let mut open = v1::Open { table: TABLE.to_owned(), ..v1::Open::default() };
    match form {
        Form::Rows => open.columns = Some(schema_from_arrow(&schema)?),
        Form::Arrow => open.arrow_schema = StreamWriter::try_new(Vec::new(), &schema)?.get_ref().clone().into(),
    }
    let batches = (0..batches as u64).map(|batch| {
        let first = first + batch * batch_rows as u64;
        let rows = record_batch(&schema, first..first + batch_rows as u64)?;
        Ok(match form {
            Form::Rows => Payload::Rows(rows_from_arrow(&rows)?.encode_to_vec().into()),
            Form::Arrow => Payload::Arrow(v1::ArrowBatch { ipc_messages: ipc_message(&rows)? }),
        })
    });
    Ok(Prepared { open, batches: batches.collect::<Result<_, Failure>>()?, batch_rows })
}

/// The message of a batch, without that of its schema.
fn ipc_message(rows: &RecordBatch) -> Result<Bytes, Failure> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    let schema_bytes = writer.get_ref().len();
    writer.write(rows)?;
    Ok(Bytes::copy_from_slice(&writer.get_ref()[schema_bytes..]))
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let mut fields = vec![Field::new(KEY, DataType::Utf8, false), field("segment", DataType::Utf8)];
    fields.extend(DOUBLES.map(|name| field(name, DataType::Float64)));
    let element = Arc::new(Field::new("item", DataType::Float64, true));
    fields.push(field("orders", DataType::Int64));
    fields.push(field(SEQUENCE, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))));
    fields.push(field("emb", DataType::List(element)));
    Arc::new(Schema::new(fields))
}

/// A double as measurements give it: all digits are in use.
fn double(row: u64, column: u64) -> f64 {
    let mixed = (row * 31 + column + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 11) as f64 / (1u64 << 53) as f64 * 1000.0
}

fn record_batch(schema: &SchemaRef, rows: std::ops::Range<u64>) -> Result<RecordBatch, Failure> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.clone().map(key))),
        Arc::new(StringArray::from_iter_values(rows.clone().map(|row| format!("segment-{}", row % 9)))),
    ];
    for column in 0..DOUBLES.len() as u64 {
        columns.push(Arc::new(Float64Array::from_iter_values(rows.clone().map(|row| double(row, column)))));
    }
    columns.push(Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row as i64 * 1001))));
    let times = rows.clone().map(|row| FIRST_MICROS + row as i64);
    columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")));
    let mut vectors = ListBuilder::new(Float64Builder::new());
    for row in rows {
        vectors.append_value((0..VECTOR as u64).map(|column| Some(double(row, DOUBLES.len() as u64 + column))));
    }
    columns.push(Arc::new(vectors.finish()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
