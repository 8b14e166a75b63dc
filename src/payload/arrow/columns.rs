//! One batch's columns, downcast once, and their values into DynamoDB's JSON row by row.
//!
//! A [`Column`] owns Arrow's buffers by reference count, so that it outlives the record batch it came from. Per value there
//! is one match over the column's type and one in the leaf over the declared type.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BinaryViewArray, FixedSizeBinaryArray, StringViewArray};
use arrow_array::{BinaryArray, LargeBinaryArray, LargeStringArray, StringArray};
use arrow_buffer::{
    BooleanBuffer, IntervalDayTime, IntervalMonthDayNano, NullBuffer, OffsetBuffer, ScalarBuffer, i256,
};
use arrow_schema::{DataType as ArrowType, IntervalUnit, TimeUnit};

use super::shape::Shape;
use super::variant::{Encoded, Named};
use crate::payload::cast::{Misfit, ValueKind};
use crate::payload::item::ItemWriter;
use crate::payload::leaf::{Leaf, Presence, Put};
use crate::payload::nested::{Distinct, StructWriter, check_map_key, end_element, write_set};
use crate::payload::number::{Decimal, MICROS_PER_DAY, MICROS_PER_SECOND};
use crate::payload::target::{StructTarget, Target, null_not_allowed};

/// A column of a batch, or what lies below one.
#[derive(Debug)]
pub(super) struct Column {
    nulls: Option<NullBuffer>,
    pub(super) values: Values,
}

/// A column's values, by Arrow's type.
#[derive(Debug)]
pub(super) enum Values {
    /// Nulls only, or values that nobody reads.
    Null,
    Boolean(BooleanBuffer),
    Int8(ScalarBuffer<i8>),
    Int16(ScalarBuffer<i16>),
    Int32(ScalarBuffer<i32>),
    Int64(ScalarBuffer<i64>),
    UInt8(ScalarBuffer<u8>),
    UInt16(ScalarBuffer<u16>),
    UInt32(ScalarBuffer<u32>),
    UInt64(ScalarBuffer<u64>),
    Float16(ScalarBuffer<<Float16Type as ArrowPrimitiveType>::Native>),
    Float32(ScalarBuffer<f32>),
    Float64(ScalarBuffer<f64>),
    Decimal32(ScalarBuffer<i32>, i8),
    Decimal64(ScalarBuffer<i64>, i8),
    Decimal128(ScalarBuffer<i128>, i8),
    Decimal256(ScalarBuffer<i256>, i8),
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    FixedSizeBinary(FixedSizeBinaryArray),
    Date32(ScalarBuffer<i32>),
    Date64(ScalarBuffer<i64>),
    Timestamp(ScalarBuffer<i64>, TimeUnit),
    TimestampNtz(ScalarBuffer<i64>, TimeUnit),
    Duration(ScalarBuffer<i64>, TimeUnit),
    YearMonth(ScalarBuffer<i32>),
    DayTime(ScalarBuffer<IntervalDayTime>),
    MonthDayNano(ScalarBuffer<IntervalMonthDayNano>),
    List(Ranges, Box<Column>),
    /// A map: for each row a range of keys and values.
    Entries {
        ranges: Ranges,
        entry_nulls: Option<NullBuffer>,
        key: Box<Column>,
        value: Box<Column>,
    },
    /// The fields that are kept, each with the target's field.
    Struct(Vec<(usize, Column)>),
    Dictionary(Keys, Box<Column>),
    /// All fields by name, for a variant.
    Named(Named),
    /// Variants in Spark's encoding.
    Encoded(Encoded),
}

/// The elements of each row's list.
#[derive(Debug)]
pub(super) enum Ranges {
    Offsets(OffsetBuffer<i32>),
    LargeOffsets(OffsetBuffer<i64>),
    Fixed(usize),
    Views(ScalarBuffer<i32>, ScalarBuffer<i32>),
    LargeViews(ScalarBuffer<i64>, ScalarBuffer<i64>),
}

/// A dictionary's keys.
#[derive(Debug)]
pub(super) enum Keys {
    Int8(ScalarBuffer<i8>),
    Int16(ScalarBuffer<i16>),
    Int32(ScalarBuffer<i32>),
    Int64(ScalarBuffer<i64>),
    UInt8(ScalarBuffer<u8>),
    UInt16(ScalarBuffer<u16>),
    UInt32(ScalarBuffer<u32>),
    UInt64(ScalarBuffer<u64>),
}

