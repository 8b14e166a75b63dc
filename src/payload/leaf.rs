//! Scalar columns: one incoming value into one declared type, by the rules of mode STRICT.
//!
//! A [`Leaf`] is compiled from a declared type once per session. Each `put_*` takes what the sender has and either appends
//! the stored form or says why not: a value is accepted where it is exactly representable in the declared type; text is
//! never read as a number, nor a number written as text. Where the value goes is the leaf's [`Role`]: an attribute, a key
//! (whose text must be canonical), a component of a joined key, or the name of a map's entry.

use super::item::ItemWriter;
use super::key;
use super::nested::item_too_large;
use super::number::{self, Decimal, MICROS_PER_SECOND};
use super::reject::{Reject, RejectReason as Reason};
use crate::limits::{ITEM_MAX_BYTES, MAP_KEY_MAX_BYTES};
use crate::schema::{DataType, Field, NonFinite, TimeEncoding};

/// The result of putting one value.
pub type Put = Result<Presence, Box<Reject>>;

/// Whether a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Something was appended.
    Written,
    /// Nothing was appended: the value counts as null.
    Null,
}

/// Where a leaf's value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An attribute, or an element of a list or map.
    Value,
    /// A key attribute with a longest length in bytes.
    Key {
        /// DynamoDB's limit for this key.
        limit_bytes: usize,
    },
    /// A component of a joined key attribute.
    JoinedPart,
    /// The name of a map's entry.
    MapKey,
}

/// What a sender's scalar type is, as far as it decides whether its values can fit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Integers of any width.
    Integer,
    /// Floats and doubles.
    Float,
    /// Decimals.
    Decimal,
    /// Text.
    Text,
    /// Booleans.
    Boolean,
    /// Bytes.
    Binary,
    /// Dates.
    Date,
    /// Points in time.
    Timestamp,
    /// Wall-clock times.
    TimestampNtz,
    /// Day-time intervals.
    DayTime,
    /// Year-month intervals.
    YearMonth,
}

/// A scalar column, compiled.
#[derive(Debug, Clone)]
pub struct Leaf {
    kind: Kind,
    role: Role,
    declared: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Integer {
        min: i64,
        max: i64,
    },
    Float {
        non_finite: NonFinite,
    },
    Double {
        non_finite: NonFinite,
    },
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text {
        max_characters: Option<u32>,
    },
    Boolean,
    BooleanAsNumber,
    Binary,
    Date {
        as_number: bool,
    },
    Timestamp {
        as_text: bool,
    },
    TimestampNtz {
        as_number: bool,
    },
    DayTime,
    YearMonth,
    /// Epoch seconds, from the declared type.
    Ttl(TtlFrom),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TtlFrom {
    Timestamp,
    Date,
    Seconds,
}

/// A TTL above this is taken for milliseconds: as seconds it would be the year 5138.
const TTL_MAX_SECONDS: i64 = 100_000_000_000;
/// Integers up to here are exact as doubles.
const DOUBLE_EXACT_MAX: i64 = 1 << 53;
/// Integers up to here are exact as floats.
const FLOAT_EXACT_MAX: i64 = 1 << 24;

impl Leaf {
    /// Compiles a scalar type; `None` for arrays, maps, structs and variants.
    pub fn compile(field: &Field, role: Role) -> Option<Self> {
        let encoding = field.options.time_encoding;
        let non_finite = field.options.non_finite;
        let kind = match &field.data_type {
            DataType::Byte => Kind::Integer { min: i64::from(i8::MIN), max: i64::from(i8::MAX) },
            DataType::Short => Kind::Integer { min: i64::from(i16::MIN), max: i64::from(i16::MAX) },
            DataType::Integer => Kind::Integer { min: i64::from(i32::MIN), max: i64::from(i32::MAX) },
            DataType::Long => Kind::Integer { min: i64::MIN, max: i64::MAX },
            DataType::Float => Kind::Float { non_finite },
            DataType::Double => Kind::Double { non_finite },
            DataType::Decimal { precision, scale } => Kind::Decimal { precision: *precision, scale: *scale },
            DataType::String => Kind::Text { max_characters: None },
            DataType::Char(length) | DataType::Varchar(length) => Kind::Text { max_characters: Some(*length) },
            DataType::Boolean if field.options.key_as_number => Kind::BooleanAsNumber,
            DataType::Boolean => Kind::Boolean,
            DataType::Binary => Kind::Binary,
            DataType::Date => Kind::Date { as_number: encoding == Some(TimeEncoding::Number) },
            DataType::Timestamp => Kind::Timestamp { as_text: encoding == Some(TimeEncoding::String) },
            DataType::TimestampNtz => Kind::TimestampNtz { as_number: encoding == Some(TimeEncoding::Number) },
            DataType::DayTimeInterval => Kind::DayTime,
            DataType::YearMonthInterval => Kind::YearMonth,
            DataType::Variant | DataType::Array { .. } | DataType::Map { .. } | DataType::Struct(_) => return None,
        };
        Some(Self { kind, role, declared: field.data_type.to_string().into() })
    }

