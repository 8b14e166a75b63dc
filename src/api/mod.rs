//! The gRPC handlers, and the only place where domain types meet protobuf types and gRPC statuses.

mod check;
pub mod convert;
mod deadline;
pub mod ingest;
mod permit;
pub mod quota;
pub mod read;
pub mod status;
pub mod table;

/// The wall clock, in seconds since 1970.
fn now_epoch_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
