//! Arrow values into variant columns.
//!
//! Spark ships a variant as a struct of two binaries, `value` and `metadata`. The session's Spark schema says which such
//! structs are variants; without one, every such struct in a variant column is. (Spark 4 also marks the field `metadata`,
//! other writers do not; the mark keeps a variant out of columns of other types.) Other values are stored as what they are:
//! scalars, lists, structs by the names of their fields, maps with text for keys.

use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields};

use super::columns::{Column, Values, narrowed};
use super::shape::{Compiler, Shape, element, mismatch, value_kinds};
use crate::payload::PlanError;
use crate::payload::item::ItemWriter;
use crate::payload::leaf::{Presence, Put};
use crate::payload::number::Decimal;
use crate::payload::reject::{Reject, RejectReason};
use crate::payload::variant::{ListWriter, ObjectWriter, VariantTarget};
use crate::schema::DataType;

/// Where Spark's two binaries stand in a struct; `None` for any other struct.
pub(super) fn value_and_metadata(fields: &Fields) -> Option<[usize; 2]> {
    let binary = |field: &ArrowField| {
        matches!(field.data_type(), ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView)
    };
    match &fields[..] {
        [first, second] if binary(first) && binary(second) => match (first.name().as_str(), second.name().as_str()) {
            ("value", "metadata") => Some([0, 1]),
            ("metadata", "value") => Some([1, 0]),
            _ => None,
        },
        _ => None,
    }
}

/// Whether Spark means a variant by a struct: its schema says so, or without one the mark that it puts on `metadata`.
pub(super) fn is_variant(fields: &Fields, spark: Option<&DataType>) -> bool {
    let Some([_, metadata]) = value_and_metadata(fields) else { return false };
    match spark {
        Some(spark) => *spark == DataType::Variant,
        None => fields[metadata].metadata().get("variant").is_some_and(|mark| mark == "true"),
    }
}

impl Compiler {
    /// Any value into a variant. A list or struct stands on this level of the item, the first being 1.
    pub(super) fn variant(
        &mut self,
        target: &VariantTarget,
        field: &ArrowField,
        spark: Option<&DataType>,
        path: &str,
        level: usize,
    ) -> Result<Shape, PlanError> {
        let refused = |declared: &str| mismatch(path, field.data_type(), declared, "");
        match field.data_type() {
            ArrowType::Null => Ok(Shape::Plain),
            ArrowType::Struct(fields) => match (value_and_metadata(fields), spark) {
                (Some(_), Some(spark)) if *spark != DataType::Variant => Err(PlanError::TypeMismatch {
                    path: path.to_owned(),
                    found: format!("a struct of two binaries, which Spark's schema calls {spark} and not variant,"),
                    declared: "variant".to_owned(),
                    hint: "",
                }),
                (Some(places), _) => Ok(Shape::Encoded { places, level }),
                (None, _) => {
                    let fields = fields.iter().enumerate().map(|(index, field)| {
                        let spark = spark.and_then(|spark| field_type(spark, index, field.name()));
                        let path = format!("{path}.{}", field.name());
                        Ok((field.name().as_str().into(), self.variant(target, field, spark, &path, level + 1)?))
                    });
                    Ok(Shape::Named(fields.collect::<Result<_, PlanError>>()?))
                }
            },
            ArrowType::Map(entries, _) => {
                const DECLARED: &str = "variant, whose maps have text for keys";
                let ArrowType::Struct(fields) = entries.data_type() else { return Err(refused(DECLARED)) };
                let [key_field, value_field] = &fields[..] else { return Err(refused(DECLARED)) };
                self.leaf(&target.key, key_field, path).map_err(|_| refused(DECLARED))?;
                let spark = spark.and_then(map_value_type);
                let value = self.variant(target, value_field, spark, &format!("{path}{{}}"), level + 1)?;
                Ok(Shape::Entries(Box::new(value)))
            }
            ArrowType::Dictionary(_, values) if !value_kinds(values).is_empty() => {
                self.dictionary(field);
                Ok(Shape::Plain)
            }
            other => match element(other) {
                Some(element) => {
                    let spark = spark.and_then(element_type);
                    let element = self.variant(target, element, spark, &format!("{path}[]"), level + 1)?;
                    Ok(Shape::Elements(Box::new(element)))
                }
                None if value_kinds(other).is_empty() => Err(refused("variant")),
                None => Ok(Shape::Plain),
            },
        }
    }
}

/// The type of an array's elements.
pub(super) fn element_type(array: &DataType) -> Option<&DataType> {
    if let DataType::Array { element, .. } = array { Some(element) } else { None }
}

/// The type of a map's values.
pub(super) fn map_value_type(map: &DataType) -> Option<&DataType> {
    if let DataType::Map { value, .. } = map { Some(value) } else { None }
}

/// The type of a struct's field, which mostly stands where Arrow has it.
pub(super) fn field_type<'t>(of: &'t DataType, index: usize, name: &str) -> Option<&'t DataType> {
    let DataType::Struct(fields) = of else { return None };
    let field = fields.get(index).filter(|field| field.name == name);
    field.or_else(|| fields.iter().find(|field| field.name == name)).map(|field| &field.data_type)
}

/// A struct's columns under their names.
#[derive(Debug)]
pub(super) struct Named {
    /// The names with their shapes, as they were compiled.
    pub(super) names: Arc<[(Box<str>, Shape)]>,
    /// The columns in the same order.
    pub(super) columns: Vec<Column>,
}

