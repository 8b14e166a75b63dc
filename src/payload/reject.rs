//! Why a row is not written: a stable reason, the place, and a sentence.
//!
//! A [`Reject`] is made where the value is seen and learns its path on the way up, so that the good path pays nothing. The
//! sentence never holds the value.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A stable reason, for programs. Each has its twin in the protocol's `RowReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The value's type does not fit the declared type.
    TypeMismatch,
    /// Outside the declared type's range, or DynamoDB's.
    OutOfRange,
    /// Digits would be lost.
    Inexact,
    /// A null where none is allowed.
    NullNotAllowed,
    /// NaN or an infinity.
    NonFinite,
    /// Longer than char(n) or varchar(n) allows.
    TooLong,
    /// A field that the schema does not have.
    UnknownField,
    /// More values than declared columns or fields.
    SurplusValue,
    /// An empty key.
    KeyEmpty,
    /// A key longer than DynamoDB allows.
    KeyTooLong,
    /// An item over 400 KB.
    ItemTooLarge,
    /// Deeper than 32 levels.
    TooDeep,
    /// Two keys of a map are the same after conversion.
    DuplicateMapKey,
    /// The value's bytes are not what its type says.
    Malformed,
    /// DynamoDB refused the item on its own.
    BackendValidation,
    /// An insert found an item with this key.
    AlreadyExists,
    /// Another row of its atomic group failed.
    AtomicPeer,
    /// Two rows of an atomic group have the same key.
    DuplicateKey,
}

impl RejectReason {
    /// What metrics call it: the protocol's name in lower case.
    pub fn label(self) -> &'static str {
        match self {
            Self::TypeMismatch => "type_mismatch",
            Self::OutOfRange => "out_of_range",
            Self::Inexact => "inexact",
            Self::NullNotAllowed => "null_not_allowed",
            Self::NonFinite => "non_finite",
            Self::TooLong => "too_long",
            Self::UnknownField => "unknown_field",
            Self::SurplusValue => "surplus_value",
            Self::KeyEmpty => "key_empty",
            Self::KeyTooLong => "key_too_long",
            Self::ItemTooLarge => "item_too_large",
            Self::TooDeep => "too_deep",
            Self::DuplicateMapKey => "duplicate_map_key",
            Self::Malformed => "malformed",
            Self::BackendValidation => "backend_validation",
            Self::AlreadyExists => "already_exists",
            Self::AtomicPeer => "atomic_peer",
            Self::DuplicateKey => "duplicate_key",
        }
    }
}

/// Why one value, and so its row, is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The stable reason.
    pub reason: RejectReason,
    /// Where in the row: `vitals[3].hr`.
    pub path: String,
    /// What was found and what is expected, without the value.
    pub message: String,
    /// The declared type there; empty where the row as a whole is meant.
    pub declared: Box<str>,
    /// The type of what came; empty where there is none.
    pub found: Box<str>,
    /// What to do about it; may be empty.
    pub hint: Cow<'static, str>,
    /// The value, shortened; only for tables that allow it. Never logged.
    pub value: Option<Box<str>>,
}

impl Reject {
    /// A reject whose path is not known yet. Boxed: results on the good path stay small.
    pub fn new(reason: RejectReason, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            reason,
            path: String::new(),
            message: message.into(),
            declared: Box::default(),
            found: Box::default(),
            hint: Cow::Borrowed(""),
            value: None,
        })
    }

    /// The same reject with the declared type and the type of what came.
    pub fn of_types(mut self: Box<Self>, declared: &str, found: &str) -> Box<Self> {
        (self.declared, self.found) = (declared.into(), found.into());
        self
    }

    /// The same reject with what to do about it.
    pub fn hint(mut self: Box<Self>, hint: impl Into<Cow<'static, str>>) -> Box<Self> {
        self.hint = hint.into();
        self
    }

    /// The same reject seen from the field that holds the value.
    pub fn in_field(mut self: Box<Self>, name: &str) -> Box<Self> {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{dot}{}", self.path);
        self
    }

    /// The same reject seen from the list that holds the value.
    pub fn in_element(mut self: Box<Self>, index: usize) -> Box<Self> {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        let mut path = String::with_capacity(self.path.len() + 8);
        // Writing to a String cannot fail.
        let _infallible = write!(path, "[{index}]{dot}{}", self.path);
        self.path = path;
        self
    }
}

/// A rejected row of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowReject {
    /// The row's index in the client's batch.
    pub row_index: u32,
    /// Why.
    pub reject: Reject,
}

/// A path without the numbers of elements: `vitals[3].hr` is in `vitals[].hr`.
pub fn column_path(path: &str) -> String {
    let mut column = String::with_capacity(path.len());
    let mut in_index = false;
    for character in path.chars() {
        if in_index && character.is_ascii_digit() {
            continue;
        }
        in_index = character == '[';
        column.push(character);
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_from_the_outside_in() {
        let reject = Reject::new(RejectReason::OutOfRange, "too large");
        assert_eq!(reject.in_field("hr").in_element(3).in_field("vitals").path, "vitals[3].hr");
        let nested = Reject::new(RejectReason::OutOfRange, "x").in_element(1).in_element(0).in_field("m");
        assert_eq!(nested.path, "m[0][1]");
    }

    #[test]
    fn paths_lose_the_numbers_of_elements_and_nothing_else() {
        assert_eq!(column_path("m[0][12].key"), "m[][].key");
        assert_eq!(column_path("plain.field7"), "plain.field7");
    }
}
