//! Rows to record batches, column by column.

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalYearMonthType, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatch,
    StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType as Arrow, Fields, SchemaRef};

use super::ConvertError;
use crate::payload::number::Decimal;
use crate::proto::v1::value::Kind;
use crate::proto::v1::{Row, Value};

/// A record batch of rows, whose values come by position. The schema is what [`super::schema_to_arrow`] gives; missing
/// trailing values are nulls.
///
/// # Errors
///
/// Where a value is of another type than its column, does not fit it, or is a null where the schema allows none.
pub fn arrow_from_rows(schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch, ConvertError> {
    let width = schema.fields().len();
    if let Some(row) = rows.iter().position(|row| row.values.len() > width) {
        let message = format!("{} values for {width} columns", rows[row].values.len());
        return Err(ConvertError { path: "*".to_owned(), row: Some(row), message });
    }
    let mut columns = Vec::with_capacity(width);
    for (at, field) in schema.fields().iter().enumerate() {
        let cells: Vec<Cell<'_>> = rows.iter().enumerate().map(|(row, r)| Cell::new(row, r.values.get(at))).collect();
        columns.push(array(field.name(), field.data_type(), field.is_nullable(), &cells)?);
    }
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| ConvertError::of_type("*", error.to_string()))
}

/// A value, and the row it is of.
#[derive(Clone, Copy)]
struct Cell<'a> {
    row: usize,
    kind: Option<&'a Kind>,
}

impl<'a> Cell<'a> {
    fn new(row: usize, value: Option<&'a Value>) -> Self {
        Self { row, kind: value.and_then(|value| value.kind.as_ref()) }
    }

    fn error(&self, path: &str, message: impl Into<String>) -> ConvertError {
        ConvertError { path: path.to_owned(), row: Some(self.row), message: message.into() }
    }
}

