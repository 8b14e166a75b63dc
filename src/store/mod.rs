//! The store: what Forebay needs of DynamoDB, as a trait.
//!
//! Writes carry items that are already DynamoDB's JSON; nothing on the write path builds an attribute map. One call is one
//! attempt: the trait never retries a write, because retries are the pool's. Reads may retry inside. Callers: the pool
//! (writes), `read` (reads), the catalog (control). Implementations: [`dynamodb`] (the only user of the SDK), and the
//! test and benchmark stores.

pub mod dynamodb;
pub mod embedded;
pub mod members;
pub mod observed;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::schema::table::{KeyAttribute, TableDef};

/// A boxed future: one allocation per attempt of up to 25 rows.
pub type StoreFuture<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// What a write does to the item with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteOp {
    /// Replace the whole item.
    Put,
    /// Delete the item.
    Delete,
    /// Set the row's attributes and leave the others; an attribute whose text is a bare `null` is removed.
    Merge,
    /// Write the item where there is none with its key.
    Insert,
}

/// One write, already in DynamoDB's JSON.
///
/// `json` is one object: the item for a put or an insert, the key and the attributes to change for a merge, the key for a
/// delete. In all of them the key attributes come first, so that `json[1..1 + key_len]` is the canonical text of the key:
/// equal keys have equal text.
#[derive(Clone)]
pub struct WriteItem {
    /// What to do.
    pub op: WriteOp,
    /// `{"id":{"S":"a"},...}`.
    pub json: Bytes,
    /// Length of the key attributes' text after the opening brace.
    pub key_len: u32,
    /// Where the value of the sequence column stands in `json`, braces included: `{"N":"17"}`. Only in tables with
    /// `sequence_by`.
    pub sequence: Option<Span>,
}

/// A part of a text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it starts.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

impl WriteItem {
    /// A write without a sequence.
    pub fn new(op: WriteOp, json: Bytes, key_len: u32) -> Self {
        Self { op, json, key_len, sequence: None }
    }

    /// The value of the sequence column as DynamoDB's JSON: `{"N":"17"}`.
    pub fn sequence_text(&self) -> Option<&[u8]> {
        self.sequence.map(|Span { start, end }| &self.json[start as usize..end as usize])
    }

    /// The canonical text of the key, without braces.
    pub fn key_text(&self) -> &[u8] {
        &self.json[1..1 + self.key_len as usize]
    }
}

impl std::fmt::Debug for WriteItem {
    /// Without the row's contents, which have no business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.json.len();
        f.debug_struct("WriteItem").field("op", &self.op).field("bytes", &bytes).finish_non_exhaustive()
    }
}

/// One BatchWriteItem for one table: 1 to 25 items with different keys.
#[derive(Debug, Clone)]
pub struct BatchWrite {
    /// The DynamoDB table.
    pub table: Arc<str>,
    /// The items.
    pub items: Vec<WriteItem>,
}

/// How rows of a table with `sequence_by` are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceRule {
    /// The attribute of the sequence column.
    pub attribute: Arc<str>,
    /// The attribute in which tombstones expire, where it is not a column of the table: a merge over a tombstone removes it.
    pub expiry_attribute: Option<Arc<str>>,
}

/// One write on its own: a PutItem, UpdateItem or DeleteItem.
///
/// With `sequence`, the condition is that no greater sequence is stored; an equal one is written again. An insert's condition
/// is that there is no item, or only a tombstone that is not newer.
#[derive(Debug, Clone)]
pub struct OneWrite {
    /// The DynamoDB table.
    pub table: Arc<str>,
    /// The item.
    pub item: WriteItem,
    /// Of tables with `sequence_by`. The item has a sequence then.
    pub sequence: Option<Arc<SequenceRule>>,
}

