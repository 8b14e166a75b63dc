//! A stub DynamoDB over HTTP, for load and benchmarks: it reads every request to the last byte, counts, and answers.
//!
//! The embedded store is right for correctness, but one lock on SQLite is what a load run would measure. This one checks
//! that a request is well-formed DynamoDB JSON without building it, and by default keeps nothing but table descriptions
//! and the items of control tables (those with the key `pk`, `sk`), which a gateway needs for its catalog. With
//! [`StubOptions::keep_items`] it keeps everything, for reads.
//!
//! It never throttles. Conditions and merges are evaluated where items are kept; where they are not, every condition
//! holds. `GET /stats` answers with [`StubStats`] as JSON;
//! `DELETE /stats` also resets them. Use it in-process by [`StubStore::start`], or as a process by
//! `cargo run --example stub_dynamodb`.

#![allow(dead_code, reason = "each test and benchmark uses its own part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

#[path = "stub_expressions.rs"]
mod stub_expressions;
#[path = "stub_json.rs"]
mod stub_json;

use stub_expressions::Unknown;
use stub_json::{BatchWrite, Write};

/// DynamoDB's own limits, checked so that a gateway that breaks them is found out.
const MAX_OPERATIONS: usize = 25;
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// How the stub behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StubOptions {
    /// How long it waits before each answer to a write or read of items.
    pub(crate) latency: Duration,
    /// Whether items of all tables are kept, so that they can be read.
    pub(crate) keep_items: bool,
}

/// What the stub has seen.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct StubStats {
    /// BatchWriteItem calls.
    pub(crate) batch_calls: u64,
    /// PutItem, UpdateItem and DeleteItem calls, but for control tables'.
    pub(crate) single_calls: u64,
    /// Puts in both.
    pub(crate) puts: u64,
    /// Updates.
    pub(crate) updates: u64,
    /// Deletes in both.
    pub(crate) deletes: u64,
    /// Conditions that were false.
    pub(crate) false_conditions: u64,
    /// Bytes of their bodies.
    pub(crate) write_bytes: u64,
    /// GetItem and BatchGetItem calls.
    pub(crate) read_calls: u64,
    /// Requests that were refused as malformed.
    pub(crate) refused: u64,
    /// BatchWriteItem calls by their number of items: index 25 is a full call.
    pub(crate) calls_by_items: Vec<u64>,
    /// Mean items of a BatchWriteItem.
    pub(crate) mean_items: f64,
}

#[derive(Debug, Default)]
struct Counters {
    batch_calls: AtomicU64,
    single_calls: AtomicU64,
    puts: AtomicU64,
    updates: AtomicU64,
    deletes: AtomicU64,
    false_conditions: AtomicU64,
    write_bytes: AtomicU64,
    read_calls: AtomicU64,
    refused: AtomicU64,
    calls_by_items: [AtomicU64; MAX_OPERATIONS + 1],
}

/// A table: its description, and its items by key text.
#[derive(Debug)]
struct Table {
    description: Value,
    key: Vec<String>,
    keeps: bool,
    items: BTreeMap<String, Value>,
}

#[derive(Debug)]
struct Stub {
    options: StubOptions,
    counters: Counters,
    tables: Mutex<BTreeMap<String, Table>>,
}

/// A running stub. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct StubStore {
    address: SocketAddr,
    stub: Arc<Stub>,
    server: tokio::task::JoinHandle<()>,
}

impl StubStore {
    /// Starts on the listener, on the current runtime.
    pub(crate) fn start(listener: TcpListener, options: StubOptions) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let stub = Arc::new(Stub { options, counters: Counters::default(), tables: Mutex::default() });
        let app = Router::new()
            .route("/", post(handle))
            .route("/stats", get(stats).delete(reset_stats))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(stub.clone());
        let server = tokio::spawn(async move {
            // `axum::serve` goes on over every accept error; it ends only with its task.
            axum::serve(listener, app).await.unwrap_or(());
        });
        Ok(Self { address, stub, server })
    }

    /// Where it listens.
    pub(crate) fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has seen so far.
    pub(crate) fn stats(&self) -> StubStats {
        self.stub.counters.read(|counter| counter.load(Relaxed))
    }
}

