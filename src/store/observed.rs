//! A store whose reads and writes are measured: a span and a duration for each call, by OpenTelemetry's conventions for
//! databases.
//!
//! A call is what the trait calls one: retries of the read client are within it. Calls that manage tables and control records
//! are passed on as they are. A call whose caller no longer waits ends as `timeout`.

use std::sync::Arc;

use opentelemetry::KeyValue;
use tokio::time::Instant;

use super::{
    BatchGetDone, BatchWrite, ControlError, ControlRecord, GetKeys, Item, OneWrite, QueryPage, QueryRange, ReadError,
    Store, StoreFuture, TableDescription, TransactWrite, WriteDone, WriteError, WriteOp,
};
use crate::schema::table::TableDef;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::DbLabel;
use crate::telemetry::spans::{Span, within};

/// Where a store is, for people who read traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// A host name or address.
    pub host: Arc<str>,
    /// Where it is not the usual one.
    pub port: Option<u16>,
}

/// See the module.
pub struct Observed {
    inner: Arc<dyn Store>,
    instruments: Arc<Instruments>,
    server: Option<ServerAddress>,
}

impl Observed {
    /// Measures `inner`.
    pub fn new(inner: Arc<dyn Store>, instruments: Arc<Instruments>, server: Option<ServerAddress>) -> Self {
        Self { inner, instruments, server }
    }

    fn observe<'a, T: Send + 'a, E: ErrorKind + Send + 'a>(
        &'a self,
        operation: &'static str,
        table: Option<Arc<str>>,
        items: Option<usize>,
        call: StoreFuture<'a, T, E>,
        seen: impl FnOnce(&T, &Span) + Send + 'a,
    ) -> StoreFuture<'a, T, E> {
        let span = self.instruments.tracing.outgoing(|| self.describe(operation, table.as_deref(), items));
        let scope = span.as_ref().map(Span::scope);
        let mut running = Running { store: self, operation, table, started: Instant::now(), span, ended: false };
        Box::pin(async move {
            let answer = within(scope, call).await;
            match &answer {
                Ok(done) => {
                    if let Some(span) = &running.span {
                        seen(done, span);
                    }
                    running.end(None);
                }
                Err(error) => {
                    if let (Some(span), Some(code)) = (&running.span, error.answer()) {
                        span.note([KeyValue::new("db.response.status_code", code)]);
                    }
                    running.end(error.kind());
                }
            }
            answer
        })
    }

    fn describe(&self, operation: &'static str, table: Option<&str>, items: Option<usize>) -> (String, Vec<KeyValue>) {
        let mut attributes =
            vec![KeyValue::new("db.system.name", SYSTEM), KeyValue::new("db.operation.name", operation)];
        attributes.extend(table.map(|table| KeyValue::new("db.collection.name", table.to_owned())));
        // Of one item it is no batch, by the conventions.
        let batch = items.filter(|items| *items > 1).and_then(|items| i64::try_from(items).ok());
        attributes.extend(batch.map(|items| KeyValue::new("db.operation.batch.size", items)));
        if let Some(server) = &self.server {
            attributes.push(KeyValue::new("server.address", server.host.to_string()));
            attributes.extend(server.port.map(|port| KeyValue::new("server.port", i64::from(port))));
        }
        let name = table.map_or_else(|| operation.to_owned(), |table| format!("{operation} {table}"));
        (name, attributes)
    }
}

/// The conventions' name of DynamoDB.
const SYSTEM: &str = "aws.dynamodb";

/// A call that goes on.
struct Running<'a> {
    store: &'a Observed,
    operation: &'static str,
    table: Option<Arc<str>>,
    started: Instant,
    span: Option<Span>,
    ended: bool,
}

impl Running<'_> {
    fn end(&mut self, error: Option<&'static str>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let server = self.store.server.as_ref().map(|server| Arc::clone(&server.host));
        let (table, operation) = (self.table.take(), self.operation);
        let label = DbLabel { table, operation, system: SYSTEM, error, server };
        let seconds = self.started.elapsed().as_secs_f64();
        self.store.instruments.db_operations.get_or_create(&label).observe(seconds);
        if let Some(span) = self.span.take() {
            if let Some(error) = error {
                span.fail(error);
            }
            span.end();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.end(Some("timeout"));
    }
}

