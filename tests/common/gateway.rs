//! A gateway over the embedded store in memory, on ports of its own, and the words that tests speak to it.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::Duration;

use forebay::client::{self, Client, Lookup};
use forebay::config::{Config, EmbeddedChoice, Settings};
use forebay::proto::v1::{self, value::Kind};
use forebay::server::Gateway;

/// Settings of a gateway on free ports over the embedded store in memory.
pub fn settings(change: impl FnOnce(&mut Config)) -> Settings {
    let mut config = Config {
        listen: Some("127.0.0.1:0".to_owned()),
        admin: Some("127.0.0.1:0".to_owned()),
        embedded: Some(EmbeddedChoice::Switch(true)),
        memory_mib: Some(512),
        drain_seconds: Some(2.0),
        ..Config::default()
    };
    change(&mut config);
    Settings::try_new(config).expect("usable settings")
}

/// A gateway over the embedded store in memory, and a client of it.
pub async fn start() -> (Gateway, Client) {
    start_with(settings(|_| {})).await
}

/// A gateway and a client of it.
pub async fn start_with(settings: Settings) -> (Gateway, Client) {
    let gateway = Gateway::start(settings).await.expect("the gateway starts");
    let client = client::connect(&gateway.endpoint()).expect("a usable endpoint");
    (gateway, client)
}

/// Creates a table from DDL.
pub async fn table(client: &Client, name: &str, ddl: &str, partition: &[&str], sort: &[&str]) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let key = v1::Key { partition: owned(partition), sort: owned(sort), ..v1::Key::default() };
    let table = v1::Table { name: name.to_owned(), ddl: ddl.to_owned(), key: Some(key), ..v1::Table::default() };
    client.tables().apply(table, false).await.expect("the table is applied");
}

pub fn text(text: impl Into<String>) -> v1::Value {
    v1::Value { kind: Some(Kind::StringValue(text.into())) }
}

pub fn int(value: i64) -> v1::Value {
    v1::Value { kind: Some(Kind::IntValue(value)) }
}

pub fn double(value: f64) -> v1::Value {
    v1::Value { kind: Some(Kind::DoubleValue(value)) }
}

pub fn null() -> v1::Value {
    v1::Value { kind: None }
}

pub fn rows(rows: impl IntoIterator<Item = Vec<v1::Value>>) -> v1::RowBatch {
    v1::RowBatch { rows: rows.into_iter().map(|values| v1::Row { values }).collect() }
}

/// Reads a row strongly: its values, or none.
pub async fn get(client: &Client, table: &str, key: Vec<v1::Value>) -> Option<Vec<v1::Value>> {
    let read = client.reader().strong(true).get_row(table, key, &[]).await.expect("a read");
    match read.lookup {
        Lookup::Found(values) => Some(values),
        Lookup::NotFound => None,
        other => panic!("unexpected {other:?}"),
    }
}

/// Waits until a condition holds, for at most ten seconds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came about: {what}");
}

/// A raw write session: what the protocol says, without the client's help.
pub struct RawSession {
    pub requests: tokio::sync::mpsc::Sender<v1::WriteRequest>,
    pub responses: tonic::Streaming<v1::WriteResponse>,
}

impl RawSession {
    /// Opens a call and sends its first message.
    pub async fn open(client: &Client, open: v1::Open) -> Self {
        let mut session = Self::call(client).await;
        session.send(v1::write_request::Message::Open(open)).await;
        session
    }

    /// Opens a call and sends nothing.
    pub async fn call(client: &Client) -> Self {
        Self::try_call(client).await.expect("the call is accepted")
    }

    /// Opens a call that may be refused.
    pub async fn try_call(client: &Client) -> Result<Self, tonic::Status> {
        let (requests, receiver) = tokio::sync::mpsc::channel(256);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut ingest =
            v1::ingest_service_client::IngestServiceClient::new(client.channel()).max_encoding_message_size(usize::MAX);
        let mut call = tonic::Request::new(stream);
        client.authorize(&mut call);
        let responses = ingest.write(call).await?.into_inner();
        Ok(Self { requests, responses })
    }

    pub async fn send(&mut self, message: v1::write_request::Message) {
        let request = v1::WriteRequest { message: Some(message) };
        // A session that has ended does not read; what it says is what tests look at.
        let _ended = self.requests.send(request).await;
    }

    pub async fn send_rows(&mut self, batch_seq: u64, batch: v1::RowBatch) {
        let payload = Some(v1::batch::Payload::Rows(batch));
        self.send(v1::write_request::Message::Batch(v1::Batch { batch_seq, payload, atomic: false })).await;
    }

    /// The next response; the call must not have ended.
    pub async fn next(&mut self) -> v1::write_response::Message {
        self.try_next().await.expect("a response").expect("the call goes on").message.expect("a message")
    }

    pub async fn try_next(&mut self) -> Result<Option<v1::WriteResponse>, tonic::Status> {
        tokio::time::timeout(Duration::from_secs(20), self.responses.message()).await.expect("an answer in time")
    }

    /// Reads responses until the call ends, and says how.
    pub async fn end(&mut self) -> Result<Vec<v1::write_response::Message>, tonic::Status> {
        let mut messages = Vec::new();
        while let Some(response) = self.try_next().await? {
            messages.extend(response.message);
        }
        Ok(messages)
    }
}

/// An Open of a table, else by defaults.
pub fn open(table: &str) -> v1::Open {
    v1::Open { table: table.to_owned(), ..v1::Open::default() }
}
