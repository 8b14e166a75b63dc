//! The gRPC handlers, and the only place where domain types meet protobuf types and gRPC statuses.

mod check;
pub mod convert;
mod deadline;
pub mod ingest;
pub mod read;
pub mod status;
pub mod table;