    /// Compiles the table's time-to-live column: stored in epoch seconds whatever its declared type.
    pub fn compile_ttl(field: &Field, role: Role) -> Option<Self> {
        let from = match field.data_type {
            DataType::Timestamp => TtlFrom::Timestamp,
            DataType::Date => TtlFrom::Date,
            DataType::Long | DataType::Integer => TtlFrom::Seconds,
            _ => return None,
        };
        Some(Self { kind: Kind::Ttl(from), role, declared: field.data_type.to_string().into() })
    }

    /// Whether some value of this kind can fit; where not, every `put_*` of it would be a mismatch.
    pub fn accepts(&self, incoming: ValueKind) -> bool {
        match self.kind {
            Kind::Integer { .. } | Kind::Float { .. } | Kind::Double { .. } | Kind::Decimal { .. } => {
                matches!(incoming, ValueKind::Integer | ValueKind::Float | ValueKind::Decimal)
            }
            Kind::Text { .. } => incoming == ValueKind::Text,
            Kind::Boolean | Kind::BooleanAsNumber => incoming == ValueKind::Boolean,
            Kind::Binary => incoming == ValueKind::Binary,
            Kind::Date { .. } | Kind::Ttl(TtlFrom::Date) => incoming == ValueKind::Date,
            Kind::Timestamp { .. } | Kind::Ttl(TtlFrom::Timestamp) => incoming == ValueKind::Timestamp,
            Kind::TimestampNtz { .. } => incoming == ValueKind::TimestampNtz,
            Kind::DayTime => incoming == ValueKind::DayTime,
            Kind::YearMonth => incoming == ValueKind::YearMonth,
            Kind::Ttl(TtlFrom::Seconds) => incoming == ValueKind::Integer,
        }
    }

    /// The declared type's text.
    pub fn declared(&self) -> &str {
        &self.declared
    }

    /// An integer of any width.
    #[inline]
    pub fn put_integer(&self, writer: &mut ItemWriter, value: i64) -> Put {
        match self.kind {
            Kind::Integer { min, max } if (min..=max).contains(&value) => self.out_integer(writer, value),
            Kind::Integer { .. } => Err(self.out_of_range()),
            Kind::Double { .. } if value.unsigned_abs() <= DOUBLE_EXACT_MAX.unsigned_abs() => {
                self.out_integer(writer, value)
            }
            Kind::Float { .. } if value.unsigned_abs() <= FLOAT_EXACT_MAX.unsigned_abs() => {
                self.out_integer(writer, value)
            }
            Kind::Double { .. } | Kind::Float { .. } => {
                Err(self.inexact("the integer has more digits than the type holds"))
            }
            Kind::Decimal { .. } => self.put_decimal(writer, Decimal { unscaled: i128::from(value), scale: 0 }),
            Kind::Ttl(TtlFrom::Seconds) => self.out_ttl(writer, value),
            _ => Err(self.mismatch("an integer")),
        }
    }

