//! Point reads: one row, or many rows of several tables, each with its own outcome.
//!
//! A key that the store did not answer for is [`ReadOutcome::Unavailable`], never "not found". A batch answers with what
//! it has at its deadline. Memory is bounded: what does not fit into one answer is reported and not fetched on.
//! Time is tokio's; the wall clock that decides about expiry is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Backoff;
use super::wanted::{Fetched, Wanted};
use crate::limits::{READ_CONCURRENT_CALLS, READ_MAX_ANSWER_BYTES};
use crate::payload::decode::{DecodeError, Decoded, RowDecoder};
use crate::proto::v1::Row;
use crate::store::{Attr, GetKeys, Item, KeyAttrs, ReadError, Store, ThrottleReason};

/// Keys to read from one table, and the columns to return.
#[derive(Debug)]
pub struct TableRead<'a> {
    /// The DynamoDB table.
    pub dynamodb_table: Arc<str>,
    /// How its items become rows.
    pub decoder: RowDecoder<'a>,
    /// The keys; duplicates are allowed.
    pub keys: Vec<KeyAttrs>,
}

/// What holds for a whole call.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Strongly consistent.
    pub strong: bool,
    /// When to answer with what there is.
    pub answer_by: Instant,
    /// The wall clock, in seconds since the epoch: rows whose time to live is not later have expired.
    pub now_epoch_seconds: i64,
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadOutcome {
    /// The row.
    Found(Row),
    /// There is no such row.
    NotFound,
    /// There is a row whose time to live has passed.
    Expired,
    /// It is not known whether there is a row.
    Unavailable(Unavailable),
    /// There is an item that does not fit the schema.
    Undecodable(DecodeError),
}

/// Why it is not known whether there is a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// The store did not answer in time.
    #[error("DynamoDB did not answer before the deadline")]
    Deadline,
    /// The rows before it fill the answer.
    #[error("the answer is full ({limit_bytes} bytes of rows); ask for fewer keys or columns")]
    AnswerFull {
        /// The limit.
        limit_bytes: usize,
    },
}

impl Unavailable {
    pub(super) const ANSWER_FULL: Self = Self::AnswerFull { limit_bytes: READ_MAX_ANSWER_BYTES };
}

impl ReadOutcome {
    /// The outcome of what the store said about a key.
    pub(super) fn of(fetched: Fetched, decoder: &RowDecoder<'_>, now_epoch_seconds: i64) -> Self {
        match fetched {
            Err(unavailable) => Self::Unavailable(unavailable),
            Ok(None) => Self::NotFound,
            Ok(Some(item)) => match decoder.decode(item, now_epoch_seconds) {
                Ok(Decoded::Row(row)) => Self::Found(row),
                Ok(Decoded::Expired) => Self::Expired,
                Ok(Decoded::Deleted) => Self::NotFound,
                Err(error) => Self::Undecodable(error),
            },
        }
    }
}

/// Reads rows by key.
#[derive(Clone)]
pub struct PointReader {
    store: Arc<dyn Store>,
}

impl std::fmt::Debug for PointReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PointReader").finish_non_exhaustive()
    }
}

impl PointReader {
    /// A reader of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Reads one row. Throttling is waited out until the deadline.
    pub async fn get_row(
        &self,
        dynamodb_table: Arc<str>,
        decoder: &RowDecoder<'_>,
        key: KeyAttrs,
        options: ReadOptions,
    ) -> ReadOutcome {
        let attributes = decoder.attributes().clone();
        let request = GetKeys { table: dynamodb_table, keys: vec![key], attributes, strong: options.strong };
        let mut backoff = Backoff::default();
        let mut why = Unavailable::Deadline;
        loop {
            match timeout_at(options.answer_by, self.store.get(request.clone())).await {
                Err(_elapsed) => return ReadOutcome::Unavailable(why),
                Ok(Err(throttled @ ReadError::Throttled { .. })) => why = throttled.into(),
                Ok(answer) => {
                    let fetched = answer.map_err(Unavailable::from);
                    return ReadOutcome::of(fetched, decoder, options.now_epoch_seconds);
                }
            }
            if !wait(backoff.next_delay(), options.answer_by).await {
                return ReadOutcome::Unavailable(why);
            }
        }
    }

