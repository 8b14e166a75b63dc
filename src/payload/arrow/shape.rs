//! The pairs of an incoming Arrow type and a declared target, checked when the session opens.
//!
//! A pair of which no value could fit is refused here, with its path; what is left to the rows is whether each value fits.
//! A [`Shape`] keeps what decoding cannot see from the Arrow type alone: which fields of a struct go where.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field as ArrowField, FieldRef, IntervalUnit};

use super::schema::dictionary_id;
use super::variant::{element_type, field_type, is_variant, map_value_type};
use crate::payload::PlanError;
use crate::payload::leaf::{Leaf, ValueKind};
use crate::payload::target::{StructTarget, Target};
use crate::schema::{DataType, UnknownFields};

/// How a column's values map to the target; mirrors the target's tree.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A scalar, or nulls only.
    Plain,
    /// A list of this.
    Elements(Box<Shape>),
    /// The entries of a map, with the shape of its values.
    Entries(Box<Shape>),
    /// For each field of the incoming struct: the target's field and the shape, `None` where it is dropped.
    Struct(Arc<[Option<(usize, Shape)>]>),
    /// A struct that becomes an object in a variant: each field's name and shape.
    Named(Arc<[(Box<str>, Shape)]>),
    /// A variant in Spark's encoding.
    Encoded {
        /// The places of the value and of its metadata among the struct's fields.
        places: [usize; 2],
        /// The level that a list or object in it stands on.
        level: usize,
    },
}

/// Checks pairs, and notes the dictionaries that are used.
#[derive(Debug, Default)]
pub(super) struct Compiler {
    /// Ids of the dictionaries that must be decoded.
    pub(super) dictionaries: HashSet<i64>,
}

impl Compiler {
    /// A scalar into a key.
    pub(super) fn leaf(&mut self, leaf: &Leaf, field: &ArrowField, path: &str) -> Result<(), PlanError> {
        let kinds = match field.data_type() {
            ArrowType::Null => return Ok(()),
            ArrowType::Dictionary(_, values) => {
                self.dictionary(field);
                value_kinds(values)
            }
            other => value_kinds(other),
        };
        if kinds.iter().any(|kind| leaf.accepts(*kind)) {
            return Ok(());
        }
        let hint = kinds.first().map_or("", |kind| leaf.hint(*kind));
        Err(mismatch(path, field.data_type(), leaf.declared(), hint))
    }

    /// Notes that a field's dictionary must be decoded.
    pub(super) fn dictionary(&mut self, field: &ArrowField) {
        self.dictionaries.insert(dictionary_id(field));
    }

    /// Any value into an attribute. `spark` is the field's type in Spark's schema, where the session has one; a list or
    /// struct stands on this level of the item, the first being 1.
    pub(super) fn target(
        &mut self,
        target: &Target,
        field: &ArrowField,
        spark: Option<&DataType>,
        path: &str,
        level: usize,
    ) -> Result<Shape, PlanError> {
        let mismatch = || mismatch(path, field.data_type(), target.describe(), "");
        if !can_be_decoded(field.data_type()) {
            return Err(mismatch());
        }
        match (target, field.data_type()) {
            (_, ArrowType::Null) => Ok(Shape::Plain),
            (Target::Variant(target), _) => self.variant(target, field, spark, path, level),
            // Two binaries to Arrow; storing them as such would hide the value that Spark means.
            (_, ArrowType::Struct(fields)) if is_variant(fields, spark) => {
                let declared = target.describe().to_owned();
                Err(PlanError::TypeMismatch { path: path.to_owned(), found: "variant".to_owned(), declared, hint: "" })
            }
            (Target::Leaf(leaf), _) => self.leaf(leaf, field, path).map(|()| Shape::Plain),
            (Target::Set { element: leaf }, list) => {
                let element = element(list).ok_or_else(mismatch)?;
                self.leaf(leaf, element, &format!("{path}[]"))?;
                Ok(Shape::Elements(Box::new(Shape::Plain)))
            }
            (Target::List { element: target, .. }, list) => {
                let element = element(list).ok_or_else(mismatch)?;
                let spark = spark.and_then(element_type);
                let element = self.target(target, element, spark, &format!("{path}[]"), level + 1)?;
                Ok(Shape::Elements(Box::new(element)))
            }
            (Target::Map { key, value, .. }, ArrowType::Map(entries, _)) => {
                let ArrowType::Struct(fields) = entries.data_type() else { return Err(mismatch()) };
                let [key_field, value_field] = &fields[..] else { return Err(mismatch()) };
                self.leaf(key, key_field, &format!("{path}{{key}}"))?;
                let spark = spark.and_then(map_value_type);
                let value = self.target(value, value_field, spark, &format!("{path}{{}}"), level + 1)?;
                Ok(Shape::Entries(Box::new(value)))
            }
            (Target::Struct(target), ArrowType::Struct(fields)) => {
                let fields = fields.iter().enumerate().map(|(index, field)| {
                    let spark = spark.and_then(|spark| field_type(spark, index, field.name()));
                    self.field(target, field, spark, path, level + 1)
                });
                Ok(Shape::Struct(fields.collect::<Result<_, _>>()?))
            }
            _ => Err(mismatch()),
        }
    }