impl Drop for StubStore {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Counters {
    fn read(&self, load: impl Fn(&AtomicU64) -> u64) -> StubStats {
        let calls_by_items: Vec<u64> = self.calls_by_items.iter().map(&load).collect();
        let items: u64 = calls_by_items.iter().zip(0..).map(|(calls, items)| calls * items).sum();
        let calls: u64 = calls_by_items.iter().sum();
        StubStats {
            batch_calls: load(&self.batch_calls),
            single_calls: load(&self.single_calls),
            puts: load(&self.puts),
            updates: load(&self.updates),
            deletes: load(&self.deletes),
            false_conditions: load(&self.false_conditions),
            write_bytes: load(&self.write_bytes),
            read_calls: load(&self.read_calls),
            refused: load(&self.refused),
            mean_items: items as f64 / calls.max(1) as f64,
            calls_by_items,
        }
    }
}

async fn stats(State(stub): State<Arc<Stub>>) -> String {
    json!(stub.counters.read(|counter| counter.load(Relaxed))).to_string()
}

async fn reset_stats(State(stub): State<Arc<Stub>>) -> String {
    json!(stub.counters.read(|counter| counter.swap(0, Relaxed))).to_string()
}

/// A refusal in DynamoDB's words.
#[derive(Debug)]
struct Refusal {
    kind: &'static str,
    message: String,
    /// The item that made a condition false, where it was asked for.
    item: Option<Value>,
}

impl Refusal {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), item: None }
    }

    fn is_false_condition(&self) -> bool {
        self.kind == "ConditionalCheckFailedException"
    }
}

async fn handle(State(stub): State<Arc<Stub>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix("DynamoDB_20120810.").unwrap_or_default();
    let answer = match operation {
        "BatchWriteItem" => stub.batch_write(&body),
        "PutItem" | "UpdateItem" | "DeleteItem" => stub.write_one(operation, &body),
        _ => stub.other(operation, &body),
    };
    let waits =
        matches!(operation, "BatchWriteItem" | "PutItem" | "UpdateItem" | "DeleteItem" | "GetItem" | "BatchGetItem");
    if waits && !stub.options.latency.is_zero() {
        tokio::time::sleep(stub.options.latency).await;
    }
    let (status, body) = match answer {
        Ok(answer) => (StatusCode::OK, answer),
        Err(refusal) => {
            let counters = &stub.counters;
            let counter = if refusal.is_false_condition() { &counters.false_conditions } else { &counters.refused };
            counter.fetch_add(1, Relaxed);
            let kind = format!("com.amazonaws.dynamodb.v20120810#{}", refusal.kind);
            let mut body = json!({"__type": kind, "message": refusal.message});
            if let Some(item) = refusal.item {
                body["Item"] = item;
            }
            (StatusCode::BAD_REQUEST, body.to_string())
        }
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body).into_response()
}

fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new("SerializationException", error.to_string())
}

