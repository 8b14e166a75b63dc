//! Label sets: a struct per metric, whose fields are the labels.
//!
//! Labels come from outside in part (principals, tables, columns), so every set has a form that stands for the rest:
//! [`Labels::other`], which a [`super::Family`] uses when it is full.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use opentelemetry::{KeyValue, Value};

/// The text of each label of a set that stands for those which found no room.
pub const OTHER: &str = "other";

/// The labels of one metric.
pub trait Labels: fmt::Debug + Clone + Eq + Hash + Send + Sync + 'static {
    /// Their names, as OpenTelemetry has them; Prometheus text has `_` for each `.`.
    const NAMES: &'static [&'static str];

    /// The set as OpenTelemetry's attributes; a label that is not there is left out.
    fn attributes(&self) -> Vec<KeyValue>;

    /// The set that stands for all those which found no room.
    fn other() -> Self;
}

/// What a label's value may be.
pub(super) trait LabelValue {
    fn value(&self) -> Option<Value>;
    fn other() -> Self;
}

impl LabelValue for String {
    fn value(&self) -> Option<Value> {
        Some(Value::from(self.clone()))
    }

    fn other() -> Self {
        OTHER.to_owned()
    }
}

impl LabelValue for Option<Arc<str>> {
    fn value(&self) -> Option<Value> {
        self.clone().map(Value::from)
    }

    fn other() -> Self {
        Some(OTHER.into())
    }
}

impl LabelValue for &'static str {
    fn value(&self) -> Option<Value> {
        Some(Value::from(*self))
    }

    fn other() -> Self {
        OTHER
    }
}

impl LabelValue for Option<&'static str> {
    fn value(&self) -> Option<Value> {
        self.map(Value::from)
    }

    fn other() -> Self {
        Some(OTHER)
    }
}

/// Declares a struct and its [`Labels`]. A field is named as its label, or says `= "the.name"`.
macro_rules! labels {
    ($($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty $(= $label:literal)?,)+
    })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $crate::telemetry::labels::Labels for $name {
            const NAMES: &'static [&'static str] =
                &[$($crate::telemetry::labels::label_name!($field $(, $label)?),)+];

            fn attributes(&self) -> Vec<opentelemetry::KeyValue> {
                use $crate::telemetry::labels::LabelValue as _;
                let values = [$(self.$field.value(),)+];
                let named = Self::NAMES.iter().zip(values);
                named.filter_map(|(name, value)| Some(opentelemetry::KeyValue::new(*name, value?))).collect()
            }

            fn other() -> Self {
                Self { $($field: $crate::telemetry::labels::LabelValue::other(),)+ }
            }
        }
    )+};
}

/// A label's name: what was said, else the field's.
macro_rules! label_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident, $label:literal) => {
        $label
    };
}

pub(super) use {label_name, labels};
