//! Reads: rows by key and by ranges of keys, straight from the store, decoded by the table's schema.
//!
//! No task hop and no cache: a read sees what DynamoDB has. The caller is `api::read`.

mod backoff;
mod placed;
mod point;
mod range;
mod sort_key;
#[cfg(test)]
mod tests;
mod wanted;

pub use placed::PlacedRead;
pub use point::{PointReader, ReadOptions, ReadOutcome, TableRead, Unavailable};
pub use range::{Patience, RangeError, RangeRead, RangeRows};
