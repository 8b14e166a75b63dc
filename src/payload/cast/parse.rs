//! Out of text, as Spark's casts read it: blanks around it are ignored, dates and times may be shortened.
//!
//! Only mode LEGACY comes here. What Spark takes to be null is a [`Misfit`] that says what the text should look like.
//! Not read, though Spark does: zones by the names of their regions (the rules of regions change, and a gateway must not
//! change its mind), times without a date (they mean today), hexadecimal floats.

use super::Misfit;
use crate::payload::number::{Decimal, MICROS_PER_DAY, MICROS_PER_SECOND, days_from_civil};

type Read<T> = Result<T, Misfit>;

/// The text without blanks and control characters around it.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character <= ' ' || character == '\u{7f}')
}

/// The same for floats and decimals, which Java trims itself, and DEL is nothing to it.
fn trimmed_by_java(text: &str) -> &str {
    text.trim_matches(|character: char| character <= ' ')
}

/// An integer; digits after a point are cut off.
pub(super) fn integer(text: &str) -> Read<i64> {
    const FORM: Misfit = Misfit::NotRead("an integer such as -12");
    let text = trimmed(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // A point alone is no number, though Spark reads it as 0.
    if !all_digits(digits) || !all_digits(fraction) || (digits.is_empty() && fraction.is_empty()) {
        return Err(FORM);
    }
    match digits {
        "" => Ok(0),
        _ => whole.parse().map_err(|_| Misfit::OutOfRange),
    }
}

const FLOAT: Misfit = Misfit::NotRead("a number such as -1.5e3, NaN or Infinity");

/// A double.
pub(super) fn double(text: &str) -> Read<f64> {
    java_float(text).parse().map_err(|_| FLOAT)
}

/// A float, rounded once.
pub(super) fn float(text: &str) -> Read<f32> {
    java_float(text).parse().map_err(|_| FLOAT)
}

/// Java's floats may end in the letter of their type.
fn java_float(text: &str) -> &str {
    let text = trimmed_by_java(text);
    match text.strip_suffix(['d', 'D', 'f', 'F']) {
        Some(number) if number.ends_with(|last: char| last.is_ascii_digit() || last == '.') => number,
        _ => text,
    }
}

/// A decimal, rounded to a scale where it has more digits.
pub(super) fn decimal(text: &str, scale: i32) -> Read<Decimal> {
    let text = trimmed_by_java(text);
    Decimal::parse_rounded(text, scale).ok_or_else(|| match text.parse::<f64>() {
        Ok(number) if number.is_finite() || text.bytes().any(|byte| byte.is_ascii_digit()) => Misfit::OutOfRange,
        _ => Misfit::NotRead("a number such as -12.50"),
    })
}

/// A boolean.
pub(super) fn boolean(text: &str) -> Read<bool> {
    let text = trimmed(text);
    let is = |names: [&str; 5]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is(["true", "t", "yes", "y", "1"]) {
        Ok(true)
    } else if is(["false", "f", "no", "n", "0"]) {
        Ok(false)
    } else {
        Err(Misfit::NotRead("true, t, yes, y, 1, false, f, no, n or 0"))
    }
}

/// Digits of a year in a date, at most.
const DATE_YEAR_DIGITS: usize = 7;
/// Digits of a year in a timestamp, at most: those that 64 bits of microseconds reach.
const TIMESTAMP_YEAR_DIGITS: usize = 6;

/// Walks over the bytes of a date or time.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl Scanner<'_> {
    /// So many digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(least..=most).contains(&length) {
            return None;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        // At most as many digits as a caller allows, which is below 19.
        Some(digits.iter().fold(0, |number, byte| number * 10 + i64::from(byte - b'0')))
    }

    /// One of these bytes.
    fn take(&mut self, one_of: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        one_of.contains(first).then(|| {
            self.rest = rest;
            *first
        })
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// `[+-]yyyy[-[m]m[-[d]d]]` as days, and whether it was whole. The year may have more digits than four.
    fn date(&mut self, year_digits: usize) -> Option<(i64, bool)> {
        let negative = self.take(b"+-") == Some(b'-');
        let year = self.digits(4, year_digits)?;
        let year = if negative { -year } else { year };
        let mut month_and_day = [1u32; 2];
        let mut parts = 0;
        for part in &mut month_and_day {
            if self.take(b"-").is_none() {
                break;
            }
            // Two digits.
            *part = self.digits(1, 2)? as u32;
            parts += 1;
        }
        let [month, day] = month_and_day;
        Some((days_from_civil(year, month, day)?, parts == 2))
    }

    /// `[h]h[:[m]m[:[s]s[.fraction]]]` as microseconds, and whether it had seconds. Digits of the fraction beyond six are cut
    /// off.
    fn clock(&mut self) -> Option<(i64, bool)> {
        let hour = self.digits(1, 2)?;
        let (mut minute, mut second, mut micros, mut whole) = (0, 0, 0, false);
        if self.take(b":").is_some() {
            minute = self.digits(1, 2)?;
            if self.take(b":").is_some() {
                second = self.digits(1, 2)?;
                whole = true;
                if self.take(b".").is_some() {
                    micros = self.fraction();
                }
            }
        }
        let fits = hour < 24 && minute < 60 && second < 60;
        fits.then_some((((hour * 60 + minute) * 60 + second) * MICROS_PER_SECOND + micros, whole))
    }

    /// The digits behind a point, in millionths.
    fn fraction(&mut self) -> i64 {
        let (mut micros, mut unit) = (0, MICROS_PER_SECOND / 10);
        while let Some(digit) = self.take(b"0123456789") {
            micros += i64::from(digit - b'0') * unit;
            unit /= 10;
        }
        micros
    }
}

