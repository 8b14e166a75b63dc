//! Scalar columns: one incoming value into one declared type.
//!
//! A [`Leaf`] is compiled once per session from the declared type, the type that the session declares for it, and the
//! table's mode. Each `put_*` takes what the sender has and either appends the stored form or says why not. A value that
//! already is of the declared kind takes the short way, here; any other goes through [`cast`](super::cast), by the mode.
//! Where the value goes is the leaf's [`Role`]: an attribute, a key (whose text must be canonical), a component of a joined
//! key, the name of a map's entry, an element of a set. How it is written there is said in `out`.

mod out;
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
/// Characters of a value that a reject shows.
const SHOWN_CHARACTERS: usize = 32;

impl Leaf {
    /// Compiles a scalar type; `None` for arrays, maps, structs and variants. `path` is the column's, `incoming` what the
    /// session declares for it.
    pub fn compile(
        field: &Field,
        path: &str,
        role: Role,
        incoming: Option<&DataType>,
        policies: &mut Policies<'_>,
    ) -> Option<Self> {
        let encoding = field.options.time_encoding;
        let non_finite = field.options.non_finite;
        let kind = match &field.data_type {
            integer @ (DataType::Byte | DataType::Short | DataType::Integer | DataType::Long) => {
                let (min, max) = integer_range(integer);
                Kind::Integer { min, max }
            }
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
        Self::of_kind(kind, field, path, role, incoming, policies)
    }

    /// Compiles the table's time-to-live column: stored in epoch seconds whatever its declared type.
    pub fn compile_ttl(field: &Field, incoming: Option<&DataType>, policies: &mut Policies<'_>) -> Option<Self> {
        let from = match &field.data_type {
            DataType::Timestamp => TtlFrom::Timestamp,
            DataType::Date => TtlFrom::Date,
            integer @ (DataType::Long | DataType::Integer) => {
                let (min, max) = integer_range(integer);
                TtlFrom::Seconds { min, max }
            }
            _ => return None,
        };
        Self::of_kind(Kind::Ttl(from), field, &field.name, Role::Value, incoming, policies)
    }

    fn of_kind(
        kind: Kind,
        field: &Field,
        path: &str,
        role: Role,
        incoming: Option<&DataType>,
        policies: &mut Policies<'_>,
    ) -> Option<Self> {
        let own = ValueKind::of(&field.data_type)?;
        let declared = field.data_type.to_string();
        let (mut allowed, mut counted): (u16, u16) = (0, 0);
        for found in ValueKind::ALL {
            let is_coerced = match incoming.map(|incoming| (ValueKind::of(incoming), incoming)) {
                Some((Some(natural), incoming)) if natural == found => !same_values(incoming, &field.data_type),
                _ => found != own,
            };
            allowed |= u16::from(policies.mode.allows(found, own)) << found as u16;
            counted |= u16::from(is_coerced) << found as u16;
        }
        let rules = policies.rules.column(path, incoming, &declared);
        let incoming = incoming.and_then(|incoming| {
            let width_bytes = match incoming {
                DataType::Byte => 1,
                DataType::Short => 2,
                DataType::Integer => 4,
                _ => 8,
            };
            let kind = ValueKind::of(incoming)?;
            let scale = if let DataType::Decimal { scale, .. } = incoming { Some((*scale).into()) } else { None };
            Some(Box::new(Incoming { kind, name: incoming.to_string().into(), width_bytes, scale }))
        });
        let (mode, show_values) = (policies.mode, policies.show_values);
        Some(Self { kind, own, role, mode, allowed, counted, rules, declared: declared.into(), incoming, show_values })
    }

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
    pub fn left_out(&self) -> RuleId {
        self.rules.left_out()
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
                .hint("send decimals as text such as -12.50")
        })?;
        let put = self.put_decimal(writer, value)?;
        writer.coerced(self.rules.cut());
        Ok(put)
    }

    /// Text.
    #[inline]
    pub fn put_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        match self.kind {
            // Text of so few bytes has no more characters either.
            Kind::Text { max_characters } if max_characters.is_none_or(|most| text.len() <= most as usize) => {
                self.count(writer, ValueKind::Text);
                self.out_text(writer, text)
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

    /// The reject of a value of another type.
    pub fn mismatch(&self, found: &str) -> Box<Reject> {
        let message = format!("{found} does not fit the declared type {}", self.declared);
        Reject::new(Reason::TypeMismatch, message)
            .of_types(&self.declared, found)
            .hint("send a value of the declared type")
    }

    /// The reject of a value that was seen to be no value of its own type, before it came here.
    #[cold]
    pub(super) fn misfit_of(&self, misfit: Misfit, kind: ValueKind) -> Box<Reject> {
        self.reject(misfit, kind)
    }

    /// Notes that a value of this kind was stored, where that is a coercion.
    #[inline]
    fn count(&self, writer: &mut ItemWriter, kind: ValueKind) {
        if self.counted & (1 << kind as u16) != 0 {
            writer.coerced(self.rules.cast(kind));
        }
    }

    /// Any value, by the mode.
    fn convert(&self, writer: &mut ItemWriter, found: Found<'_>) -> Put {
        let kind = found.kind();
        let put = match self.accepts(kind) {
            true => self.cast(writer, found),
            false => Err(Refusal::Misfit(Misfit::NoCast)),
        };
        match put {
            Ok(presence) => {
                self.count(writer, kind);
                Ok(presence)
            }
            Err(Refusal::Misfit(misfit)) => Err(self.reject_value(misfit, found)),
            Err(Refusal::Reject(reject)) => Err(self.show(reject, found)),
        }
    }

    fn cast(&self, writer: &mut ItemWriter, found: Found<'_>) -> Result<Presence, Refusal> {
        let mode = self.mode;
        match self.kind {
            Kind::Integer { min, max } => Ok(self.out_integer(writer, number::integer(found, mode, min, max)?)?),
            Kind::Double { non_finite } => {
                let value = number::double(found, mode)?;
                if !value.is_finite() {
                    Self::check_overflow(found)?;
                    return Ok(self.out_non_finite(writer, non_finite, value)?);
                }
                if !out::is_in_range(value) {
                    return Err(out::outside_dynamodb().into());
                }
                Ok(self.out_finite(writer, value)?)
            }
            Kind::Float { non_finite } => {
                let value = number::float(found, mode)?;
                if !value.is_finite() {
                    Self::check_overflow(found)?;
                    return Ok(self.out_non_finite(writer, non_finite, f64::from(value))?);
                }
                Ok(self.out_finite_float(writer, value)?)
            }
            Kind::Decimal { precision, scale } => {
                let fitted = number::decimal(found, mode, precision, scale)?;
                let put = self.out_decimal(writer, fitted)?;
                if matches!(found, Found::Decimal(value) if value.normalized() != fitted.normalized()) {
                    writer.coerced(self.rules.cut());
                }
                Ok(put)
            }
            Kind::Text { max_characters } => {
                Ok(text::with_text(self.scaled(found), |text| self.put_characters(writer, text, max_characters))??)
            }
            Kind::Boolean => Ok(self.out_boolean(writer, number::boolean(found)?)?),
            Kind::BooleanAsNumber => Ok(self.out_integer(writer, i64::from(number::boolean(found)?))?),
            Kind::Binary => match found {
                Found::Binary(bytes) => Ok(self.out_binary(writer, bytes)?),
                Found::Text(text) => Ok(self.out_binary(writer, text.as_bytes())?),
                // Spark: as many bytes as the integer's type has, the most significant first.
                Found::Integer(value) => {
                    let width = self.incoming.as_ref().map_or(8, |incoming| incoming.width_bytes);
                    // The session says how wide its integers are, and the wire does not keep it to that.
                    let surplus_bits = 64 - 8 * width;
                    if (value << surplus_bits) >> surplus_bits != value {
                        return Err(Misfit::OutOfRange.into());
                    }
                    Ok(self.out_binary(writer, &value.to_be_bytes()[8 - width..])?)
                }
                _ => Err(Misfit::NoCast.into()),
            },
            Kind::Date { as_number } => Ok(self.out_date(writer, time::date(found)?, as_number)?),
            Kind::Timestamp { as_text } => Ok(self.out_timestamp(writer, time::timestamp(found)?, as_text, true)?),
            Kind::TimestampNtz { as_number } => {
                Ok(self.out_timestamp(writer, time::timestamp_ntz(found)?, !as_number, false)?)
            }
            Kind::DayTime => Ok(self.out_integer(writer, time::day_time(found)?)?),
            Kind::YearMonth => Ok(self.out_integer(writer, i64::from(time::year_month(found)?))?),
            Kind::Ttl(from) => {
                let seconds = match from {
                    TtlFrom::Timestamp => time::timestamp(found)?.div_euclid(MICROS_PER_SECOND),
                    TtlFrom::Date => time::date(found)?.checked_mul(SECONDS_PER_DAY).ok_or(Misfit::OutOfRange)?,
                    TtlFrom::Seconds { min, max } => number::integer(found, mode, min, max)?,
                };
                Ok(self.out_ttl(writer, seconds)?)
            }
        }
    }

    /// Refuses a finite number that is infinite as a float: `non_finite` is for what was not finite before.
    fn check_overflow(found: Found<'_>) -> Result<(), Misfit> {
        if number::is_finite(found) { Err(Misfit::OutOfRange) } else { Ok(()) }
    }

    /// A decimal with the zeros at its end that the session's type has and its wire form need not have.
    fn scaled<'v>(&self, found: Found<'v>) -> Found<'v> {
        match (found, self.incoming.as_ref().and_then(|incoming| incoming.scale)) {
            (Found::Decimal(value), Some(scale)) => Found::Decimal(value.rescale(scale).unwrap_or(value)),
            (found, _) => found,
        }
    }

    /// Text of at most so many characters. Blanks at its end may be cut off to make it fit, but not in mode STRICT.
    fn put_characters(&self, writer: &mut ItemWriter, text: &str, most: Option<u32>) -> Put {
        let Some(most) = most else { return self.out_text(writer, text) };
        let Some((end, _)) = text.char_indices().nth(most as usize) else { return self.out_text(writer, text) };
        let (fitting, surplus) = text.split_at(end);
        if !self.mode.is_strict() && surplus.bytes().all(|byte| byte == b' ') {
            let put = self.out_text(writer, fitting)?;
            writer.coerced(self.rules.cut());
            return Ok(put);
        }
        let message = format!("the text has more than the {most} characters of {}", self.declared);
        Err(Reject::new(Reason::TooLong, message)
            .of_types(&self.declared, ValueKind::Text.name())
            .hint("shorten the text, or let the column be a longer varchar or a string"))
    }

    /// The type of a rejected value in words: what the session declares, where the value is of that kind. What does not fit the
    /// declared type is none of that type, whatever the session says.
    fn found_type(&self, kind: ValueKind) -> &str {
        match &self.incoming {
            Some(incoming) if incoming.kind == kind && incoming.name != self.declared => &incoming.name,
            _ => kind.name(),
        }
    }

    #[cold]
    fn reject_value(&self, misfit: Misfit, found: Found<'_>) -> Box<Reject> {
        self.show(self.reject(misfit, found.kind()), found)
    }

    #[cold]
    fn reject(&self, misfit: Misfit, kind: ValueKind) -> Box<Reject> {
        let (declared, found) = (&*self.declared, self.found_type(kind));
        let (message, hint) = match misfit {
            Misfit::OutOfRange => (
                format!("the value is outside the range of {declared}"),
                "send a value in range, or widen the column".to_owned(),
            ),
            Misfit::Inexact(why) => (
                format!("the {found} does not fit {declared} exactly: {why}"),
                match self.mode.is_strict() {
                    true => "round it before it is sent, or give the table `store_assignment: ansi`".to_owned(),
                    false => "round it before it is sent".to_owned(),
                },
            ),
            Misfit::NonFinite => {
                (format!("NaN and infinities do not fit {declared}"), "send a null or a number instead".to_owned())
            }
            Misfit::NotRead(form) => (format!("the {found} cannot be read as {declared}"), format!("expected {form}")),
            Misfit::NoCast => {
                (format!("{found} does not fit the declared type {declared}"), self.hint(kind).to_owned())
            }
        };
        Reject::new(misfit.reason(), message).of_types(declared, found).hint(hint)
    }

    /// The reject with its types, and with the value where the table allows that.
    #[cold]
    fn show(&self, mut reject: Box<Reject>, found: Found<'_>) -> Box<Reject> {
        if reject.declared.is_empty() {
            reject = reject.of_types(&self.declared, self.found_type(found.kind()));
        }
        if self.show_values {
            let shown = text::with_text(found, |text| match text.char_indices().nth(SHOWN_CHARACTERS) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text.to_owned(),
            });
            let length = if let Found::Binary(bytes) = found { bytes.len() } else { 0 };
            reject.value = Some(shown.unwrap_or_else(|_| format!("{length} bytes")).into());
        }
        reject
    }
}

/// Why a value was not put.
enum Refusal {
    /// It is no value of the declared type.
    Misfit(Misfit),
    /// It is one, but cannot be stored.
    Reject(Box<Reject>),
}

impl From<Misfit> for Refusal {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

impl From<Box<Reject>> for Refusal {
    fn from(reject: Box<Reject>) -> Self {
        Self::Reject(reject)
    }
}

fn integer_range(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Byte => (i8::MIN.into(), i8::MAX.into()),
        DataType::Short => (i16::MIN.into(), i16::MAX.into()),
        DataType::Integer => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

/// Whether a value of one type is stored as another without any coercion: the same type, or text of whatever length.
fn same_values(incoming: &DataType, declared: &DataType) -> bool {
    incoming == declared || (incoming.is_text() && declared.is_text())
}
