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
