//! The generated protobuf types of `proto/forebay/v1`.
//!
//! Two sets of the same wire format (see `build.rs`): [`v1`] is what clients use; [`server`] keeps the rows of a
//! positional batch as raw bytes, because the server walks them once, straight into DynamoDB's JSON.

/// The public types and clients.
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/public/forebay.v1.rs"));
}

/// The services that take rows, as the server sees them: `Batch.rows`, `WriteRowsRequest.rows` and `CheckRowsRequest.rows` are
/// raw bytes; all else is [`v1`].
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod server {
    include!(concat!(env!("OUT_DIR"), "/server/forebay.v1.rs"));
}

/// The encoded descriptors, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/forebay.v1.descriptors.bin"));

/// gRPC's own spelling of a code.
pub(crate) const fn code_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
