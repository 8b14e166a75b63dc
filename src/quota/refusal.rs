//! What a limit says to what it does not let through.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whose limit it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A principal's.
    Principal(Arc<str>),
    /// A table's.
    Table(Arc<str>),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(name) => write!(f, "principal/{name}"),
            Self::Table(name) => write!(f, "table/{name}"),
        }
    }
}

/// A cost above what a limit lets through at once: waiting does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{cost} {unit} at once are more than the limit `{limit}` of {subject} ever lets through: its burst is {burst}; send less \
     at once, or have the burst raised",
    unit = if limit.ends_with("kib") { "KiB" } else { "rows" }
)]
pub struct TooDear {
    /// Whose limit it is.
    pub subject: Subject,
    /// Its key in the access file: `write_rows`, `write_kib`, `read_rows`.
    pub limit: &'static str,
    /// Its burst.
    pub burst: u32,
    /// What was asked for.
    pub cost: u32,
}

/// A limit that is used up for now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit `{limit}` of {subject} is used up; come back in {} s", retry_after.as_secs_f64())]
pub struct UsedUp {
    /// Whose limit it is.
    pub subject: Subject,
    /// Its key in the access file.
    pub limit: &'static str,
    /// When there may be enough again.
    pub retry_after: Duration,
}

/// Why a call that does not wait may not go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Never.
    #[error(transparent)]
    TooDear(#[from] TooDear),
    /// Not now.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
}
