//! The write pool: takes encoded rows from sessions and gets them into DynamoDB.
//!
//! A **lane** is one task that owns a share of the partition-key hashes. Rows of one key always meet in one lane, so that
//! order per key needs no lock. A lane's decisions (what to send, what to fold, when to retry) are pure state machines
//! with time passed in ([`queue`], `fold`, [`retry`]); the task around them ([`lane`]) is thin I/O. How much a table takes is
//! learnt by all lanes together, at its `gate`.
//!
//! Promises to sessions (callers: `api::ingest`):
//! - A row's outcome is reported once, after DynamoDB's answer, never on enqueue.
//! - Per key, rows take effect in the order submitted; a newer row may supersede waiting older ones, which are acked only
//!   when the newer one is confirmed.
//! - A cancelled session's waiting rows are dropped; an attempt in flight is never torn.
//! - Rows are never lost in silence: should a lane die, the sessions of its rows are ended, and the process is told.

pub mod atomic;
mod attribution;
mod budget;
mod fold;
mod gate;
pub mod heat;
mod heat_watch;
pub mod hot_keys;
pub mod lane;
pub mod memory;
mod meter;
pub mod outcome;
mod overrun;
mod pace;
pub mod queue;
pub mod retry;
pub mod router;
mod same_item;
mod sequence;
mod slices;
mod verdict;
mod window;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::payload::EncodedRow;
use crate::store::{SequenceRule, Store};
use crate::telemetry::Instruments;

pub use memory::{MemoryBudget, MemoryPermit};
pub use window::WindowConfig;

pub use outcome::{BatchTicket, Owed, RowFate, SessionEvent, SessionFailure, SessionLink, Trouble};

/// How the pool is sized.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Lanes; each is a task.
    pub lanes: usize,
    /// Attempts in flight for one table, over all lanes.
    pub window: WindowConfig,
    /// How long to wait before trying again.
    pub retry: retry::RetryConfig,
    /// Seed of the lanes' jitter; tests fix it.
    pub seed: u64,
    /// Who is told of hot keys of tables with adaptive write shards.
    pub heat: Option<heat::HeatConfig>,
}

impl PoolConfig {
    /// Two lanes a core: enough to keep the cores busy, few enough that batches fill.
    pub fn for_cores(cores: usize) -> Self {
        Self {
            lanes: (2 * cores).max(2),
            window: WindowConfig { first: 16, most: 256 },
            retry: retry::RetryConfig::default(),
            seed: fastrand::u64(..),
            heat: None,
        }
    }
}

/// What a lane must know of a table.
#[derive(Debug, Clone)]
pub struct PoolTable {
    /// The DynamoDB table.
    pub name: Arc<str>,
    /// Whether newer rows replace waiting older ones.
    pub coalesce: bool,
    /// Of a table with `sequence_by`: its rows have sequences, and each is written on its own, under a condition.
    pub sequence: Option<Arc<SequenceRule>>,
    /// The most write units a second that this process may take; 0 for no such limit.
    pub max_write_units: u64,
    /// The most write shards that a hot partition key may be given; 0 where their number does not depend on heat.
    pub max_shards: u32,
}

impl PoolTable {
    /// A table whose newest row wins, without limits.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), coalesce: true, sequence: None, max_write_units: 0, max_shards: 0 }
    }
}

/// Rows of one batch for one lane.
#[derive(Debug)]
pub struct Slice {
    /// Where they go.
    pub table: PoolTable,
    /// What the batch is owed: their outcomes.
    pub owed: Owed,
    /// The rows, in order.
    pub rows: Vec<EncodedRow>,
    /// The memory they hold; freed with the last slice of the chunk.
    pub memory: Arc<MemoryPermit>,
    /// The group that they belong to, where they are atomic.
    group: Option<Arc<atomic::AtomicGroup>>,
}

/// A handle on the lanes.
#[derive(Debug, Clone)]
pub struct Pool {
    lanes: Arc<[mpsc::UnboundedSender<lane::LaneMessage>]>,
    /// Seed of all plans' key hashes: the same key must meet the same lane, whatever session sends it.
    hash_seed: u64,
    /// Held while a group is handed to its lanes.
    groups: Arc<Mutex<()>>,
}

/// The lanes' tasks, for shutdown.
#[derive(Debug)]
pub struct PoolTasks {
    tasks: tokio::task::JoinSet<()>,
    died: CancellationToken,
}