    /// A double.
    #[inline]
    pub fn put_double(&self, writer: &mut ItemWriter, value: f64) -> Put {
        match self.kind {
            Kind::Double { non_finite } => {
                if !value.is_finite() {
                    return self.out_non_finite(writer, non_finite, value);
                }
                self.check_double_range(value)?;
                let mut buffer = zmij::Buffer::new();
                self.out_number(writer, number::double_text(value, &mut buffer))
            }
            Kind::Float { non_finite } if !value.is_finite() => self.out_non_finite(writer, non_finite, value),
            Kind::Float { .. } if f64::from(value as f32) == value => self.put_float(writer, value as f32),
            Kind::Float { .. } => Err(self.inexact("the double has more digits than a float holds")),
            Kind::Integer { .. } | Kind::Decimal { .. } => self.put_integral(writer, value),
            _ => Err(self.mismatch("a double")),
        }
    }

    /// A single-precision float.
    #[inline]
    pub fn put_float(&self, writer: &mut ItemWriter, value: f32) -> Put {
        match self.kind {
            Kind::Float { non_finite } => {
                if !value.is_finite() {
                    return self.out_non_finite(writer, non_finite, f64::from(value));
                }
                let mut buffer = zmij::Buffer::new();
                self.out_number(writer, number::float_text(value, &mut buffer))
            }
            Kind::Double { .. } => self.put_double(writer, f64::from(value)),
            Kind::Integer { .. } | Kind::Decimal { .. } => self.put_integral(writer, f64::from(value)),
            _ => Err(self.mismatch("a float")),
        }
    }

    /// A decimal.
    pub fn put_decimal(&self, writer: &mut ItemWriter, value: Decimal) -> Put {
        match self.kind {
            Kind::Decimal { precision, scale } => {
                let normalized = value.normalized();
                let exact = normalized.rescale(i32::from(scale));
                let Some(exact) = exact else {
                    return Err(if normalized.scale > i32::from(scale) {
                        self.inexact("the value has more digits after the point")
                    } else {
                        self.out_of_range()
                    });
                };
                if exact.unscaled != 0 && exact.digits() > u32::from(precision) {
                    return Err(self.out_of_range());
                }
                if self.role == Role::JoinedPart {
                    let mut part = String::new();
                    key::push_decimal(&mut part, exact.unscaled);
                    return self.out_part(writer, &part);
                }
                self.out_number(writer, &normalized.canonical_text())
            }
            Kind::Integer { .. } | Kind::Double { .. } | Kind::Float { .. } => {
                let whole = value.rescale(0).ok_or_else(|| self.inexact("the decimal has digits after the point"))?;
                let whole = i64::try_from(whole.unscaled).map_err(|_| self.out_of_range())?;
                self.put_integer(writer, whole)
            }
            _ => Err(self.mismatch("a decimal")),
        }
    }

    /// A decimal as text.
    pub fn put_decimal_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        let value = Decimal::parse(text).ok_or_else(|| {
            Reject::new(Reason::OutOfRange, "the decimal's text is not a number of at most 38 significant digits")
        })?;
        self.put_decimal(writer, value)
    }