fn array(path: &str, data_type: &Arrow, nullable: bool, cells: &[Cell<'_>]) -> Result<ArrayRef, ConvertError> {
    if !nullable && let Some(cell) = cells.iter().find(|cell| cell.kind.is_none()) {
        return Err(cell.error(path, "a null where the schema allows none"));
    }
    let int = |kind: &Kind| if let Kind::IntValue(value) = kind { Some(*value) } else { None };
    Ok(match data_type {
        Arrow::Boolean => {
            let get = |kind: &Kind| if let Kind::BoolValue(value) = kind { Some(*value) } else { None };
            Arc::new(BooleanArray::from(collect(path, data_type, cells, get)?))
        }
        Arrow::Int8 => primitive::<Int8Type>(path, data_type, cells, |kind| int(kind)?.try_into().ok())?,
        Arrow::Int16 => primitive::<Int16Type>(path, data_type, cells, |kind| int(kind)?.try_into().ok())?,
        Arrow::Int32 => primitive::<Int32Type>(path, data_type, cells, |kind| int(kind)?.try_into().ok())?,
        Arrow::Int64 => primitive::<Int64Type>(path, data_type, cells, int)?,
        Arrow::Float32 => primitive::<Float32Type>(path, data_type, cells, |kind| match kind {
            Kind::FloatValue(value) => Some(*value),
            _ => None,
        })?,
        Arrow::Float64 => primitive::<Float64Type>(path, data_type, cells, |kind| match kind {
            Kind::DoubleValue(value) => Some(*value),
            _ => None,
        })?,
        Arrow::Decimal128(precision, scale) => {
            let get = |kind: &Kind| match kind {
                Kind::DecimalValue(text) => unscaled(text, *precision, *scale),
                _ => None,
            };
            let values = PrimitiveArray::<Decimal128Type>::from(collect(path, data_type, cells, get)?);
            Arc::new(values.with_data_type(data_type.clone()))
        }
        Arrow::Utf8 => Arc::new(StringArray::from(collect(path, data_type, cells, |kind| match kind {
            Kind::StringValue(value) => Some(value.as_str()),
            _ => None,
        })?)),
        Arrow::Binary => Arc::new(BinaryArray::from(collect(path, data_type, cells, |kind| match kind {
            Kind::BytesValue(value) => Some(&value[..]),
            _ => None,
        })?)),
        Arrow::Date32 => primitive::<Date32Type>(path, data_type, cells, |kind| match kind {
            Kind::DateDays(value) => Some(*value),
            _ => None,
        })?,
        Arrow::Timestamp(_, zone) => {
            let get = |kind: &Kind| match (kind, zone) {
                (Kind::TimestampMicros(value), Some(_)) | (Kind::TimestampNtzMicros(value), None) => Some(*value),
                _ => None,
            };
            let values = PrimitiveArray::<TimestampMicrosecondType>::from(collect(path, data_type, cells, get)?);
            Arc::new(values.with_data_type(data_type.clone()))
        }
        Arrow::Duration(_) => primitive::<DurationMicrosecondType>(path, data_type, cells, |kind| match kind {
            Kind::DayTimeIntervalMicros(value) => Some(*value),
            _ => None,
        })?,
        Arrow::Interval(_) => primitive::<IntervalYearMonthType>(path, data_type, cells, |kind| match kind {
            Kind::YearMonthIntervalMonths(value) => Some(*value),
            _ => None,
        })?,
        Arrow::List(element) => {
            let lists = collect(path, data_type, cells, |kind| match kind {
                Kind::ListValue(list) => Some(&list.values),
                _ => None,
            })?;
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
            let inner: Vec<_> = flatten(cells, &lists).collect();
            let values = array(&format!("{path}[]"), element.data_type(), element.is_nullable(), &inner)?;
            let list = ListArray::try_new(Arc::clone(element), offsets, values, nulls(&lists));
            Arc::new(list.map_err(|error| ConvertError::of_type(path, error.to_string()))?)
        }
        Arrow::Struct(fields) => {
            let structs = collect(path, data_type, cells, |kind| match kind {
                Kind::StructValue(value) => Some(&value.values),
                _ => None,
            })?;
            struct_array(path, fields, cells, &structs)?
        }
        Arrow::Map(entries, _) => map_array(path, data_type, entries, cells)?,
        other => return Err(ConvertError::of_type(path, format!("rows cannot become the Arrow type {other}"))),
    })
}

/// One option per cell; an error for a value that is not what the column holds.
fn collect<'a, T>(
    path: &str,
    data_type: &Arrow,
    cells: &[Cell<'a>],
    get: impl Fn(&'a Kind) -> Option<T>,
) -> Result<Vec<Option<T>>, ConvertError> {
    let one = |cell: &Cell<'a>| match cell.kind {
        None => Ok(None),
        Some(kind) => match get(kind) {
            Some(value) => Ok(Some(value)),
            None => Err(cell.error(path, format!("the value does not fit {data_type}"))),
        },
    };
    cells.iter().map(one).collect()
}

fn primitive<T: ArrowPrimitiveType>(
    path: &str,
    data_type: &Arrow,
    cells: &[Cell<'_>],
    get: impl Fn(&Kind) -> Option<T::Native>,
) -> Result<ArrayRef, ConvertError> {
    Ok(Arc::new(collect(path, data_type, cells, get)?.into_iter().collect::<PrimitiveArray<T>>()))
}

fn nulls<T>(values: &[Option<T>]) -> Option<NullBuffer> {
    values.iter().any(Option::is_none).then(|| values.iter().map(Option::is_some).collect::<Vec<_>>().into())
}

/// The elements of all lists, each with the row of its list.
fn flatten<'a>(cells: &'a [Cell<'a>], lists: &'a [Option<&'a Vec<Value>>]) -> impl Iterator<Item = Cell<'a>> {
    let pairs = cells.iter().zip(lists);
    pairs
        .flat_map(|(cell, list)| list.iter().flat_map(|list| list.iter()).map(|value| Cell::new(cell.row, Some(value))))
}

fn struct_array(
    path: &str,
    fields: &Fields,
    cells: &[Cell<'_>],
    structs: &[Option<&Vec<Value>>],
) -> Result<ArrayRef, ConvertError> {
    let mut columns = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        let pairs = cells.iter().zip(structs);
        let inner: Vec<_> = pairs.map(|(cell, value)| Cell::new(cell.row, value.and_then(|v| v.get(at)))).collect();
        let path = format!("{path}.{}", field.name());
        // Below a null struct there is nothing, whatever the field allows.
        let under_null = |cell: &Cell<'_>, value: &Option<&Vec<Value>>| cell.kind.is_none() && value.is_some();
        if !field.is_nullable()
            && let Some((cell, _)) = inner.iter().zip(structs).find(|(cell, value)| under_null(cell, value))
        {
            return Err(cell.error(&path, "a null where the schema allows none"));
        }
        columns.push(array(&path, field.data_type(), true, &inner)?);
    }
    let array = StructArray::try_new(fields.clone(), columns, nulls(structs));
    Ok(Arc::new(array.map_err(|error| ConvertError::of_type(path, error.to_string()))?))
}

fn map_array(
    path: &str,
    data_type: &Arrow,
    entries: &Arc<arrow_schema::Field>,
    cells: &[Cell<'_>],
) -> Result<ArrayRef, ConvertError> {
    let Arrow::Struct(pair) = entries.data_type() else {
        return Err(ConvertError::of_type(path, "a map without entries"));
    };
    let maps = collect(path, data_type, cells, |kind| match kind {
        Kind::MapValue(map) => Some(&map.entries),
        _ => None,
    })?;
    let offsets = OffsetBuffer::from_lengths(maps.iter().map(|map| map.map_or(0, Vec::len)));
    let pairs = cells.iter().zip(&maps);
    let flat = pairs.flat_map(|(cell, map)| map.iter().flat_map(|map| map.iter()).map(move |entry| (cell.row, entry)));
    let (keys, values): (Vec<_>, Vec<_>) =
        flat.map(|(row, entry)| (Cell::new(row, entry.key.as_ref()), Cell::new(row, entry.value.as_ref()))).unzip();
    let inner = format!("{path}{{}}");
    let mut columns = Vec::with_capacity(2);
    for (field, cells) in pair.iter().zip([keys, values]) {
        columns.push(array(&inner, field.data_type(), field.is_nullable(), &cells)?);
    }
    let fail = |error: arrow_schema::ArrowError| ConvertError::of_type(path, error.to_string());
    let columns = StructArray::try_new(pair.clone(), columns, None).map_err(fail)?;
    let map = MapArray::try_new(Arc::clone(entries), offsets, columns, nulls(&maps), false).map_err(fail)?;
    Ok(Arc::new(map) as Arc<dyn Array>)
}

/// The unscaled value of a decimal's text, where it has one at this scale and precision without losing digits.
fn unscaled(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let decimal = Decimal::parse(text)?.rescale(scale.into())?;
    (decimal.digits() <= precision.into()).then_some(decimal.unscaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        for (text, precision, scale, expected) in [
            ("12.50", 10, 2, Some(1250)),
            ("-0.5", 10, 2, Some(-50)),
            ("1e3", 10, 2, Some(100_000)),
            ("1200", 10, -2, Some(12)),
            ("0.000", 1, 0, Some(0)),
            ("12.345", 10, 2, None),
            ("12.340", 10, 2, Some(1234)),
            ("1", 1, 2, None),
            ("1250", 10, -2, None),
            ("", 10, 2, None),
            ("1.2.3", 10, 2, None),
            ("abc", 10, 2, None),
            ("1e99", 38, 0, None),
            ("99999999999999999999999999999999999999", 38, 0, Some(99_999_999_999_999_999_999_999_999_999_999_999_999)),
        ] {
            assert_eq!(unscaled(text, precision, scale), expected, "{text} as decimal({precision},{scale})");
        }
    }
}
