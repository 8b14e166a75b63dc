//! Record batches to rows: one decoder per column and batch, so that a value costs no look at its type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType as Arrow, IntervalUnit, TimeUnit};
use bytes::Bytes;

use super::ConvertError;
use crate::payload::number::Decimal;
use crate::proto::v1::value::Kind;
use crate::proto::v1::{ListValue, MapEntry, MapValue, Row, RowBatch, StructValue, Value};

/// Milliseconds of a day, the unit of Arrow's 64-bit dates.
const DAY_MILLIS: i64 = 86_400_000;

/// The rows of a record batch, with values by position. Structs become `struct_value`s by position too.
///
/// # Errors
///
/// Where a type is not supported; where a timestamp has parts of a microsecond or does not fit into 64 bits of them.
pub fn rows_from_arrow(batch: &RecordBatch) -> Result<RowBatch, ConvertError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let decoders = columns.map(|(field, array)| decoder(field.name(), array)).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let values = decoders.iter().map(|decoder| decoder(row));
        let values = values.collect::<Result<_, _>>().map_err(|error| ConvertError { row: Some(row), ..error })?;
        rows.push(Row { values });
    }
    Ok(RowBatch { rows })
}

/// Gives the value at an index.
type Decoder = Box<dyn Fn(usize) -> Result<Value, ConvertError>>;

fn decoder(path: &str, array: &ArrayRef) -> Result<Decoder, ConvertError> {
    Ok(match array.data_type() {
        Arrow::Null => Box::new(|_| Ok(Value::default())),
        Arrow::Boolean => {
            let typed = array.as_boolean().clone();
            plain(array, move |i| Kind::BoolValue(typed.value(i)))
        }
        Arrow::Int8 => primitive::<Int8Type>(array, |v| Kind::IntValue(v.into())),
        Arrow::Int16 => primitive::<Int16Type>(array, |v| Kind::IntValue(v.into())),
        Arrow::Int32 => primitive::<Int32Type>(array, |v| Kind::IntValue(v.into())),
        Arrow::Int64 => primitive::<Int64Type>(array, Kind::IntValue),
        Arrow::UInt8 => primitive::<UInt8Type>(array, |v| Kind::IntValue(v.into())),
        Arrow::UInt16 => primitive::<UInt16Type>(array, |v| Kind::IntValue(v.into())),
        Arrow::UInt32 => primitive::<UInt32Type>(array, |v| Kind::IntValue(v.into())),
        Arrow::UInt64 => primitive::<UInt64Type>(array, |v| Kind::DecimalValue(v.to_string())),
        Arrow::Float16 => primitive::<Float16Type>(array, |v| Kind::FloatValue(v.to_f32())),
        Arrow::Float32 => primitive::<Float32Type>(array, Kind::FloatValue),
        Arrow::Float64 => primitive::<Float64Type>(array, Kind::DoubleValue),
        Arrow::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale),
        Arrow::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale),
        Arrow::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale),
        Arrow::Utf8 => {
            let typed = array.as_string::<i32>().clone();
            plain(array, move |i| Kind::StringValue(typed.value(i).to_owned()))
        }
        Arrow::LargeUtf8 => {
            let typed = array.as_string::<i64>().clone();
            plain(array, move |i| Kind::StringValue(typed.value(i).to_owned()))
        }
        Arrow::Utf8View => {
            let typed = array.as_string_view().clone();
            plain(array, move |i| Kind::StringValue(typed.value(i).to_owned()))
        }
        Arrow::Binary => {
            let typed = array.as_binary::<i32>().clone();
            plain(array, move |i| Kind::BytesValue(Bytes::copy_from_slice(typed.value(i))))
        }
        Arrow::LargeBinary => {
            let typed = array.as_binary::<i64>().clone();
            plain(array, move |i| Kind::BytesValue(Bytes::copy_from_slice(typed.value(i))))
        }
        Arrow::BinaryView => {
            let typed = array.as_binary_view().clone();
            plain(array, move |i| Kind::BytesValue(Bytes::copy_from_slice(typed.value(i))))
        }
        Arrow::FixedSizeBinary(_) => {
            let typed = array.as_fixed_size_binary().clone();
            plain(array, move |i| Kind::BytesValue(Bytes::copy_from_slice(typed.value(i))))
        }
        Arrow::Date32 => primitive::<Date32Type>(array, Kind::DateDays),
        Arrow::Date64 => checked::<Date64Type>(path, array, "is not a whole day in range", |millis| {
            (millis % DAY_MILLIS == 0).then_some(millis / DAY_MILLIS)?.try_into().ok().map(Kind::DateDays)
        }),
        Arrow::Timestamp(unit, zone) => {
            let kind = if zone.is_some() { Kind::TimestampMicros } else { Kind::TimestampNtzMicros };
            match unit {
                TimeUnit::Second => micros::<TimestampSecondType>(path, array, 1_000_000, 1, kind),
                TimeUnit::Millisecond => micros::<TimestampMillisecondType>(path, array, 1_000, 1, kind),
                TimeUnit::Microsecond => micros::<TimestampMicrosecondType>(path, array, 1, 1, kind),
                TimeUnit::Nanosecond => micros::<TimestampNanosecondType>(path, array, 1, 1_000, kind),
            }
        }
        Arrow::Duration(unit) => {
            let kind = Kind::DayTimeIntervalMicros;
            match unit {
                TimeUnit::Second => micros::<DurationSecondType>(path, array, 1_000_000, 1, kind),
                TimeUnit::Millisecond => micros::<DurationMillisecondType>(path, array, 1_000, 1, kind),
                TimeUnit::Microsecond => micros::<DurationMicrosecondType>(path, array, 1, 1, kind),
                TimeUnit::Nanosecond => micros::<DurationNanosecondType>(path, array, 1, 1_000, kind),
            }
        }
        Arrow::Interval(IntervalUnit::YearMonth) => {
            primitive::<IntervalYearMonthType>(array, Kind::YearMonthIntervalMonths)
        }
        Arrow::Dictionary(_, _) => {
            let typed = array.as_any_dictionary();
            let values = decoder(path, typed.values())?;
            let keys = typed.normalized_keys();
            let nulls = array.logical_nulls();
            // `normalized_keys` may give any number for a null; `nulls` knows which those are.
            Box::new(move |i| match nulls.as_ref().is_some_and(|nulls| nulls.is_null(i)) {
                true => Ok(Value::default()),
                false => values(keys[i]),
            })
        }
        Arrow::List(_) => {
            let typed = array.as_list::<i32>();
            let offsets = typed.offsets().clone();
            list(path, array, typed.values(), move |i| (offsets[i] as usize, offsets[i + 1] as usize))?
        }
        Arrow::LargeList(_) => {
            let typed = array.as_list::<i64>();
            let offsets = typed.offsets().clone();
            list(path, array, typed.values(), move |i| (offsets[i] as usize, offsets[i + 1] as usize))?
        }
        Arrow::FixedSizeList(_, size) => {
            let typed = array.as_fixed_size_list();
            let size = *size as usize;
            list(path, array, typed.values(), move |i| (i * size, (i + 1) * size))?
        }
        Arrow::Struct(fields) => {
            let typed = array.as_struct();
            let columns = fields.iter().zip(typed.columns());
            let decoders = columns.map(|(field, column)| decoder(&format!("{path}.{}", field.name()), column));
            let decoders = decoders.collect::<Result<Vec<_>, _>>()?;
            nullable(array, move |i| {
                let values = decoders.iter().map(|decoder| decoder(i)).collect::<Result<_, _>>()?;
                Ok(Kind::StructValue(StructValue { values }))
            })
        }
        Arrow::Map(_, _) => {
            let typed = array.as_map();
            let keys = decoder(&format!("{path}{{}}"), typed.keys())?;
            let values = decoder(&format!("{path}{{}}"), typed.values())?;
            let offsets = typed.offsets().clone();
            nullable(array, move |i| {
                let entry = |j| Ok(MapEntry { key: Some(keys(j)?), value: Some(values(j)?) });
                let entries = (offsets[i] as usize..offsets[i + 1] as usize).map(entry).collect::<Result<_, _>>()?;
                Ok(Kind::MapValue(MapValue { entries }))
            })
        }
        other => return Err(ConvertError::of_type(path, format!("the Arrow type {other} is not supported"))),
    })
}

