//! One scalar of a sender into one declared scalar type, by the table's mode.
//!
//! Three modes with the names of `spark.sql.storeAssignmentPolicy`. STRICT takes a value where the declared type holds
//! exactly that value. ANSI adds Spark's ANSI store assignment: any number into any number, with an error where it does not
//! fit; scalars into text; dates and timestamps into each other. LEGACY adds the casts that Spark has left: numbers and
//! times from text, booleans and numbers, intervals and numbers. Where Spark would store a null, wrap around or saturate,
//! the value is a [`Misfit`] in every mode. A time's day is taken in UTC.
//!
//! [`Mode::allows`] says which pairs exist at all; what they do to a value is in [`number`], [`time`] and [`text`], and how
//! text is read in [`parse`]. Pure; the caller is `leaf`.

mod exact;
pub(super) mod number;
pub(super) mod parse;
#[cfg(test)]
mod spark;
pub(super) mod text;
pub(super) mod time;

use super::number::Decimal;
use super::reject::RejectReason;
use crate::schema::{DataType, StoreAssignment};

/// What kind of scalar a sender's value, or a declared type, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// Integers of any width.
    Integer,
    /// Single-precision floats.
    Float,
    /// Double-precision floats.
    Double,
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

impl ValueKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 12] = [
        Self::Integer,
        Self::Float,
        Self::Double,
        Self::Decimal,
        Self::Text,
        Self::Boolean,
        Self::Binary,
        Self::Date,
        Self::Timestamp,
        Self::TimestampNtz,
        Self::DayTime,
        Self::YearMonth,
    ];

    /// The kind of a type's values; `None` for arrays, maps, structs and variants.
    pub fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Byte | DataType::Short | DataType::Integer | DataType::Long => Self::Integer,
            DataType::Float => Self::Float,
            DataType::Double => Self::Double,
            DataType::Decimal { .. } => Self::Decimal,
            DataType::String | DataType::Char(_) | DataType::Varchar(_) => Self::Text,
            DataType::Boolean => Self::Boolean,
            DataType::Binary => Self::Binary,
            DataType::Date => Self::Date,
            DataType::Timestamp => Self::Timestamp,
            DataType::TimestampNtz => Self::TimestampNtz,
            DataType::DayTimeInterval => Self::DayTime,
            DataType::YearMonthInterval => Self::YearMonth,
            DataType::Variant | DataType::Array { .. } | DataType::Map { .. } | DataType::Struct(_) => return None,
        })
    }

    /// The name of the widest type of this kind, with Spark's words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Float => "float",
            Self::Double => "double",
            Self::Decimal => "decimal",
            Self::Text => "string",
            Self::Boolean => "boolean",
            Self::Binary => "binary",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::TimestampNtz => "timestamp_ntz",
            Self::DayTime => "interval day to second",
            Self::YearMonth => "interval year to month",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Float | Self::Double | Self::Decimal)
    }
}

/// A sender's scalar.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// An integer of any width.
    Integer(i64),
    /// A single-precision float.
    Float(f32),
    /// A double.
    Double(f64),
    /// A decimal.
    Decimal(Decimal),
    /// Text.
    Text(&'a str),
    /// A boolean.
    Boolean(bool),
    /// Bytes.
    Binary(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i64),
    /// Microseconds since the epoch.
    Timestamp(i64),
    /// Microseconds since 1970-01-01T00:00:00 of a wall clock.
    TimestampNtz(i64),
    /// Microseconds.
    DayTime(i64),
    /// Months.
    YearMonth(i32),
}

impl Found<'_> {
    /// The value's kind.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Integer(_) => ValueKind::Integer,
            Self::Float(_) => ValueKind::Float,
            Self::Double(_) => ValueKind::Double,
            Self::Decimal(_) => ValueKind::Decimal,
            Self::Text(_) => ValueKind::Text,
            Self::Boolean(_) => ValueKind::Boolean,
            Self::Binary(_) => ValueKind::Binary,
            Self::Date(_) => ValueKind::Date,
            Self::Timestamp(_) => ValueKind::Timestamp,
            Self::TimestampNtz(_) => ValueKind::TimestampNtz,
            Self::DayTime(_) => ValueKind::DayTime,
            Self::YearMonth(_) => ValueKind::YearMonth,
        }
    }
}

