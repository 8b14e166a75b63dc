//! Values as people and files write them: text cells and JSON, into and out of the declared types.
//!
//! A value that does not fit is a [`Misfit`], never a guess and never a null. Callers: `defaults`, `api::convert`, and the
//! CLI's `load` and `get`.

pub(crate) mod json;
pub(crate) mod text;

use crate::proto::v1::RowReason;
use crate::schema::DataType;

/// Why a text or a JSON value is none of the declared type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Where: `vitals[3].hr`.
    pub(crate) path: String,
    /// Why, for programs.
    pub(crate) reason: RowReason,
    /// Why, for people.
    pub(crate) message: String,
}

impl Misfit {
    fn new(path: &str, reason: RowReason, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason, message: message.into() }
    }

    fn of_type(path: &str, what: &str, data_type: &DataType) -> Self {
        Self::new(path, RowReason::TypeMismatch, format!("{what} is no {data_type}"))
    }
}

/// The name of a reason as reports show it: `TYPE_MISMATCH`.
pub(crate) fn reason_name(reason: RowReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ROW_REASON_")
}
