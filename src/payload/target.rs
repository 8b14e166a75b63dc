//! Declared columns, compiled: the tree of [`Leaf`]s, lists, maps and structs that a value is written into.
//!
//! Both payload readers walk the same targets; what differs is how they see the incoming value. Compiled once per session.

use super::coercion::RuleId;
use super::item::name_json;
use super::leaf::{Leaf, Policies, Role};
use super::reject::{Reject, RejectReason};
use super::variant::VariantTarget;
use crate::schema::{DataType, Field, UnknownFields};

/// A column or field that values are written into.
#[derive(Debug, Clone)]
pub struct TargetField {
    /// The name.
    pub name: Box<str>,
    /// `,"name":`
    pub lead: Box<[u8]>,
    /// Whether null is allowed.
    pub nullable: bool,
    /// What is written.
    pub target: Target,
}

/// What is written.
#[derive(Debug, Clone)]
pub enum Target {
    /// A scalar.
    Leaf(Leaf),
    /// A list.
    List {
        /// Every element.
        element: Box<Target>,
        /// Whether elements may be null.
        contains_null: bool,
    },
    /// A DynamoDB set.
    Set {
        /// Every element.
        element: Leaf,
    },
    /// A map.
    Map {
        /// Every key.
        key: Leaf,
        /// Every value.
        value: Box<Target>,
        /// Whether values may be null.
        value_contains_null: bool,
    },
    /// A struct.
    Struct(StructTarget),
    /// A value of any kind.
    Variant(Box<VariantTarget>),
}

/// A struct's fields.
#[derive(Debug, Clone)]
pub struct StructTarget {
    /// The declared fields.
    pub fields: Vec<TargetField>,
    /// A bit for each field that must not be null.
    pub required: Box<[u64]>,
    /// What to do with others.
    pub unknown_fields: UnknownFields,
    /// The session's fields that are left out, each with its rule.
    pub dropped: Vec<(Box<str>, RuleId)>,
    /// The rule of fields that are left out and that the session did not declare.
    pub undeclared: RuleId,
}

/// A type that cannot be written yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{path}`: {data_type} is not supported {place}")]
pub struct UnsupportedType {
    /// The path.
    pub path: String,
    /// The type.
    pub data_type: String,
    /// Where.
    pub place: &'static str,
}

impl TargetField {
    /// Compiles a field below the path of its parent. `incoming` is what the session declares for it.
    pub fn compile(
        field: &Field,
        parent: &str,
        incoming: Option<&DataType>,
        policies: &mut Policies<'_>,
    ) -> Result<Self, UnsupportedType> {
        let path = if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
        Ok(Self::new(field, Target::compile(field, &path, incoming, policies)?))
    }

    /// A field whose target is compiled.
    pub fn new(field: &Field, target: Target) -> Self {
        let lead = [b",", &name_json(&field.name)[..]].concat().into();
        Self { name: field.name.as_str().into(), lead, nullable: field.nullable, target }
    }
}

impl Target {
    fn compile(
        field: &Field,
        path: &str,
        incoming: Option<&DataType>,
        policies: &mut Policies<'_>,
    ) -> Result<Self, UnsupportedType> {
        // Elements of a list or map have the options of the column that holds them.
        let nested = |name: &str, data_type: &DataType| Field {
            options: crate::schema::ColumnOptions { as_set: false, ..field.options.clone() },
            ..Field::new(format!("{}{name}", field.name), data_type.clone(), true)
        };
        let unsupported = |data_type: &DataType, place| UnsupportedType {
            path: path.to_owned(),
            data_type: data_type.to_string(),
            place,
        };
        match &field.data_type {
            DataType::Array { element, contains_null } => {
                let path = format!("{path}[]");
                let incoming = match incoming {
                    Some(DataType::Array { element, .. }) => Some(&**element),
                    _ => None,
                };
                let field_of_element = nested("[]", element);
                if field.options.as_set {
                    let leaf = Leaf::compile(&field_of_element, &path, Role::SetElement, incoming, policies);
                    let leaf = leaf.filter(|_| !matches!(element.as_ref(), DataType::Boolean));
                    let element = leaf.ok_or_else(|| unsupported(element, "as an element of a set"))?;
                    return Ok(Self::Set { element });
                }
                let element = Self::compile(&field_of_element, &path, incoming, policies)?;
                Ok(Self::List { element: Box::new(element), contains_null: *contains_null })
            }
            DataType::Map { key, value, value_contains_null } => {
                let (incoming_key, incoming_value) = match incoming {
                    Some(DataType::Map { key, value, .. }) => (Some(&**key), Some(&**value)),
                    _ => (None, None),
                };
                let key_field = Field::new("key", key.as_ref().clone(), false);
                let leaf = Leaf::compile(&key_field, &format!("{path}{{key}}"), Role::MapKey, incoming_key, policies);
                let key = leaf.filter(|_| key.is_map_key()).ok_or_else(|| unsupported(key, "as a map's key"))?;
                let value = Self::compile(&nested("{}", value), &format!("{path}{{}}"), incoming_value, policies)?;
                Ok(Self::Map { key, value: Box::new(value), value_contains_null: *value_contains_null })
            }
            DataType::Struct(fields) => {
                let sent: &[Field] = match incoming {
                    Some(DataType::Struct(fields)) => fields,
                    _ => &[],
                };
                let compile = |field: &Field| {
                    let incoming = sent.iter().find(|sent| sent.name == field.name).map(|sent| &sent.data_type);
                    TargetField::compile(field, path, incoming, policies)
                };
                let compiled = fields.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
                let unknown = sent.iter().filter(|sent| fields.iter().all(|field| field.name != sent.name));
                let dropped = unknown
                    .map(|sent| (sent.name.as_str().into(), policies.rules.dropped(&format!("{path}.{}", sent.name))))
                    .collect();
                let undeclared = policies.rules.dropped(path);
                let unknown_fields = policies.unknown_fields;
                let mut required = vec![0; fields.len().div_ceil(64)];
                for (at, _) in fields.iter().enumerate().filter(|(_, field)| !field.nullable) {
                    required[at / 64] |= 1 << (at % 64);
                }
                let required = required.into();
                Ok(Self::Struct(StructTarget { fields: compiled, required, unknown_fields, dropped, undeclared }))
            }
            DataType::Variant => VariantTarget::compile(field, path, policies)
                .map(|variant| Self::Variant(Box::new(variant)))
                .ok_or_else(|| unsupported(&field.data_type, "as a column")),
            _ => Leaf::compile(field, path, Role::Value, incoming, policies)
                .map(Self::Leaf)
                .ok_or_else(|| unsupported(&field.data_type, "as a scalar")),
        }
    }

    /// The declared type, in words, for messages.
    pub fn describe(&self) -> &str {
        match self {
            Self::Leaf(leaf) => leaf.declared(),
            Self::List { .. } | Self::Set { .. } => "array",
            Self::Map { .. } => "map",
            Self::Struct(_) => "struct",
            Self::Variant(_) => "variant",
        }
    }

    /// The reject of a value of another type.
    pub fn mismatch(&self, found: &str) -> Box<Reject> {
        let message = format!("{found} does not fit the declared type {}", self.describe());
        Reject::new(RejectReason::TypeMismatch, message)
            .of_types(self.describe(), found)
            .hint("send a value of the declared type")
    }
}

/// The reject of a null where none is allowed.
pub fn null_not_allowed(declared: &str) -> Box<Reject> {
    Reject::new(RejectReason::NullNotAllowed, "the schema allows no null here")
        .of_types(declared, "null")
        .hint("send a value, or make the column nullable")
}