/// A date; what follows a whole one after a blank or a `T` is ignored.
pub(super) fn date(text: &str) -> Read<i64> {
    const FORM: Misfit = Misfit::NotRead("a date such as 2024-02-29");
    let mut scanner = Scanner { rest: trimmed(text).as_bytes() };
    let (days, whole) = scanner.date(DATE_YEAR_DIGITS).ok_or(FORM)?;
    let ends = scanner.is_empty() || (whole && scanner.take(b" T").is_some());
    if ends { Ok(days) } else { Err(FORM) }
}

/// A point in time; UTC where the text says no zone.
pub(super) fn timestamp(text: &str) -> Read<i64> {
    const FORM: Misfit = Misfit::NotRead("a timestamp such as 2024-02-29 12:34:56.789 or 2024-02-29T12:34:56+01:00");
    let (local, zone) = local_time(text).ok_or(FORM)?;
    let offset = zone_offset_seconds(zone).ok_or(FORM)?;
    i64::try_from(local - i128::from(offset * MICROS_PER_SECOND)).map_err(|_| Misfit::OutOfRange)
}

/// A wall-clock time; a zone is read and ignored.
pub(super) fn timestamp_ntz(text: &str) -> Read<i64> {
    const FORM: Misfit = Misfit::NotRead("a timestamp such as 2024-02-29 12:34:56.789");
    let (local, zone) = local_time(text).ok_or(FORM)?;
    zone_offset_seconds(zone).ok_or(FORM)?;
    i64::try_from(local).map_err(|_| Misfit::OutOfRange)
}

/// The microseconds of the date and the clock, and the zone's text.
fn local_time(text: &str) -> Option<(i128, &str)> {
    let text = trimmed(text);
    let mut scanner = Scanner { rest: text.as_bytes() };
    let (days, whole) = scanner.date(TIMESTAMP_YEAR_DIGITS)?;
    let (mut micros, mut may_have_zone) = (0, false);
    if whole && scanner.take(b" T").is_some() {
        (micros, may_have_zone) = scanner.clock()?;
    }
    if !may_have_zone && !scanner.is_empty() {
        return None;
    }
    let zone = text.get(text.len() - scanner.rest.len()..)?;
    // The first day of 64 bits of microseconds begins before them, so that only the sum tells.
    Some((i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(micros), zone))
}

