//! The rows that `bench` writes: two texts, six doubles, a long, a timestamp and an array of eight doubles, about 600
//! bytes of DynamoDB JSON. A row follows from its number alone, so a read knows its keys.

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType as Arrow, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit};

use crate::proto::v1::value::Kind;
use crate::proto::v1::{ListValue, Row, RowBatch, Value};
use crate::schema::{DataType, Field, Schema};

const DOUBLES: [&str; 6] = ["d0", "d1", "d2", "d3", "d4", "d5"];
const VECTOR: usize = 8;
/// 2026-01-01T00:00:00Z, the time of row 0; each row is a millisecond later.
const START_MICROS: i64 = 1_767_225_600_000_000;

/// The key's column.
pub(super) const KEY: &str = "id";

/// The key of a row.
pub(super) fn key(number: u64) -> String {
    format!("row-{number:012}")
}

/// The columns.
pub(super) fn schema() -> Schema {
    let mut fields = vec![Field::new(KEY, DataType::String, false), Field::new("category", DataType::String, true)];
    fields.extend(DOUBLES.map(|name| Field::new(name, DataType::Double, true)));
    let vector = DataType::Array { element: Box::new(DataType::Double), contains_null: false };
    fields.extend([
        Field::new("n", DataType::Long, true),
        Field::new("at", DataType::Timestamp, true),
        Field::new("vector", vector, true),
    ]);
    Schema { fields }
}

/// The columns as Arrow has them.
pub(super) fn arrow_schema() -> SchemaRef {
    let field = |name: &str, data_type| ArrowField::new(name, data_type, true);
    let mut fields = vec![ArrowField::new(KEY, Arrow::Utf8, false), field("category", Arrow::Utf8)];
    fields.extend(DOUBLES.map(|name| field(name, Arrow::Float64)));
    let vector = Arrow::List(Arc::new(ArrowField::new("item", Arrow::Float64, false)));
    let at = Arrow::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    fields.extend([field("n", Arrow::Int64), field("at", at), field("vector", vector)]);
    Arc::new(ArrowSchema::new(fields))
}

fn category(number: u64) -> &'static str {
    ["groceries", "fuel", "travel", "restaurants", "online"][(number % 5) as usize]
}

fn chance(number: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(number)
}

/// Rows `numbers` as values.
pub(super) fn row_batch(numbers: std::ops::Range<u64>) -> RowBatch {
    let value = |kind| Value { kind: Some(kind) };
    let row = |number| {
        let mut chance = chance(number);
        let mut values = vec![value(Kind::StringValue(key(number)))];
        values.push(value(Kind::StringValue(category(number).to_owned())));
        values.extend(DOUBLES.map(|_| value(Kind::DoubleValue(chance.f64() * 1000.0))));
        values.push(value(Kind::IntValue(number as i64)));
        values.push(value(Kind::TimestampMicros(START_MICROS + number as i64 * 1000)));
        let vector = (0..VECTOR).map(|_| value(Kind::DoubleValue(chance.f64()))).collect();
        values.push(value(Kind::ListValue(ListValue { values: vector })));
        Row { values }
    };
    RowBatch { rows: numbers.map(row).collect() }
}

/// Rows `numbers` as columns.
pub(super) fn record_batch(
    schema: &SchemaRef,
    numbers: std::ops::Range<u64>,
) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let mut ids = StringBuilder::new();
    let mut categories = StringBuilder::new();
    let mut doubles: [Vec<f64>; 6] = Default::default();
    let element = ArrowField::new("item", Arrow::Float64, false);
    let mut vectors = ListBuilder::new(Float64Builder::new()).with_field(element);
    for number in numbers.clone() {
        let mut chance = chance(number);
        ids.append_value(key(number));
        categories.append_value(category(number));
        doubles.iter_mut().for_each(|column| column.push(chance.f64() * 1000.0));
        (0..VECTOR).for_each(|_| vectors.values().append_value(chance.f64()));
        vectors.append(true);
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(ids.finish()), Arc::new(categories.finish())];
    columns.extend(doubles.map(|column| Arc::new(Float64Array::from(column)) as ArrayRef));
    let times = numbers.clone().map(|number| START_MICROS + number as i64 * 1000);
    columns.push(Arc::new(Int64Array::from_iter_values(numbers.map(|number| number as i64))));
    columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")));
    columns.push(Arc::new(vectors.finish()));
    RecordBatch::try_new(Arc::clone(schema), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::schema_to_proto;
    use crate::client::convert::{rows_from_arrow, schema_from_arrow};

    #[test]
    fn both_payloads_carry_the_same_rows() {
        let batch = record_batch(&arrow_schema(), 5..9).unwrap();
        assert_eq!(rows_from_arrow(&batch).unwrap(), row_batch(5..9));
        assert_eq!(schema_from_arrow(&arrow_schema()).unwrap(), {
            let mut schema = schema_to_proto(&schema());
            // What only a table has.
            schema.fields.iter_mut().for_each(|field| field.options = None);
            schema
        });
    }
}
