//! Turns a stored item back into a row of typed values, by the table's schema.
//!
//! A DynamoDB `N` alone cannot tell an int from a double from a decimal; the schema can. What does not fit the schema is a
//! [`DecodeError`] that names the place and never the value. An absent attribute is a null; attributes that the schema
//! does not have are ignored, because old rows and bound tables have them. The caller is `read`.

#[cfg(test)]
mod from_json;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
mod variant;

#[cfg(test)]
pub(super) use from_json::item_of_json;

use std::collections::HashSet;
use std::sync::Arc;

use super::number::{self, Decimal, MICROS_PER_SECOND};
use super::shard;
use crate::proto::v1::value::Kind;
use crate::proto::v1::{ListValue, MapEntry, MapValue, Row, StructValue, Value};
use crate::schema::sharding::Sharding;
use crate::schema::table::TOMBSTONE_ATTRIBUTE;
use crate::schema::types::SchemaError;
use crate::schema::{ColumnOptions, DataType, Field, NonFinite, TableDef};
use crate::store::{Attr, Item};

/// A stored value that does not fit the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{path}`: expected {expected}, found {found}")]
pub struct DecodeError {
    /// Where: `vitals[3].hr`; `{}` stands for a map's entry, whose key may be confidential.
    pub path: String,
    /// The declared type.
    pub expected: String,
    /// What is stored instead: its kind, never its content.
    pub found: &'static str,
}

impl DecodeError {
    fn new(expected: &DataType, found: &'static str) -> Self {
        Self { path: String::new(), expected: expected.to_string(), found }
    }

    /// The error one level up: paths are built only when there is an error, from the inside out.
    fn within(mut self, segment: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with(['[', '{']) { "" } else { "." };
        self.path = format!("{segment}{dot}{}", self.path);
        self
    }
}

/// Columns that a table cannot return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectionError {
    /// There is no such column.
    #[error("the table `{table}` has no column `{column}`")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column asked for.
        column: String,
    },
    /// Each column can be asked for once.
    #[error("the column `{column}` is asked for twice")]
    RepeatedColumn {
        /// The column.
        column: String,
    },
    /// The stored definition is broken.
    #[error(transparent)]
    Definition(#[from] SchemaError),
}

/// A decoded item.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// The row, by position as in [`RowDecoder::columns`].
    Row(Row),
    /// The row's time to live has passed.
    Expired,
    /// The row was deleted, and its tombstone keeps older writes away.
    Deleted,
}

/// Decodes items of one table into rows of chosen columns.
#[derive(Debug, Clone)]
pub struct RowDecoder<'a> {
    columns: Vec<&'a Field>,
    ttl_column: Option<&'a str>,
    has_tombstones: bool,
    /// The column whose stored form says the row's write shard, too.
    sharded_column: Option<&'a str>,
    attributes: Arc<[String]>,
}

impl<'a> RowDecoder<'a> {
    /// A decoder for these columns, in this order; for all of the table's where there are none.
    pub fn try_new(table: &'a TableDef, columns: &[String]) -> Result<Self, ProjectionError> {
        let ttl_column = table.ttl_column.as_deref();
        let has_tombstones = table.sequence_by.is_some();
        let sharded_column = match &table.key.partition[..] {
            [column] if table.sharding() != Sharding::None => Some(column.as_str()),
            // The columns of a joined key have attributes of their own.
            _ => None,
        };
        if columns.is_empty() {
            let columns = table.schema.fields.iter().collect();
            return Ok(Self { columns, ttl_column, has_tombstones, sharded_column, attributes: Arc::default() });
        }
        let mut seen = HashSet::with_capacity(columns.len());
        let mut fields = Vec::with_capacity(columns.len());
        for column in columns {
            let field = table
                .schema
                .field(column)
                .ok_or_else(|| ProjectionError::UnknownColumn { table: table.name.clone(), column: column.clone() })?;
            if !seen.insert(column.as_str()) {
                return Err(ProjectionError::RepeatedColumn { column: column.clone() });
            }
            fields.push(field);
        }
        let mut attributes = columns.to_vec();
        let key = [Some(table.partition_attribute()?), table.sort_attribute()?];
        let implied = key.into_iter().flatten().map(|key| key.name).chain(ttl_column.map(str::to_owned));
        let implied = implied.chain(has_tombstones.then(|| TOMBSTONE_ATTRIBUTE.to_owned()));
        for attribute in implied {
            if !attributes.contains(&attribute) {
                attributes.push(attribute);
            }
        }
        Ok(Self { columns: fields, ttl_column, has_tombstones, sharded_column, attributes: attributes.into() })
    }

