//! Values as people and files write them: text cells and JSON, into and out of the declared types.
//!
//! A value that does not fit is a [`Misfit`], never a guess and never a null; what fits is said by [`fit`]. Callers: `defaults`,
//! `api::convert`, and the CLI's `load`, `check` and `get`.

pub(crate) mod dropped;
pub(crate) mod fit;
pub(crate) mod json;
mod reason;
pub(crate) mod text;

pub(crate) use reason::row_reason;

use crate::payload::Reject;
use crate::proto::v1::{RowOutcome, RowReason};
use crate::schema::DataType;

/// Why a row, or a value of it, is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Where: `vitals[3].hr`.
    pub(crate) path: String,
    /// Why, for programs.
    pub(crate) reason: RowReason,
    /// Why, for people.
    pub(crate) message: String,
    /// The declared type there; may be empty.
    pub(crate) declared: Box<str>,
    /// The type of what came; may be empty.
    pub(crate) found: Box<str>,
    /// What to do about it; may be empty.
    pub(crate) hint: Box<str>,
    /// The value, shortened, where the table allows that.
    pub(crate) value: Option<Box<str>>,
}

impl Misfit {
    pub(crate) fn new(path: &str, reason: RowReason, message: impl Into<String>) -> Self {
        let (declared, found, hint, value) = Default::default();
        Self { path: path.to_owned(), reason, message: message.into(), declared, found, hint, value }
    }

    /// Something that is no value of the type at all, in the gateway's words.
    fn of_type(path: &str, found: &str, data_type: &DataType) -> Self {
        let declared = match data_type {
            DataType::Array { .. } => "array".to_owned(),
            DataType::Map { .. } => "map".to_owned(),
            DataType::Struct(_) => "struct".to_owned(),
            scalar => scalar.to_string(),
        };
        let message = format!("{found} does not fit the declared type {declared}");
        let misfit = Self::new(path, RowReason::TypeMismatch, message).hint("send a value of the declared type");
        Self { declared: declared.into(), found: found.into(), ..misfit }
    }

    /// What the gateway would say.
    fn of_reject(path: &str, reject: Reject) -> Self {
        Self {
            path: path.to_owned(),
            reason: row_reason(reject.reason),
            message: reject.message,
            declared: reject.declared,
            found: reject.found,
            hint: reject.hint.into_owned().into(),
            value: reject.value,
        }
    }

    /// What the gateway said.
    pub(crate) fn of_outcome(outcome: RowOutcome) -> Self {
        Self {
            reason: outcome.reason(),
            path: outcome.field_path,
            message: outcome.message,
            declared: outcome.declared_type.into(),
            found: outcome.found_type.into(),
            hint: outcome.hint.into(),
            value: outcome.value.map(Into::into),
        }
    }

    /// The same with another hint.
    pub(crate) fn hint(self, hint: impl Into<Box<str>>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// The sentence behind a row's number, with its place: `, vitals[3].hr: the value is outside ...`.
    pub(crate) fn placed_sentence(&self) -> String {
        let place = if self.path.is_empty() { String::new() } else { format!(", {}", self.path) };
        format!("{place}: {}", self.sentence())
    }

    /// The misfit of a row for programs.
    pub(crate) fn json(&self, row: u64) -> serde_json::Value {
        let mut line = serde_json::json!({
            "row": row,
            "reason": reason_name(self.reason),
            "field": self.path,
            "message": self.message,
            "declared": self.declared,
            "found": self.found,
            "hint": self.hint,
        });
        if let Some(value) = &self.value {
            line["value"] = (**value).into();
        }
        line
    }

    /// A sentence: `the value is outside the range of tinyint (OUT_OF_RANGE; declared tinyint, found bigint): send ...`.
    fn sentence(&self) -> String {
        let mut sentence = format!("{} ({}", self.message, reason_name(self.reason));
        if !self.declared.is_empty() {
            sentence += &format!("; declared {}, found {}", self.declared, self.found);
        }
        if let Some(value) = &self.value {
            sentence += &format!("; value {value:?}");
        }
        sentence.push(')');
        if !self.hint.is_empty() {
            sentence += &format!(": {}", self.hint);
        }
        sentence
    }
}

/// The name of a reason as reports show it: `TYPE_MISMATCH`.
pub(crate) fn reason_name(reason: RowReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ROW_REASON_")
}