impl Pool {
    /// Starts the lanes on the current runtime.
    pub fn start(config: &PoolConfig, store: &Arc<dyn Store>, instruments: &Arc<Instruments>) -> (Self, PoolTasks) {
        let calls: Arc<[Arc<Notify>]> = (0..config.lanes).map(|_| Arc::new(Notify::new())).collect();
        let gates = Arc::new(gate::Gates::new(config.window, Arc::clone(&calls)));
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..config.lanes).map(|_| mpsc::unbounded_channel()).unzip();
        let lanes: Arc<[_]> = senders.iter().map(mpsc::UnboundedSender::downgrade).collect();
        let (mut tasks, died) = (tokio::task::JoinSet::new(), CancellationToken::new());
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let lane = lane::Lane::new(lane::LaneConfig {
                index,
                retry: config.retry,
                seed: config.seed.wrapping_add(index as u64),
                store: Arc::clone(store),
                instruments: Arc::clone(instruments),
                gates: Arc::clone(&gates),
                called: Arc::clone(&calls[index]),
                lanes: Arc::clone(&lanes),
                heat: config.heat.clone(),
            });
            let died = died.clone().drop_guard();
            tasks.spawn(async move {
                lane.run(inbox).await;
                died.disarm();
            });
        }
        let pool = Self { lanes: senders.into(), hash_seed: config.seed, groups: Arc::default() };
        (pool, PoolTasks { tasks, died })
    }

    /// The seed that plans must hash keys with.
    pub fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// Hands rows to their lanes. The ticket must have been told of them before ([`BatchTicket::expect`]).
    pub fn submit(&self, table: &PoolTable, ticket: &Arc<BatchTicket>, rows: Vec<EncodedRow>, memory: MemoryPermit) {
        self.send(table, ticket, router::split(rows, self.lanes.len()), memory, None);
    }

    /// Hands over rows that are written in one transaction, or not at all: at most 100, with different keys. `token` makes a
    /// repetition within ten minutes harmless: the same for the same rows of the same client, and for no others; at most 36
    /// characters. The ticket must have been told of them before.
    pub fn submit_atomic(
        &self,
        table: &PoolTable,
        ticket: &Arc<BatchTicket>,
        rows: Vec<EncodedRow>,
        memory: MemoryPermit,
        token: Arc<str>,
    ) {
        let items: Vec<EncodedRow> = rows.clone();
        let split = router::split(rows, self.lanes.len());
        let lanes = (0..split.len()).filter(|&lane| !split[lane].is_empty()).collect();
        let group = atomic::AtomicGroup::new(&items, token, lanes, ticket);
        // All lanes must have all groups in the same order, or two groups with common keys would wait for each other.
        let _order = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        self.send(table, ticket, split, memory, Some(&group));
    }

    fn send(
        &self,
        table: &PoolTable,
        ticket: &Arc<BatchTicket>,
        split: Vec<Vec<EncodedRow>>,
        memory: MemoryPermit,
        group: Option<&Arc<atomic::AtomicGroup>>,
    ) {
        let memory = Arc::new(memory);
        for (index, rows) in split.into_iter().enumerate() {
            if rows.is_empty() {
                continue;
            }
            // A batch has at most 100,000 rows.
            let owed = Owed::new(ticket, rows.len() as u32);
            let (memory, group) = (Arc::clone(&memory), group.cloned());
            let slice = Slice { table: table.clone(), owed, rows, memory, group };
            if self.lanes[index].send(lane::LaneMessage::Rows(slice)).is_err() {
                // With the slice the session has been told: its client sends again elsewhere.
                tracing::debug!("a lane was gone before rows came");
            }
        }
    }

    /// Tells the lanes to drop what they hold of a session. Rows in flight complete.
    pub fn cancel(&self, session: &Arc<SessionLink>) {
        session.mark_cancelled();
        for lane in self.lanes.iter() {
            // A lane that is gone holds nothing.
            if lane.send(lane::LaneMessage::Sweep).is_err() {
                tracing::debug!("a lane was gone before its session was cancelled");
            }
        }
    }
}

impl PoolTasks {
    /// Cancelled when a lane has died of a fault of ours: its share of the keys cannot be written any more, and the
    /// process should end.
    pub fn died(&self) -> CancellationToken {
        self.died.clone()
    }

    /// Waits until the lanes have finished what is in flight; all handles must be dropped. False when time ran out.
    pub async fn finish(mut self, within: Duration) -> bool {
        tokio::time::timeout(within, async { while self.tasks.join_next().await.is_some() {} }).await.is_ok()
    }
}