    /// Text.
    #[inline]
    pub fn put_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        match self.kind {
            Kind::Text { max_characters } => {
                if let Some(limit) = max_characters
                    && text.len() > limit as usize
                    // A character has at most four bytes.
                    && (text.len() / 4 > limit as usize || text.chars().count() > limit as usize)
                {
                    return Err(Reject::new(
                        Reason::TooLong,
                        format!("the text has more than the {limit} characters of {}", self.declared),
                    ));
                }
                self.out_text(writer, text)
            }
            _ => Err(self.mismatch("text")),
        }
    }

    /// A boolean.
    pub fn put_boolean(&self, writer: &mut ItemWriter, value: bool) -> Put {
        match (&self.kind, self.role) {
            (Kind::Boolean, Role::Value) => {
                writer.boolean(value);
                Ok(Presence::Written)
            }
            (Kind::Boolean, _) => self.out_text(writer, if value { "true" } else { "false" }),
            (Kind::BooleanAsNumber, _) => self.out_integer(writer, i64::from(value)),
            _ => Err(self.mismatch("a boolean")),
        }
    }

    /// Bytes.
    pub fn put_binary(&self, writer: &mut ItemWriter, bytes: &[u8]) -> Put {
        if self.kind != Kind::Binary {
            return Err(self.mismatch("binary"));
        }
        match self.role {
            Role::Key { limit_bytes } => check_key_length(bytes.len(), limit_bytes)?,
            Role::JoinedPart => {
                check_text_size(bytes.len())?;
                let mut part = String::with_capacity(bytes.len() * 2);
                key::push_binary(&mut part, bytes);
                return self.out_part(writer, &part);
            }
            Role::Value | Role::MapKey => check_text_size(bytes.len())?,
        }
        writer.binary(bytes);
        Ok(Presence::Written)
    }

    /// A point in time.
    #[inline]
    pub fn put_timestamp(&self, writer: &mut ItemWriter, micros: i64) -> Put {
        match self.kind {
            Kind::Timestamp { as_text: false } => self.out_integer(writer, micros),
            Kind::Timestamp { as_text: true } => {
                let text = number::timestamp_text(micros).ok_or_else(|| self.out_of_range())?;
                self.out_text(writer, &format!("{text}Z"))
            }
            Kind::Ttl(TtlFrom::Timestamp) => self.out_ttl(writer, micros.div_euclid(MICROS_PER_SECOND)),
            _ => Err(self.mismatch("a timestamp")),
        }
    }

    /// A wall-clock time.
    pub fn put_timestamp_ntz(&self, writer: &mut ItemWriter, micros: i64) -> Put {
        match self.kind {
            Kind::TimestampNtz { as_number: true } => self.out_integer(writer, micros),
            Kind::TimestampNtz { as_number: false } => {
                let text = number::timestamp_text(micros).ok_or_else(|| self.out_of_range())?;
                self.out_text(writer, &text)
            }
            _ => Err(self.mismatch("a timestamp without time zone")),
        }
    }

    /// A date.
    pub fn put_date(&self, writer: &mut ItemWriter, days: i64) -> Put {
        match self.kind {
            Kind::Date { as_number: true } => self.out_integer(writer, days),
            Kind::Date { as_number: false } => {
                let text = number::date_text(days).ok_or_else(|| self.out_of_range())?;
                self.out_text(writer, &text)
            }
            Kind::Ttl(TtlFrom::Date) => {
                let seconds = days.checked_mul(86_400).ok_or_else(|| self.out_of_range())?;
                self.out_ttl(writer, seconds)
            }
            _ => Err(self.mismatch("a date")),
        }
    }

    /// A day-time interval.
    pub fn put_day_time(&self, writer: &mut ItemWriter, micros: i64) -> Put {
        match self.kind {
            Kind::DayTime => self.out_integer(writer, micros),
            _ => Err(self.mismatch("a day-time interval")),
        }
    }

    /// A year-month interval.
    pub fn put_year_month(&self, writer: &mut ItemWriter, months: i32) -> Put {
        match self.kind {
            Kind::YearMonth => self.out_integer(writer, i64::from(months)),
            _ => Err(self.mismatch("a year-month interval")),
        }
    }

    /// The reject of a value of another type.
    pub fn mismatch(&self, found: &str) -> Box<Reject> {
        Reject::new(Reason::TypeMismatch, format!("{found} does not fit the declared type {}", self.declared))
    }

    /// The reject of a value outside the declared type's range.
    pub(super) fn out_of_range(&self) -> Box<Reject> {
        Reject::new(Reason::OutOfRange, format!("the value is outside the range of {}", self.declared))
    }

    /// The reject of a value that would lose digits.
    pub(super) fn inexact(&self, why: &str) -> Box<Reject> {
        Reject::new(Reason::Inexact, format!("{why}; {} cannot hold it exactly", self.declared))
    }

    /// A float or double into an integer or decimal column.
    fn put_integral(&self, writer: &mut ItemWriter, value: f64) -> Put {
        if !value.is_finite() {
            return Err(Reject::new(Reason::NonFinite, format!("NaN and infinities do not fit {}", self.declared)));
        }
        if value.fract() != 0.0 {
            return Err(self.inexact("the value has digits after the point"));
        }
        // 2^63 itself is a double and is no i64; below it every integral double is one.
        if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
            return Err(self.out_of_range());
        }
        self.put_integer(writer, value as i64)
    }

    fn check_double_range(&self, value: f64) -> Result<(), Box<Reject>> {
        let magnitude = value.abs();
        if magnitude != 0.0 && !(1e-130..1e126).contains(&magnitude) {
            let message = "DynamoDB's numbers reach from 1E-130 to 9.99E+125; the value is outside";
            return Err(Reject::new(Reason::OutOfRange, message));
        }
        Ok(())
    }

    fn out_non_finite(&self, writer: &mut ItemWriter, policy: NonFinite, value: f64) -> Put {
        match policy {
            NonFinite::Reject => Err(Reject::new(
                Reason::NonFinite,
                "NaN and infinities are rejected; the column's option `non_finite` can store null or text instead",
            )),
            NonFinite::Null => Ok(Presence::Null),
            NonFinite::String => {
                writer.text(if value.is_nan() {
                    "NaN"
                } else if value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                });
                Ok(Presence::Written)
            }
        }
    }

    fn out_ttl(&self, writer: &mut ItemWriter, seconds: i64) -> Put {
        if seconds > TTL_MAX_SECONDS {
            return Err(Reject::new(
                Reason::OutOfRange,
                "a time to live is in epoch seconds; the value is so large that it must be milliseconds",
            ));
        }
        self.out_integer(writer, seconds)
    }

    #[inline]
    fn out_integer(&self, writer: &mut ItemWriter, value: i64) -> Put {
        match self.role {
            Role::Value | Role::Key { .. } => writer.integer(value),
            Role::JoinedPart => {
                let mut part = String::with_capacity(16);
                key::push_integer(&mut part, value);
                return self.out_part(writer, &part);
            }
            Role::MapKey => return self.out_text(writer, itoa::Buffer::new().format(value)),
        }
        Ok(Presence::Written)
    }

    #[inline]
    fn out_number(&self, writer: &mut ItemWriter, text: &str) -> Put {
        match self.role {
            Role::MapKey => self.out_text(writer, text),
            // Joined decimals took their own way above; floats are never keys.
            Role::Value | Role::Key { .. } | Role::JoinedPart => {
                writer.number(text);
                Ok(Presence::Written)
            }
        }
    }

    #[inline]
    fn out_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        match self.role {
            Role::Value => {
                check_text_size(text.len())?;
                writer.text(text);
            }
            Role::Key { limit_bytes } => {
                check_key_length(text.len(), limit_bytes)?;
                writer.text(text);
            }
            Role::JoinedPart => {
                check_text_size(text.len())?;
                let mut part = String::with_capacity(text.len());
                key::push_text(&mut part, text);
                return self.out_part(writer, &part);
            }
            Role::MapKey => {
                if text.is_empty() || text.len() > MAP_KEY_MAX_BYTES {
                    let message = format!("a map's key must have 1 to {MAP_KEY_MAX_BYTES} bytes");
                    return Err(Reject::new(Reason::OutOfRange, message));
                }
                writer.raw(b"\"");
                writer.escaped(text);
                writer.raw(b"\":");
                writer.count(text.len());
            }
        }
        Ok(Presence::Written)
    }

    fn out_part(&self, writer: &mut ItemWriter, part: &str) -> Put {
        writer.escaped(part);
        writer.count(part.len());
        Ok(Presence::Written)
    }
}