/// Nulls first, then a value that may fail.
fn nullable(array: &ArrayRef, kind: impl Fn(usize) -> Result<Kind, ConvertError> + 'static) -> Decoder {
    let nulls = array.nulls().cloned();
    Box::new(move |i| match nulls.as_ref().is_some_and(|nulls| nulls.is_null(i)) {
        true => Ok(Value::default()),
        false => Ok(Value { kind: Some(kind(i)?) }),
    })
}

fn plain(array: &ArrayRef, kind: impl Fn(usize) -> Kind + 'static) -> Decoder {
    nullable(array, move |i| Ok(kind(i)))
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef, kind: impl Fn(T::Native) -> Kind + 'static) -> Decoder {
    let typed: PrimitiveArray<T> = array.as_primitive::<T>().clone();
    plain(array, move |i| kind(typed.value(i)))
}

fn checked<T: ArrowPrimitiveType>(
    path: &str,
    array: &ArrayRef,
    message: &'static str,
    kind: impl Fn(T::Native) -> Option<Kind> + 'static,
) -> Decoder {
    let typed: PrimitiveArray<T> = array.as_primitive::<T>().clone();
    let path: Arc<str> = path.into();
    nullable(array, move |i| {
        kind(typed.value(i)).ok_or_else(|| ConvertError::of_type(&path, format!("the value {message}")))
    })
}

/// `value * multiplier / divisor` microseconds, exactly.
fn micros<T: ArrowPrimitiveType<Native = i64>>(
    path: &str,
    array: &ArrayRef,
    multiplier: i64,
    divisor: i64,
    kind: fn(i64) -> Kind,
) -> Decoder {
    checked::<T>(path, array, "is no whole number of microseconds in range", move |value| {
        (value % divisor == 0).then(|| value.checked_mul(multiplier)).flatten().map(|value| kind(value / divisor))
    })
}

fn decimal<T: arrow_array::types::DecimalType>(array: &ArrayRef, scale: i8) -> Decoder
where
    T::Native: Into<i128>,
{
    primitive::<T>(array, move |value| {
        Kind::DecimalValue(Decimal { unscaled: value.into(), scale: scale.into() }.plain_text())
    })
}

fn list(
    path: &str,
    array: &ArrayRef,
    values: &ArrayRef,
    range: impl Fn(usize) -> (usize, usize) + 'static,
) -> Result<Decoder, ConvertError> {
    let element = decoder(&format!("{path}[]"), values)?;
    Ok(nullable(array, move |i| {
        let (from, to) = range(i);
        Ok(Kind::ListValue(ListValue { values: (from..to).map(&element).collect::<Result<_, _>>()? }))
    }))
}
