//! How a value of the declared type is written where the leaf's role says.

use super::super::key;
use super::super::nested::item_too_large;
use super::super::number::{Decimal, Plain, date_ascii, double_text, float_text, timestamp_ascii};
use super::*;
use crate::limits::{ITEM_MAX_BYTES, MAP_KEY_MAX_BYTES};

impl Leaf {
    /// What a set of these values begins with.
    pub fn set_opening(&self) -> &'static [u8] {
        match self.kind {
            Kind::Text { .. }
            | Kind::Boolean
            | Kind::Date { as_number: false }
            | Kind::Timestamp { as_text: true }
            | Kind::TimestampNtz { as_number: false } => b"{\"SS\":[",
            Kind::Binary => b"{\"BS\":[",
            _ => b"{\"NS\":[",
        }
    }

    #[inline]
    pub(super) fn out_integer(&self, writer: &mut ItemWriter, value: i64) -> Put {
        match self.role {
            Role::Value | Role::Key { .. } => writer.integer(value),
            Role::JoinedPart => key::push_integer(writer, value),
            Role::MapKey | Role::SetElement => return self.out_number(writer, itoa::Buffer::new().format(value)),
        }
        Ok(Presence::Written)
    }

    /// A double in DynamoDB's range.
    #[inline]
    pub(super) fn out_finite(&self, writer: &mut ItemWriter, value: f64) -> Put {
        if self.role == Role::JoinedPart {
            key::push_double(writer, value);
            return Ok(Presence::Written);
        }
        self.out_number(writer, double_text(value, &mut zmij::Buffer::new()))
    }

    /// A finite float; all of them are in DynamoDB's range.
    #[inline]
    pub(super) fn out_finite_float(&self, writer: &mut ItemWriter, value: f32) -> Put {
        if self.role == Role::JoinedPart {
            key::push_double(writer, f64::from(value));
            return Ok(Presence::Written);
        }
        self.out_number(writer, float_text(value, &mut zmij::Buffer::new()))
    }

    /// A decimal of the column's scale.
    pub(super) fn out_decimal(&self, writer: &mut ItemWriter, value: Decimal) -> Put {
        if self.role == Role::JoinedPart {
            key::push_decimal(writer, value.unscaled);
            return Ok(Presence::Written);
        }
        self.out_number(writer, Plain::of(value.normalized()).as_str())
    }

    #[inline]
    fn out_number(&self, writer: &mut ItemWriter, digits: &str) -> Put {
        match self.role {
            Role::MapKey => return self.out_text(writer, digits),
            Role::SetElement => writer.set_number(digits),
            // Components of joined keys took their own way.
            Role::Value | Role::Key { .. } | Role::JoinedPart => writer.number(digits),
        }
        Ok(Presence::Written)
    }

    #[inline]
    pub(super) fn out_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        match self.role {
            Role::Value => {
                check_text_size(text.len())?;
                writer.text(text);
            }
            Role::Key { limit_bytes } => {
                check_key_length(text.len(), limit_bytes)?;
                writer.text(text);
            }
            Role::SetElement => {
                check_text_size(text.len())?;
                writer.set_text(text);
            }
            Role::JoinedPart => {
                check_text_size(text.len())?;
                key::push_text(writer, text);
            }
            Role::MapKey => {
                if text.is_empty() || text.len() > MAP_KEY_MAX_BYTES {
                    let message = format!("a map's key must have 1 to {MAP_KEY_MAX_BYTES} bytes");
                    return Err(Reject::new(Reason::OutOfRange, message).hint("DynamoDB names the entry by its key"));
                }
                writer.raw(b"\"");
                writer.escaped(text);
                writer.raw(b"\":");
                writer.count(text.len());
            }
        }
        Ok(Presence::Written)
    }

    /// Text of ASCII in which nothing is to be escaped, far below every limit.
    fn out_plain(&self, writer: &mut ItemWriter, text: &[u8]) -> Put {
        match (self.role, std::str::from_utf8(text)) {
            (Role::Value | Role::Key { .. }, _) => {
                writer.plain(text);
                Ok(Presence::Written)
            }
            // Only ASCII comes here.
            (_, text) => self.out_text(writer, text.unwrap_or_default()),
        }
    }

    pub(super) fn out_boolean(&self, writer: &mut ItemWriter, value: bool) -> Put {
        if self.role == Role::Value {
            writer.boolean(value);
            return Ok(Presence::Written);
        }
        self.out_text(writer, if value { "true" } else { "false" })
    }

    pub(super) fn out_binary(&self, writer: &mut ItemWriter, bytes: &[u8]) -> Put {
        match self.role {
            Role::Key { limit_bytes } => check_key_length(bytes.len(), limit_bytes)?,
            _ => check_text_size(bytes.len())?,
        }
        match self.role {
            Role::JoinedPart => key::push_binary(writer, bytes),
            Role::SetElement => writer.set_binary(bytes),
            Role::Value | Role::Key { .. } | Role::MapKey => writer.binary(bytes),
        }
        Ok(Presence::Written)
    }

    pub(super) fn out_date(&self, writer: &mut ItemWriter, days: i64, as_number: bool) -> Put {
        if as_number {
            return match i32::try_from(days) {
                Ok(days) => self.out_integer(writer, days.into()),
                Err(_) => Err(self.reject(Misfit::OutOfRange, ValueKind::Date)),
            };
        }
        let text = date_ascii(days).ok_or_else(|| self.outside_years())?;
        self.out_plain(writer, &text)
    }

    pub(super) fn out_timestamp(&self, writer: &mut ItemWriter, micros: i64, as_text: bool, zoned: bool) -> Put {
        if !as_text {
            return self.out_integer(writer, micros);
        }
        let text = timestamp_ascii(micros).ok_or_else(|| self.outside_years())?;
        let end = if zoned { text.len() } else { text.len() - 1 };
        self.out_plain(writer, &text[..end])
    }

    pub(super) fn out_ttl(&self, writer: &mut ItemWriter, seconds: i64) -> Put {
        if seconds > TTL_MAX_SECONDS {
            let message = "a time to live is in epoch seconds; the value is so large that it must be milliseconds";
            return Err(Reject::new(Reason::OutOfRange, message).hint("divide it by 1,000, or send a timestamp"));
        }
        self.out_integer(writer, seconds)
    }

    pub(super) fn out_non_finite(&self, writer: &mut ItemWriter, policy: NonFinite, value: f64) -> Put {
        match (policy, self.role) {
            (NonFinite::Null, Role::Value) => {
                writer.coerced(self.rules.non_finite_to_null());
                Ok(Presence::Null)
            }
            (NonFinite::String, Role::Value) => {
                writer.text(text::non_finite(value));
                writer.coerced(self.rules.non_finite_to_text());
                Ok(Presence::Written)
            }
            (NonFinite::Reject, Role::Value) => {
                Err(Reject::new(Reason::NonFinite, "DynamoDB has neither NaN nor infinities")
                    .hint("the column's option `non_finite` can store null or text instead"))
            }
            // Neither may be null, and what holds numbers holds no text.
            _ => Err(Reject::new(Reason::NonFinite, "a key, or a set of numbers, holds neither NaN nor infinities")
                .hint("send a number")),
        }
    }

    fn outside_years(&self) -> Box<Reject> {
        let message = format!("{} is stored as text that sorts, which only years 0 to 9999 do", self.declared);
        Reject::new(Reason::OutOfRange, message).hint("the column's option `time_encoding: number` has no such limit")
    }
}

