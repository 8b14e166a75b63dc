//! Into integers, floats, decimals and booleans.

use super::exact::{DOUBLE_BITS, FLOAT_BITS, decimal_of, is_binary};
use super::{Found, Misfit, Mode, parse};
use crate::payload::number::{Decimal, MICROS_PER_SECOND, Plain, double_text};

const HAS_FRACTION: Misfit = Misfit::Inexact("it has digits after the point");
const MORE_DIGITS: Misfit = Misfit::Inexact("it has more digits than the type is sure to hold");
/// 2^63, which is a double and no `i64`; every integral double below it is one.
const LONG_END: f64 = 9_223_372_036_854_775_808.0;

/// Into an integer within a range.
pub(in crate::payload) fn integer(found: Found<'_>, mode: Mode, min: i64, max: i64) -> Result<i64, Misfit> {
    let value = match found {
        Found::Integer(value) => value,
        Found::Float(value) => truncated(f64::from(value), mode)?,
        Found::Double(value) => truncated(value, mode)?,
        Found::Decimal(value) => whole(value, mode)?,
        Found::Boolean(value) => i64::from(value),
        Found::Text(text) => parse::integer(text)?,
        // Spark: whole seconds, rounded down.
        Found::Timestamp(micros) => micros.div_euclid(MICROS_PER_SECOND),
        // Spark: whole seconds, rounded to zero.
        Found::DayTime(micros) => micros / MICROS_PER_SECOND,
        Found::YearMonth(months) => i64::from(months),
        Found::Binary(_) | Found::Date(_) | Found::TimestampNtz(_) => return Err(Misfit::NoCast),
    };
    if (min..=max).contains(&value) { Ok(value) } else { Err(Misfit::OutOfRange) }
}

fn truncated(value: f64, mode: Mode) -> Result<i64, Misfit> {
    if !value.is_finite() {
        return Err(Misfit::NonFinite);
    }
    if mode.is_strict() && value.fract() != 0.0 {
        return Err(HAS_FRACTION);
    }
    let value = value.trunc();
    if (-LONG_END..LONG_END).contains(&value) { Ok(value as i64) } else { Err(Misfit::OutOfRange) }
}

fn whole(value: Decimal, mode: Mode) -> Result<i64, Misfit> {
    let (whole, exact) = value.truncated().ok_or(Misfit::OutOfRange)?;
    if mode.is_strict() && !exact {
        return Err(HAS_FRACTION);
    }
    i64::try_from(whole).map_err(|_| Misfit::OutOfRange)
}

/// Into a double; it may be infinite or NaN where the value is.
pub(in crate::payload) fn double(found: Found<'_>, mode: Mode) -> Result<f64, Misfit> {
    match found {
        Found::Double(value) => Ok(value),
        Found::Float(value) => Ok(f64::from(value)),
        Found::Integer(value) if mode.is_strict() && !fits_mantissa(value, DOUBLE_BITS) => Err(MORE_DIGITS),
        Found::Integer(value) => Ok(value as f64),
        Found::Decimal(value) if mode.is_strict() && !fits_float(value, DOUBLE_BITS) => Err(MORE_DIGITS),
        Found::Decimal(value) => Ok(nearest(value)),
        Found::Boolean(value) => Ok(f64::from(u8::from(value))),
        Found::Text(text) => parse::double(text),
        Found::Timestamp(micros) => Ok(micros as f64 / MICROS_PER_SECOND as f64),
        Found::Binary(_) | Found::Date(_) | Found::TimestampNtz(_) | Found::DayTime(_) | Found::YearMonth(_) => {
            Err(Misfit::NoCast)
        }
    }
}

/// Into a float; it may be infinite or NaN where the value is, or where it is too large.
pub(in crate::payload) fn float(found: Found<'_>, mode: Mode) -> Result<f32, Misfit> {
    match found {
        Found::Float(value) => Ok(value),
        Found::Double(value) => {
            let float = value as f32;
            if mode.is_strict() && value.is_finite() && f64::from(float) != value {
                return Err(if float.is_finite() { MORE_DIGITS } else { Misfit::OutOfRange });
            }
            Ok(float)
        }
        Found::Integer(value) if mode.is_strict() && !fits_mantissa(value, FLOAT_BITS) => Err(MORE_DIGITS),
        Found::Integer(value) => Ok(value as f32),
        Found::Decimal(value) if mode.is_strict() && !fits_float(value, FLOAT_BITS) => Err(MORE_DIGITS),
        Found::Decimal(value) => {
            // Rounded once, from its own text.
            Plain::of(value).as_str().parse().map_err(|_| Misfit::OutOfRange)
        }
        Found::Text(text) => parse::float(text),
        other => double(other, mode).map(|value| value as f32),
    }
}