    fn field(
        &mut self,
        target: &StructTarget,
        field: &FieldRef,
        spark: Option<&DataType>,
        path: &str,
        level: usize,
    ) -> Result<Option<(usize, Shape)>, PlanError> {
        let path = format!("{path}.{}", field.name());
        match target.fields.iter().position(|declared| *declared.name == **field.name()) {
            Some(at) => Ok(Some((at, self.target(&target.fields[at].target, field, spark, &path, level)?))),
            None if target.unknown_fields == UnknownFields::Drop => Ok(None),
            None => Err(PlanError::unknown_field(path, target)),
        }
    }
}

pub(super) fn mismatch(path: &str, found: &ArrowType, declared: &str, hint: &'static str) -> PlanError {
    let (found, declared) = (format!("Arrow's {found}"), declared.to_owned());
    PlanError::TypeMismatch { path: path.to_owned(), found, declared, hint }
}

/// The element of a list of any kind.
pub(super) fn element(list: &ArrowType) -> Option<&FieldRef> {
    match list {
        ArrowType::List(element)
        | ArrowType::LargeList(element)
        | ArrowType::ListView(element)
        | ArrowType::LargeListView(element)
        | ArrowType::FixedSizeList(element, _) => Some(element),
        _ => None,
    }
}

/// Whether the whole type, dropped fields included, can be given to arrow-ipc: its unions panic on malformed buffers, and
/// dictionaries of nested values, like run-end encoding, are not supported yet.
fn can_be_decoded(data_type: &ArrowType) -> bool {
    match data_type {
        ArrowType::Union(..) | ArrowType::RunEndEncoded(..) => false,
        ArrowType::Struct(fields) => fields.iter().all(|field| can_be_decoded(field.data_type())),
        ArrowType::Dictionary(_, values) => !values.is_nested(),
        ArrowType::Map(entries, _) => can_be_decoded(entries.data_type()),
        other => element(other).is_none_or(|element| can_be_decoded(element.data_type())),
    }
}

/// What values of a scalar Arrow type can be; empty for types that have no columns.
pub(super) fn value_kinds(data_type: &ArrowType) -> &'static [ValueKind] {
    match data_type {
        ArrowType::Boolean => &[ValueKind::Boolean],
        ArrowType::Int8
        | ArrowType::Int16
        | ArrowType::Int32
        | ArrowType::Int64
        | ArrowType::UInt8
        | ArrowType::UInt16
        | ArrowType::UInt32
        | ArrowType::UInt64 => &[ValueKind::Integer],
        ArrowType::Float16 | ArrowType::Float32 => &[ValueKind::Float],
        ArrowType::Float64 => &[ValueKind::Double],
        ArrowType::Decimal32(..) | ArrowType::Decimal64(..) | ArrowType::Decimal128(..) | ArrowType::Decimal256(..) => {
            &[ValueKind::Decimal]
        }
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => &[ValueKind::Text],
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
            &[ValueKind::Binary]
        }
        ArrowType::Date32 | ArrowType::Date64 => &[ValueKind::Date],
        ArrowType::Timestamp(_, Some(_)) => &[ValueKind::Timestamp],
        ArrowType::Timestamp(_, None) => &[ValueKind::TimestampNtz],
        ArrowType::Duration(_) | ArrowType::Interval(IntervalUnit::DayTime) => &[ValueKind::DayTime],
        ArrowType::Interval(IntervalUnit::YearMonth) => &[ValueKind::YearMonth],
        ArrowType::Interval(IntervalUnit::MonthDayNano) => &[ValueKind::DayTime, ValueKind::YearMonth],
        _ => &[],
    }
}