impl Stub {
    fn tables(&self) -> MutexGuard<'_, BTreeMap<String, Table>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch_write(&self, body: &[u8]) -> Result<String, Refusal> {
        let batch: BatchWrite = serde_json::from_slice(body).map_err(malformed)?;
        let items = batch.puts + batch.deletes;
        if items == 0 || items > MAX_OPERATIONS {
            return Err(Refusal::new("ValidationException", format!("{items} operations in a BatchWriteItem")));
        }
        if self.options.keep_items {
            let whole: Value = serde_json::from_slice(body).map_err(malformed)?;
            let mut tables = self.tables();
            for (name, requests) in whole["RequestItems"].as_object().into_iter().flatten() {
                let table = tables.get_mut(name).ok_or_else(|| missing(name))?;
                for request in requests.as_array().into_iter().flatten() {
                    match request.get("PutRequest") {
                        Some(put) => table.put(put["Item"].clone())?,
                        None => table.delete(&request["DeleteRequest"]["Key"])?,
                    }
                }
            }
        }
        let counters = &self.counters;
        counters.batch_calls.fetch_add(1, Relaxed);
        counters.puts.fetch_add(batch.puts as u64, Relaxed);
        counters.deletes.fetch_add(batch.deletes as u64, Relaxed);
        counters.write_bytes.fetch_add(body.len() as u64, Relaxed);
        counters.calls_by_items[items].fetch_add(1, Relaxed);
        // One unit an item: who wants true units must not ask a stub.
        Ok(format!(
            r#"{{"UnprocessedItems":{{}},"ConsumedCapacity":[{{"TableName":"stub","CapacityUnits":{items}.0}}]}}"#
        ))
    }

    fn write_one(&self, operation: &str, body: &[u8]) -> Result<String, Refusal> {
        let write: Write<'_> = serde_json::from_slice(body).map_err(malformed)?;
        let mut tables = self.tables();
        let table = tables.get_mut(&*write.table);
        let control = table.as_ref().is_some_and(|table| table.is_control());
        if let Some(table) = table.filter(|table| table.keeps) {
            table.write(operation, serde_json::from_slice(body).map_err(malformed)?)?;
        } else if write.conditional && operation == "DeleteItem" {
            return Err(Refusal::new("ValidationException", "Forebay sends no conditional deletes"));
        }
        if !control {
            let counter = match operation {
                "PutItem" => &self.counters.puts,
                "UpdateItem" => &self.counters.updates,
                _ => &self.counters.deletes,
            };
            counter.fetch_add(1, Relaxed);
            self.counters.single_calls.fetch_add(1, Relaxed);
            self.counters.write_bytes.fetch_add(body.len() as u64, Relaxed);
        }
        Ok(r#"{"ConsumedCapacity":{"TableName":"stub","CapacityUnits":1.0}}"#.to_owned())
    }

    fn other(&self, operation: &str, body: &[u8]) -> Result<String, Refusal> {
        let request: Value = serde_json::from_slice(body).map_err(malformed)?;
        let name = request["TableName"].as_str().unwrap_or_default().to_owned();
        let mut tables = self.tables();
        let answer = match operation {
            "GetItem" => {
                self.counters.read_calls.fetch_add(1, Relaxed);
                let table = tables.get(&name).ok_or_else(|| missing(&name))?;
                match table.items.get(&table.key_text(&request["Key"])?) {
                    Some(item) => json!({"Item": projected(item, &request)}),
                    None => json!({}),
                }
            }
            "BatchGetItem" => {
                self.counters.read_calls.fetch_add(1, Relaxed);
                let mut responses = Map::new();
                for (name, wanted) in request["RequestItems"].as_object().into_iter().flatten() {
                    let table = tables.get(name).ok_or_else(|| missing(name))?;
                    let mut found = Vec::new();
                    for key in wanted["Keys"].as_array().into_iter().flatten() {
                        found.extend(table.items.get(&table.key_text(key)?).map(|item| projected(item, wanted)));
                    }
                    responses.insert(name.clone(), Value::Array(found));
                }
                json!({"Responses": responses, "UnprocessedKeys": {}})
            }
            "Query" => {
                // The one query of the catalog: the records of a `pk`, ordered by `sk`.
                let table = tables.get(&name).ok_or_else(|| missing(&name))?;
                let pk = &request["ExpressionAttributeValues"][":pk"];
                let mut items: Vec<&Value> = table.items.values().filter(|item| &item["pk"] == pk).collect();
                items.sort_by_key(|item| item["sk"]["N"].as_str().and_then(|sk| sk.parse::<u128>().ok()));
                if request["ScanIndexForward"] == json!(false) {
                    items.reverse();
                }
                items.truncate(request["Limit"].as_u64().map_or(usize::MAX, |limit| limit as usize));
                json!({"Items": items, "Count": items.len()})
            }
            "Scan" => {
                let table = tables.get(&name).ok_or_else(|| missing(&name))?;
                let items: Vec<&Value> = table.items.values().collect();
                json!({"Items": items, "Count": items.len()})
            }
            "CreateTable" => {
                if tables.contains_key(&name) {
                    return Err(Refusal::new("ResourceInUseException", format!("Table already exists: {name}")));
                }
                let table = Table::new(&request, self.options.keep_items);
                let description = table.description.clone();
                tables.insert(name, table);
                json!({"TableDescription": description})
            }
            "DescribeTable" => {
                let table = tables.get(&name).ok_or_else(|| missing(&name))?;
                json!({"Table": table.description})
            }
            "DeleteTable" => {
                let table = tables.remove(&name).ok_or_else(|| missing(&name))?;
                json!({"TableDescription": table.description})
            }
            "ListTables" => json!({"TableNames": tables.keys().collect::<Vec<_>>()}),
            "UpdateTimeToLive" => json!({"TimeToLiveSpecification": request["TimeToLiveSpecification"]}),
            "UpdateContinuousBackups" => {
                json!({"ContinuousBackupsDescription": {"ContinuousBackupsStatus": "ENABLED"}})
            }
            _ => {
                let message = format!("the stub does not know `{operation}`");
                return Err(Refusal::new("UnknownOperationException", message));
            }
        };
        Ok(answer.to_string())
    }
}

