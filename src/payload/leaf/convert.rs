//! The long way of a value: through the casts of the table's mode into the declared type.

use super::*;

impl Leaf {
    /// Any value, by the mode.
    pub(super) fn convert(&self, writer: &mut ItemWriter, found: Found<'_>) -> Put {
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
                    writer.coerced(self.rules.digits_rounded());
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
            writer.coerced(self.rules.trailing_blanks());
            return Ok(put);
        }
        let message = format!("the text has more than the {most} characters of {}", self.declared);
        Err(Reject::new(Reason::TooLong, message)
            .of_types(&self.declared, ValueKind::Text.name())
            .hint("shorten the text, or let the column be a longer varchar or a string"))
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