    /// The columns of the rows, in order.
    pub fn columns(&self) -> &[&'a Field] {
        &self.columns
    }

    /// The attributes that an item must come with (the columns, the key's, the TTL's and the tombstone's); empty for all.
    pub fn attributes(&self) -> &Arc<[String]> {
        &self.attributes
    }

    /// Decodes one item. `now_epoch_seconds` decides whether it has expired.
    pub fn decode(&self, mut item: Item, now_epoch_seconds: i64) -> Result<Decoded, DecodeError> {
        // Before anything else: a tombstone expires too, and has none of the row's columns.
        if self.has_tombstones && item.contains_key(TOMBSTONE_ATTRIBUTE) {
            return Ok(Decoded::Deleted);
        }
        if let Some(Attr::N(seconds)) = self.ttl_column.and_then(|ttl| item.get(ttl))
            // Exact for every plausible time; and a fraction, which only a foreign writer can have put, compares too.
            && seconds.parse::<f64>().is_ok_and(|seconds| seconds <= now_epoch_seconds as f64)
        {
            return Ok(Decoded::Expired);
        }
        let mut values = Vec::with_capacity(self.columns.len());
        for field in &self.columns {
            let value = match item.remove(&field.name) {
                None => Ok(NULL),
                Some(Attr::S(stored)) if self.sharded_column == Some(&field.name) => match shard::split(&stored) {
                    Some((key, _)) => decode_value(&field.data_type, &field.options, Attr::S(key.to_owned())),
                    None => Err(DecodeError::new(&field.data_type, "text (S) without a write shard at its end")),
                },
                Some(attr) if self.ttl_column == Some(&field.name) => decode_ttl(&field.data_type, &attr),
                Some(attr) => decode_value(&field.data_type, &field.options, attr),
            };
            values.push(value.map_err(|error| error.within(&field.name))?);
        }
        Ok(Decoded::Row(Row { values }))
    }
}

const SECONDS_PER_DAY: i64 = 86_400;
const NULL: Value = Value { kind: None };

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// A TTL column is stored in epoch seconds whatever its type.
fn decode_ttl(data_type: &DataType, attr: &Attr) -> Result<Value, DecodeError> {
    let seconds = match attr {
        Attr::Null => return Ok(NULL),
        Attr::N(number) => exact::<i64>(number),
        other => return Err(DecodeError::new(data_type, kind_of(other))),
    };
    let kind = seconds.and_then(|seconds| match data_type {
        DataType::Timestamp => seconds.checked_mul(MICROS_PER_SECOND).map(Kind::TimestampMicros),
        DataType::Date => i32::try_from(seconds.div_euclid(SECONDS_PER_DAY)).ok().map(Kind::DateDays),
        DataType::Integer => i32::try_from(seconds).ok().map(|seconds| Kind::IntValue(seconds.into())),
        DataType::Long => Some(Kind::IntValue(seconds)),
        _ => None,
    });
    kind.map(value).ok_or_else(|| DecodeError::new(data_type, "a number (N) that is no such time in epoch seconds"))
}

/// Decodes one value at any depth. The options are those of the nearest field above.
fn decode_value(data_type: &DataType, options: &ColumnOptions, attr: Attr) -> Result<Value, DecodeError> {
    if attr == Attr::Null {
        return Ok(NULL);
    }
    match data_type {
        DataType::Array { element, .. } => decode_array(data_type, element, options, attr),
        DataType::Map { key, value, .. } => decode_map(data_type, key, value, options, attr),
        DataType::Struct(fields) => decode_struct(data_type, fields, attr),
        DataType::Variant => variant::decode(attr),
        _ => decode_scalar(data_type, options, attr).map(value).map_err(|found| DecodeError::new(data_type, found)),
    }
}

