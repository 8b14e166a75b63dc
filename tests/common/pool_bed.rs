//! A pool on a test bed: sessions that encode rows of their own, and the instruments beside it.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher as _};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay::payload::EncodedRow;
use forebay::pool::outcome::BatchTotals;
use forebay::pool::{
    BatchTicket, MemoryBudget, Pool, PoolConfig, PoolTable, PoolTasks, RowFate, SessionEvent, SessionFailure,
    SessionLink, WindowConfig,
};
use forebay::store::{Store, WriteItem, WriteOp};
use forebay::telemetry::Instruments;
use forebay::telemetry::instruments::StatusLabel;
use tokio::sync::mpsc;

use crate::history::Effect;
use crate::scripted_store::ScriptedStore;

/// A row of a test: `partition/sort`, or a partition alone.
#[derive(Debug, Clone)]
pub struct TestRow {
    pub key: String,
    pub effect: Effect,
    /// DynamoDB refuses it, if the script looks for this text.
    pub mark: &'static str,
}

pub fn put(key: impl Into<String>, version: u64) -> TestRow {
    TestRow { key: key.into(), effect: Effect::Put(version), mark: "" }
}

pub fn delete(key: impl Into<String>) -> TestRow {
    TestRow { key: key.into(), effect: Effect::Delete, mark: "" }
}

/// The version that an item was put with.
pub fn version_of(item: &str) -> u64 {
    let item: serde_json::Value = serde_json::from_str(item).unwrap();
    item["v"]["N"].as_str().unwrap().parse().unwrap()
}

/// The key of an item, as the test wrote it.
pub fn key_of(key_text: &str) -> String {
    let key: serde_json::Value = serde_json::from_str(&format!("{{{key_text}}}")).unwrap();
    key["k"]["S"].as_str().unwrap().to_owned()
}

fn hash(text: &str) -> u64 {
    let mut hasher = foldhash::fast::FixedState::with_seed(7).build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl TestRow {
    fn encoded(&self, row_index: u32) -> EncodedRow {
        let key_text = format!("\"k\":{{\"S\":\"{}\"}}", self.key);
        let mark = if self.mark.is_empty() { String::new() } else { format!(",\"mark\":{{\"S\":\"{}\"}}", self.mark) };
        let (op, json) = match self.effect {
            Effect::Put(version) => (WriteOp::Put, format!("{{{key_text},\"v\":{{\"N\":\"{version}\"}}{mark}}}")),
            Effect::Delete => (WriteOp::Delete, format!("{{{key_text}}}")),
        };
        let item = WriteItem::new(op, Bytes::from(json), key_text.len() as u32);
        let partition = self.key.split('/').next().unwrap();
        let item_bytes = item.json.len() as u32;
        EncodedRow { row_index, item, partition_hash: hash(partition), key_hash: hash(&self.key), item_bytes }
    }
}

/// Instruments with a question that tests ask often.
#[derive(Debug)]
pub struct Watched(Arc<Instruments>);

impl Deref for Watched {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.0
    }
}

impl Watched {
    pub fn rows_with(&self, status: &'static str) -> u64 {
        self.0.rows.get_or_create(&StatusLabel { status }).get()
    }
}

/// How a bed is made.
pub struct BedBuilder {
    store: Arc<ScriptedStore>,
    config: PoolConfig,
    memory_bytes: usize,
    coalesce: bool,
}

/// A running pool.
pub struct Bed {
    pub pool: Pool,
    pub instruments: Arc<Watched>,
    pub memory: MemoryBudget,
    pub tasks: PoolTasks,
    next_session: AtomicU64,
    coalesce: bool,
}

impl Bed {
    pub fn over(store: &Arc<ScriptedStore>) -> BedBuilder {
        let config = PoolConfig { lanes: 4, seed: 1, ..PoolConfig::for_cores(2) };
        BedBuilder { store: Arc::clone(store), config, memory_bytes: 64 << 20, coalesce: true }
    }

    pub fn session(&self) -> Session {
        self.open("t", false)
    }

    pub fn bulk_session(&self) -> Session {
        self.open("t", true)
    }

    pub fn session_on(&self, table: &str) -> Session {
        self.open(table, false)
    }

    fn open(&self, table: &str, bulk: bool) -> Session {
        let (link, events) = SessionLink::new(self.next_session.fetch_add(1, Ordering::Relaxed), bulk);
        Session {
            pool: self.pool.clone(),
            memory: self.memory.clone(),
            table: PoolTable { coalesce: self.coalesce, ..PoolTable::new(table) },
            link,
            events,
            sent: 0,
            done: BTreeMap::new(),
            failure: None,
        }
    }

