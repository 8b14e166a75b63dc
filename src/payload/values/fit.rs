//! What to do about a cell or a JSON value that is no exact literal of its column's type: the table's mode says.
//!
//! In STRICT it is rejected here, before it is sent. In ANSI and LEGACY it is sent as what it is (a number, a text, a boolean)
//! and the gateway rounds, casts or rejects it. What is rejected here is judged by the very code that the gateway judges
//! with, so that reason, place and words do not depend on who saw the misfit.

use super::Misfit;
use super::text::{DOUBLE_DIGITS, is_literal, significant_digits};
use crate::limits::NUMBER_MAX_DIGITS;
use crate::payload::cast::Mode;
use crate::payload::coercion::RuleBook;
use crate::payload::item::ItemWriter;
use crate::payload::leaf::{Leaf, Policies, Put, Role};
use crate::payload::reject::Reject;
use crate::proto::v1::Value;
use crate::proto::v1::value::Kind;
use crate::schema::{DataType, Field, StoreAssignment, UnknownFields};

/// What a hint says where a value could travel, but not as Arrow.
const USE_ROWS: &str = "say --payload rows: as Arrow only exact values of the declared type can travel";

/// The policies of a table and a session, as far as reading values is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    /// The table's mode.
    pub(crate) mode: StoreAssignment,
    /// Only exact values of the declared type can travel: rows go as Arrow.
    pub(crate) exact_only: bool,
    /// Whether fields that the table does not have are left out.
    pub(crate) drop_unknown: bool,
    /// Whether a misfit may show the value, shortened.
    pub(crate) show_values: bool,
}

impl Fit {
    /// Nothing but exact values.
    pub(crate) const STRICT: Self =
        Self { mode: StoreAssignment::Strict, exact_only: false, drop_unknown: false, show_values: false };

    /// A text that is no exact literal of the scalar type; what is written in it is a number where the column holds numbers.
    pub(super) fn settle_text(self, path: &str, text: &str, data_type: &DataType) -> Result<Value, Misfit> {
        let kind = match data_type {
            // LEGACY would take the text's own bytes; whether a text is a broken base64 or means itself cannot be told.
            DataType::Binary => return Err(Misfit::of_type(path, "string", data_type).hint("send bytes as base64")),
            _ if self.mode == StoreAssignment::Legacy => Kind::StringValue(text.to_owned()),
            _ => number_in(text.trim(), data_type).unwrap_or_else(|| Kind::StringValue(text.to_owned())),
        };
        self.settle(path, kind, data_type)
    }

    /// A value that is no exact one of the scalar type.
    pub(super) fn settle(self, path: &str, kind: Kind, data_type: &DataType) -> Result<Value, Misfit> {
        let strict = self.mode == StoreAssignment::Strict;
        if !strict && !self.exact_only {
            return Ok(Value { kind: Some(kind) });
        }
        match self.refusal(&kind, data_type, self.mode) {
            Some(reject) => {
                let misfit = Misfit::of_reject(path, *reject);
                let hint = if strict { self.other_mode(&kind, data_type) } else { None };
                Err(match hint {
                    Some(hint) => misfit.hint(hint),
                    None => misfit,
                })
            }
            None if self.exact_only => match self.refusal(&kind, data_type, StoreAssignment::Strict) {
                Some(reject) => Err(Misfit::of_reject(path, *reject).hint(USE_ROWS)),
                None => Ok(Value { kind: Some(exact(kind, data_type)) }),
            },
            None => Ok(Value { kind: Some(exact(kind, data_type)) }),
        }
    }