/// Refuses text or bytes that alone are larger than an item, before they are copied.
#[inline]
fn check_text_size(length_bytes: usize) -> Result<(), Box<Reject>> {
    if length_bytes <= ITEM_MAX_BYTES { Ok(()) } else { Err(item_too_large()) }
}

/// Checks a key's length against DynamoDB's limits.
pub fn check_key_length(length_bytes: usize, limit_bytes: usize) -> Result<(), Box<Reject>> {
    if length_bytes == 0 {
        return Err(Reject::new(Reason::KeyEmpty, "a key must not be empty"));
    }
    if length_bytes > limit_bytes {
        let message = format!("the key has {length_bytes} bytes; DynamoDB allows {limit_bytes}");
        return Err(Reject::new(Reason::KeyTooLong, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(data_type: DataType) -> Leaf {
        Leaf::compile(&Field::new("x", data_type, true), Role::Value).unwrap()
    }

    fn put(leaf: &Leaf, put: impl FnOnce(&Leaf, &mut ItemWriter) -> Put) -> Result<String, Reason> {
        let mut writer = ItemWriter::default();
        put(leaf, &mut writer).map_err(|reject| reject.reason)?;
        Ok(String::from_utf8(writer.into_buffer()).unwrap())
    }

    fn n(text: &str) -> Result<String, Reason> {
        Ok(format!("{{\"N\":\"{text}\"}}"))
    }

    #[test]
    fn integers_are_checked_against_the_declared_width() {
        for (data_type, min, max) in [
            (DataType::Byte, -128, 127),
            (DataType::Short, -32_768, 32_767),
            (DataType::Integer, -2_147_483_648, 2_147_483_647),
        ] {
            let leaf = leaf(data_type);
            for edge in [min, max] {
                assert_eq!(put(&leaf, |l, w| l.put_integer(w, edge)), n(&edge.to_string()));
            }
            for outside in [min - 1, max + 1] {
                assert_eq!(put(&leaf, |l, w| l.put_integer(w, outside)), Err(Reason::OutOfRange));
            }
        }
        assert_eq!(put(&leaf(DataType::Long), |l, w| l.put_integer(w, i64::MIN)), n("-9223372036854775808"));
    }

    #[test]
    fn numbers_cross_types_only_where_exact() {
        let (long, double, float) = (leaf(DataType::Long), leaf(DataType::Double), leaf(DataType::Float));
        let decimal = leaf(DataType::Decimal { precision: 5, scale: 2 });
        assert_eq!(put(&long, |l, w| l.put_double(w, 3.0)), n("3"));
        assert_eq!(put(&long, |l, w| l.put_double(w, 3.5)), Err(Reason::Inexact));
        assert_eq!(put(&long, |l, w| l.put_double(w, 9.3e18)), Err(Reason::OutOfRange));
        assert_eq!(put(&double, |l, w| l.put_integer(w, 1 << 53)), n("9007199254740992"));
        assert_eq!(put(&double, |l, w| l.put_integer(w, (1 << 53) + 1)), Err(Reason::Inexact));
        assert_eq!(put(&float, |l, w| l.put_double(w, 0.5)), n("0.5"));
        assert_eq!(put(&float, |l, w| l.put_double(w, 0.1)), Err(Reason::Inexact));
        assert_eq!(put(&double, |l, w| l.put_float(w, 0.5)), n("0.5"));
        assert_eq!(put(&decimal, |l, w| l.put_integer(w, 999)), n("999"));
        assert_eq!(put(&decimal, |l, w| l.put_integer(w, 1000)), Err(Reason::OutOfRange));
        assert_eq!(put(&decimal, |l, w| l.put_decimal_text(w, "12.50")), n("12.5"));
        assert_eq!(put(&decimal, |l, w| l.put_decimal_text(w, "12.505")), Err(Reason::Inexact));
        assert_eq!(put(&long, |l, w| l.put_decimal_text(w, "7.00")), n("7"));
        assert_eq!(put(&long, |l, w| l.put_text(w, "7")), Err(Reason::TypeMismatch));
        assert_eq!(put(&leaf(DataType::String), |l, w| l.put_integer(w, 7)), Err(Reason::TypeMismatch));
    }

    #[test]
    fn doubles_stay_within_dynamodbs_range() {
        let double = leaf(DataType::Double);
        assert_eq!(put(&double, |l, w| l.put_double(w, -0.0)), n("0"));
        assert_eq!(put(&double, |l, w| l.put_double(w, 1e-131)), Err(Reason::OutOfRange));
        assert_eq!(put(&double, |l, w| l.put_double(w, 1e126)), Err(Reason::OutOfRange));
        assert!(put(&double, |l, w| l.put_double(w, 9.99e125)).is_ok());
        assert_eq!(put(&double, |l, w| l.put_double(w, f64::NAN)), Err(Reason::NonFinite));
    }

    #[test]
    fn non_finite_values_follow_the_columns_option() {
        let mut field = Field::new("x", DataType::Double, true);
        field.options.non_finite = NonFinite::String;
        let leaf = Leaf::compile(&field, Role::Value).unwrap();
        assert_eq!(put(&leaf, |l, w| l.put_double(w, f64::NEG_INFINITY)), Ok("{\"S\":\"-Infinity\"}".into()));
        field.options.non_finite = NonFinite::Null;
        let leaf = Leaf::compile(&field, Role::Value).unwrap();
        assert_eq!(leaf.put_double(&mut ItemWriter::default(), f64::NAN), Ok(Presence::Null));
    }

    #[test]
    fn char_lengths_count_characters_not_bytes() {
        let varchar = leaf(DataType::Varchar(3));
        assert!(put(&varchar, |l, w| l.put_text(w, "äöü")).is_ok());
        assert_eq!(put(&varchar, |l, w| l.put_text(w, "abcd")), Err(Reason::TooLong));
    }

    #[test]
    fn times_are_stored_as_their_encoding_says() {
        let timestamp = leaf(DataType::Timestamp);
        assert_eq!(put(&timestamp, |l, w| l.put_timestamp(w, -1)), n("-1"));
        assert_eq!(put(&timestamp, |l, w| l.put_timestamp_ntz(w, 0)), Err(Reason::TypeMismatch));
        let ntz = leaf(DataType::TimestampNtz);
        assert_eq!(put(&ntz, |l, w| l.put_timestamp_ntz(w, -1)), Ok("{\"S\":\"1969-12-31T23:59:59.999999\"}".into()));
        assert_eq!(put(&leaf(DataType::Date), |l, w| l.put_date(w, -1)), Ok("{\"S\":\"1969-12-31\"}".into()));
        let mut field = Field::new("x", DataType::Timestamp, true);
        field.options.time_encoding = Some(TimeEncoding::String);
        let text = Leaf::compile(&field, Role::Value).unwrap();
        assert_eq!(put(&text, |l, w| l.put_timestamp(w, 0)), Ok("{\"S\":\"1970-01-01T00:00:00.000000Z\"}".into()));
    }

    #[test]
    fn a_ttl_is_stored_in_seconds_and_milliseconds_are_refused() {
        let ttl = |data_type| Leaf::compile_ttl(&Field::new("x", data_type, true), Role::Value).unwrap();
        assert_eq!(put(&ttl(DataType::Timestamp), |l, w| l.put_timestamp(w, 1_700_000_000_999_999)), n("1700000000"));
        assert_eq!(put(&ttl(DataType::Date), |l, w| l.put_date(w, 2)), n("172800"));
        assert_eq!(put(&ttl(DataType::Long), |l, w| l.put_integer(w, 1_700_000_000_000)), Err(Reason::OutOfRange));
    }

    #[test]
    fn keys_are_neither_empty_nor_too_long() {
        let key = Leaf::compile(&Field::new("k", DataType::String, false), Role::Key { limit_bytes: 4 }).unwrap();
        assert_eq!(put(&key, |l, w| l.put_text(w, "")), Err(Reason::KeyEmpty));
        assert_eq!(put(&key, |l, w| l.put_text(w, "abcde")), Err(Reason::KeyTooLong));
        assert!(put(&key, |l, w| l.put_text(w, "abcd")).is_ok());
    }
}
