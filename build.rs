//! Compiles `proto/forebay/v1` with protox (no protoc is needed) into two sets of Rust types.
//!
//! The *public* set is what clients use. The *server* set is the same wire format with one difference: the rows of a
//! positional batch stay raw bytes, because the server walks them once, straight into DynamoDB's JSON, and never builds a
//! `Value`. An embedded message and a `bytes` field look the same on the wire.

use std::path::PathBuf;

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

const PROTOS: [&str; 4] =
    ["forebay/v1/types.proto", "forebay/v1/table.proto", "forebay/v1/ingest.proto", "forebay/v1/read.proto"];

/// Messages whose `rows` the server keeps raw.
const RAW_ROWS: [&str; 3] = ["Batch", "WriteRowsRequest", "CheckRowsRequest"];
/// Messages that the server set has of its own: those above and the one that holds a Batch.
const SERVER_MESSAGES: [&str; 4] = ["Batch", "WriteRowsRequest", "WriteRequest", "CheckRowsRequest"];
/// The services that take raw rows.
const SERVER_SERVICES: [&str; 2] = ["IngestService", "TableService"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    std::fs::write(out.join("forebay.v1.descriptors.bin"), descriptors.encode_to_vec())?;

    let public = out.join("public");
    std::fs::create_dir_all(&public)?;
    tonic_prost_build::configure()
        .bytes(".forebay.v1.ArrowBatch.ipc_messages")
        .bytes(".forebay.v1.Open.arrow_schema")
        .bytes(".forebay.v1.Value.bytes_value")
        .out_dir(&public)
        .compile_fds(descriptors.clone())?;

    let server = out.join("server");
    std::fs::create_dir_all(&server)?;
    let mut config = tonic_prost_build::configure().build_client(false).bytes(".").out_dir(&server);
    for name in shared_types(&descriptors) {
        config = config.extern_path(format!(".forebay.v1.{name}"), format!("crate::proto::v1::{name}"));
    }
    config.compile_fds(keep_rows_raw(descriptors))?;
    Ok(())
}

/// The top-level types that both sets have in common: all but those that hold raw rows.
fn shared_types(descriptors: &FileDescriptorSet) -> Vec<String> {
    let ours = descriptors.file.iter().filter(|file| file.package() == "forebay.v1");
    ours.flat_map(|file| {
        let messages = file.message_type.iter().map(|message| message.name());
        messages.chain(file.enum_type.iter().map(|enumeration| enumeration.name()))
    })
    .filter(|name| !SERVER_MESSAGES.contains(name))
    .map(str::to_owned)
    .collect()
}

/// Turns the row payloads into `bytes` fields, and leaves out the services that need no raw rows.
fn keep_rows_raw(mut descriptors: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut descriptors.file {
        file.service.retain(|service| SERVER_SERVICES.contains(&service.name()));
        for message in &mut file.message_type {
            if RAW_ROWS.contains(&message.name()) {
                for field in message.field.iter_mut().filter(|field| field.name() == "rows") {
                    field.set_type(Type::Bytes);
                    field.type_name = None;
                }
            }
        }
    }
    descriptors
}