/// Decodes a scalar, or says what was found instead.
fn decode_scalar(data_type: &DataType, options: &ColumnOptions, attr: Attr) -> Result<Kind, &'static str> {
    use DataType as T;
    const NO_INTEGER: &str = "a number (N) that is no such integer";
    const NO_TIME: &str = "text (S) that is no such time";
    Ok(match (data_type, attr) {
        (T::Byte | T::Short | T::Integer | T::Long, Attr::N(number)) => {
            Kind::IntValue(integer_of(data_type, &number).ok_or(NO_INTEGER)?)
        }
        (T::Float, Attr::N(number)) => Kind::FloatValue(finite(number.parse::<f32>(), f32::is_finite)?),
        (T::Double, Attr::N(number)) => Kind::DoubleValue(finite(number.parse::<f64>(), f64::is_finite)?),
        (T::Float, Attr::S(name)) if options.non_finite == NonFinite::String => {
            Kind::FloatValue(non_finite(&name).ok_or("text (S) that names no float")? as f32)
        }
        (T::Double, Attr::S(name)) if options.non_finite == NonFinite::String => {
            Kind::DoubleValue(non_finite(&name).ok_or("text (S) that names no float")?)
        }
        (T::Decimal { precision, scale }, Attr::N(number)) => {
            Kind::DecimalValue(decimal_text(&number, *precision, *scale).ok_or("a number (N) with more digits")?)
        }
        (T::String, Attr::S(text)) => Kind::StringValue(text),
        (T::Char(max) | T::Varchar(max), Attr::S(text)) => {
            let max = *max as usize;
            // Text has no more characters than bytes, so most need not be counted.
            if text.len() > max && text.chars().count() > max {
                return Err("longer text (S)");
            }
            Kind::StringValue(text)
        }
        (T::Boolean, Attr::Bool(boolean)) => Kind::BoolValue(boolean),
        (T::Boolean, Attr::N(number)) if options.key_as_number => match exact::<u8>(&number) {
            Some(0) => Kind::BoolValue(false),
            Some(1) => Kind::BoolValue(true),
            _ => return Err("a number (N) other than 0 and 1"),
        },
        (T::Binary, Attr::B(bytes)) => Kind::BytesValue(bytes),
        (T::Date, Attr::S(text)) => Kind::DateDays(date_days(&text).ok_or("text (S) that is not `YYYY-MM-DD`")?),
        (T::Date, Attr::N(number)) => Kind::DateDays(exact(&number).ok_or(NO_INTEGER)?),
        (T::Timestamp, Attr::N(number)) => Kind::TimestampMicros(exact(&number).ok_or(NO_INTEGER)?),
        (T::Timestamp, Attr::S(text)) => Kind::TimestampMicros(utc_micros(&text).ok_or(NO_TIME)?),
        (T::TimestampNtz, Attr::S(text)) => Kind::TimestampNtzMicros(number::parse_timestamp(&text).ok_or(NO_TIME)?),
        (T::TimestampNtz, Attr::N(number)) => Kind::TimestampNtzMicros(exact(&number).ok_or(NO_INTEGER)?),
        (T::DayTimeInterval, Attr::N(number)) => Kind::DayTimeIntervalMicros(exact(&number).ok_or(NO_INTEGER)?),
        (T::YearMonthInterval, Attr::N(number)) => Kind::YearMonthIntervalMonths(exact(&number).ok_or(NO_INTEGER)?),
        (_, other) => return Err(kind_of(&other)),
    })
}

fn decode_array(
    data_type: &DataType,
    element: &DataType,
    options: &ColumnOptions,
    attr: Attr,
) -> Result<Value, DecodeError> {
    let elements: Vec<Attr> = match attr {
        Attr::L(elements) => elements,
        Attr::Ss(texts) => texts.into_iter().map(Attr::S).collect(),
        Attr::Ns(numbers) => numbers.into_iter().map(Attr::N).collect(),
        Attr::Bs(binaries) => binaries.into_iter().map(Attr::B).collect(),
        other => return Err(DecodeError::new(data_type, kind_of(&other))),
    };
    let decode = |(index, attr)| {
        decode_value(element, options, attr).map_err(|error: DecodeError| error.within(&format!("[{index}]")))
    };
    let values = elements.into_iter().enumerate().map(decode).collect::<Result<_, _>>()?;
    Ok(value(Kind::ListValue(ListValue { values })))
}