    /// What to do where mode STRICT refuses: the first mode that takes the value, or what LEGACY expects of a text.
    fn other_mode(self, kind: &Kind, data_type: &DataType) -> Option<String> {
        for (mode, name) in [(StoreAssignment::Ansi, "ansi"), (StoreAssignment::Legacy, "legacy")] {
            if self.refusal(kind, data_type, mode).is_none() {
                return Some(format!(
                    "cast it before it is sent, or give the table or the session `store_assignment: {name}`"
                ));
            }
        }
        match kind {
            Kind::StringValue(_) => self.refusal(kind, data_type, StoreAssignment::Legacy).map(|r| r.hint.into_owned()),
            _ => None,
        }
    }

    /// Why a mode does not take the value, if it does not.
    fn refusal(self, kind: &Kind, data_type: &DataType, mode: StoreAssignment) -> Option<Box<Reject>> {
        let mut rules = RuleBook::default();
        let mut policies = Policies {
            mode: Mode(mode),
            unknown_fields: UnknownFields::Reject,
            show_values: self.show_values,
            rules: &mut rules,
        };
        let field = Field::new("", data_type.clone(), true);
        let leaf = Leaf::compile(&field, "", Role::Value, Some(data_type), &mut policies)?;
        put(&leaf, kind).err()
    }
}

/// A value that STRICT takes, as the declared type: a literal of many digits may spell a binary fraction, such as 2^-30.
fn exact(kind: Kind, data_type: &DataType) -> Kind {
    match (&kind, data_type) {
        (Kind::DecimalValue(text), DataType::Double) => text.parse().map_or(kind, Kind::DoubleValue),
        (Kind::DecimalValue(text), DataType::Float) => text.parse().map_or(kind, Kind::FloatValue),
        _ => kind,
    }
}

/// Puts a value where it is seen by nobody.
fn put(leaf: &Leaf, kind: &Kind) -> Put {
    let writer = &mut ItemWriter::default();
    match kind {
        Kind::BoolValue(value) => leaf.put_boolean(writer, *value),
        Kind::IntValue(value) => leaf.put_integer(writer, *value),
        Kind::DoubleValue(value) => leaf.put_double(writer, *value),
        Kind::FloatValue(value) => leaf.put_float(writer, *value),
        Kind::StringValue(value) => leaf.put_text(writer, value),
        Kind::BytesValue(value) => leaf.put_binary(writer, value),
        Kind::DecimalValue(value) => leaf.put_decimal_text(writer, value),
        Kind::TimestampMicros(value) => leaf.put_timestamp(writer, *value),
        Kind::TimestampNtzMicros(value) => leaf.put_timestamp_ntz(writer, *value),
        Kind::DateDays(value) => leaf.put_date(writer, i64::from(*value)),
        Kind::DayTimeIntervalMicros(value) => leaf.put_day_time(writer, *value),
        Kind::YearMonthIntervalMonths(value) => leaf.put_year_month(writer, *value),
        Kind::ListValue(_) => Err(leaf.mismatch("a list")),
        Kind::StructValue(_) => Err(leaf.mismatch("a struct")),
        Kind::MapValue(_) => Err(leaf.mismatch("a map")),
    }
}

/// The number in a cell of a column of numbers.
fn number_in(text: &str, data_type: &DataType) -> Option<Kind> {
    // `inf` and `nan` are words here.
    let is_number =
        data_type.is_number() && text.parse::<f64>().is_ok() && text.bytes().any(|byte| byte.is_ascii_digit());
    is_number.then(|| number_for(text, data_type))
}

/// A number's text as the protocol carries it without losing a digit.
pub(super) fn number_for(text: &str, data_type: &DataType) -> Kind {
    if let Ok(value) = text.parse() {
        return Kind::IntValue(value);
    }
    match (data_type, text.parse::<f64>()) {
        // Too large a number must not travel as infinity, for which columns have an option.
        (DataType::Float, Ok(value)) if value.is_finite() && is_literal(text, DOUBLE_DIGITS) => {
            Kind::DoubleValue(value)
        }
        (DataType::Float | DataType::Double, _) if significant_digits(text) > NUMBER_MAX_DIGITS => {
            Kind::DecimalValue(shortened(text))
        }
        _ => Kind::DecimalValue(text.to_owned()),
    }
}

