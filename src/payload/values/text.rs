//! Cells of a CSV file and keys on the command line: text, read as the declared type.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::fit::Fit;
use super::{Misfit, json};
use crate::payload::number::{Decimal, MICROS_PER_SECOND, date_text, parse_date, parse_timestamp, timestamp_text};
use crate::proto::v1::value::Kind;
use crate::proto::v1::{RowReason, Value};
use crate::schema::DataType;

/// Reads a text as a value of the type, by the table's mode. What is empty is the caller's to decide. `dropped` gets the
/// paths of the fields that were left out.
pub(crate) fn read(
    path: &str,
    text: &str,
    data_type: &DataType,
    fit: Fit,
    dropped: &mut Vec<String>,
) -> Result<Value, Misfit> {
    match data_type {
        DataType::Variant | DataType::Array { .. } | DataType::Map { .. } | DataType::Struct(_) => {
            match serde_json::from_str(text) {
                Ok(raw) => json::read(path, raw, data_type, fit, dropped),
                // Text that is not JSON is a fine variant.
                Err(_) if matches!(data_type, DataType::Variant) => {
                    Ok(Value { kind: Some(Kind::StringValue(text.to_owned())) })
                }
                Err(_) => Err(Misfit::of_type(path, "text", data_type).hint("expected JSON")),
            }
        }
        scalar => parse(path, text, scalar).or_else(|_| fit.settle_text(path, text, scalar)),
    }
}

/// Reads a text as an exact literal of the type. What is empty is the caller's to decide.
pub(crate) fn parse(path: &str, text: &str, data_type: &DataType) -> Result<Value, Misfit> {
    let mismatch = |expected: &str| {
        let message = format!("the text is no {data_type}; expected {expected}");
        Misfit::new(path, RowReason::TypeMismatch, message)
    };
    let out_of_range =
        || Misfit::new(path, RowReason::OutOfRange, format!("the number is outside the range of {data_type}"));
    let inexact = || Misfit::new(path, RowReason::Inexact, format!("digits would be lost in {data_type}"));
    let bare = text.trim();
    let kind = match data_type {
        DataType::String | DataType::Char(_) | DataType::Varchar(_) => Kind::StringValue(text.to_owned()),
        DataType::Byte | DataType::Short | DataType::Integer | DataType::Long => {
            let number = integer(bare).ok_or_else(|| mismatch("a whole number"))?.ok_or_else(out_of_range)?;
            let fits = match data_type {
                DataType::Byte => i8::try_from(number).is_ok(),
                DataType::Short => i16::try_from(number).is_ok(),
                DataType::Integer => i32::try_from(number).is_ok(),
                _ => true,
            };
            if !fits {
                return Err(out_of_range());
            }
            Kind::IntValue(number)
        }
        DataType::DayTimeInterval => Kind::DayTimeIntervalMicros(
            integer(bare).ok_or_else(|| mismatch("a number of microseconds"))?.ok_or_else(out_of_range)?,
        ),
        DataType::YearMonthInterval => {
            let months = integer(bare).ok_or_else(|| mismatch("a number of months"))?.ok_or_else(out_of_range)?;
            Kind::YearMonthIntervalMonths(months.try_into().map_err(|_| out_of_range())?)
        }
        DataType::Float => {
            let number: f32 = bare.parse().map_err(|_| mismatch("a number"))?;
            if number.is_infinite() && has_digit(bare) {
                return Err(out_of_range());
            }
            // The digits of a double that is a float mean just that float.
            let widened = || is_literal(bare, DOUBLE_DIGITS) && bare.parse() == Ok(f64::from(number));
            if !is_literal(bare, FLOAT_DIGITS) && !widened() {
                return Err(inexact());
            }
            Kind::FloatValue(number)
        }
        DataType::Double => {
            let number: f64 = bare.parse().map_err(|_| mismatch("a number"))?;
            if number.is_infinite() && has_digit(bare) {
                return Err(out_of_range());
            }
            if !is_literal(bare, DOUBLE_DIGITS) {
                return Err(inexact());
            }
            Kind::DoubleValue(number)
        }
        DataType::Decimal { precision, scale } => {
            let decimal = Decimal::parse(bare).ok_or_else(|| mismatch("a number of at most 38 digits"))?;
            let Some(scaled) = decimal.rescale((*scale).into()) else {
                return Err(inexact());
            };
            if scaled.digits() > u32::from(*precision) {
                return Err(out_of_range());
            }
            Kind::DecimalValue(scaled.plain_text())
        }
        DataType::Boolean => match bare.to_ascii_lowercase().as_str() {
            "true" | "1" => Kind::BoolValue(true),
            "false" | "0" => Kind::BoolValue(false),
            _ => return Err(mismatch("true or false")),
        },
        DataType::Binary => Kind::BytesValue(BASE64.decode(bare).map_err(|_| mismatch("base64"))?.into()),
        DataType::Date => {
            let days = parse_date(bare).and_then(|days| i32::try_from(days).ok());
            Kind::DateDays(days.ok_or_else(|| mismatch("YYYY-MM-DD"))?)
        }
        DataType::Timestamp => {
            let micros = point_in_time(bare);
            Kind::TimestampMicros(micros.ok_or_else(|| mismatch("a time with its zone, like 2026-01-31T12:00:00Z"))?)
        }
        DataType::TimestampNtz => {
            let micros = parse_timestamp(trim_nanos(bare));
            Kind::TimestampNtzMicros(micros.ok_or_else(|| mismatch("a time without a zone, like 2026-01-31T12:00:00"))?)
        }
        DataType::Variant | DataType::Array { .. } | DataType::Map { .. } | DataType::Struct(_) => {
            return read(path, text, data_type, Fit::STRICT, &mut Vec::new());
        }
    };
    Ok(Value { kind: Some(kind) })
}

