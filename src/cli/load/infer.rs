//! Column types from what a file holds: for `--create` on CSV and NDJSON, whose text does not say them.
//!
//! A column gets the narrowest type that takes every value seen without losing anything: boolean, bigint, double, date,
//! timestamp, timestamp_ntz, else string. Numbers that a double would round, and numbers with leading zeros (which are codes),
//! stay text. JSON adds arrays and structs; what has several types becomes a variant.

use serde_json::value::RawValue;

use crate::payload::number::{parse_date, parse_timestamp};
use crate::payload::values::json::Members;
use crate::payload::values::text::point_in_time;
use crate::schema::{DataType, Field, Schema};

/// Digits that every double keeps.
const DOUBLE_DIGITS: usize = 15;

/// The types that are still possible for a column of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextColumn(u8);

const BOOLEAN: u8 = 1;
const LONG: u8 = 2;
const DOUBLE: u8 = 4;
const DATE: u8 = 8;
const TIMESTAMP: u8 = 16;
const TIMESTAMP_NTZ: u8 = 32;
const ALL: u8 = 63;
/// Nothing was seen yet.
const EMPTY: u8 = 64;

impl Default for TextColumn {
    fn default() -> Self {
        Self(ALL | EMPTY)
    }
}

impl TextColumn {
    /// Looks at one cell that is not empty.
    pub(super) fn see(&mut self, text: &str) {
        self.0 &= ALL;
        for (bit, fits) in [
            (BOOLEAN, is_boolean as fn(&str) -> bool),
            (LONG, is_long),
            (DOUBLE, is_double),
            (DATE, |text| parse_date(text).is_some()),
            (TIMESTAMP, |text| point_in_time(text).is_some()),
            (TIMESTAMP_NTZ, |text| parse_timestamp(text).is_some()),
        ] {
            if self.0 & bit != 0 && !fits(text) {
                self.0 &= !bit;
            }
        }
    }

    fn of(bits: u8, text: &str) -> Self {
        let mut column = Self(bits);
        column.see(text);
        column
    }

    /// The narrowest type.
    pub(super) fn data_type(self) -> DataType {
        match self.0 {
            bits if bits & EMPTY != 0 => DataType::String,
            bits if bits & BOOLEAN != 0 => DataType::Boolean,
            bits if bits & LONG != 0 => DataType::Long,
            bits if bits & DOUBLE != 0 => DataType::Double,
            bits if bits & DATE != 0 => DataType::Date,
            bits if bits & TIMESTAMP != 0 => DataType::Timestamp,
            bits if bits & TIMESTAMP_NTZ != 0 => DataType::TimestampNtz,
            _ => DataType::String,
        }
    }
}

fn is_boolean(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

/// Digits after an optional minus, without leading zeros.
fn plain_digits(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'))
}

fn is_long(text: &str) -> bool {
    plain_digits(text) && text.parse::<i64>().is_ok()
}

fn is_double(text: &str) -> bool {
    if !text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) {
        return false;
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let whole = mantissa.split('.').next().unwrap_or(mantissa).trim_start_matches(['-', '+']);
    let code = whole.len() > 1 && whole.starts_with('0');
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    !code && digits <= DOUBLE_DIGITS && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// What was seen of a JSON value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum JsonColumn {
    /// Only nulls.
    #[default]
    Nothing,
    /// Texts.
    Text(TextColumn),
    /// Numbers; the column knows which.
    Number(TextColumn),
    /// Booleans.
    Boolean,
    /// Arrays.
    Array(Box<JsonColumn>),
    /// Objects.
    Object(Vec<(String, JsonColumn)>),
    /// Several of these.
    Mixed,
}

impl JsonColumn {
    /// Looks at one value, which must be JSON.
    pub(super) fn see(&mut self, raw: &RawValue) {
        let json = raw.get();
        let seen = match json.as_bytes().first() {
            Some(b'n') | None => return,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => {
                let text: String = serde_json::from_str(json).unwrap_or_default();
                Self::Text(TextColumn::of(DATE | TIMESTAMP | TIMESTAMP_NTZ, &text))
            }
            Some(b'[') => {
                let mut element = Self::Nothing;
                let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
                elements.into_iter().for_each(|raw| element.see(raw));
                Self::Array(Box::new(element))
            }
            Some(b'{') => {
                let mut fields = Vec::new();
                let members = serde_json::from_str(json).unwrap_or(Members(Vec::new()));
                see_members(&mut fields, &members);
                Self::Object(fields)
            }
            Some(_) => Self::Number(TextColumn::of(LONG | DOUBLE, json)),
        };
        let before = std::mem::take(self);
        *self = before.and(seen);
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Text(a), Self::Text(b)) => Self::Text(TextColumn(a.0 & b.0)),
            (Self::Number(a), Self::Number(b)) => Self::Number(TextColumn(a.0 & b.0)),
            (Self::Boolean, Self::Boolean) => Self::Boolean,
            (Self::Array(a), Self::Array(b)) => Self::Array(Box::new(a.and(*b))),
            (Self::Object(mut a), Self::Object(b)) => {
                for (name, column) in b {
                    match a.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = std::mem::take(known).and(column),
                        None => a.push((name, column)),
                    }
                }
                Self::Object(a)
            }
            _ => Self::Mixed,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Nothing => DataType::String,
            // Whole numbers beyond 64 bits, or more digits than a double keeps.
            Self::Number(TextColumn(0)) => DataType::Variant,
            Self::Text(column) | Self::Number(column) => column.data_type(),
            Self::Boolean => DataType::Boolean,
            Self::Array(element) => DataType::Array { element: Box::new(element.data_type()), contains_null: true },
            Self::Object(fields) if fields.is_empty() => DataType::Variant,
            Self::Object(fields) => DataType::Struct(schema_of(fields).fields),
            Self::Mixed => DataType::Variant,
        }
    }
}