    /// Reads rows of several tables: for each table, in order, an outcome for each key, in order.
    ///
    /// Equal keys are fetched once. What is not there by the deadline is unavailable.
    pub async fn batch_get(&self, tables: &[TableRead<'_>], options: ReadOptions) -> Vec<Vec<ReadOutcome>> {
        let mut wanted = Wanted::gather(tables);
        let calls = wanted.calls();
        let batch = Batch {
            store: self.store.as_ref(),
            wanted: &wanted,
            strong: options.strong,
            until: options.answer_by,
            room_bytes: AtomicUsize::new(READ_MAX_ANSWER_BYTES),
        };
        let fetching: Vec<_> = calls.into_iter().map(|call| batch.fetch(call)).collect();
        let fetched: Vec<_> = stream::iter(fetching).buffer_unordered(READ_CONCURRENT_CALLS).collect().await;
        wanted.settle(fetched.into_iter().flatten());
        wanted.answer(tables, options.now_epoch_seconds)
    }
}

/// The fetching part of one `batch_get`, shared by its calls.
struct Batch<'a> {
    store: &'a dyn Store,
    wanted: &'a Wanted,
    strong: bool,
    until: Instant,
    /// How many bytes of items may still be fetched; what is fetched beyond could not be answered anyway.
    room_bytes: AtomicUsize,
}

/// What one call came to.
struct CallResult {
    settled: Vec<(usize, Fetched)>,
    /// Calls to make instead: the same keys, table by table.
    split: Vec<Vec<usize>>,
}

impl Batch<'_> {
    /// Fetches the wanted keys of one call, whatever calls that takes.
    async fn fetch(&self, call: Vec<usize>) -> Vec<(usize, Fetched)> {
        let mut settled = Vec::with_capacity(call.len());
        let mut calls = vec![call];
        while let Some(call) = calls.pop() {
            let result = self.call(call).await;
            settled.extend(result.settled);
            calls.extend(result.split);
        }
        settled
    }

    /// One BatchGetItem, asked again for what was not processed, until everything is there or time is up.
    async fn call(&self, mut ids: Vec<usize>) -> CallResult {
        let mut settled: Vec<(usize, Fetched)> = Vec::with_capacity(ids.len());
        let mut backoff = Backoff::default();
        let mut why = Unavailable::Deadline;
        let why = loop {
            if self.room_bytes.load(Ordering::Relaxed) == 0 {
                break Unavailable::ANSWER_FULL;
            }
            let (tables, ids_by_table) = self.wanted.request(&ids, self.strong);
            match timeout_at(self.until, self.store.batch_get(tables)).await {
                Err(_elapsed) => break why,
                Ok(Err(throttled @ ReadError::Throttled { .. })) => why = throttled.into(),
                // One table's fault must not become its neighbours'.
                Ok(Err(fault)) if ids_by_table.len() > 1 && may_concern_one_table(&fault) => {
                    return CallResult { settled, split: ids_by_table };
                }
                Ok(Err(fault)) => break fault.into(),
                Ok(Ok(done)) => {
                    let (answered, unprocessed) = self.wanted.sort_out(ids_by_table, done);
                    if !answered.is_empty() {
                        backoff.progressed();
                    }
                    self.take_room(&answered);
                    settled.extend(answered);
                    if unprocessed.is_empty() {
                        return CallResult { settled, split: Vec::new() };
                    }
                    ids = unprocessed;
                    why = ReadError::Throttled { reason: ThrottleReason::Unknown }.into();
                }
            }
            if !wait(backoff.next_delay(), self.until).await {
                break why;
            }
        };
        settled.extend(ids.into_iter().map(|id| (id, Err(why.clone()))));
        CallResult { settled, split: Vec::new() }
    }

    fn take_room(&self, answered: &[(usize, Fetched)]) {
        let items = answered.iter().filter_map(|(_, fetched)| fetched.as_ref().ok()?.as_ref());
        let bytes: usize = items.map(item_bytes).sum();
        let room = self.room_bytes.load(Ordering::Relaxed);
        // One task polls all calls of a batch, so nothing comes in between.
        self.room_bytes.store(room.saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// Whether a fault may be about one table of several.
fn may_concern_one_table(fault: &ReadError) -> bool {
    matches!(fault, ReadError::TableMissing { .. } | ReadError::Validation { .. } | ReadError::Access { .. })
}

/// Waits; or says at once that there is no time left for it.
pub(super) async fn wait(delay: Duration, until: Instant) -> bool {
    if Instant::now() + delay >= until {
        return false;
    }
    sleep(delay).await;
    true
}

/// Bytes of names, text and binaries: close enough to bound memory.
pub(super) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, attr)| name.len() + attr_bytes(attr)).sum()
}

fn attr_bytes(attr: &Attr) -> usize {
    match attr {
        Attr::S(text) | Attr::N(text) => text.len(),
        Attr::B(bytes) => bytes.len(),
        Attr::Bool(_) | Attr::Null => 1,
        Attr::L(elements) => elements.iter().map(attr_bytes).sum(),
        Attr::M(item) => item_bytes(item),
        Attr::Ss(texts) | Attr::Ns(texts) => texts.iter().map(String::len).sum(),
        Attr::Bs(binaries) => binaries.iter().map(bytes::Bytes::len).sum(),
    }
}