/// Spark's encoding of variants.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) value: Box<Column>,
    pub(super) metadata: Box<Column>,
    pub(super) level: usize,
}

impl Encoded {
    fn put(&self, row: usize, target: &VariantTarget, writer: &mut ItemWriter) -> Put {
        match (self.value.bytes(row), self.metadata.bytes(row)) {
            (Some(value), Some(metadata)) => target.put_encoded(writer, metadata, value, self.level),
            _ => {
                let message = "a variant must have both its binaries, `value` and `metadata`; one is null";
                Err(Reject::new(RejectReason::Malformed, message)
                    .of_types("variant", "null")
                    .hint("let the struct itself be null where there is no value"))
            }
        }
    }
}

impl Column {
    /// Appends a value of any kind.
    pub(super) fn put_variant(&self, row: usize, target: &VariantTarget, writer: &mut ItemWriter) -> Put {
        if self.is_null(row) {
            return Ok(Presence::Null);
        }
        let decimal = |unscaled, scale: i8| Decimal { unscaled, scale: i32::from(scale) };
        let leaf = match &self.values {
            Values::Encoded(encoded) => return encoded.put(row, target, writer),
            Values::List(ranges, column) => {
                let mut list = ListWriter::begin(writer);
                for element in ranges.of(row) {
                    list.put(writer, |writer| column.put_variant(element, target, writer))?;
                }
                return list.finish(writer);
            }
            Values::Entries { ranges, entry_nulls, key, value } => {
                let mut object = ObjectWriter::begin(target, writer);
                for (index, entry) in ranges.of(row).enumerate() {
                    let is_null = entry_nulls.as_ref().is_some_and(|nulls| nulls.is_null(entry));
                    let name = if is_null { None } else { key.text(entry) };
                    let name = name.ok_or_else(|| {
                        crate::payload::target::null_not_allowed(target.key.declared())
                            .in_field("key")
                            .in_element(index)
                    })?;
                    object.put(writer, name, |writer| value.put_variant(entry, target, writer))?;
                }
                return object.finish(writer);
            }
            Values::Named(named) => {
                // The session's schema was checked to have no name twice.
                let mut object = ObjectWriter::begin_distinct(target, writer);
                for ((name, _), column) in named.names.iter().zip(&named.columns) {
                    object.put(writer, name, |writer| column.put_variant(row, target, writer))?;
                }
                return object.finish(writer);
            }
            Values::Dictionary(keys, values) => return values.put_variant(keys.of(row), target, writer),
            Values::UInt64(values) => return target.put_decimal(writer, decimal(i128::from(values[row]), 0)),
            Values::Decimal32(values, scale) => {
                return target.put_decimal(writer, decimal(i128::from(values[row]), *scale));
            }
            Values::Decimal64(values, scale) => {
                return target.put_decimal(writer, decimal(i128::from(values[row]), *scale));
            }
            Values::Decimal128(values, scale) => return target.put_decimal(writer, decimal(values[row], *scale)),
            Values::Decimal256(values, scale) => {
                return match narrowed(values[row], *scale) {
                    Some(value) => target.put_decimal(writer, value),
                    None => Err(target.too_many_digits()),
                };
            }
            // The shape was compiled without places: there is nothing to read.
            Values::Null | Values::Struct(_) => return Ok(Presence::Null),
            Values::Boolean(_) => &target.boolean,
            Values::Int8(_)
            | Values::Int16(_)
            | Values::Int32(_)
            | Values::Int64(_)
            | Values::UInt8(_)
            | Values::UInt16(_)
            | Values::UInt32(_) => &target.integer,
            Values::Float16(_) | Values::Float32(_) => &target.float,
            Values::Float64(_) => &target.double,
            Values::Utf8(_) | Values::LargeUtf8(_) | Values::Utf8View(_) => &target.text,
            Values::Binary(_) | Values::LargeBinary(_) | Values::BinaryView(_) | Values::FixedSizeBinary(_) => {
                &target.binary
            }
            Values::Date32(_) | Values::Date64(_) => &target.date,
            Values::Timestamp(..) => &target.timestamp,
            Values::TimestampNtz(..) => &target.timestamp_ntz,
            Values::Duration(..) | Values::DayTime(_) | Values::MonthDayNano(_) => &target.day_time,
            Values::YearMonth(_) => &target.year_month,
        };
        self.put_leaf(row, leaf, writer)
    }

    /// The bytes of a column of binaries; `None` for null.
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        match &self.values {
            Values::Binary(values) if !self.is_null(row) => Some(values.value(row)),
            Values::LargeBinary(values) if !self.is_null(row) => Some(values.value(row)),
            Values::BinaryView(values) if !self.is_null(row) => Some(values.value(row)),
            _ => None,
        }
    }

    /// The text of a map's key; `None` for null.
    fn text(&self, row: usize) -> Option<&str> {
        match &self.values {
            _ if self.is_null(row) => None,
            Values::Utf8(values) => Some(values.value(row)),
            Values::LargeUtf8(values) => Some(values.value(row)),
            Values::Utf8View(values) => Some(values.value(row)),
            Values::Dictionary(keys, values) => values.text(keys.of(row)),
            _ => None,
        }
    }
}