/// A number of too many digits as one of as many as a decimal has, for columns that keep far fewer of them. The last one is
/// never that of a binary float, nor of what is halfway between two, unless that has as many digits itself: so the number is
/// still inexact, and is rounded to the same side.
fn shortened(text: &str) -> String {
    let (mantissa, exponent) = text.find(['e', 'E']).map_or((text, ""), |at| text.split_at(at));
    let (mut digits, mut out) = (0, String::with_capacity(text.len()));
    for character in mantissa.chars() {
        digits += usize::from(character.is_ascii_digit() && (digits > 0 || character != '0'));
        out.push(match character {
            // Fractions of two end in 5, and whole numbers that floats hold are shorter or end in 0.
            '0'..='9' if digits == NUMBER_MAX_DIGITS => '1',
            '0'..='9' if digits > NUMBER_MAX_DIGITS => '0',
            other => other,
        });
    }
    out + exponent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::values::{json, text};
    use crate::proto::v1::RowReason;

    fn fit(mode: StoreAssignment) -> Fit {
        Fit { mode, ..Fit::STRICT }
    }

    fn cell(text: &str, data_type: &DataType, mode: StoreAssignment) -> Result<Kind, Misfit> {
        text::read("c", text, data_type, fit(mode), &mut Vec::new()).map(|value| value.kind.unwrap())
    }

    fn member(json: &str, data_type: &DataType, mode: StoreAssignment) -> Result<Kind, Misfit> {
        let value = json::from_raw("c", serde_json::from_str(json).unwrap(), data_type, fit(mode));
        value.map(|value| value.kind.unwrap())
    }

    fn text(text: &str) -> Kind {
        Kind::StringValue(text.to_owned())
    }

    fn digits(text: &str) -> Kind {
        Kind::DecimalValue(text.to_owned())
    }

    const MONEY: DataType = DataType::Decimal { precision: 4, scale: 2 };

    #[test]
    fn exact_literals_travel_as_the_declared_type_in_every_mode() {
        for mode in [StoreAssignment::Strict, StoreAssignment::Ansi, StoreAssignment::Legacy] {
            assert_eq!(cell(" 12.0 ", &DataType::Byte, mode), Ok(Kind::IntValue(12)));
            assert_eq!(cell("true", &DataType::Boolean, mode), Ok(Kind::BoolValue(true)));
            assert_eq!(cell("1.5", &MONEY, mode), Ok(digits("1.50")));
            assert_eq!(member("\"1.5\"", &MONEY, mode), Ok(digits("1.50")));
            assert_eq!(member("12.0", &DataType::Byte, mode), Ok(Kind::IntValue(12)));
        }
    }

    #[test]
    fn in_ansi_numbers_travel_with_all_their_digits_and_in_legacy_cells_as_they_are() {
        let (ansi, legacy) = (StoreAssignment::Ansi, StoreAssignment::Legacy);
        let long = "1.23456789012345678901234567890123456789012345";
        for (literal, data_type, number) in [
            ("12.5", DataType::Integer, digits("12.5")),
            ("300", DataType::Byte, Kind::IntValue(300)),
            (long, MONEY, digits(long)),
            ("1e39", DataType::Float, Kind::DoubleValue(1e39)),
            ("many", DataType::Long, text("many")),
            ("nan", DataType::Long, text("nan")),
            ("2", DataType::Boolean, text("2")),
            ("2024-1-5", DataType::Date, text("2024-1-5")),
        ] {
            assert_eq!(cell(literal, &data_type, ansi), Ok(number), "{literal}");
            assert_eq!(cell(literal, &data_type, legacy), Ok(text(literal)), "{literal}");
        }
    }

    #[test]
    fn a_number_too_large_for_a_float_never_travels_as_infinity() {
        for data_type in [DataType::Float, DataType::Double] {
            for literal in ["1e400", "-1e999"] {
                let strict = cell(literal, &data_type, StoreAssignment::Strict).unwrap_err();
                assert!(matches!(strict.reason, RowReason::OutOfRange | RowReason::Inexact), "{literal}: {strict:?}");
                assert_eq!(cell(literal, &data_type, StoreAssignment::Ansi), Ok(digits(literal)));
                assert_eq!(member(literal, &data_type, StoreAssignment::Legacy), Ok(digits(literal)));
            }
            assert!(cell("inf", &data_type, StoreAssignment::Ansi).is_ok());
        }
    }

    #[test]
    fn a_float_of_more_digits_than_it_keeps_is_refused_in_strict_and_rounded_where_it_is_counted_elsewhere() {
        let ansi = "cast it before it is sent, or give the table or the session `store_assignment: ansi`";
        let cut = format!("0.5{}1", "0".repeat(36));
        for (literal, data_type, number) in [
            ("0.123456789012", DataType::Float, Kind::DoubleValue(0.123_456_789_012)),
            ("0.500000000000000000001", DataType::Float, digits("0.500000000000000000001")),
            ("0.123456789012345678", DataType::Double, digits("0.123456789012345678")),
            ("1152921504606846977", DataType::Double, Kind::IntValue(1_152_921_504_606_846_977)),
            (&*format!("0.5{}7", "0".repeat(60)), DataType::Double, digits(&format!("{cut}{}", "0".repeat(24)))),
            (&*format!("0.5{}7e-3", "0".repeat(60)), DataType::Float, digits(&format!("{cut}{}e-3", "0".repeat(24)))),
        ] {
            for read in [cell, member] {
                let misfit = read(literal, &data_type, StoreAssignment::Strict).unwrap_err();
                assert_eq!((misfit.reason, &*misfit.hint), (RowReason::Inexact, ansi), "{literal}");
                assert_eq!(read(literal, &data_type, StoreAssignment::Ansi), Ok(number.clone()), "{literal}");
            }
            assert_eq!(cell(literal, &data_type, StoreAssignment::Legacy), Ok(text(literal)));
            assert_eq!(member(literal, &data_type, StoreAssignment::Legacy), Ok(number));
        }
    }

    #[test]
    fn a_long_literal_that_is_a_binary_fraction_is_exact_and_can_travel_as_arrow() {
        let (text, value) = ("0.000000000931322574615478515625", 0.5_f64.powi(30));
        for exact_only in [false, true] {
            let fit = Fit { exact_only, ..Fit::STRICT };
            let read = |data_type| text::read("c", text, &data_type, fit, &mut Vec::new()).unwrap().kind;
            assert_eq!(read(DataType::Double), Some(Kind::DoubleValue(value)));
            assert_eq!(read(DataType::Float), Some(Kind::FloatValue(value as f32)));
        }
    }

    #[test]
    fn a_json_value_travels_as_the_kind_that_json_says() {
        for mode in [StoreAssignment::Ansi, StoreAssignment::Legacy] {
            assert_eq!(member("1.50", &DataType::String, mode), Ok(digits("1.50")));
            assert_eq!(member("7", &DataType::String, mode), Ok(Kind::IntValue(7)));
            assert_eq!(member("true", &DataType::Long, mode), Ok(Kind::BoolValue(true)));
            assert_eq!(member("\"5\"", &DataType::Long, mode), Ok(text("5")));
            assert_eq!(member("5.5", &DataType::Long, mode), Ok(digits("5.5")));
            // A whole number is microseconds; a fraction is not suddenly seconds.
            assert_eq!(member("5.5", &DataType::DayTimeInterval, mode), Ok(text("5.5")));
        }
        let map = DataType::Map {
            key: Box::new(DataType::Integer),
            value: Box::new(DataType::Long),
            value_contains_null: true,
        };
        let Ok(Kind::MapValue(map)) = member(r#"{" 7 ": "8", "x": 1}"#, &map, StoreAssignment::Legacy) else {
            panic!()
        };
        let kinds: Vec<_> = map.entries.iter().map(|entry| entry.key.clone().unwrap().kind.unwrap()).collect();
        assert_eq!(kinds, [Kind::IntValue(7), text("x")]);
        assert_eq!(map.entries[0].value.as_ref().unwrap().kind, Some(text("8")));
    }

    #[test]
    fn in_strict_a_misfit_says_both_types_and_the_first_mode_that_would_take_it() {
        let refused = |misfit: Misfit| (misfit.reason, misfit.declared, misfit.found, misfit.hint);
        let cell = |text, data_type| refused(cell(text, &data_type, StoreAssignment::Strict).unwrap_err());
        let member = |json, data_type| refused(member(json, &data_type, StoreAssignment::Strict).unwrap_err());
        let expect = |reason, declared: &str, found: &str, hint: &str| -> (RowReason, Box<str>, Box<str>, Box<str>) {
            (reason, declared.into(), found.into(), hint.into())
        };
        let (ansi, legacy) = (
            "cast it before it is sent, or give the table or the session `store_assignment: ansi`",
            "cast it before it is sent, or give the table or the session `store_assignment: legacy`",
        );
        let (mismatch, inexact) = (RowReason::TypeMismatch, RowReason::Inexact);
        assert_eq!(cell("12.5", DataType::Integer), expect(inexact, "int", "decimal", ansi));
        assert_eq!(cell("1.239", MONEY), expect(inexact, "decimal(4,2)", "decimal", ansi));
        assert_eq!(cell("yes", DataType::Boolean), expect(mismatch, "boolean", "string", legacy));
        assert_eq!(
            cell("many", DataType::Integer),
            expect(mismatch, "int", "string", "expected an integer such as -12")
        );
        let widen = "send a value in range, or widen the column";
        assert_eq!(cell("300", DataType::Byte), expect(RowReason::OutOfRange, "tinyint", "bigint", widen));
        assert_eq!(cell("!", DataType::Binary), expect(mismatch, "binary", "string", "send bytes as base64"));
        assert_eq!(member("5", DataType::String), expect(mismatch, "string", "bigint", ansi));
        assert_eq!(member("\"5\"", DataType::Long), expect(mismatch, "bigint", "string", legacy));
        let declared = "send a value of the declared type";
        assert_eq!(member("[5]", DataType::Long), expect(mismatch, "bigint", "a list", declared));
        let list = DataType::Array { element: Box::new(DataType::Long), contains_null: true };
        assert_eq!(member("5", list), expect(mismatch, "array", "a number", declared));
    }

    #[test]
    fn as_arrow_only_exact_values_travel_and_the_hint_names_the_other_payload() {
        let fit = |mode| Fit { mode, exact_only: true, ..Fit::STRICT };
        let read = |text, data_type, mode| text::read("c", text, data_type, fit(mode), &mut Vec::new());
        assert_eq!(read("5", &DataType::Integer, StoreAssignment::Legacy).unwrap().kind, Some(Kind::IntValue(5)));
        let misfit = read("12.5", &DataType::Integer, StoreAssignment::Ansi).unwrap_err();
        assert_eq!((misfit.reason, &*misfit.hint), (RowReason::Inexact, USE_ROWS));
        let misfit = read("yes", &DataType::Boolean, StoreAssignment::Legacy).unwrap_err();
        assert_eq!((misfit.reason, &*misfit.hint), (RowReason::TypeMismatch, USE_ROWS));
        // What no way takes is told as the gateway would.
        let misfit = read("many", &DataType::Integer, StoreAssignment::Legacy).unwrap_err();
        assert_eq!((misfit.reason, &*misfit.hint), (RowReason::TypeMismatch, "expected an integer such as -12"));
    }
}