/// Significant digits that tell every float (binary32) from its neighbours: no text of a float needs more (IEEE 754-2019, 5.12.2).
const FLOAT_DIGITS: usize = 9;
/// The same for doubles (binary64).
pub(super) const DOUBLE_DIGITS: usize = 17;

/// Whether a number's text is a literal of a binary float, which means the float nearest to it. What has more digits than that
/// takes means something that no such float holds.
pub(super) fn is_literal(text: &str, max_digits: usize) -> bool {
    // Most texts are shorter anyway.
    text.len() <= max_digits || significant_digits(text) <= max_digits
}

/// Digits of a number's text without the zeros at both ends.
pub(super) fn significant_digits(text: &str) -> usize {
    let mantissa = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let (mut digits, mut zeros) = (0, 0);
    for digit in mantissa.filter(u8::is_ascii_digit) {
        match digit {
            b'0' if digits == 0 => {}
            b'0' => zeros += 1,
            _ => digits += std::mem::take(&mut zeros) + 1,
        }
    }
    digits
}

/// Whether a float's text is a number, and not the name of what is none.
fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

/// A whole number, also written like `5.0`, as spreadsheets and data frames do for columns with gaps. `None` is no whole
/// number; `Some(None)` is one that 64 bits cannot hold.
fn integer(text: &str) -> Option<Option<i64>> {
    if let Ok(number) = text.parse() {
        return Some(Some(number));
    }
    let normalized = Decimal::parse(text)?.normalized();
    if normalized.scale > 0 {
        return None;
    }
    Some(normalized.rescale(0).and_then(|whole| whole.unscaled.try_into().ok()))
}

/// Epoch microseconds of a time with a zone: `Z`, `+02:00`, `+0200` or `+02`.
pub(crate) fn point_in_time(text: &str) -> Option<i64> {
    let (wall, offset_seconds) = match text.strip_suffix(['Z', 'z']) {
        Some(wall) => (wall, 0),
        None => {
            // Behind the date, whose dashes are no signs.
            let at = 10 + text.get(10..)?.rfind(['+', '-'])?;
            let (wall, zone) = text.split_at(at);
            let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let (hours, minutes): (i64, i64) = match digits.len() {
                2 => (digits.parse().ok()?, 0),
                4 => (digits[..2].parse().ok()?, digits[2..].parse().ok()?),
                _ => return None,
            };
            if hours > 18 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            (wall, if zone.starts_with('-') { -seconds } else { seconds })
        }
    };
    parse_timestamp(trim_nanos(wall))?.checked_sub(offset_seconds * MICROS_PER_SECOND)
}

/// Nine fractional digits are six where the last three are zeros.
fn trim_nanos(wall: &str) -> &str {
    match wall.len() {
        29 => wall.strip_suffix("000").unwrap_or(wall),
        _ => wall,
    }
}

/// A point in time for people: `2026-01-31T12:00:00Z`, with a fraction where there is one.
pub(crate) fn point_in_time_text(micros: i64) -> String {
    wall_time_text(micros) + "Z"
}

/// A wall-clock time for people.
pub(crate) fn wall_time_text(micros: i64) -> String {
    match timestamp_text(micros) {
        Some(text) => text.strip_suffix(".000000").map(str::to_owned).unwrap_or(text),
        // Outside the years that the calendar's text can show, the number is better than nothing.
        None => format!("{micros}us"),
    }
}