/// One TransactWriteItems for one table: 1 to 100 items with different keys; all are written, or none.
#[derive(Debug, Clone)]
pub struct TransactWrite {
    /// The DynamoDB table.
    pub table: Arc<str>,
    /// The items, with the conditions of [`OneWrite`].
    pub items: Vec<WriteItem>,
    /// Of tables with `sequence_by`.
    pub sequence: Option<Arc<SequenceRule>>,
    /// Makes a repetition within ten minutes harmless; at most 36 characters.
    pub token: Arc<str>,
}

/// Why one item kept a transaction from being done.
#[derive(Debug, Clone, PartialEq)]
pub enum CancelReason {
    /// It did not.
    None,
    /// Its condition was false.
    Condition {
        /// The item that is stored, if any.
        existing: Option<Item>,
    },
    /// Something else was writing it.
    Conflict,
    /// Capacity was short.
    Throttled(ThrottleReason),
    /// Its content was refused.
    Refused {
        /// DynamoDB's words, cut.
        message: String,
    },
}

/// What a write call that DynamoDB answered with success did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteDone {
    /// Indices into the request's items that DynamoDB did not process. Everything else is confirmed.
    pub unprocessed: Vec<usize>,
    /// Write units consumed, as DynamoDB reported them; 0 where it did not.
    pub write_units: f64,
}

/// Why a write call failed as a whole.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// Nothing was written: DynamoDB throttled the whole call.
    #[error("throttled: {reason}")]
    Throttled {
        /// Where capacity was short, as far as DynamoDB says.
        reason: ThrottleReason,
        /// The index that is short of capacity, where it is not the table itself.
        index: Option<Arc<str>>,
    },
    /// Nothing was written: the condition was false. Only of a single write.
    #[error("the condition was false")]
    Condition {
        /// The item that is stored, if any.
        existing: Option<Item>,
    },
    /// Nothing was written: the transaction was cancelled.
    #[error("the transaction was cancelled")]
    Cancelled {
        /// Why, for each item in its order.
        reasons: Vec<CancelReason>,
    },
    /// Nothing was written: DynamoDB refused the request's content.
    #[error("refused: {message}")]
    Validation {
        /// DynamoDB's words, cut so that they cannot echo the items.
        message: String,
    },
    /// Nothing was written: there is no such table.
    #[error("the DynamoDB table `{table}` does not exist")]
    TableMissing {
        /// The table.
        table: String,
    },
    /// Nothing was written: credentials are missing, expired or not sufficient.
    #[error("DynamoDB refuses access: {message}")]
    Access {
        /// DynamoDB's or the credential chain's words.
        message: String,
    },
    /// Nothing was written: the request did not leave, or DynamoDB said that it failed before doing anything.
    #[error("DynamoDB cannot be reached: {message}")]
    NotSent {
        /// Why.
        message: String,
    },
    /// It is not known what was written: time-out or broken connection after sending, or an internal error.
    #[error("the outcome is unknown: {message}")]
    Unknown {
        /// Why.
        message: String,
    },
}

/// Where capacity was short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThrottleReason {
    /// One partition's key range.
    KeyRange,
    /// The table's provisioned units.
    Provisioned,
    /// The account's limit.
    Account,
    /// The table's on-demand maximum.
    MaxOnDemand,
    /// DynamoDB did not say.
    Unknown,
}

impl std::fmt::Display for ThrottleReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KeyRange => "a partition's key range",
            Self::Provisioned => "the table's provisioned throughput",
            Self::Account => "the account's throughput",
            Self::MaxOnDemand => "the table's on-demand maximum",
            Self::Unknown => "DynamoDB did not say where",
        })
    }
}

/// One attribute value as DynamoDB returned it.
#[derive(Debug, Clone, PartialEq)]
pub enum Attr {
    /// Text.
    S(String),
    /// Number, as text.
    N(String),
    /// Bytes.
    B(Bytes),
    /// Boolean.
    Bool(bool),
    /// Null.
    Null,
    /// List.
    L(Vec<Attr>),
    /// Map.
    M(Item),
    /// Set of text.
    Ss(Vec<String>),
    /// Set of numbers.
    Ns(Vec<String>),
    /// Set of bytes.
    Bs(Vec<Bytes>),
}