/// Why a value is none of the declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It is outside the type's range.
    OutOfRange,
    /// Digits would be lost; what they are.
    Inexact(&'static str),
    /// NaN or an infinity.
    NonFinite,
    /// The text is not what the type is read from; what is expected.
    NotRead(&'static str),
    /// There is no such conversion in this mode.
    NoCast,
}

impl Misfit {
    /// The stable reason.
    pub fn reason(self) -> RejectReason {
        match self {
            Self::OutOfRange => RejectReason::OutOfRange,
            Self::Inexact(_) => RejectReason::Inexact,
            Self::NonFinite => RejectReason::NonFinite,
            Self::NotRead(_) | Self::NoCast => RejectReason::TypeMismatch,
        }
    }
}

/// The table's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub StoreAssignment);

impl Mode {
    /// Whether only exact values are taken.
    pub fn is_strict(self) -> bool {
        self.0 == StoreAssignment::Strict
    }

    /// Whether some value of one kind can be stored as another. Where not, every value would be a misfit.
    pub fn allows(self, from: ValueKind, to: ValueKind) -> bool {
        use ValueKind as K;
        if from == to || (from.is_number() && to.is_number()) {
            return true;
        }
        match self.0 {
            StoreAssignment::Strict => false,
            StoreAssignment::Ansi => Self::ansi(from, to),
            StoreAssignment::Legacy => {
                Self::ansi(from, to)
                    || match (from, to) {
                        (K::Text, _) => true,
                        (_, K::Boolean) => from.is_number() || from == K::Timestamp,
                        (K::Boolean, K::Timestamp) => true,
                        (K::Boolean, _) => to.is_number(),
                        (_, K::Timestamp) => from.is_number(),
                        (K::Timestamp, _) => to.is_number(),
                        (K::Integer, K::Binary) => true,
                        (K::Integer | K::Decimal, K::DayTime | K::YearMonth) => true,
                        (K::DayTime | K::YearMonth, K::Integer | K::Decimal) => true,
                        _ => false,
                    }
            }
        }
    }

    /// Spark's ANSI store assignment, without what Spark converts between points in time and wall clocks by the zone of a
    /// session, which is not known here.
    fn ansi(from: ValueKind, to: ValueKind) -> bool {
        use ValueKind as K;
        matches!(
            (from, to),
            (_, K::Text) | (K::Date, K::Timestamp | K::TimestampNtz) | (K::Timestamp | K::TimestampNtz, K::Date)
        )
    }

    /// What to do about a pair that the mode does not have.
    pub fn hint(self, from: ValueKind, to: ValueKind) -> &'static str {
        use ValueKind as K;
        match (from, to) {
            (K::Timestamp, K::TimestampNtz) | (K::TimestampNtz, K::Timestamp) => {
                "cast it where the time zone is known; points in time and wall-clock times are never mixed"
            }
            _ if Self(StoreAssignment::Ansi).allows(from, to) => {
                "cast it before it is sent, or give the table or the session `store_assignment: ansi`"
            }
            _ if Self(StoreAssignment::Legacy).allows(from, to) => {
                "cast it before it is sent, or give the table or the session `store_assignment: legacy`"
            }
            _ => "send a value of the declared type",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_allows_what_the_one_before_it_allows() {
        for from in ValueKind::ALL {
            for to in ValueKind::ALL {
                let [strict, ansi, legacy] = [StoreAssignment::Strict, StoreAssignment::Ansi, StoreAssignment::Legacy]
                    .map(|mode| Mode(mode).allows(from, to));
                assert!(!strict || ansi, "{from:?} to {to:?}");
                assert!(!ansi || legacy, "{from:?} to {to:?}");
            }
            assert!(Mode(StoreAssignment::Strict).allows(from, from));
        }
    }

    #[test]
    fn points_in_time_and_wall_clocks_are_never_mixed() {
        for mode in [StoreAssignment::Strict, StoreAssignment::Ansi, StoreAssignment::Legacy] {
            assert!(!Mode(mode).allows(ValueKind::Timestamp, ValueKind::TimestampNtz));
            assert!(!Mode(mode).allows(ValueKind::TimestampNtz, ValueKind::Timestamp));
        }
    }

    #[test]
    fn the_hint_names_the_first_mode_that_would_do() {
        let hint = |from, to| Mode(StoreAssignment::Strict).hint(from, to);
        assert!(hint(ValueKind::Integer, ValueKind::Text).contains("ansi"));
        assert!(hint(ValueKind::Text, ValueKind::Integer).contains("legacy"));
        assert_eq!(hint(ValueKind::Binary, ValueKind::Integer), "send a value of the declared type");
    }
}
