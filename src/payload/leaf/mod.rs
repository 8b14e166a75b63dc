//! Scalar columns: one incoming value into one declared type.
//!
//! A [`Leaf`] is compiled once per session from the declared type, the type that the session declares for it, and the
//! table's mode. Each `put_*` takes what the sender has and either appends the stored form or says why not. A value that
//! already is of the declared kind takes the short way, here; any other goes through [`cast`](super::cast), by the mode.
//! Where the value goes is the leaf's [`Role`]: an attribute, a key (whose text must be canonical), a component of a joined
//! key, the name of a map's entry, an element of a set. How it is written there is said in `out`, how a leaf comes about in
//! `compile`, the long way of a value in `convert`, and what is said of one that does not fit in `refuse`.

mod compile;
mod convert;
mod out;
mod refuse;
#[cfg(test)]
mod tests;

pub use super::cast::ValueKind;

use super::cast::{Found, Misfit, Mode, number, text, time};
use super::coercion::{ColumnRules, RuleBook, RuleId};
use super::item::ItemWriter;
use super::number::{Decimal, MICROS_PER_SECOND};
use super::reject::{Reject, RejectReason as Reason};
use crate::schema::{DataType, Field, NonFinite, TimeEncoding, UnknownFields};

pub use out::check_key_length;

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
    /// An element of a set.
    SetElement,
}

/// What the columns of a plan are compiled with.
#[derive(Debug)]
pub struct Policies<'p> {
    /// How values are coerced.
    pub mode: Mode,
    /// What to do with fields that the schema does not have.
    pub unknown_fields: UnknownFields,
    /// Whether rejects may show the value, shortened.
    pub show_values: bool,
    /// Where the rules of the columns are entered.
    pub rules: &'p mut RuleBook,
}

/// A scalar column, compiled.
#[derive(Debug, Clone)]
pub struct Leaf {
    kind: Kind,
    /// The kind of the declared type.
    own: ValueKind,
    role: Role,
    mode: Mode,
    /// For each kind of value, by its number: whether some of them can be stored.
    allowed: u16,
    /// For each kind of value, by its number: whether it counts as coerced.
    counted: u16,
    rules: ColumnRules,
    declared: Box<str>,
    /// What the session declares, where it is a scalar.
    incoming: Option<Box<Incoming>>,
    show_values: bool,
}

/// The scalar type that a session declares for a column.
#[derive(Debug, Clone)]
struct Incoming {
    kind: ValueKind,
    name: Box<str>,
    /// Of an integer.
    width_bytes: usize,
    /// Of a decimal.
    scale: Option<i32>,
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
    Seconds { min: i64, max: i64 },
}

/// A TTL above this is taken for milliseconds: as seconds it would be the year 5138.
const TTL_MAX_SECONDS: i64 = 100_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Integers up to here are exact as doubles.
const DOUBLE_EXACT_MAX: u64 = 1 << 53;

impl Leaf {
    /// Whether some value of this kind can fit; where not, every `put_*` of it would be a mismatch.
    #[inline]
    pub fn accepts(&self, incoming: ValueKind) -> bool {
        self.allowed & (1 << incoming as u16) != 0
    }