/// An item as DynamoDB returned it.
pub type Item = std::collections::HashMap<String, Attr>;

/// A key to read: one text and one number, say.
pub type KeyAttrs = Vec<(String, Attr)>;

/// Keys to read from one DynamoDB table.
#[derive(Debug, Clone)]
pub struct GetKeys {
    /// The DynamoDB table.
    pub table: Arc<str>,
    /// Different keys.
    pub keys: Vec<KeyAttrs>,
    /// Top-level attributes to return; empty for all. Key attributes must be among them when not empty.
    pub attributes: Arc<[String]>,
    /// Strongly consistent.
    pub strong: bool,
}

/// What BatchGetItem found.
#[derive(Debug, Clone, Default)]
pub struct BatchGetDone {
    /// For each requested table, in request order: the items found, in any order.
    pub items: Vec<Vec<Item>>,
    /// For each requested table: indices into its keys that were not processed.
    pub unprocessed: Vec<Vec<usize>>,
}

/// A range of items under one partition key.
#[derive(Debug, Clone)]
pub struct QueryRange {
    /// The DynamoDB table.
    pub table: Arc<str>,
    /// The partition key's attribute and value.
    pub partition: (String, Attr),
    /// The sort key's attribute; both bounds are included. `None` for all.
    pub sort: Option<SortRange>,
    /// Top-level attributes to return; empty for all. Key attributes must be among them when not empty.
    pub attributes: Arc<[String]>,
    /// Strongly consistent.
    pub strong: bool,
    /// The greatest sort key first.
    pub descending: bool,
    /// At most so many items in the page.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub after: Option<KeyAttrs>,
}

/// Bounds of a sort key, both included.
#[derive(Debug, Clone, PartialEq)]
pub struct SortRange {
    /// The attribute.
    pub attribute: String,
    /// The smallest.
    pub from: Option<Attr>,
    /// The greatest.
    pub to: Option<Attr>,
}

/// A page of a range.
#[derive(Debug, Clone, Default)]
pub struct QueryPage {
    /// Items in order.
    pub items: Vec<Item>,
    /// Where the next page starts after; `None` at the end.
    pub next: Option<KeyAttrs>,
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Throttled after the read path's retries.
    #[error("throttled: {reason}")]
    Throttled {
        /// Where capacity was short.
        reason: ThrottleReason,
    },
    /// DynamoDB refused the request's content.
    #[error("refused: {message}")]
    Validation {
        /// DynamoDB's words, cut.
        message: String,
    },
    /// There is no such table.
    #[error("the DynamoDB table `{table}` does not exist")]
    TableMissing {
        /// The table.
        table: String,
    },
    /// Credentials are missing, expired or not sufficient.
    #[error("DynamoDB refuses access: {message}")]
    Access {
        /// Why.
        message: String,
    },
    /// Not reachable, or no answer in time.
    #[error("DynamoDB cannot be reached: {message}")]
    Unavailable {
        /// Why.
        message: String,
    },
}

/// What DescribeTable says, as far as Forebay asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDescription {
    /// Partition key.
    pub partition: KeyAttribute,
    /// Sort key.
    pub sort: Option<KeyAttribute>,
    /// Whether reads and writes are possible now.
    pub active: bool,
    /// Whether DynamoDB refuses to delete the table.
    pub deletion_protection: bool,
}

/// Why a control call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The table does not exist.
    #[error("the DynamoDB table `{table}` does not exist")]
    TableMissing {
        /// The table.
        table: String,
    },
    /// The table exists already.
    #[error("the DynamoDB table `{table}` exists already")]
    TableExists {
        /// The table.
        table: String,
    },
    /// A conditional write found the condition false.
    #[error("somebody else changed the record at the same time")]
    Conflict,
    /// DynamoDB refused the request.
    #[error("DynamoDB refused: {message}")]
    Refused {
        /// DynamoDB's words, cut.
        message: String,
    },
    /// Credentials are missing, expired or not sufficient.
    #[error("DynamoDB refuses access: {message}")]
    Access {
        /// Why.
        message: String,
    },
    /// Not reachable, or no answer in time.
    #[error("DynamoDB cannot be reached: {message}")]
    Unavailable {
        /// Why.
        message: String,
    },
}