/// Whether DynamoDB's numbers reach so far; false for NaN and infinities.
#[inline]
pub(super) fn is_in_range(value: f64) -> bool {
    let magnitude = value.abs();
    (1e-130..1e126).contains(&magnitude) || magnitude == 0.0
}

/// The reject of a number outside DynamoDB's range.
#[cold]
pub(super) fn outside_dynamodb() -> Box<Reject> {
    let message = "DynamoDB's numbers reach from 1E-130 to 9.99E+125; the value is outside";
    Reject::new(Reason::OutOfRange, message).hint("scale it, or store it as a string")
}

/// Refuses text or bytes that alone are larger than an item, before they are copied.
#[inline]
fn check_text_size(length_bytes: usize) -> Result<(), Box<Reject>> {
    if length_bytes <= ITEM_MAX_BYTES { Ok(()) } else { Err(item_too_large()) }
}

/// Checks a key's length against DynamoDB's limits.
pub fn check_key_length(length_bytes: usize, limit_bytes: usize) -> Result<(), Box<Reject>> {
    if length_bytes == 0 {
        return Err(Reject::new(Reason::KeyEmpty, "a key must not be empty").hint("DynamoDB has no empty keys"));
    }
    if length_bytes > limit_bytes {
        let message = format!("the key has {length_bytes} bytes; DynamoDB allows {limit_bytes}");
        return Err(Reject::new(Reason::KeyTooLong, message).hint("shorten the key, or hash it"));
    }
    Ok(())
}