    /// What to do about values of a kind that does not fit.
    pub fn hint(&self, incoming: ValueKind) -> &'static str {
        self.mode.hint(incoming, self.own)
    }

    /// The declared type's text.
    pub fn declared(&self) -> &str {
        &self.declared
    }

    /// The rule of a set whose elements this leaf writes, for elements that are there already.
    pub fn duplicate(&self) -> RuleId {
        self.rules.duplicate()
    }

    /// An integer of any width.
    #[inline]
    pub fn put_integer(&self, writer: &mut ItemWriter, value: i64) -> Put {
        match self.kind {
            Kind::Integer { min, max } if (min..=max).contains(&value) => {
                self.count(writer, ValueKind::Integer);
                self.out_integer(writer, value)
            }
            // Exact in every mode.
            Kind::Double { .. } if value.unsigned_abs() <= DOUBLE_EXACT_MAX => {
                self.count(writer, ValueKind::Integer);
                self.out_finite(writer, value as f64)
            }
            _ => self.convert(writer, Found::Integer(value)),
        }
    }

    /// A double.
    #[inline]
    pub fn put_double(&self, writer: &mut ItemWriter, value: f64) -> Put {
        match self.kind {
            Kind::Double { .. } if out::is_in_range(value) => {
                self.count(writer, ValueKind::Double);
                self.out_finite(writer, value)
            }
            _ => self.convert(writer, Found::Double(value)),
        }
    }

    /// A single-precision float.
    #[inline]
    pub fn put_float(&self, writer: &mut ItemWriter, value: f32) -> Put {
        match self.kind {
            Kind::Float { .. } if value.is_finite() => {
                self.count(writer, ValueKind::Float);
                self.out_finite_float(writer, value)
            }
            // Exact in every mode, and all floats are in DynamoDB's range.
            Kind::Double { .. } if value.is_finite() => {
                self.count(writer, ValueKind::Float);
                self.out_finite(writer, f64::from(value))
            }
            _ => self.convert(writer, Found::Float(value)),
        }
    }

    /// A decimal.
    #[inline]
    pub fn put_decimal(&self, writer: &mut ItemWriter, value: Decimal) -> Put {
        self.convert(writer, Found::Decimal(value))
    }

    /// A decimal as text.
    pub fn put_decimal_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        if let Some(value) = Decimal::parse(text) {
            return self.put_decimal(writer, value);
        }
        // More digits than a number here has may still be rounded to those of the column.
        let rounded = match self.kind {
            Kind::Decimal { scale, .. } if !self.mode.is_strict() => Decimal::parse_rounded(text, scale.into()),
            _ => None,
        };
        let value = rounded.ok_or_else(|| {
            Reject::new(Reason::OutOfRange, "the decimal's text is not a number of at most 38 significant digits")
                .of_types(&self.declared, ValueKind::Decimal.name())
                .hint("a decimal has at most 38 significant digits, such as -12.50")
        })?;
        let put = self.put_decimal(writer, value)?;
        writer.coerced(self.rules.digits_rounded());
        Ok(put)
    }

    /// Text.
    #[inline]
    pub fn put_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        match self.kind {
            // Text of so few bytes has no more characters either.
            Kind::Text { max_characters } if max_characters.is_none_or(|most| text.len() <= most as usize) => {
                self.count(writer, ValueKind::Text);
                self.out_text(writer, text).map_err(|reject| self.show(reject, Found::Text(text)))
            }
            _ => self.convert(writer, Found::Text(text)),
        }
    }

    /// A boolean.
    pub fn put_boolean(&self, writer: &mut ItemWriter, value: bool) -> Put {
        self.convert(writer, Found::Boolean(value))
    }

    /// Bytes.
    pub fn put_binary(&self, writer: &mut ItemWriter, bytes: &[u8]) -> Put {
        self.convert(writer, Found::Binary(bytes))
    }

    /// A point in time.
    #[inline]
    pub fn put_timestamp(&self, writer: &mut ItemWriter, micros: i64) -> Put {
        match self.kind {
            Kind::Timestamp { as_text: false } => {
                self.count(writer, ValueKind::Timestamp);
                self.out_integer(writer, micros)
            }
            _ => self.convert(writer, Found::Timestamp(micros)),
        }
    }

    /// A wall-clock time.
    pub fn put_timestamp_ntz(&self, writer: &mut ItemWriter, micros: i64) -> Put {
        self.convert(writer, Found::TimestampNtz(micros))
    }

    /// A date.
    pub fn put_date(&self, writer: &mut ItemWriter, days: i64) -> Put {
        self.convert(writer, Found::Date(days))
    }

    /// A day-time interval.
    pub fn put_day_time(&self, writer: &mut ItemWriter, micros: i64) -> Put {
        self.convert(writer, Found::DayTime(micros))
    }

    /// A year-month interval.
    pub fn put_year_month(&self, writer: &mut ItemWriter, months: i32) -> Put {
        self.convert(writer, Found::YearMonth(months))
    }

    /// Notes that a value of this kind was stored, where that is a coercion.
    #[inline]
    fn count(&self, writer: &mut ItemWriter, kind: ValueKind) {
        if self.counted & (1 << kind as u16) != 0 {
            writer.coerced(self.rules.cast(kind));
        }
    }
}
