//! Faults between the gateway and DynamoDB, by their number in the table of faults: the real client over TCP, a real gateway,
//! and a proxy before the embedded store that throttles, loses answers, is late, or is away.
//!
//! The client logs every row that it sends and every outcome that it hears. At the end the store is scanned past the proxy and
//! compared with that log: no acked row is lost, nothing is stored that was not sent, nothing older is over something newer.
//!
//! Elsewhere: 13, 20, and what a call's end says for 14, 15, 17, 21, 22 in `faults.rs`; 23 and 24, which never reach
//! DynamoDB, in `write.rs`; 25 over two gateways in `fencing.rs`; 26 of a reset connection in `cancel.rs`; 30 of more streams, over a folder, in `kill.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::print_stderr, reason = "a seeded test tells which faults it met")]

#[path = "../common/fault_proxy.rs"]
mod fault_proxy;
#[path = "../common/gateway.rs"]
mod gateway;
#[path = "../common/history.rs"]
mod history;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/verifier.rs"]
mod verifier;

mod answers;
mod capacity;
mod ends;
mod groups;
mod kills;
mod together;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fault_proxy::{Call, Fault, FaultProxy};
use forebay::client::{self, Client, ClientError, OpenOptions};
use forebay::config::Settings;
use forebay::proto::v1::{self, RowStatus, WriteMode};
use forebay::server::Gateway;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::{Store as _, StoreConfig};
use forebay::telemetry::instruments::{TableLabel, ThrottleLabel};
use gateway::{eventually, int, null, settings, text};
use history::{Broken, Effect};
use process::Served;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tonic::Code;
use verifier::{Book, Row, Verifier};

/// Short, so that what is swallowed is soon tried again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(300);

/// Rows that are unacked at each kill.
const UNACKED_AT_KILL: usize = 1_000;

/// A gateway whose DynamoDB is behind a proxy.
struct Bed {
    gateway: Gateway,
    client: Client,
    proxy: FaultProxy,
    embedded: Embedded,
}

impl Bed {
    async fn start() -> Self {
        Self::with(settings(|_| {})).await
    }

    async fn with(settings: Settings) -> Self {
        let embedded = Embedded::start(None).unwrap();
        let proxy = FaultProxy::start(&embedded.endpoint_url()).await;
        let config = StoreConfig {
            endpoint_url: Some(proxy.endpoint_url()),
            write_attempt_timeout: ATTEMPT_TIMEOUT,
            ..embedded.store_config()
        };
        let store = Arc::new(DynamoDb::connect(&config).await.unwrap());
        let gateway = Gateway::start_with_store(settings, store).await.unwrap();
        let client = client::connect(&gateway.endpoint()).unwrap();
        Self { gateway, client, proxy, embedded }
    }

    /// The table `rows`, in the order of `v` or in none.
    async fn table(&self, ordered: bool) {
        self.create("id STRING NOT NULL, v BIGINT NOT NULL", if ordered { "v" } else { "" }).await;
    }

    async fn create(&self, ddl: &str, sequence_by: &str) {
        create(&self.client, ddl, sequence_by).await;
    }

    async fn writer(&self, options: OpenOptions, id: u32, book: &Book) -> Verifier {
        Verifier::open(&self.client, options, id, book).await.unwrap()
    }

    /// What is stored is what was sent and heard. `columns` are those that merges have histories of.
    async fn check(&self, book: &Book, columns: Option<&[&str]>) {
        assert_eq!(self.broken(book, columns).await, []);
    }

    async fn broken(&self, book: &Book, columns: Option<&[&str]>) -> Vec<Broken> {
        broken(&self.proxy, &self.embedded, book, columns).await
    }

    async fn is_ready(&self) -> bool {
        let mut stream = tokio::net::TcpStream::connect(self.gateway.admin_address().unwrap()).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.1 200")
    }
}

/// Creates the table `rows`.
async fn create(client: &Client, ddl: &str, sequence_by: &str) {
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let table = v1::Table {
        name: "rows".to_owned(),
        ddl: ddl.to_owned(),
        key: Some(key),
        sequence_by: sequence_by.to_owned(),
        ..v1::Table::default()
    };
    client.tables().apply(table, false).await.unwrap();
}

/// Promises that the store does not keep.
async fn broken(proxy: &FaultProxy, embedded: &Embedded, book: &Book, columns: Option<&[&str]>) -> Vec<Broken> {
    proxy.settled().await;
    let mut stored = BTreeMap::new();
    for item in process::scan(&embedded.endpoint_url(), "rows") {
        let key = item["id"]["S"].as_str().unwrap();
        let version = |column: &str| item[column]["N"].as_str().map(|number| number.parse::<u64>().unwrap());
        match columns {
            None if item.get("_deleted").is_some() => {}
            None => {
                stored.insert(key.to_owned(), version("v").unwrap());
            }
            Some(columns) => {
                let some = columns.iter().filter_map(|column| Some((format!("{key}/{column}"), version(column)?)));
                stored.extend(some);
            }
        }
    }
    book.history().check(&stored)
}

/// Columns by name and type.
fn columns(columns: &[(&str, v1::PrimitiveType)]) -> v1::Schema {
    let field = |(name, primitive): &(&str, v1::PrimitiveType)| v1::Field {
        name: (*name).to_owned(),
        r#type: Some(v1::DataType { r#type: Some(v1::data_type::Type::Primitive((*primitive).into())) }),
        nullable: !["id", "op"].contains(name),
        ..v1::Field::default()
    };
    v1::Schema { fields: columns.iter().map(field).collect() }
}

/// Merges of the key and one column.
fn merges(column: &str) -> OpenOptions {
    let columns = columns(&[("id", v1::PrimitiveType::String), (column, v1::PrimitiveType::Long)]);
    rows().mode(WriteMode::Merge).columns(columns)
}

/// A merge of one column; every seventh removes it.
fn merge(key: &str, column: &str, version: u64) -> Row {
    let removes = version.is_multiple_of(7);
    let (value, effect) = if removes { (null(), Effect::Delete) } else { (int(version as i64), Effect::Put(version)) };
    Row { values: vec![text(key), value], effects: vec![(format!("{key}/{column}"), effect)] }
}

fn put(key: impl Into<String>, version: u64) -> Row {
    let key = key.into();
    Row { values: vec![text(key.clone()), int(version as i64)], effects: vec![(key, Effect::Put(version))] }
}

/// A delete by the key alone, for tables in no order.
fn delete(key: impl Into<String>) -> Row {
    let key = key.into();
    Row { values: vec![text(key.clone())], effects: vec![(key, Effect::Delete)] }
}

fn rows() -> OpenOptions {
    OpenOptions::new("rows")
}

/// Whether an item or a key is of this partition.
fn is_of(item: &Value, prefix: &str) -> bool {
    item["id"]["S"].as_str().is_some_and(|id| id.starts_with(prefix))
}
