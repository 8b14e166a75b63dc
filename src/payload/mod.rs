//! Payloads: rows in, DynamoDB's JSON out, in one pass; and items back into rows ([`decode`], for `read`).
//!
//! A session compiles a [`Plan`] once: the table's columns matched by name to the columns that the session carries. Each
//! batch is then walked row by row ([`rows`] for positional values, [`arrow`] for Arrow record batches), every value is
//! checked and coerced by its [`leaf::Leaf`], and its DynamoDB JSON is appended to one buffer per chunk. There is no
//! intermediate row and no attribute map. Callers: `api::ingest` and the benches.
//!
//! Invariants: an encoded row is at most 400 KB by DynamoDB's own rule; its key is not empty, within DynamoDB's lengths,
//! and canonical, so that equal keys have equal text; a rejected row leaves no trace in the buffer.

pub mod arrow;
pub mod cast;
pub mod chunk;
pub mod coercion;
pub mod decode;
pub mod defaults;
pub mod item;
pub mod key;
pub mod leaf;
pub mod modes;
mod nested;
pub mod number;
pub mod plan;
pub mod range_key;
pub mod read_key;
pub mod reject;
pub mod rows;
pub mod shard;
pub mod target;
pub(crate) mod values;
pub mod variant;
pub mod wire;

pub use chunk::{Chunk, EncodedRow};
pub use coercion::{RuleBook, Tally};
pub use modes::{OnMissing, RowMode, Writes};
pub use plan::{Plan, PlanError};
pub use reject::{Reject, RejectReason, RowReject};

/// Why a whole batch cannot be read. It ends the call: what follows cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The bytes are not what the protocol says.
    #[error("the batch is malformed: {detail}")]
    Malformed {
        /// What and where.
        detail: String,
    },
    /// More rows than a batch may have.
    #[error("the batch has {rows} rows; at most {limit} are allowed")]
    TooManyRows {
        /// Rows found or claimed.
        rows: usize,
        /// The limit.
        limit: usize,
    },
    /// The batch claims, or unfolds to, more memory than a batch may take.
    #[error("the batch unfolds to {claimed_bytes} bytes; at most {limit_bytes} are allowed")]
    TooLarge {
        /// Bytes claimed.
        claimed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
}
