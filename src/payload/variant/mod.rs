//! Variant columns: each value is stored as what it is.
//!
//! A variant keeps values, not the types that a sender had for them. An integer of any width, a decimal of any scale, a
//! float and a double become one canonical N; text becomes S, a boolean BOOL, bytes B, an array L, an object M, a null
//! NULL (the attribute is absent where the whole value is null). Dates, times and intervals take the form that a column of
//! their type has by default, so that a date reads back as its text. That is the normalisation, and all of it: no digit is
//! lost, and what DynamoDB cannot hold rejects the row.
//!
//! Values come as Spark's binary encoding ([`binary`]), by position (`rows`) or as Arrow's own types (`arrow`). Scalars go
//! through the leaves of the columns that they would fill, so that range checks and stored forms are the same by
//! construction.

mod binary;
#[cfg(test)]
pub(super) mod encoder;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod vectors;

use super::item::ItemWriter;
use super::leaf::{Leaf, Policies, Presence, Put, Role};
use super::nested::{Distinct, check_map_key, end_element};
use super::number::Decimal;
use super::reject::{Reject, RejectReason};
use crate::limits::NESTING_MAX_LEVELS;
use crate::schema::{ColumnOptions, DataType, Field};

/// The type's name.
const VARIANT: &str = "variant";

/// A variant column, compiled: a leaf for each kind of scalar. Decimals have none, because a leaf of theirs has one scale.
#[derive(Debug, Clone)]
pub struct VariantTarget {
    pub(super) integer: Leaf,
    pub(super) float: Leaf,
    pub(super) double: Leaf,
    pub(super) text: Leaf,
    pub(super) boolean: Leaf,
    pub(super) binary: Leaf,
    pub(super) date: Leaf,
    pub(super) timestamp: Leaf,
    pub(super) timestamp_ntz: Leaf,
    pub(super) day_time: Leaf,
    pub(super) year_month: Leaf,
    /// The name of an object's field.
    pub(super) key: Leaf,
}

impl VariantTarget {
    /// Compiles a column of type variant. Its option `non_finite` holds for the floats and doubles in it. Each leaf gets
    /// values of its own kind alone, so that no mode coerces anything here.
    pub fn compile(field: &Field, path: &str, policies: &mut Policies<'_>) -> Option<Self> {
        let options = ColumnOptions { non_finite: field.options.non_finite, ..ColumnOptions::default() };
        let mut leaf = |data_type, role| {
            let field = Field { options: options.clone(), ..Field::new(&field.name, data_type, true) };
            Leaf::compile(&field, path, role, None, policies)
        };
        Some(Self {
            integer: leaf(DataType::Long, Role::Value)?,
            float: leaf(DataType::Float, Role::Value)?,
            double: leaf(DataType::Double, Role::Value)?,
            text: leaf(DataType::String, Role::Value)?,
            boolean: leaf(DataType::Boolean, Role::Value)?,
            binary: leaf(DataType::Binary, Role::Value)?,
            date: leaf(DataType::Date, Role::Value)?,
            timestamp: leaf(DataType::Timestamp, Role::Value)?,
            timestamp_ntz: leaf(DataType::TimestampNtz, Role::Value)?,
            day_time: leaf(DataType::DayTimeInterval, Role::Value)?,
            year_month: leaf(DataType::YearMonthInterval, Role::Value)?,
            key: leaf(DataType::String, Role::MapKey)?,
        })
    }

    /// A decimal of any scale, to DynamoDB's 38 digits.
    pub(super) fn put_decimal(&self, writer: &mut ItemWriter, value: Decimal) -> Put {
        if !value.fits_dynamodb() {
            return Err(self.too_many_digits());
        }
        writer.number(&value.canonical_text());
        Ok(Presence::Written)
    }

    /// The reject of a decimal that DynamoDB cannot hold.
    #[cold]
    pub(super) fn too_many_digits(&self) -> Box<Reject> {
        let message = "DynamoDB's numbers have at most 38 digits and reach from 1E-130 to 9.99E+125";
        Reject::new(RejectReason::OutOfRange, message)
            .of_types(VARIANT, "decimal")
            .hint("round the number before it is sent, or send it as text")
    }