impl Ranges {
    #[inline]
    pub(super) fn of(&self, row: usize) -> std::ops::Range<usize> {
        // Arrow has validated that offsets and sizes are not negative and lie within the elements.
        match self {
            Self::Offsets(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::LargeOffsets(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Fixed(size) => row * size..(row + 1) * size,
            Self::Views(offsets, sizes) => offsets[row] as usize..(offsets[row] + sizes[row]) as usize,
            Self::LargeViews(offsets, sizes) => offsets[row] as usize..(offsets[row] + sizes[row]) as usize,
        }
    }
}

impl Keys {
    #[inline]
    pub(super) fn of(&self, row: usize) -> usize {
        // Arrow has validated that keys lie within the dictionary.
        match self {
            Self::Int8(keys) => keys[row] as usize,
            Self::Int16(keys) => keys[row] as usize,
            Self::Int32(keys) => keys[row] as usize,
            Self::Int64(keys) => keys[row] as usize,
            Self::UInt8(keys) => keys[row] as usize,
            Self::UInt16(keys) => keys[row] as usize,
            Self::UInt32(keys) => keys[row] as usize,
            Self::UInt64(keys) => keys[row] as usize,
        }
    }
}

fn native<T: ArrowPrimitiveType>(array: &ArrayRef) -> ScalarBuffer<T::Native> {
    array.as_primitive::<T>().values().clone()
}

impl Column {
    /// A column that nobody reads.
    pub(super) fn unused() -> Self {
        Self { nulls: None, values: Values::Null }
    }

    /// Downcasts an array of the type that the shape was compiled for.
    pub(super) fn new(array: &ArrayRef, shape: &Shape) -> Self {
        Self { nulls: array.nulls().cloned(), values: Values::new(array, shape) }
    }

    /// Appends a value as the target says.
    pub(super) fn put(&self, row: usize, target: &Target, writer: &mut ItemWriter) -> Put {
        if let Target::Leaf(leaf) = target {
            return self.put_leaf(row, leaf, writer);
        }
        if self.is_null(row) {
            return Ok(Presence::Null);
        }
        match (&self.values, target) {
            (Values::Null, _) => Ok(Presence::Null),
            (_, Target::Variant(target)) => self.put_variant(row, target, writer),
            (Values::List(ranges, column), Target::List { element, contains_null }) => {
                put_list(column, ranges.of(row), element, *contains_null, writer)
            }
            (Values::List(ranges, column), Target::Set { element }) => put_set(column, ranges.of(row), element, writer),
            (Values::Entries { ranges, .. }, Target::Map { key, value, value_contains_null }) => {
                self.put_map(ranges.of(row), (key, value, *value_contains_null), writer)
            }
            (Values::Struct(fields), Target::Struct(target)) => put_struct(fields, row, target, writer),
            // The shape was compiled for the target.
            _ => Err(target.mismatch("a value of another type")),
        }
    }

    /// Appends a scalar as the leaf says.
    #[inline]
    pub(super) fn put_leaf(&self, row: usize, leaf: &Leaf, writer: &mut ItemWriter) -> Put {
        if self.is_null(row) {
            return Ok(Presence::Null);
        }
        match &self.values {
            Values::Float64(values) => leaf.put_double(writer, values[row]),
            Values::Utf8(values) => leaf.put_text(writer, values.value(row)),
            Values::Int64(values) => leaf.put_integer(writer, values[row]),
            Values::Timestamp(values, unit) => match micros(values[row], *unit) {
                Ok(micros) => leaf.put_timestamp(writer, micros),
                Err(misfit) => Err(leaf.misfit_of(misfit, ValueKind::Timestamp)),
            },
            Values::Null => Ok(Presence::Null),
            Values::Boolean(values) => leaf.put_boolean(writer, values.value(row)),
            Values::Int8(values) => leaf.put_integer(writer, i64::from(values[row])),
            Values::Int16(values) => leaf.put_integer(writer, i64::from(values[row])),
            Values::Int32(values) => leaf.put_integer(writer, i64::from(values[row])),
            Values::UInt8(values) => leaf.put_integer(writer, i64::from(values[row])),
            Values::UInt16(values) => leaf.put_integer(writer, i64::from(values[row])),
            Values::UInt32(values) => leaf.put_integer(writer, i64::from(values[row])),
            // Always the decimal that its session's type is, so that what counts as coerced does not depend on the value.
            Values::UInt64(values) => put_decimal(leaf, i128::from(values[row]), 0, writer),
            Values::Float16(values) => leaf.put_float(writer, values[row].to_f32()),
            Values::Float32(values) => leaf.put_float(writer, values[row]),
            Values::Decimal32(values, scale) => put_decimal(leaf, i128::from(values[row]), *scale, writer),
            Values::Decimal64(values, scale) => put_decimal(leaf, i128::from(values[row]), *scale, writer),
            Values::Decimal128(values, scale) => put_decimal(leaf, values[row], *scale, writer),
            Values::Decimal256(values, scale) => match narrowed(values[row], *scale) {
                Some(decimal) => leaf.put_decimal(writer, decimal),
                None => Err(leaf.misfit_of(Misfit::OutOfRange, ValueKind::Decimal)),
            },
            Values::LargeUtf8(values) => leaf.put_text(writer, values.value(row)),
            Values::Utf8View(values) => leaf.put_text(writer, values.value(row)),
            Values::Binary(values) => leaf.put_binary(writer, values.value(row)),
            Values::LargeBinary(values) => leaf.put_binary(writer, values.value(row)),
            Values::BinaryView(values) => leaf.put_binary(writer, values.value(row)),
            Values::FixedSizeBinary(values) => leaf.put_binary(writer, values.value(row)),
            Values::Date32(values) => leaf.put_date(writer, i64::from(values[row])),
            Values::Date64(values) => match values[row] % MILLIS_PER_DAY {
                0 => leaf.put_date(writer, values[row] / MILLIS_PER_DAY),
                _ => Err(leaf.misfit_of(Misfit::Inexact("the date has a time of day"), ValueKind::Date)),
            },
            Values::TimestampNtz(values, unit) => match micros(values[row], *unit) {
                Ok(micros) => leaf.put_timestamp_ntz(writer, micros),
                Err(misfit) => Err(leaf.misfit_of(misfit, ValueKind::TimestampNtz)),
            },
            Values::Duration(values, unit) => match micros(values[row], *unit) {
                Ok(micros) => leaf.put_day_time(writer, micros),
                Err(misfit) => Err(leaf.misfit_of(misfit, ValueKind::DayTime)),
            },
            Values::YearMonth(values) => leaf.put_year_month(writer, values[row]),
            Values::DayTime(values) => {
                // Both are 32 bits wide; their sum in microseconds fits 64.
                let interval = values[row];
                let millis = i64::from(interval.milliseconds) * (MICROS_PER_SECOND / 1000);
                leaf.put_day_time(writer, i64::from(interval.days) * MICROS_PER_DAY + millis)
            }
            Values::MonthDayNano(values) => put_month_day_nano(leaf, values[row], writer),
            Values::Dictionary(keys, values) => values.put_leaf(keys.of(row), leaf, writer),
            Values::List(..) => Err(leaf.mismatch("a list")),
            Values::Entries { .. } => Err(leaf.mismatch("a map")),
            Values::Struct(_) | Values::Named(_) => Err(leaf.mismatch("a struct")),
            Values::Encoded(_) => Err(leaf.mismatch("a variant")),
        }
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    fn put_map(
        &self,
        entries: std::ops::Range<usize>,
        (key_leaf, value_target, contains_null): (&Leaf, &Target, bool),
        writer: &mut ItemWriter,
    ) -> Put {
        let Values::Entries { entry_nulls, key, value, .. } = &self.values else { return Ok(Presence::Null) };
        writer.raw(b"{\"M\":{");
        writer.count(3);
        let mut keys = Distinct::default();
        for (index, entry) in entries.enumerate() {
            if index > 0 {
                writer.raw(b",");
            }
            writer.count(1);
            let start = writer.len();
            let put = match entry_nulls.as_ref().is_some_and(|nulls| nulls.is_null(entry)) {
                true => Ok(Presence::Null),
                false => key.put_leaf(entry, key_leaf, writer),
            };
            put.and_then(|presence| match presence {
                Presence::Written => check_map_key(&mut keys, start, key_leaf, writer),
                Presence::Null => Err(null_not_allowed(key_leaf.declared())),
            })
            .map_err(|reject| reject.in_field("key").in_element(index))?;
            value
                .put(entry, value_target, writer)
                .and_then(|presence| end_element(presence, contains_null, || value_target.describe(), writer))
                .map_err(|reject| reject.in_field("value").in_element(index))?;
        }
        writer.raw(b"}}");
        Ok(Presence::Written)
    }
}

impl Values {
    fn new(array: &ArrayRef, shape: &Shape) -> Self {
        let list = |ranges: Ranges, elements: &ArrayRef| match shape {
            Shape::Entries(value_shape) => {
                // A map's entries are a struct of two fields; the shape was compiled from it.
                let entries = elements.as_struct();
                Self::Entries {
                    ranges,
                    entry_nulls: entries.nulls().cloned(),
                    key: Box::new(Column::new(entries.column(0), &Shape::Plain)),
                    value: Box::new(Column::new(entries.column(1), value_shape)),
                }
            }
            Shape::Elements(shape) => Self::List(ranges, Box::new(Column::new(elements, shape))),
            Shape::Plain | Shape::Struct(_) | Shape::Named(_) | Shape::Encoded { .. } => Self::Null,
        };
        match array.data_type() {
            ArrowType::Boolean => Self::Boolean(array.as_boolean().values().clone()),
            ArrowType::Int8 => Self::Int8(native::<Int8Type>(array)),
            ArrowType::Int16 => Self::Int16(native::<Int16Type>(array)),
            ArrowType::Int32 => Self::Int32(native::<Int32Type>(array)),
            ArrowType::Int64 => Self::Int64(native::<Int64Type>(array)),
            ArrowType::UInt8 => Self::UInt8(native::<UInt8Type>(array)),
            ArrowType::UInt16 => Self::UInt16(native::<UInt16Type>(array)),
            ArrowType::UInt32 => Self::UInt32(native::<UInt32Type>(array)),
            ArrowType::UInt64 => Self::UInt64(native::<UInt64Type>(array)),
            ArrowType::Float16 => Self::Float16(native::<Float16Type>(array)),
            ArrowType::Float32 => Self::Float32(native::<Float32Type>(array)),
            ArrowType::Float64 => Self::Float64(native::<Float64Type>(array)),
            ArrowType::Decimal32(_, scale) => Self::Decimal32(native::<Decimal32Type>(array), *scale),
            ArrowType::Decimal64(_, scale) => Self::Decimal64(native::<Decimal64Type>(array), *scale),
            ArrowType::Decimal128(_, scale) => Self::Decimal128(native::<Decimal128Type>(array), *scale),
            ArrowType::Decimal256(_, scale) => Self::Decimal256(native::<Decimal256Type>(array), *scale),
            ArrowType::Utf8 => Self::Utf8(array.as_string::<i32>().clone()),
            ArrowType::LargeUtf8 => Self::LargeUtf8(array.as_string::<i64>().clone()),
            ArrowType::Utf8View => Self::Utf8View(array.as_string_view().clone()),
            ArrowType::Binary => Self::Binary(array.as_binary::<i32>().clone()),
            ArrowType::LargeBinary => Self::LargeBinary(array.as_binary::<i64>().clone()),
            ArrowType::BinaryView => Self::BinaryView(array.as_binary_view().clone()),
            ArrowType::FixedSizeBinary(_) => Self::FixedSizeBinary(array.as_fixed_size_binary().clone()),
            ArrowType::Date32 => Self::Date32(native::<Date32Type>(array)),
            ArrowType::Date64 => Self::Date64(native::<Date64Type>(array)),
            ArrowType::Timestamp(unit, zone) => {
                let values = match unit {
                    TimeUnit::Second => native::<TimestampSecondType>(array),
                    TimeUnit::Millisecond => native::<TimestampMillisecondType>(array),
                    TimeUnit::Microsecond => native::<TimestampMicrosecondType>(array),
                    TimeUnit::Nanosecond => native::<TimestampNanosecondType>(array),
                };
                match zone {
                    Some(_) => Self::Timestamp(values, *unit),
                    None => Self::TimestampNtz(values, *unit),
                }
            }
            ArrowType::Duration(unit) => {
                let values = match unit {
                    TimeUnit::Second => native::<DurationSecondType>(array),
                    TimeUnit::Millisecond => native::<DurationMillisecondType>(array),
                    TimeUnit::Microsecond => native::<DurationMicrosecondType>(array),
                    TimeUnit::Nanosecond => native::<DurationNanosecondType>(array),
                };
                Self::Duration(values, *unit)
            }
            ArrowType::Interval(IntervalUnit::YearMonth) => Self::YearMonth(native::<IntervalYearMonthType>(array)),
            ArrowType::Interval(IntervalUnit::DayTime) => Self::DayTime(native::<IntervalDayTimeType>(array)),
            ArrowType::Interval(IntervalUnit::MonthDayNano) => {
                Self::MonthDayNano(native::<IntervalMonthDayNanoType>(array))
            }
            ArrowType::List(_) => {
                let array = array.as_list::<i32>();
                list(Ranges::Offsets(array.offsets().clone()), array.values())
            }
            ArrowType::LargeList(_) => {
                let array = array.as_list::<i64>();
                list(Ranges::LargeOffsets(array.offsets().clone()), array.values())
            }
            ArrowType::ListView(_) => {
                let array = array.as_list_view::<i32>();
                list(Ranges::Views(array.offsets().clone(), array.sizes().clone()), array.values())
            }
            ArrowType::LargeListView(_) => {
                let array = array.as_list_view::<i64>();
                list(Ranges::LargeViews(array.offsets().clone(), array.sizes().clone()), array.values())
            }
            ArrowType::FixedSizeList(_, size) => {
                // A negative size was refused with the schema.
                list(Ranges::Fixed(size.unsigned_abs() as usize), array.as_fixed_size_list().values())
            }
            ArrowType::Struct(_) => {
                let arrays = array.as_struct().columns();
                match shape {
                    Shape::Struct(positions) => {
                        let kept = |(array, position): (&ArrayRef, &Option<(usize, Shape)>)| {
                            position.as_ref().map(|(at, shape)| (*at, Column::new(array, shape)))
                        };
                        Self::Struct(arrays.iter().zip(positions.iter()).filter_map(kept).collect())
                    }
                    Shape::Named(names) => {
                        let column = |(array, (_, shape)): (&ArrayRef, &(_, Shape))| Column::new(array, shape);
                        let columns = arrays.iter().zip(names.iter()).map(column).collect();
                        Self::Named(Named { names: names.clone(), columns })
                    }
                    Shape::Encoded { places, level } => {
                        // The shape was compiled from a struct with just these two fields.
                        let [value, metadata] = places.map(|at| Box::new(Column::new(&arrays[at], &Shape::Plain)));
                        Self::Encoded(Encoded { value, metadata, level: *level })
                    }
                    Shape::Plain | Shape::Elements(_) | Shape::Entries(_) => Self::Null,
                }
            }
            ArrowType::Dictionary(key_type, _) => {
                let dictionary = array.as_any_dictionary();
                let keys = dictionary.keys().slice(0, dictionary.len());
                let keys = match key_type.as_ref() {
                    ArrowType::Int8 => Keys::Int8(native::<Int8Type>(&keys)),
                    ArrowType::Int16 => Keys::Int16(native::<Int16Type>(&keys)),
                    ArrowType::Int32 => Keys::Int32(native::<Int32Type>(&keys)),
                    ArrowType::Int64 => Keys::Int64(native::<Int64Type>(&keys)),
                    ArrowType::UInt8 => Keys::UInt8(native::<UInt8Type>(&keys)),
                    ArrowType::UInt16 => Keys::UInt16(native::<UInt16Type>(&keys)),
                    ArrowType::UInt32 => Keys::UInt32(native::<UInt32Type>(&keys)),
                    _ => Keys::UInt64(native::<UInt64Type>(&keys)),
                };
                Self::Dictionary(keys, Box::new(Column::new(dictionary.values(), &Shape::Plain)))
            }
            // Compiling a shape refuses these where they are used.
            ArrowType::Null
            | ArrowType::Time32(_)
            | ArrowType::Time64(_)
            | ArrowType::Map(..)
            | ArrowType::Union(..)
            | ArrowType::RunEndEncoded(..) => Self::Null,
        }
    }
}

fn put_list(
    column: &Column,
    elements: std::ops::Range<usize>,
    target: &Target,
    contains_null: bool,
    writer: &mut ItemWriter,
) -> Put {
    writer.raw(b"{\"L\":[");
    writer.count(3);
    for (index, element) in elements.enumerate() {
        if index > 0 {
            writer.raw(b",");
        }
        writer.count(1);
        column
            .put(element, target, writer)
            .and_then(|presence| end_element(presence, contains_null, || target.describe(), writer))
            .map_err(|reject| reject.in_element(index))?;
    }
    writer.raw(b"]}");
    Ok(Presence::Written)
}

fn put_set(column: &Column, elements: std::ops::Range<usize>, leaf: &Leaf, writer: &mut ItemWriter) -> Put {
    let mut elements = elements.enumerate();
    write_set(writer, leaf, |writer| {
        let Some((index, element)) = elements.next() else { return Ok(false) };
        match column.put_leaf(element, leaf, writer) {
            Ok(Presence::Written) => Ok(true),
            Ok(Presence::Null) => Err(null_not_allowed(leaf.declared()).in_element(index)),
            Err(reject) => Err(reject.in_element(index)),
        }
    })
}

fn put_struct(columns: &[(usize, Column)], row: usize, target: &StructTarget, writer: &mut ItemWriter) -> Put {
    let mut fields = StructWriter::begin(target, writer);
    for (at, column) in columns {
        fields.put(*at, writer, |target, writer| match target {
            // Most fields are scalars: one call less for each.
            Target::Leaf(leaf) => column.put_leaf(row, leaf, writer),
            target => column.put(row, target, writer),
        })?;
    }
    fields.finish_declared(writer)
}

const MILLIS_PER_DAY: i64 = 86_400_000;
const NANOS_PER_MICRO: i64 = 1000;

#[inline]
fn micros(value: i64, unit: TimeUnit) -> Result<i64, Misfit> {
    match unit {
        TimeUnit::Microsecond => Ok(value),
        TimeUnit::Second => value.checked_mul(MICROS_PER_SECOND).ok_or(Misfit::OutOfRange),
        TimeUnit::Millisecond => value.checked_mul(MICROS_PER_SECOND / 1000).ok_or(Misfit::OutOfRange),
        TimeUnit::Nanosecond if value % NANOS_PER_MICRO == 0 => Ok(value / NANOS_PER_MICRO),
        TimeUnit::Nanosecond => Err(Misfit::Inexact("it is not a whole number of microseconds")),
    }
}

fn put_month_day_nano(leaf: &Leaf, interval: IntervalMonthDayNano, writer: &mut ItemWriter) -> Put {
    if leaf.accepts(ValueKind::YearMonth) {
        return match (interval.days, interval.nanoseconds) {
            (0, 0) => leaf.put_year_month(writer, interval.months),
            _ => Err(leaf.misfit_of(Misfit::Inexact("it has days or a time"), ValueKind::YearMonth)),
        };
    }
    if interval.months != 0 {
        return Err(leaf.misfit_of(Misfit::Inexact("it has months"), ValueKind::DayTime));
    }
    match micros(interval.nanoseconds, TimeUnit::Nanosecond) {
        // A 32-bit number of days and nanoseconds over 1000 fit 64 bits of microseconds together.
        Ok(micros) => leaf.put_day_time(writer, i64::from(interval.days) * MICROS_PER_DAY + micros),
        Err(misfit) => Err(leaf.misfit_of(misfit, ValueKind::DayTime)),
    }
}

fn put_decimal(leaf: &Leaf, unscaled: i128, scale: i8, writer: &mut ItemWriter) -> Put {
    leaf.put_decimal(writer, Decimal { unscaled, scale: i32::from(scale) })
}

/// The same value in 128 bits; trailing zeros are cut where that makes it fit.
pub(super) fn narrowed(value: i256, scale: i8) -> Option<Decimal> {
    let (mut value, mut scale) = (value, i32::from(scale));
    let ten = i256::from_i128(10);
    loop {
        if let Some(unscaled) = value.to_i128() {
            return Some(Decimal { unscaled, scale });
        }
        if value.checked_rem(ten)? != i256::ZERO {
            return None;
        }
        value = value.checked_div(ten)?;
        scale -= 1;
    }
}