/// What Forebay needs of DynamoDB.
pub trait Store: Send + Sync + 'static {
    /// One BatchWriteItem, one attempt.
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError>;

    /// One PutItem, UpdateItem or DeleteItem, one attempt. A success has no unprocessed items.
    fn write_one(&self, request: OneWrite) -> StoreFuture<'_, WriteDone, WriteError>;

    /// One TransactWriteItems, one attempt.
    fn transact_write(&self, request: TransactWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let message = format!("this store has no transactions ({} items)", request.items.len());
        Box::pin(std::future::ready(Err(WriteError::Validation { message })))
    }

    /// One GetItem. `keys.keys` has exactly one key.
    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError>;

    /// One BatchGetItem: different tables, at most 100 keys in all.
    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError>;

    /// One Query: the items under one partition key, in sort order, a page at a time.
    fn query(&self, range: QueryRange) -> StoreFuture<'_, QueryPage, ReadError> {
        let message = format!("this store has no ranges (of `{}`)", range.table);
        Box::pin(std::future::ready(Err(ReadError::Validation { message })))
    }

    /// Describes a table; `None` where there is none.
    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError>;

    /// Creates a table for a definition (key, billing, streams, encryption, tags, protection, maximums), waits until it is
    /// active, then sets TTL and point-in-time recovery where asked for.
    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError>;

    /// Finishes what [`create_table`](Self::create_table) began before a crash: waits until the table is active, and sets
    /// what is set after creation. Nothing, in a store whose tables come into being at once.
    fn complete_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        let _nothing_left_to_do = definition;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Deletes a table and waits until it is gone.
    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError>;

    /// Creates a control table with a text partition key `pk` and a number sort key `sk`, on demand, unless it is there;
    /// waits until it is active.
    fn ensure_control_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError>;

    /// Puts a control record; with `only_if_absent`, a present one is a [`ControlError::Conflict`].
    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError>;

    /// The record with the greatest `sk` of a `pk`, strongly consistent; or the one with exactly this `sk`.
    fn get_record<'a>(
        &'a self,
        table: &'a str,
        pk: &'a str,
        sk: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError>;

    /// All records of a control table, strongly consistent, in any order.
    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError>;
}

/// A record of a control table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRecord {
    /// Partition key.
    pub pk: String,
    /// Sort key.
    pub sk: u64,
    /// JSON text.
    pub body: String,
}

/// How a store is reached.
#[derive(Clone)]
pub struct StoreConfig {
    /// Any DynamoDB-compatible endpoint; `None` for AWS.
    pub endpoint_url: Option<String>,
    /// The region; `None` for the environment's.
    pub region: Option<String>,
    /// Fixed credentials for local endpoints; `None` for the default chain.
    pub static_credentials: Option<(String, String)>,
    /// How long one write attempt may take.
    pub write_attempt_timeout: Duration,
    /// How long one read attempt may take.
    pub read_attempt_timeout: Duration,
    /// How long a read may take with all its retries.
    pub read_timeout: Duration,
}

impl std::fmt::Debug for StoreConfig {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("endpoint_url", &self.endpoint_url)
            .field("region", &self.region)
            .field("static_credentials", &self.static_credentials.as_ref().map(|(id, _)| id))
            .field("write_attempt_timeout", &self.write_attempt_timeout)
            .field("read_attempt_timeout", &self.read_attempt_timeout)
            .field("read_timeout", &self.read_timeout)
            .finish()
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            region: None,
            static_credentials: None,
            write_attempt_timeout: Duration::from_secs(5),
            read_attempt_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
        }
    }
}