/// A date for people.
pub(crate) fn day_text(days: i32) -> String {
    date_text(days.into()).unwrap_or_else(|| format!("{days}d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str, data_type: &DataType) -> Kind {
        parse("c", text, data_type).unwrap().kind.unwrap()
    }

    fn reason(text: &str, data_type: &DataType) -> RowReason {
        parse("c", text, data_type).unwrap_err().reason
    }

    #[test]
    fn cells_are_read_as_the_declared_type() {
        assert_eq!(ok("517", &DataType::Long), Kind::IntValue(517));
        assert_eq!(ok(" -5.0 ", &DataType::Byte), Kind::IntValue(-5));
        assert_eq!(ok("1e3", &DataType::Short), Kind::IntValue(1000));
        assert_eq!(ok("517", &DataType::String), Kind::StringValue("517".to_owned()));
        assert_eq!(ok(" x ", &DataType::String), Kind::StringValue(" x ".to_owned()));
        assert_eq!(ok("0.1", &DataType::Double), Kind::DoubleValue(0.1));
        assert_eq!(ok("TRUE", &DataType::Boolean), Kind::BoolValue(true));
        assert_eq!(ok("AQI=", &DataType::Binary), Kind::BytesValue(vec![1, 2].into()));
        assert_eq!(ok("1969-12-31", &DataType::Date), Kind::DateDays(-1));
        let money = DataType::Decimal { precision: 10, scale: 2 };
        assert_eq!(ok("12.5", &money), Kind::DecimalValue("12.50".to_owned()));
    }

    #[test]
    fn times_need_their_zone_and_wall_times_must_not_have_one() {
        for text in [
            "2013-01-01 10:00:00+00:00",
            "2013-01-01T10:00:00Z",
            "2013-01-01T12:00:00+02",
            "2013-01-01T05:30:00.000000000-0430",
        ] {
            assert_eq!(ok(text, &DataType::Timestamp), Kind::TimestampMicros(1_357_034_400_000_000), "{text}");
        }
        assert_eq!(reason("2013-01-01 10:00:00", &DataType::Timestamp), RowReason::TypeMismatch);
        assert_eq!(reason("2013-01-01T10:00:00Z", &DataType::TimestampNtz), RowReason::TypeMismatch);
        assert_eq!(reason("2013-01-01T10:00:00.000000001Z", &DataType::Timestamp), RowReason::TypeMismatch);
        assert_eq!(ok("1969-12-31 23:59:59.5", &DataType::TimestampNtz), Kind::TimestampNtzMicros(-500_000));
        assert_eq!(point_in_time_text(-500_000), "1969-12-31T23:59:59.500000Z");
        assert_eq!(point_in_time_text(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_does_not_fit_says_why() {
        assert_eq!(reason("abc", &DataType::Long), RowReason::TypeMismatch);
        assert_eq!(reason("5.5", &DataType::Long), RowReason::TypeMismatch);
        assert_eq!(reason("300", &DataType::Byte), RowReason::OutOfRange);
        assert_eq!(reason("99999999999999999999", &DataType::Long), RowReason::OutOfRange);
        let money = DataType::Decimal { precision: 4, scale: 2 };
        assert_eq!(reason("1.234", &money), RowReason::Inexact);
        assert_eq!(reason("123.4", &money), RowReason::OutOfRange);
        assert_eq!(reason("maybe", &DataType::Boolean), RowReason::TypeMismatch);
        assert_eq!(reason("2013-02-30", &DataType::Date), RowReason::TypeMismatch);
        assert_eq!(reason("1e39", &DataType::Float), RowReason::OutOfRange);
    }

    #[test]
    fn a_literal_means_the_nearest_float_and_longer_ones_are_not_exact() {
        let (float, double) = (&DataType::Float, &DataType::Double);
        assert_eq!(ok("0.1", float), Kind::FloatValue(0.1));
        assert_eq!(ok("0.123456789", float), Kind::FloatValue(0.123_456_79));
        assert_eq!(ok("-00.10000000000000000", float), Kind::FloatValue(-0.1));
        assert_eq!(ok("1.17549435e-38", float), Kind::FloatValue(f32::MIN_POSITIVE));
        // A float that was written as the double that it also is.
        assert_eq!(ok("0.10000000149011612", float), Kind::FloatValue(0.1));
        assert_eq!(ok("16777216.0", float), Kind::FloatValue(16_777_216.0));
        for inexact in ["0.1234567891", "0.123456789012", "0.10000000149011613", "0.5000000000000000000001"] {
            assert_eq!(reason(inexact, float), RowReason::Inexact, "{inexact}");
        }
        assert_eq!(ok("0.30000000000000004", double), Kind::DoubleValue(0.1 + 0.2));
        assert_eq!(ok("1797693134862315700000000000e281", double), Kind::DoubleValue(f64::MAX));
        assert_eq!(ok("-Infinity", double), Kind::DoubleValue(f64::NEG_INFINITY));
        for inexact in ["0.123456789012345678", "100000000000000000.1", "1152921504606846977"] {
            assert_eq!(reason(inexact, double), RowReason::Inexact, "{inexact}");
        }
    }

    #[test]
    fn cells_of_nested_columns_are_json() {
        let list = DataType::Array { element: Box::new(DataType::Long), contains_null: false };
        assert!(matches!(ok("[1, 2]", &list), Kind::ListValue(list) if list.values.len() == 2));
        let misfit = parse("c", "[1, \"x\"]", &list).unwrap_err();
        assert_eq!((misfit.path.as_str(), misfit.reason), ("c[1]", RowReason::TypeMismatch));
        assert_eq!(reason("1, 2", &list), RowReason::TypeMismatch);
        assert_eq!(ok("plain", &DataType::Variant), Kind::StringValue("plain".to_owned()));
    }
}
