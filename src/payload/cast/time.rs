//! Into dates, timestamps and intervals. A day begins at midnight UTC.

use super::{Found, Misfit, parse};
use crate::payload::number::{Decimal, MICROS_PER_DAY, MICROS_PER_SECOND};

/// Into days since 1970-01-01.
pub(in crate::payload) fn date(found: Found<'_>) -> Result<i64, Misfit> {
    match found {
        Found::Date(days) => Ok(days),
        Found::Timestamp(micros) | Found::TimestampNtz(micros) => Ok(micros.div_euclid(MICROS_PER_DAY)),
        Found::Text(text) => parse::date(text),
        _ => Err(Misfit::NoCast),
    }
}

/// Into microseconds since the epoch.
pub(in crate::payload) fn timestamp(found: Found<'_>) -> Result<i64, Misfit> {
    match found {
        Found::Timestamp(micros) => Ok(micros),
        Found::Date(days) => days.checked_mul(MICROS_PER_DAY).ok_or(Misfit::OutOfRange),
        Found::Text(text) => parse::timestamp(text),
        // Numbers are seconds, and a true is a microsecond, because Spark says so.
        Found::Integer(seconds) => seconds.checked_mul(MICROS_PER_SECOND).ok_or(Misfit::OutOfRange),
        Found::Float(seconds) => seconds_to_micros(f64::from(seconds)),
        Found::Double(seconds) => seconds_to_micros(seconds),
        Found::Decimal(seconds) => {
            let micros = Decimal { scale: seconds.scale - 6, ..seconds };
            let (whole, _) = micros.truncated().ok_or(Misfit::OutOfRange)?;
            i64::try_from(whole).map_err(|_| Misfit::OutOfRange)
        }
        Found::Boolean(value) => Ok(i64::from(value)),
        _ => Err(Misfit::NoCast),
    }
}

fn seconds_to_micros(seconds: f64) -> Result<i64, Misfit> {
    if !seconds.is_finite() {
        return Err(Misfit::NonFinite);
    }
    let micros = seconds * MICROS_PER_SECOND as f64;
    // The ends are doubles: 2^63 is the first that does not fit.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&micros);
    if fits { Ok(micros as i64) } else { Err(Misfit::OutOfRange) }
}

/// Into microseconds of a wall clock.
pub(in crate::payload) fn timestamp_ntz(found: Found<'_>) -> Result<i64, Misfit> {
    match found {
        Found::TimestampNtz(micros) => Ok(micros),
        Found::Date(days) => days.checked_mul(MICROS_PER_DAY).ok_or(Misfit::OutOfRange),
        Found::Text(text) => parse::timestamp_ntz(text),
        _ => Err(Misfit::NoCast),
    }
}

/// Into microseconds; numbers are seconds.
pub(in crate::payload) fn day_time(found: Found<'_>) -> Result<i64, Misfit> {
    match found {
        Found::DayTime(micros) => Ok(micros),
        Found::Integer(seconds) => seconds.checked_mul(MICROS_PER_SECOND).ok_or(Misfit::OutOfRange),
        Found::Decimal(seconds) => rounded(Decimal { scale: seconds.scale - 6, ..seconds }),
        Found::Text(text) => parse::day_time(text),
        _ => Err(Misfit::NoCast),
    }
}

/// Into months.
pub(in crate::payload) fn year_month(found: Found<'_>) -> Result<i32, Misfit> {
    let months = match found {
        Found::YearMonth(months) => return Ok(months),
        Found::Integer(months) => months,
        Found::Decimal(months) => rounded(months)?,
        Found::Text(text) => return parse::year_month(text),
        _ => return Err(Misfit::NoCast),
    };
    i32::try_from(months).map_err(|_| Misfit::OutOfRange)
}

fn rounded(value: Decimal) -> Result<i64, Misfit> {
    let whole = value.rounded_half_up(0).ok_or(Misfit::OutOfRange)?;
    i64::try_from(whole.unscaled).map_err(|_| Misfit::OutOfRange)
}