fn decode_map(
    data_type: &DataType,
    key_type: &DataType,
    value_type: &DataType,
    options: &ColumnOptions,
    attr: Attr,
) -> Result<Value, DecodeError> {
    let Attr::M(item) = attr else { return Err(DecodeError::new(data_type, kind_of(&attr))) };
    let mut stored: Vec<_> = item.into_iter().collect();
    // An item's map has no order; a stable one lets equal rows look equal.
    stored.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let decode = |(key, attr): (String, Attr)| {
        let key =
            decode_map_key(key_type, key).ok_or_else(|| DecodeError::new(key_type, "another text as a map's key"))?;
        Ok(MapEntry { key: Some(value(key)), value: Some(decode_value(value_type, options, attr)?) })
    };
    let entries = stored.into_iter().map(decode).collect::<Result<_, DecodeError>>();
    let entries = entries.map_err(|error| error.within("{}"))?;
    Ok(value(Kind::MapValue(MapValue { entries })))
}

/// A map's key, from its canonical text.
fn decode_map_key(key_type: &DataType, key: String) -> Option<Kind> {
    Some(match key_type {
        DataType::String => Kind::StringValue(key),
        DataType::Char(max) | DataType::Varchar(max) if key.chars().count() <= *max as usize => Kind::StringValue(key),
        DataType::Byte | DataType::Short | DataType::Integer | DataType::Long => {
            Kind::IntValue(integer_of(key_type, &key)?)
        }
        DataType::Decimal { precision, scale } => Kind::DecimalValue(decimal_text(&key, *precision, *scale)?),
        DataType::Boolean => Kind::BoolValue(key.parse().ok()?),
        DataType::Date => Kind::DateDays(date_days(&key)?),
        _ => return None,
    })
}

fn decode_struct(data_type: &DataType, fields: &[Field], attr: Attr) -> Result<Value, DecodeError> {
    let Attr::M(mut item) = attr else { return Err(DecodeError::new(data_type, kind_of(&attr))) };
    let decode = |field: &Field| match item.remove(&field.name) {
        None => Ok(NULL),
        Some(attr) => decode_value(&field.data_type, &field.options, attr).map_err(|error| error.within(&field.name)),
    };
    let values = fields.iter().map(decode).collect::<Result<_, _>>()?;
    Ok(value(Kind::StructValue(StructValue { values })))
}

/// An integer within its declared width.
fn integer_of(data_type: &DataType, number: &str) -> Option<i64> {
    match data_type {
        DataType::Byte => exact::<i8>(number).map(i64::from),
        DataType::Short => exact::<i16>(number).map(i64::from),
        DataType::Integer => exact::<i32>(number).map(i64::from),
        _ => exact(number),
    }
}

/// An integer from any text of it: stores may write 1000 as `1E+3`.
fn exact<T: TryFrom<i128>>(number: &str) -> Option<T> {
    T::try_from(Decimal::parse(number)?.rescale(0)?.unscaled).ok()
}

/// The text of a `decimal(precision, scale)`, trailing zeros restored.
fn decimal_text(number: &str, precision: u8, scale: i8) -> Option<String> {
    let exact = Decimal::parse(number)?.rescale(i32::from(scale))?;
    (exact.unscaled == 0 || exact.digits() <= u32::from(precision)).then(|| exact.plain_text())
}

fn date_days(text: &str) -> Option<i32> {
    i32::try_from(number::parse_date(text)?).ok()
}

fn utc_micros(text: &str) -> Option<i64> {
    number::parse_timestamp(text.strip_suffix('Z')?)
}

fn finite<T: Copy, E>(parsed: Result<T, E>, is_finite: fn(T) -> bool) -> Result<T, &'static str> {
    parsed.ok().filter(|float| is_finite(*float)).ok_or("a number (N) out of range")
}

/// The floats that DynamoDB's numbers do not have, by the names that `non_finite: string` stores.
fn non_finite(name: &str) -> Option<f64> {
    match name {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn kind_of(attr: &Attr) -> &'static str {
    match attr {
        Attr::S(_) => "text (S)",
        Attr::N(_) => "a number (N)",
        Attr::B(_) => "bytes (B)",
        Attr::Bool(_) => "a boolean (BOOL)",
        Attr::Null => "a null (NULL)",
        Attr::L(_) => "a list (L)",
        Attr::M(_) => "a map (M)",
        Attr::Ss(_) => "a set of text (SS)",
        Attr::Ns(_) => "a set of numbers (NS)",
        Attr::Bs(_) => "a set of bytes (BS)",
    }
}
