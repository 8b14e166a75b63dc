//! Into text, with Spark's words: `1.0E10`, `2024-02-29 12:34:56.789`, `INTERVAL '1 02:03:04' DAY TO SECOND`.

use std::fmt::Write as _;

use super::{Found, Misfit};
use crate::payload::number::{Decimal, MICROS_PER_DAY, MICROS_PER_SECOND, Plain, civil_from_days};

/// Gives a scalar's text to `put`; text itself is given as it is.
pub(in crate::payload) fn with_text<T>(found: Found<'_>, put: impl FnOnce(&str) -> T) -> Result<T, Misfit> {
    let mut text = Plain::default();
    // Writing to a `Plain` cannot fail.
    let written = match found {
        Found::Text(text) => return Ok(put(text)),
        Found::Binary(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Misfit::NotRead("bytes of UTF-8"))?;
            return Ok(put(text));
        }
        Found::Boolean(value) => return Ok(put(if value { "true" } else { "false" })),
        Found::Integer(value) => return Ok(put(itoa::Buffer::new().format(value))),
        Found::Decimal(value) => return Ok(put(Plain::of(value).as_str())),
        Found::Float(value) if value.is_finite() => float(&mut text, zmij::Buffer::new().format_finite(value)),
        Found::Double(value) if value.is_finite() => float(&mut text, zmij::Buffer::new().format_finite(value)),
        Found::Float(value) => return Ok(put(non_finite(f64::from(value)))),
        Found::Double(value) => return Ok(put(non_finite(value))),
        Found::Date(days) => date(&mut text, days),
        Found::Timestamp(micros) | Found::TimestampNtz(micros) => timestamp(&mut text, micros),
        Found::DayTime(micros) => day_time(&mut text, micros),
        Found::YearMonth(months) => year_month(&mut text, months),
    };
    debug_assert!(written.is_ok());
    Ok(put(text.as_str()))
}

/// The name of a float that is no number.
pub(in crate::payload) fn non_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Java's form of a float: plain from 1E-3 to below 1E7, else with an exponent; always with a digit after the point.
fn float(text: &mut Plain, shortest: &str) -> std::fmt::Result {
    let Some(Decimal { unscaled, scale }) = Decimal::parse(shortest).map(Decimal::normalized) else {
        return text.write_str(shortest);
    };
    if unscaled == 0 {
        return text.write_str(if shortest.starts_with('-') { "-0.0" } else { "0.0" });
    }
    let leading = Decimal { unscaled, scale }.digits() as i32 - 1 - scale;
    if (-3..7).contains(&leading) {
        let plain = Plain::of(Decimal { unscaled, scale });
        text.write_str(plain.as_str())?;
        return if scale <= 0 { text.write_str(".0") } else { Ok(()) };
    }
    let mantissa = Decimal { unscaled, scale: scale + leading };
    text.write_str(Plain::of(mantissa).as_str())?;
    let point = if mantissa.scale <= 0 { ".0" } else { "" };
    write!(text, "{point}E{leading}")
}

fn date(text: &mut Plain, days: i64) -> std::fmt::Result {
    let (year, month, day) = civil_from_days(days);
    match year {
        0..=9999 => write!(text, "{year:04}-{month:02}-{day:02}"),
        _ => write!(text, "{year:+05}-{month:02}-{day:02}"),
    }
}

fn timestamp(text: &mut Plain, micros: i64) -> std::fmt::Result {
    date(text, micros.div_euclid(MICROS_PER_DAY))?;
    text.write_str(" ")?;
    clock(text, micros.rem_euclid(MICROS_PER_DAY))
}

/// `HH:MM:SS`, with as many digits of the fraction as are not zero.
fn clock(text: &mut Plain, micros: i64) -> std::fmt::Result {
    let (seconds, mut fraction) = (micros / MICROS_PER_SECOND, micros % MICROS_PER_SECOND);
    write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    if fraction == 0 {
        return Ok(());
    }
    let mut width = 6;
    while fraction % 10 == 0 {
        fraction /= 10;
        width -= 1;
    }
    write!(text, ".{fraction:0width$}")
}

fn day_time(text: &mut Plain, micros: i64) -> std::fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    // Days and the rest by themselves, because the smallest interval has no positive twin.
    let (days, rest) = ((micros / MICROS_PER_DAY).unsigned_abs(), (micros % MICROS_PER_DAY).abs());
    write!(text, "INTERVAL '{sign}{days} ")?;
    clock(text, rest)?;
    text.write_str("' DAY TO SECOND")
}

fn year_month(text: &mut Plain, months: i32) -> std::fmt::Result {
    let (sign, months) = (if months < 0 { "-" } else { "" }, months.unsigned_abs());
    write!(text, "INTERVAL '{sign}{}-{}' YEAR TO MONTH", months / 12, months % 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(found: Found<'_>) -> String {
        with_text(found, str::to_owned).unwrap()
    }

    #[test]
    fn floats_are_written_as_java_writes_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (1_234_567.0, "1234567.0"),
            (10_000_000.0, "1.0E7"),
            (1.5e300, "1.5E300"),
            (9_223_372_036_854_775_807.0, "9.223372036854776E18"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(Found::Double(value)), expected);
        }
        assert_eq!(text(Found::Float(0.1)), "0.1");
        assert_eq!(text(Found::Float(3.4e38)), "3.4E38");
    }

    #[test]
    fn times_are_written_as_spark_writes_them() {
        assert_eq!(text(Found::Date(-1)), "1969-12-31");
        assert_eq!(text(Found::Date(2_932_897)), "+10000-01-01");
        assert_eq!(text(Found::Timestamp(-1)), "1969-12-31 23:59:59.999999");
        assert_eq!(text(Found::Timestamp(1_500_000)), "1970-01-01 00:00:01.5");
        assert_eq!(text(Found::DayTime(93_784_500_000)), "INTERVAL '1 02:03:04.5' DAY TO SECOND");
        assert_eq!(text(Found::DayTime(-1)), "INTERVAL '-0 00:00:00.000001' DAY TO SECOND");
        assert_eq!(text(Found::DayTime(i64::MIN)), "INTERVAL '-106751991 04:00:54.775808' DAY TO SECOND");
        assert_eq!(text(Found::YearMonth(-14)), "INTERVAL '-1-2' YEAR TO MONTH");
    }

    #[test]
    fn bytes_become_text_only_where_they_are_utf8() {
        assert_eq!(text(Found::Binary("é".as_bytes())), "é");
        assert!(with_text(Found::Binary(&[0xff]), str::len).is_err());
    }
}
