//! A session of the real pool, as `api::ingest` has it: a window of unacked bytes and batches, memory reserved before rows
//! are handed over, acks by batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::ledger::SharedLedger;
use super::session::Writer;
use super::store::SimStore;
use super::workload::SimRow;
use crate::payload::EncodedRow;
use crate::pool::{BatchTicket, MemoryBudget, Pool, PoolTable, SessionEvent, SessionLink};
use crate::telemetry::Instruments;

/// Bytes of a row beside its text, as the sessions of `api::ingest` count them.
const ROW_OVERHEAD_BYTES: usize = 192;

/// What the sessions of a run share.
#[derive(Debug, Clone)]
pub struct PoolShared {
    /// The pool.
    pub pool: Pool,
    /// The table, as sessions name it.
    pub table: PoolTable,
    /// The process's memory for rows.
    pub memory: MemoryBudget,
    /// The clock.
    pub store: Arc<SimStore>,
    /// What becomes of rows.
    pub ledger: SharedLedger,
    /// What is counted.
    pub instruments: Arc<Instruments>,
    /// The most memory that was ever reserved.
    pub memory_peak_bytes: Arc<AtomicU64>,
    /// Unacked bytes of a session, at most.
    pub window_bytes: u64,
    /// Unacked batches of a session, at most.
    pub window_batches: u32,
}

/// A session.
#[derive(Debug)]
pub struct PoolWriter {
    shared: PoolShared,
    workload: usize,
    link: Arc<SessionLink>,
    events: mpsc::UnboundedReceiver<SessionEvent>,
    sent: u64,
    open: BTreeMap<u64, OpenBatch>,
    open_bytes: u64,
    open_rows: usize,
    failure: Option<String>,
}

#[derive(Debug)]
struct OpenBatch {
    bytes: u64,
    /// Key hashes and versions.
    rows: Vec<(u64, u64)>,
}

impl PoolWriter {
    /// A session of a workload.
    pub fn new(shared: PoolShared, workload: usize, id: u64, bulk: bool) -> Self {
        let (link, events) = SessionLink::new(id, bulk);
        let open = BTreeMap::new();
        Self { shared, workload, link, events, sent: 0, open, open_bytes: 0, open_rows: 0, failure: None }
    }

    fn take(&mut self, event: SessionEvent) {
        let mut ledger = self.shared.ledger.lock();
        match event {
            // What comes after a failure is no ack.
            SessionEvent::BatchDone(_) if self.failure.is_some() => {}
            SessionEvent::BatchDone(ticket) => {
                let Some(batch) = self.open.remove(&ticket.seq()) else { return };
                self.open_bytes -= batch.bytes;
                self.open_rows -= batch.rows.len();
                let (_, fates) = ticket.take();
                let mut fates = fates.iter().map(|(row_index, _)| *row_index as usize).peekable();
                ledger.refused(self.workload, fates.len() as u64);
                for (index, (key_hash, version)) in batch.rows.into_iter().enumerate() {
                    if fates.next_if_eq(&index).is_none() {
                        ledger.acked(self.workload, key_hash, version);
                    }
                }
            }
            SessionEvent::Failed(failure) => {
                ledger.refused(self.workload, self.open_rows as u64);
                self.open.clear();
                (self.open_bytes, self.open_rows) = (0, 0);
                self.failure = Some(failure.to_string());
            }
        }
    }
}

impl Writer for PoolWriter {
    fn has_room(&self) -> bool {
        let window = &self.shared;
        self.open.is_empty()
            || (self.open_bytes < window.window_bytes && self.open.len() < window.window_batches as usize)
    }

    fn open_rows(&self) -> usize {
        self.open_rows
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    async fn submit(&mut self, rows: Vec<SimRow>) {
        let shared = &self.shared;
        let bytes: usize = rows.iter().map(|row| row.item.json.len() + ROW_OVERHEAD_BYTES).sum();
        let memory = shared.memory.reserve(bytes).await;
        let reserved = u64::try_from(shared.instruments.reserved_bytes.get()).unwrap_or(0);
        shared.memory_peak_bytes.fetch_max(reserved, Ordering::Relaxed);
        self.sent += 1;
        let ticket = BatchTicket::new(self.sent, Arc::clone(&self.link));
        // A batch has at most as many rows as a message.
        ticket.expect(rows.len() as u32);
        let now = shared.store.now();
        {
            let mut ledger = shared.ledger.lock();
            rows.iter().for_each(|row| ledger.submit(self.workload, row, now));
        }
        let keys = rows.iter().map(|row| (row.key_hash, row.version)).collect();
        let encoded = rows.into_iter().zip(0..).map(|(row, row_index)| EncodedRow {
            row_index,
            partition_hash: row.partition_hash,
            key_hash: row.key_hash,
            // Items are at most 400 KB.
            item_bytes: row.item.json.len() as u32,
            item: row.item,
        });
        let encoded: Vec<_> = encoded.collect();
        self.open_bytes += bytes as u64;
        self.open_rows += encoded.len();
        self.open.insert(self.sent, OpenBatch { bytes: bytes as u64, rows: keys });
        shared.pool.submit(&shared.table, &ticket, encoded, memory);
        ticket.seal();
    }

    async fn progress(&mut self) {
        // The link is ours, so that the channel stays open.
        if let Some(event) = self.events.recv().await {
            self.take(event);
        }
    }
}

impl Drop for PoolWriter {
    fn drop(&mut self) {
        self.shared.pool.cancel(&self.link);
    }
}
