//! Positional values into variant columns: each is stored as what it is.
//!
//! A struct by position has no names of its own. A session that declares the column as a struct gives them; one that
//! declares it as variant may send Spark's two binaries as a struct; any other struct rejects its row.

use super::{Kinded, Positional, entry_parts, kind, value_kind};
use crate::payload::item::ItemWriter;
use crate::payload::leaf::{Leaf, Presence, Put};
use crate::payload::plan::PlanError;
use crate::payload::reject::{Reject, RejectReason};
use crate::payload::variant::{ListWriter, ObjectWriter, VariantTarget, check_level};
use crate::payload::wire::{Wire, WireError, WireValue};
use crate::schema::DataType;

/// What the session's declared type says about values that go into a variant.
#[derive(Debug)]
pub(super) enum Natural {
    /// Nothing: values say what they are.
    Any,
    /// A variant: a struct is Spark's pair of binaries.
    Pair,
    /// What it says about the elements of a list or the values of a map.
    Elements(Box<Natural>),
    /// The names of a struct's fields by position.
    Struct(Vec<(Box<str>, Natural)>),
}

impl Natural {
    /// Compiles the session's declared type of a column that the table declares as variant.
    pub(super) fn compile(incoming: &DataType, path: &str) -> Result<Self, PlanError> {
        Ok(match incoming {
            DataType::Variant => Self::Pair,
            DataType::Array { element, .. } => Self::Elements(Box::new(Self::compile(element, &format!("{path}[]"))?)),
            DataType::Map { key, value, .. } if key.is_text() => {
                Self::Elements(Box::new(Self::compile(value, &format!("{path}{{}}"))?))
            }
            DataType::Map { .. } => {
                return Err(PlanError::TypeMismatch {
                    path: path.to_owned(),
                    found: incoming.to_string(),
                    declared: "variant, whose maps have text for keys".to_owned(),
                });
            }
            DataType::Struct(fields) => {
                let field = |field: &crate::schema::Field| {
                    let natural = Self::compile(&field.data_type, &format!("{path}.{}", field.name))?;
                    Ok((field.name.as_str().into(), natural))
                };
                Self::Struct(fields.iter().map(field).collect::<Result<_, PlanError>>()?)
            }
            _ => Self::Any,
        })
    }

    fn element(&self) -> &Self {
        match self {
            Self::Elements(natural) => natural,
            _ => &Self::Any,
        }
    }

    fn field(&self, name: &str) -> &Self {
        match self {
            Self::Elements(natural) => natural,
            Self::Struct(fields) => {
                fields.iter().find(|(field, _)| **field == *name).map_or(&Self::Any, |(_, natural)| natural)
            }
            Self::Any | Self::Pair => &Self::Any,
        }
    }
}

impl<'a> Positional<'a, '_> {
    /// Appends a value of any kind.
    pub(super) fn put_variant(
        &self,
        value: Kinded<'a>,
        target: &VariantTarget,
        natural: &Natural,
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        let Some((number, value)) = value else { return Ok(Presence::Null) };
        match (number, value) {
            (kind::LIST, WireValue::Bytes(message)) => {
                check_level(level)?;
                let mut list = ListWriter::begin(writer);
                let mut wire = Wire::new(message);
                while let Some(value) = self.note(wire.next_message())? {
                    let value = self.note(value_kind(value))?;
                    list.put(writer, |w| self.put_variant(value, target, natural.element(), level + 1, w))?;
                }
                list.finish(writer)
            }
            (kind::MAP, WireValue::Bytes(message)) => {
                check_level(level)?;
                let mut object = ObjectWriter::begin(target, writer);
                let mut wire = Wire::new(message);
                while let Some(entry) = self.note(wire.next_message())? {
                    let (key, value) = self.note(entry_parts(entry))?;
                    let Some((kind::STRING, WireValue::Bytes(name))) = key else {
                        return Err(Reject::new(
                            RejectReason::TypeMismatch,
                            "a variant's maps must have text for keys",
                        ));
                    };
                    let name = self.utf8(name)?;
                    object.put(writer, name, |w| self.put_variant(value, target, natural.field(name), level + 1, w))?;
                }
                object.finish(writer)
            }
            (kind::STRUCT, WireValue::Bytes(message)) => match natural {
                Natural::Struct(fields) => self.put_named(message, target, fields, level, writer),
                Natural::Pair => self.put_pair(message, target, level, writer),
                Natural::Any | Natural::Elements(_) => {
                    let message = "a struct has no names in a variant; send a map with text keys";
                    Err(Reject::new(RejectReason::TypeMismatch, message))
                }
            },
            (kind::DECIMAL, WireValue::Bytes(text)) => target.put_decimal_text(writer, self.utf8(text)?),
            _ => match scalar(target, number) {
                Some(leaf) => self.put_scalar(leaf, number, value, writer),
                None => self.note(Err(WireError("a value's kind"))),
            },
        }
    }

    /// A struct whose names the session has declared.
    fn put_named(
        &self,
        message: &'a [u8],
        target: &VariantTarget,
        fields: &[(Box<str>, Natural)],
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        check_level(level)?;
        // The session's schema was checked to have no name twice.
        let mut object = ObjectWriter::begin_distinct(target, writer);
        let mut wire = Wire::new(message);
        let mut declared = fields.iter();
        while let Some(value) = self.note(wire.next_message())? {
            let Some((name, natural)) = declared.next() else {
                let message = format!("the struct has more values than its {} declared fields", fields.len());
                return Err(Reject::new(RejectReason::SurplusValue, message));
            };
            let value = self.note(value_kind(value))?;
            object.put(writer, name, |w| self.put_variant(value, target, natural, level + 1, w))?;
        }
        object.finish(writer)
    }

    /// Spark's binary encoding: the value, then the metadata.
    fn put_pair(&self, message: &'a [u8], target: &VariantTarget, level: usize, writer: &mut ItemWriter) -> Put {
        let mut wire = Wire::new(message);
        let mut binaries = [None; 2];
        for binary in &mut binaries {
            if let Some(value) = self.note(wire.next_message())?
                && let Some((kind::BYTES, WireValue::Bytes(bytes))) = self.note(value_kind(value))?
            {
                *binary = Some(bytes);
            }
        }
        match (binaries, self.note(wire.next_message())?) {
            ([Some(value), Some(metadata)], None) => target.put_encoded(writer, metadata, value, level),
            _ => {
                let message = "a struct in a variant must be Spark's two binaries, the value and its metadata; send a map \
                               with text keys for a struct with names";
                Err(Reject::new(RejectReason::TypeMismatch, message))
            }
        }
    }
}

/// The leaf of a scalar kind; `None` for a number that is no such kind.
fn scalar(target: &VariantTarget, number: u32) -> Option<&Leaf> {
    Some(match number {
        kind::BOOL => &target.boolean,
        kind::INT => &target.integer,
        kind::DOUBLE => &target.double,
        kind::FLOAT => &target.float,
        kind::STRING => &target.text,
        kind::BYTES => &target.binary,
        kind::TIMESTAMP => &target.timestamp,
        kind::TIMESTAMP_NTZ => &target.timestamp_ntz,
        kind::DATE => &target.date,
        kind::DAY_TIME => &target.day_time,
        kind::YEAR_MONTH => &target.year_month,
        _ => return None,
    })
}
