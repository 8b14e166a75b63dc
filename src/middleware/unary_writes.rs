//! Bounds the memory of unary calls that carry rows: `WriteRows` and `CheckRows` take one of the write sessions' slots before
//! their message is read.
//!
//! The transport buffers a whole message before a handler sees it. A streaming session takes its slot when it starts; a
//! unary call must take it here, because its handler starts when the message is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::Status;

use super::places::PlacesLayer;

/// The path of `CheckRows`.
pub const CHECK_ROWS: &str = "/forebay.v1.TableService/CheckRows";
/// The calls that take a slot.
const CALLS: [&str; 2] = ["/forebay.v1.IngestService/WriteRows", CHECK_ROWS];

/// How long a client should wait where no slot is free.
pub const SLOT_RETRY: Duration = Duration::from_secs(1);

/// Lets as many unary calls with rows in as there are slots: those that streaming sessions take, too. With the answer where
/// none is free.
pub fn unary_writes(slots: Arc<Semaphore>, refusal: fn() -> Status) -> PlacesLayer {
    PlacesLayer::new(|path| CALLS.contains(&path), slots, refusal)
}