    /// A decimal as text.
    pub(super) fn put_decimal_text(&self, writer: &mut ItemWriter, text: &str) -> Put {
        let value = Decimal::parse(text).ok_or_else(|| {
            let message = "the decimal's text is not a number of at most 38 significant digits";
            let reject = Reject::new(RejectReason::OutOfRange, message).of_types(VARIANT, "decimal");
            reject.hint("send decimals as text such as -12.50")
        })?;
        self.put_decimal(writer, value)
    }

    /// A value in Spark's binary encoding. A list or object in it stands on this level of the item, the first being 1.
    pub(super) fn put_encoded(&self, writer: &mut ItemWriter, metadata: &[u8], value: &[u8], level: usize) -> Put {
        binary::put(self, writer, metadata, value, level)
    }
}

/// Refuses a list or object on a level that DynamoDB does not have.
pub(super) fn check_level(level: usize) -> Result<(), Box<Reject>> {
    if level <= NESTING_MAX_LEVELS {
        return Ok(());
    }
    Err(Reject::new(RejectReason::TooDeep, format!("nested deeper than {NESTING_MAX_LEVELS} levels")))
}

/// Writes a list whose elements are of any kind.
pub(super) struct ListWriter {
    index: usize,
}

impl ListWriter {
    /// Opens the list.
    pub(super) fn begin(writer: &mut ItemWriter) -> Self {
        writer.raw(b"{\"L\":[");
        writer.count(3);
        Self { index: 0 }
    }

    /// Writes one element.
    pub(super) fn put(
        &mut self,
        writer: &mut ItemWriter,
        put: impl FnOnce(&mut ItemWriter) -> Put,
    ) -> Result<(), Box<Reject>> {
        if self.index > 0 {
            writer.raw(b",");
        }
        writer.count(1);
        put(writer)
            .and_then(|presence| end_element(presence, true, || VARIANT, writer))
            .map_err(|reject| reject.in_element(self.index))?;
        self.index += 1;
        Ok(())
    }

    /// Closes the list.
    pub(super) fn finish(self, writer: &mut ItemWriter) -> Put {
        writer.raw(b"]}");
        Ok(Presence::Written)
    }
}

/// Writes an object whose fields are of any kind, in the order in which they come.
pub(super) struct ObjectWriter<'v> {
    key: &'v Leaf,
    /// `None` where the names are known to differ.
    names: Option<Distinct>,
    any: bool,
}

impl<'v> ObjectWriter<'v> {
    /// Opens an object whose names must be compared.
    pub(super) fn begin(target: &'v VariantTarget, writer: &mut ItemWriter) -> Self {
        Self { names: Some(Distinct::default()), ..Self::begin_distinct(target, writer) }
    }

    /// Opens an object whose names are known to differ.
    pub(super) fn begin_distinct(target: &'v VariantTarget, writer: &mut ItemWriter) -> Self {
        writer.raw(b"{\"M\":{");
        writer.count(3);
        Self { key: &target.key, names: None, any: false }
    }

    /// Writes one field.
    pub(super) fn put(
        &mut self,
        writer: &mut ItemWriter,
        name: &str,
        put: impl FnOnce(&mut ItemWriter) -> Put,
    ) -> Result<(), Box<Reject>> {
        if self.any {
            writer.raw(b",");
        }
        self.any = true;
        writer.count(1);
        let start = writer.len();
        self.key
            .put_text(writer, name)
            .and_then(|_written| {
                self.names.as_mut().map_or(Ok(()), |names| check_map_key(names, start, self.key, writer))
            })
            .and_then(|()| put(writer))
            .and_then(|presence| end_element(presence, true, || VARIANT, writer))
            .map_err(|reject| reject.in_field(shortened(name)))
    }

    /// Closes the object.
    pub(super) fn finish(self, writer: &mut ItemWriter) -> Put {
        writer.raw(b"}}");
        Ok(Presence::Written)
    }
}

/// The start of a name, for a path: a name in a variant may have 64 KiB, and levels add up.
fn shortened(name: &str) -> &str {
    const MAX_CHARS: usize = 64;
    name.char_indices().nth(MAX_CHARS).map_or(name, |(end, _)| &name[..end])
}
