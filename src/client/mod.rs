//! The Rust client: write rows as a stream, read them by key, define tables.
//!
//! ```
//! # use forebay::config::{Config, EmbeddedChoice, Settings};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let embedded = Some(EmbeddedChoice::Switch(true));
//! # let (listen, admin) = (Some("127.0.0.1:0".to_owned()), Some("off".to_owned()));
//! # let settings = Settings::try_new(Config { listen, admin, embedded, ..Config::default() })?;
//! # let gateway = forebay::server::Gateway::start(settings).await?;
//! # let endpoint = gateway.endpoint();
//! use forebay::client::{self, Lookup, OpenOptions};
//! use forebay::proto::v1::{Key, Row, RowBatch, Table, Value, value::Kind};
//!
//! let client = client::connect(&endpoint)?; // "http://127.0.0.1:50051"
//!
//! let key = Key { partition: vec!["card".to_owned()], ..Key::default() };
//! let ddl = "card STRING NOT NULL, score DOUBLE".to_owned();
//! let table = Table { name: "card_scores".to_owned(), ddl, key: Some(key), ..Table::default() };
//! client.tables().apply(table, false).await?;
//!
//! // Rows carry their values by position, in the order of the table's columns.
//! let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
//! let double = |number| Value { kind: Some(Kind::DoubleValue(number)) };
//! let good = Row { values: vec![text("card-17"), double(0.93)] };
//! let bad = Row { values: vec![text("card-18"), double(f64::NAN)] };
//!
//! let mut writer = client.writer(OpenOptions::new("card_scores")).await?;
//! writer.send_rows(RowBatch { rows: vec![good, bad] }).await?;
//! let receipt = writer.flush().await?; // Every row sent so far is in DynamoDB, or reported:
//! assert_eq!((receipt.committed_rows, receipt.rejected_rows), (1, 1));
//! for outcome in writer.take_outcomes() {
//!     assert_eq!((outcome.batch, outcome.row, outcome.field_path.as_str()), (1, 1, "score"));
//! }
//! writer.finish().await?;
//!
//! let read = client.reader().strong(true).get_row("card_scores", vec![text("card-17")], &[]).await?;
//! assert_eq!(read.lookup, Lookup::Found(vec![text("card-17"), double(0.93)]));
//! # gateway.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What the pieces are
//!
//! [`connect`] makes a [`Client`]; [`ConnectOptions`] makes one with certificates or a [`Token`]. [`Client::writer`] opens a [`Writer`], which keeps to the gateway's window, sends again
//! what was not acked when a call breaks, and tells outcomes and acks as [`Event`]s. [`Client::reader`] reads rows,
//! [`Client::tables`] defines tables and checks samples of rows. [`convert`] turns Arrow batches into rows and back.
//!
//! Within: `session` is the writer's state without I/O, `driver` its task, `wire` and `arrow_ipc` encode batches once.
//! Callers: the `cli`, and any program that depends on this crate. Of the server's
//! modules it uses none but the leaf `payload::number`.

mod arrow_ipc;
mod backoff;
mod channel;
mod check;
pub mod convert;
mod driver;
mod error;
mod options;
mod reader;
mod session;
mod tables;
mod tls;
mod token;
mod wire;
mod writer;

pub use arrow_ipc::ArrowCompression;
pub use channel::{Client, connect};
pub use check::{CheckRates, Sample};
pub use error::ClientError;
pub use options::ConnectOptions;
pub use reader::{Lookup, RangeOptions, RangeRows, Reader, RowRead, TableRead};
pub use session::{Acked, Event, Outcome, Receipt};
pub use tables::Tables;
pub use token::Token;
pub use writer::{OpenOptions, Outcomes, Writer};
