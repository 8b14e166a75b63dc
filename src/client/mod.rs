//! The Rust client: write rows as a stream, read them by key, define tables.
//!
//! ```no_run
//! # async fn example() -> Result<(), forebay::client::ClientError> {
//! use forebay::client::{self, Lookup, OpenOptions};
//! use forebay::proto::v1::{Row, RowBatch, Value, value::Kind};
//!
//! let client = client::connect("http://127.0.0.1:50051")?;
//!
//! // Rows carry their values by position, in the order of the table's columns.
//! let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
//! let double = |number| Value { kind: Some(Kind::DoubleValue(number)) };
//! let row = Row { values: vec![text("card-17"), double(0.93)] };
//!
//! let mut writer = client.writer(OpenOptions::new("card_scores")).await?;
//! writer.send_rows(RowBatch { rows: vec![row] }).await?;
//! let receipt = writer.flush().await?; // Every row sent so far is in DynamoDB, or reported:
//! assert_eq!(receipt.committed_rows, 1);
//! for outcome in writer.take_outcomes() {
//!     eprintln!("batch {} row {}: {}", outcome.batch, outcome.row, outcome.message);
//! }
//! writer.finish().await?;
//!
//! let read = client.reader().get_row("card_scores", vec![text("card-17")], &[]).await?;
//! assert_eq!(read.lookup, Lookup::Found(vec![text("card-17"), double(0.93)]));
//! # Ok(())
//! # }
//! ```
//!
//! # What the pieces are
//!
//! [`connect`] makes a [`Client`]. [`Client::writer`] opens a [`Writer`], which keeps to the gateway's window, sends again
//! what was not acked when a call breaks, and tells outcomes and acks as [`Event`]s. [`Client::reader`] reads rows,
//! [`Client::tables`] defines tables. [`convert`] turns Arrow batches into rows and back.
//!
//! Within: `session` is the writer's state without I/O, `driver` its task, `wire` and `arrow_ipc` encode batches once.
//! Callers: the `cli`, and any program that depends on this crate. Of the server's
//! modules it uses none but the leaf `payload::number`.

mod arrow_ipc;
mod backoff;
mod channel;
pub mod convert;
mod driver;
mod error;
mod reader;
mod session;
mod tables;
mod wire;
mod writer;

pub use arrow_ipc::ArrowCompression;
pub use channel::{Client, connect};
pub use error::ClientError;
pub use reader::{Lookup, Reader, RowRead, TableRead};
pub use session::{Acked, Event, Outcome, Receipt};
pub use tables::Tables;
pub use writer::{OpenOptions, Outcomes, Writer};