/// Looks at the members of one object.
pub(super) fn see_members(columns: &mut Vec<(String, JsonColumn)>, Members(members): &Members<'_>) {
    for (at, (name, raw)) in members.iter().enumerate() {
        // Objects of one file mostly have the same members in the same order.
        let known = match columns.get(at) {
            Some((known, _)) if known == name => Some(at),
            _ => columns.iter().position(|(known, _)| known == name),
        };
        let at = known.unwrap_or_else(|| {
            columns.push((name.clone(), JsonColumn::Nothing));
            columns.len() - 1
        });
        columns[at].1.see(raw);
    }
}

/// The schema of inferred JSON columns, all nullable.
pub(super) fn schema_of(columns: &[(String, JsonColumn)]) -> Schema {
    let field = |(name, column): &(String, JsonColumn)| Field::new(name, column.data_type(), true);
    Schema { fields: columns.iter().map(field).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cells: &[&str]) -> DataType {
        let mut column = TextColumn::default();
        cells.iter().for_each(|cell| column.see(cell));
        column.data_type()
    }

    #[test]
    fn a_column_gets_the_narrowest_type_that_takes_all() {
        assert_eq!(text(&["1", "-20"]), DataType::Long);
        assert_eq!(text(&["1", "2.5", "1e3"]), DataType::Double);
        assert_eq!(text(&["true", "FALSE"]), DataType::Boolean);
        assert_eq!(text(&["2013-01-01"]), DataType::Date);
        assert_eq!(text(&["2013-01-01 10:00:00+00:00"]), DataType::Timestamp);
        assert_eq!(text(&["2013-01-01 10:00:00"]), DataType::TimestampNtz);
        assert_eq!(text(&["2013-01-01", "2013-01-01 10:00:00"]), DataType::String);
        assert_eq!(text(&["1", "x"]), DataType::String);
        assert_eq!(text(&[]), DataType::String);
    }

    #[test]
    fn numbers_that_would_lose_something_stay_text() {
        assert_eq!(text(&["007", "12"]), DataType::String);
        assert_eq!(text(&["99999999999999999999"]), DataType::String);
        assert_eq!(text(&["0.12345678901234567"]), DataType::String);
        assert_eq!(text(&["NaN"]), DataType::String);
        assert_eq!(text(&["0", "0.5"]), DataType::Double);
    }

    #[test]
    fn objects_become_structs_with_the_fields_of_all() {
        let mut columns = Vec::new();
        for line in [
            r#"{"id": "a", "at": "2026-01-31T12:00:00Z", "tags": [], "geo": {"lat": 1}}"#,
            r#"{"id": "b", "n": 5, "tags": ["x", null], "geo": {"lat": 1.5, "lon": 2}, "odd": 1}"#,
            r#"{"id": "c", "at": null, "odd": "one"}"#,
        ] {
            see_members(&mut columns, &serde_json::from_str(line).unwrap());
        }
        let types: Vec<_> = schema_of(&columns).fields.iter().map(|f| format!("{} {}", f.name, f.data_type)).collect();
        assert_eq!(
            types,
            [
                "id string",
                "at timestamp",
                "tags array<string>",
                "geo struct<lat:double,lon:bigint>",
                "n bigint",
                "odd variant"
            ]
        );
    }
}
