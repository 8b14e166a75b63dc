//! Forebay: an ingestion gateway for DynamoDB.
//!
//! Rows come in over gRPC (typed, streaming), are checked and coerced inline, and are fed to DynamoDB in full batches; a
//! row is acked only when DynamoDB has it. Rows are read back by key in their declared types.
//!
//! # The map
//!
//! ```text
//! cli         a file per command; uses client
//! sim         a model of DynamoDB on virtual time, and what a job would do to a table; uses pool
//! client      the Rust client: Writer and Reader
//! server      composition root and drain
//! admin       HTTP side port: the status page, /metrics, /livez, /readyz
//! config      what `serve` can be told
//! api         gRPC handlers: ingest, read, table; convert (proto <-> domain), status (error -> Status)
//! edge        where connections come in: TLS, caps, floods
//! middleware  tower layers
//! catalog     table definitions: control table, cache, versions; the shard map
//! pool        router, lanes, batches, retries, outcomes
//! read        point reads and ranges
//! payload     rows and Arrow batches -> DynamoDB JSON; items -> typed values
//! store       the trait; DynamoDB by the SDK; the embedded store
//! schema      types, tables, and the texts they are written in
//! telemetry   logging set-up; every instrument in one file
//! proto       the generated types
//! quota       rate limits, per principal and per table
//! access      principals, grants and limits; the caller of a call
//! yaml, cause, limits, shutdown
//! ```
//!
//! Imports go down this list only (`pool` and `read` do not know each other). A written row crosses two task hops: the
//! session's task encodes it and hands it to a lane; the lane hands its outcome back to the session.

pub mod access;
pub mod admin;
pub mod api;
pub mod catalog;
pub mod cause;
pub mod cli;
pub mod client;
pub mod config;
pub mod edge;
pub mod limits;
pub mod middleware;
pub mod payload;
pub mod pool;
pub mod proto;
pub mod quota;
pub mod read;
pub mod schema;
pub mod server;
pub mod shutdown;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod yaml;