    /// Ends everything and proves that nothing is left.
    pub async fn finish(self, sessions: Vec<Session>) {
        drop(sessions);
        drop(self.pool);
        assert!(self.tasks.finish(Duration::from_secs(60)).await, "the lanes end");
        let instruments = &self.instruments;
        assert_eq!(instruments.queued_rows.get(), 0, "queued rows");
        assert_eq!(instruments.reserved_bytes.get(), 0, "reserved bytes");
        assert_eq!(instruments.attempts_in_flight.get(), 0, "attempts in flight");
    }

    /// The lanes are torn away, as by a panic.
    pub async fn kill_lanes(self) {
        drop(self.tasks);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

impl BedBuilder {
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.config.lanes = lanes;
        self
    }

    /// Attempts in flight over all lanes.
    pub fn in_flight(mut self, attempts: usize) -> Self {
        self.config.window = WindowConfig { first: attempts, most: attempts };
        self
    }

    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    pub fn coalesce(mut self, coalesce: bool) -> Self {
        self.coalesce = coalesce;
        self
    }

    pub fn start(self) -> Bed {
        let instruments = Arc::new(Instruments::new());
        let store: Arc<dyn Store> = self.store;
        let (pool, tasks) = Pool::start(&self.config, &store, &instruments);
        Bed {
            pool,
            memory: MemoryBudget::new(self.memory_bytes, Arc::clone(&instruments)),
            instruments: Arc::new(Watched(instruments)),
            tasks,
            next_session: AtomicU64::new(1),
            coalesce: self.coalesce,
        }
    }
}

/// A session of a test: it does what `api::ingest` does, and no more. Dropping it cancels.
pub struct Session {
    pool: Pool,
    memory: MemoryBudget,
    table: PoolTable,
    pub link: Arc<SessionLink>,
    events: mpsc::UnboundedReceiver<SessionEvent>,
    sent: u64,
    /// Batches whose rows all have outcomes.
    pub done: BTreeMap<u64, (BatchTotals, Vec<(u32, RowFate)>)>,
    pub failure: Option<SessionFailure>,
}

impl Session {
    /// Sends a batch, waiting for memory only; gives its number.
    pub async fn send(&mut self, rows: impl IntoIterator<Item = TestRow>) -> u64 {
        let rows: Vec<_> = rows.into_iter().zip(0..).map(|(row, index)| row.encoded(index)).collect();
        self.sent += 1;
        let ticket = BatchTicket::new(self.sent, Arc::clone(&self.link));
        ticket.expect(rows.len() as u32);
        let bytes = rows.iter().map(|row| row.item.json.len() + 192).sum();
        let memory = self.memory.reserve(bytes).await;
        self.pool.submit(&self.table, &ticket, rows, memory);
        ticket.seal();
        self.sent
    }

    /// Takes what came, without waiting.
    pub fn poll(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    /// Waits until every batch up to this one is done.
    pub async fn wait(&mut self, through: u64) {
        while !(1..=through).all(|seq| self.done.contains_key(&seq)) {
            let event = self.events.recv().await.expect("the link is ours");
            self.take(event);
            assert_eq!(self.failure, None);
        }
    }

    /// Waits until the session has failed.
    pub async fn fails(&mut self) -> SessionFailure {
        loop {
            if let Some(failure) = &self.failure {
                return failure.clone();
            }
            let event = self.events.recv().await.expect("the link is ours");
            self.take(event);
        }
    }

    /// Waits for one event.
    pub async fn next(&mut self) {
        let event = self.events.recv().await.expect("the link is ours");
        self.take(event);
    }

    fn take(&mut self, event: SessionEvent) {
        match event {
            // What comes after a failure is no ack.
            SessionEvent::BatchDone(_) if self.failure.is_some() => {}
            SessionEvent::BatchDone(ticket) => {
                let twice = self.done.insert(ticket.seq(), ticket.take());
                assert!(twice.is_none(), "batch {} is done twice", ticket.seq());
            }
            SessionEvent::Failed(failure) => self.failure = Some(failure),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pool.cancel(&self.link);
    }
}

/// Ends the test when it makes no progress in real time: a task that spins keeps a paused clock from moving.
pub fn watchdog(what: &'static str) -> impl Drop {
    struct Watchdog(std::sync::mpsc::Sender<()>);
    impl Drop for Watchdog {
        fn drop(&mut self) {
            self.0.send(()).ok();
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if receiver.recv_timeout(Duration::from_secs(30)).is_err() {
            eprintln!("{what}");
            std::process::exit(101);
        }
    });
    Watchdog(sender)
}