/// What kind of failure an error is.
trait ErrorKind {
    /// `error.type`; none where the error is one of the answers that were asked for.
    fn kind(&self) -> Option<&'static str>;

    /// DynamoDB's name for an answer that was asked for.
    fn answer(&self) -> Option<&'static str> {
        None
    }
}

impl ErrorKind for WriteError {
    fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Throttled { .. } => Some("throttled"),
            // Rows whose write has a condition ask for it.
            Self::Condition { .. } => None,
            Self::Cancelled { .. } => Some("transaction_cancelled"),
            Self::Validation { .. } => Some("refused"),
            Self::TableMissing { .. } => Some("table_missing"),
            Self::Access { .. } => Some("access"),
            Self::NotSent { .. } => Some("unreachable"),
            Self::Unknown { .. } => Some("unknown_outcome"),
        }
    }

    fn answer(&self) -> Option<&'static str> {
        matches!(self, Self::Condition { .. }).then_some("ConditionalCheckFailedException")
    }
}

impl ErrorKind for ReadError {
    fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::Throttled { .. } => "throttled",
            Self::Validation { .. } => "refused",
            Self::TableMissing { .. } => "table_missing",
            Self::Access { .. } => "access",
            Self::Unavailable { .. } => "unreachable",
        })
    }
}

fn count(key: &'static str, count: usize) -> KeyValue {
    KeyValue::new(key, i64::try_from(count).unwrap_or(i64::MAX))
}

fn written(done: &WriteDone, span: &Span) {
    span.note([KeyValue::new("forebay.write_units", done.write_units)]);
    if !done.unprocessed.is_empty() {
        span.note([count("forebay.unprocessed", done.unprocessed.len())]);
    }
}

impl Store for Observed {
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let (table, items) = (Arc::clone(&request.table), request.items.len());
        self.observe("BatchWriteItem", Some(table), Some(items), self.inner.batch_write(request), written)
    }

    fn write_one(&self, request: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let operation = match request.item.op {
            WriteOp::Put | WriteOp::Insert => "PutItem",
            WriteOp::Merge => "UpdateItem",
            WriteOp::Delete => "DeleteItem",
        };
        let table = Arc::clone(&request.table);
        self.observe(operation, Some(table), None, self.inner.write_one(request), written)
    }

    fn transact_write(&self, request: TransactWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let (table, items) = (Arc::clone(&request.table), request.items.len());
        self.observe("TransactWriteItems", Some(table), Some(items), self.inner.transact_write(request), written)
    }

    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        let table = Arc::clone(&keys.table);
        self.observe("GetItem", Some(table), None, self.inner.get(keys), |_, _| {})
    }

    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        let items = tables.iter().map(|table| table.keys.len()).sum();
        let table = match tables.as_slice() {
            [one] => Some(Arc::clone(&one.table)),
            _ => None,
        };
        self.observe("BatchGetItem", table, Some(items), self.inner.batch_get(tables), |done, span| {
            let unprocessed: usize = done.unprocessed.iter().map(Vec::len).sum();
            if unprocessed > 0 {
                span.note([count("forebay.unprocessed", unprocessed)]);
            }
        })
    }

    fn query(&self, range: QueryRange) -> StoreFuture<'_, QueryPage, ReadError> {
        let table = Arc::clone(&range.table);
        self.observe("Query", Some(table), None, self.inner.query(range), |page, span| {
            span.note([count("db.response.returned_rows", page.items.len())]);
        })
    }

    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        self.inner.describe_table(table)
    }

    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        self.inner.create_table(definition)
    }

    fn complete_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        self.inner.complete_table(definition)
    }

    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        self.inner.delete_table(table)
    }

    fn ensure_control_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        self.inner.ensure_control_table(table)
    }

    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError> {
        self.inner.put_record(table, record, only_if_absent)
    }

    fn get_record<'a>(
        &'a self,
        table: &'a str,
        pk: &'a str,
        sk: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        self.inner.get_record(table, pk, sk)
    }

    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        self.inner.scan_records(table)
    }
}