/// Whether the value is a finite number, so that a float that is not has overflowed.
pub(in crate::payload) fn is_finite(found: Found<'_>) -> bool {
    match found {
        Found::Float(value) => value.is_finite(),
        Found::Double(value) => value.is_finite(),
        // The names of what is not finite have no digits.
        Found::Text(text) => text.bytes().any(|byte| byte.is_ascii_digit()),
        _ => true,
    }
}

/// The double nearest to a decimal.
fn nearest(value: Decimal) -> f64 {
    // A decimal's plain text is always a double's text.
    Plain::of(value).as_str().parse().unwrap_or(f64::NAN)
}

/// Whether the integer is in the range in which a float of so many bits has every integer. Beyond it some are floats and
/// their neighbours are not, and what is accepted should not depend on luck.
fn fits_mantissa(value: i64, bits: u32) -> bool {
    value.unsigned_abs() <= 1 << bits
}

/// The same for decimals, which must also be binary fractions.
fn fits_float(value: Decimal, bits: u32) -> bool {
    let whole = value.truncated().map(|(whole, _)| whole.unsigned_abs());
    whole.is_some_and(|whole| whole <= 1 << bits) && is_binary(value, bits)
}

/// Into a decimal of a scale and at most so many digits.
pub(in crate::payload) fn decimal(found: Found<'_>, mode: Mode, precision: u8, scale: i8) -> Result<Decimal, Misfit> {
    let value = match found {
        Found::Decimal(value) => value,
        Found::Integer(value) => Decimal { unscaled: value.into(), scale: 0 },
        Found::Float(value) => of_double(f64::from(value), mode)?,
        Found::Double(value) => of_double(value, mode)?,
        Found::Boolean(value) => Decimal { unscaled: value.into(), scale: 0 },
        Found::Text(text) => parse::decimal(text, scale.into())?,
        // Spark goes through the double.
        Found::Timestamp(_) => of_double(double(found, mode)?, mode)?,
        Found::DayTime(micros) => Decimal { unscaled: micros.into(), scale: 6 },
        Found::YearMonth(months) => Decimal { unscaled: months.into(), scale: 0 },
        Found::Binary(_) | Found::Date(_) | Found::TimestampNtz(_) => return Err(Misfit::NoCast),
    };
    let scale = i32::from(scale);
    let fitted = match value.rescale(scale) {
        Some(exact) => exact,
        None if value.normalized().scale <= scale => return Err(Misfit::OutOfRange),
        None if mode.is_strict() => return Err(Misfit::Inexact("it has more digits after the point")),
        None => value.rounded_half_up(scale).ok_or(Misfit::OutOfRange)?,
    };
    if fitted.unscaled != 0 && fitted.digits() > u32::from(precision) {
        return Err(Misfit::OutOfRange);
    }
    Ok(fitted)
}

fn of_double(value: f64, mode: Mode) -> Result<Decimal, Misfit> {
    if !value.is_finite() {
        return Err(Misfit::NonFinite);
    }
    if mode.is_strict() {
        // Beyond 2^53 a double is as likely a rounded number as that very one.
        let is_sure = value.abs() <= (1u64 << DOUBLE_BITS) as f64;
        // Where the double's digits do not end within 38 of them, no decimal holds them.
        return decimal_of(value).filter(|_| is_sure).ok_or(MORE_DIGITS);
    }
    // Spark rounds the digits that are shown, not those that the double has beyond them.
    let mut buffer = zmij::Buffer::new();
    Decimal::parse(double_text(value, &mut buffer)).ok_or(Misfit::OutOfRange)
}

/// Into a boolean.
pub(in crate::payload) fn boolean(found: Found<'_>) -> Result<bool, Misfit> {
    match found {
        Found::Boolean(value) => Ok(value),
        Found::Integer(value) => Ok(value != 0),
        Found::Float(value) => Ok(value != 0.0),
        Found::Double(value) => Ok(value != 0.0),
        Found::Decimal(value) => Ok(value.unscaled != 0),
        Found::Timestamp(micros) => Ok(micros != 0),
        Found::Text(text) => parse::boolean(text),
        Found::Binary(_) | Found::Date(_) | Found::TimestampNtz(_) | Found::DayTime(_) | Found::YearMonth(_) => {
            Err(Misfit::NoCast)
        }
    }
}