impl Table {
    fn new(request: &Value, keep_items: bool) -> Self {
        let mut description = request.clone();
        description["TableStatus"] = json!("ACTIVE");
        let elements = request["KeySchema"].as_array().into_iter().flatten();
        let key: Vec<String> =
            elements.filter_map(|element| element["AttributeName"].as_str()).map(str::to_owned).collect();
        let control = key == ["pk", "sk"];
        Self { description, key, keeps: keep_items || control, items: BTreeMap::new() }
    }

    fn is_control(&self) -> bool {
        self.key == ["pk", "sk"]
    }

    fn key_text(&self, item: &Value) -> Result<String, Refusal> {
        let values: Option<Vec<&Value>> = self.key.iter().map(|name| item.get(name)).collect();
        let values = values
            .ok_or_else(|| Refusal::new("ValidationException", "One of the required keys was not given a value"))?;
        Ok(json!(values).to_string())
    }

    /// A PutItem, UpdateItem or DeleteItem with its condition.
    fn write(&mut self, operation: &str, mut request: Value) -> Result<(), Refusal> {
        let key = self.key_text(if operation == "PutItem" { &request["Item"] } else { &request["Key"] })?;
        let stored = self.items.get(&key);
        let unknown = |Unknown(words)| Refusal::new("ValidationException", format!("the stub does not know `{words}`"));
        if !stub_expressions::holds(&request, stored).map_err(unknown)? {
            let mut refusal = Refusal::new("ConditionalCheckFailedException", "The conditional request failed");
            refusal.item = stored.filter(|_| request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD").cloned();
            return Err(refusal);
        }
        match operation {
            "PutItem" => self.items.insert(key, request["Item"].take()),
            "UpdateItem" => {
                let item = stub_expressions::updated(&request, stored).map_err(unknown)?;
                self.items.insert(key, item)
            }
            _ => self.items.remove(&key),
        };
        Ok(())
    }

    fn put(&mut self, item: Value) -> Result<(), Refusal> {
        let key = self.key_text(&item)?;
        self.items.insert(key, item);
        Ok(())
    }

    fn delete(&mut self, key: &Value) -> Result<(), Refusal> {
        let key = self.key_text(key)?;
        self.items.remove(&key);
        Ok(())
    }
}

fn missing(table: &str) -> Refusal {
    let message = format!("Requested resource not found: Table: {table} not found");
    Refusal::new("ResourceNotFoundException", message)
}

/// The item, or the attributes of it that `#0,#1` stand for.
fn projected(item: &Value, request: &Value) -> Value {
    let (Some(_), Some(names)) =
        (request["ProjectionExpression"].as_str(), request["ExpressionAttributeNames"].as_object())
    else {
        return item.clone();
    };
    let wanted = names.values().filter_map(Value::as_str);
    Value::Object(wanted.filter_map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect())
}