/// The offset of `Z`, `UTC`, `GMT`, `UT`, `+h[h][:mm[:ss]]`, `+hhmm`, and of a name and an offset together: `UTC+3`.
fn zone_offset_seconds(zone: &str) -> Option<i64> {
    let zone = trimmed(zone);
    if matches!(zone, "" | "Z") {
        return Some(0);
    }
    let offset = ["UTC", "GMT", "UT"].iter().find_map(|name| zone.strip_prefix(name)).unwrap_or(zone);
    if offset.is_empty() {
        return Some(0);
    }
    let mut scanner = Scanner { rest: offset.as_bytes() };
    let sign = match scanner.take(b"+-")? {
        b'-' => -1,
        _ => 1,
    };
    let (mut hours, mut minutes, mut seconds) = (scanner.digits(1, 4)?, 0, 0);
    if offset.len() == "+hhmm".len() && scanner.is_empty() {
        (hours, minutes) = (hours / 100, hours % 100);
    } else if scanner.take(b":").is_some() {
        minutes = scanner.digits(1, 2)?;
        if scanner.take(b":").is_some() {
            seconds = scanner.digits(2, 2)?;
        }
    }
    let offset = (hours * 60 + minutes) * 60 + seconds;
    // Java's zones reach 18 hours to both sides, which also bounds an hour of three digits.
    (scanner.is_empty() && minutes < 60 && seconds < 60 && offset <= 18 * 3600).then_some(sign * offset)
}

/// What stands between the quotes of `INTERVAL '...' UNIT TO UNIT`, or the text itself, and whether a sign before the quotes
/// turns it round.
fn interval<'a>(text: &'a str, units: &str) -> Option<(bool, &'a str)> {
    let text = trimmed(text);
    let Some(rest) = text.get(..8).filter(|word| word.eq_ignore_ascii_case("interval")).and_then(|_| text.get(8..))
    else {
        return Some((false, text));
    };
    let rest = rest.trim_start();
    let negative = rest.starts_with('-');
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    let (value, after) = rest.strip_prefix('\'')?.split_once('\'')?;
    let named: Vec<&str> = after.split_ascii_whitespace().collect();
    let expected: Vec<&str> = units.split(' ').collect();
    let same = named.len() == expected.len() && named.iter().zip(&expected).all(|(a, b)| a.eq_ignore_ascii_case(b));
    same.then_some((negative, trimmed(value)))
}

/// A day-time interval in microseconds: `1 02:03:04.5`, also as `INTERVAL '1 02:03:04.5' DAY TO SECOND`.
pub(super) fn day_time(text: &str) -> Read<i64> {
    const FORM: Misfit = Misfit::NotRead("an interval such as INTERVAL '1 02:03:04.5' DAY TO SECOND");
    let (turned, value) = interval(text, "DAY TO SECOND").ok_or(FORM)?;
    let mut scanner = Scanner { rest: value.as_bytes() };
    let negative = (scanner.take(b"+-") == Some(b'-')) != turned;
    let read = |scanner: &mut Scanner<'_>| {
        let days = scanner.digits(1, 9)?;
        scanner.take(b" ")?;
        let hours = scanner.digits(1, 2)?;
        scanner.take(b":")?;
        let minutes = scanner.digits(1, 2)?;
        scanner.take(b":")?;
        let seconds = scanner.digits(1, 2)?;
        let micros = if scanner.take(b".").is_some() { scanner.fraction() } else { 0 };
        let in_day = ((hours * 60 + minutes) * 60 + seconds) * MICROS_PER_SECOND + micros;
        (scanner.is_empty() && hours < 24 && minutes < 60 && seconds < 60).then_some((days, in_day))
    };
    let (days, in_day) = read(&mut scanner).ok_or(FORM)?;
    let sign = if negative { -1 } else { 1 };
    let days = (sign * days).checked_mul(MICROS_PER_DAY).ok_or(Misfit::OutOfRange)?;
    days.checked_add(sign * in_day).ok_or(Misfit::OutOfRange)
}

/// A year-month interval in months: `1-2`, also as `INTERVAL '1-2' YEAR TO MONTH`.
pub(super) fn year_month(text: &str) -> Read<i32> {
    const FORM: Misfit = Misfit::NotRead("an interval such as INTERVAL '1-2' YEAR TO MONTH");
    let (turned, value) = interval(text, "YEAR TO MONTH").ok_or(FORM)?;
    let mut scanner = Scanner { rest: value.as_bytes() };
    let negative = (scanner.take(b"+-") == Some(b'-')) != turned;
    let read = |scanner: &mut Scanner<'_>| {
        let years = scanner.digits(1, 9)?;
        scanner.take(b"-")?;
        let months = scanner.digits(1, 2)?;
        (scanner.is_empty() && months < 12).then_some(years * 12 + months)
    };
    let months = read(&mut scanner).ok_or(FORM)?;
    i32::try_from(if negative { -months } else { months }).map_err(|_| Misfit::OutOfRange)
}
