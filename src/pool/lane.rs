//! The lane: the task around a [`TableQueue`] for each table. Thin I/O; the decisions are the queue's and the gate's.
//!
//! One loop: take what came in, settle what came back, send what may go. Attempts run as tasks of their own, so that a
//! lane never waits for DynamoDB. Rows belong to the lane: a client that goes away cancels waiting rows, never an attempt.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::atomic::{AtomicGroup, GroupOutcome};
use super::gate::{Admission, Gate, Gates, Permit, Turn};
use super::heat::{Heat, HeatConfig};
use super::heat_watch::HeatWatch;
use super::queue::{Attempt, Call, Part, SlotId, TableQueue, Taken};
use super::retry::RetryConfig;
use super::slices::{Slices, Standings};
use super::{PoolTable, Slice};
use crate::store::{BatchWrite, OneWrite, SequenceRule, Store, TransactWrite, WriteDone, WriteError};
use crate::telemetry::spans::within;
use crate::telemetry::{Instruments, Span};

mod settle;
mod spans;

/// What a lane is told.
#[derive(Debug)]
pub enum LaneMessage {
    /// Rows to write.
    Rows(Slice),
    /// Sessions or groups have ended: drop what waits for them.
    Sweep,
    /// A group that this lane holds rows of is settled.
    Group(GroupSettled),
}

/// How a group ended.
#[derive(Debug, Clone)]
pub struct GroupSettled {
    pub(super) table: Arc<str>,
    pub(super) group: Arc<AtomicGroup>,
    pub(super) outcome: Arc<GroupOutcome>,
}

/// What a lane is made of.
#[derive(Debug)]
pub struct LaneConfig {
    /// Its number.
    pub(super) index: usize,
    /// How long to wait before trying again.
    pub(super) retry: RetryConfig,
    /// Seed of the jitter.
    pub(super) seed: u64,
    /// Where rows go.
    pub(super) store: Arc<dyn Store>,
    /// What is counted.
    pub(super) instruments: Arc<Instruments>,
    /// Who decides how much is in flight.
    pub(super) gates: Arc<Gates>,
    /// Wakes the lane when a gate has a place for it.
    pub(super) called: Arc<Notify>,
    /// All lanes, for groups that concern several; weak, because lanes end when nobody else can send to them.
    pub(super) lanes: Arc<[mpsc::WeakUnboundedSender<LaneMessage>]>,
    /// Who is told of hot keys.
    pub(super) heat: Option<HeatConfig>,
}

impl std::fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// A lane.
#[derive(Debug)]
pub struct Lane {
    config: LaneConfig,
    tables: BTreeMap<Arc<str>, TableLane>,
    /// Of tables with adaptive write shards. A table may be idle for moments and still be hot.
    heats: BTreeMap<Arc<str>, Heat>,
    /// Of all tables, for whoever looks.
    watch: HeatWatch,
    slices: Slices,
    attempts: JoinSet<Result<WriteDone, WriteError>>,
    /// What each running attempt carries, also should its task die.
    running: HashMap<Id, Running>,
    /// When slices have a deadline: the next first.
    deadlines: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    /// A session was cancelled, or a deadline has passed: there may be rows to drop.
    sweeps: bool,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct TableLane {
    queue: TableQueue,
    gate: Arc<Gate>,
    sequence: Option<Arc<SequenceRule>>,
    /// The lane's turn in the table's pace, where it waits for it.
    turn: Option<Turn>,
    waits: Waits,
    in_flight: usize,
    /// Groups whose rows are all held, each to be tried at its time.
    groups: Vec<(Instant, Arc<AtomicGroup>)>,
    /// Since when access has been refused, and how many times.
    denied: Option<(Instant, u32)>,
}

/// What a table that has work waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Work.
    Nothing,
    /// Its lane's turn.
    Until(Instant),
    /// A call from the gate.
    Call,
}

#[derive(Debug)]
struct Running {
    table: Arc<str>,
    what: What,
    started: Instant,
    items: usize,
    bytes: usize,
    permit: Permit,
    span: Option<Span>,
}

#[derive(Debug)]
enum What {
    Keys(Vec<SlotId>),
    Group(Arc<AtomicGroup>),
}

impl Lane {
    /// A lane that holds nothing.
    pub fn new(config: LaneConfig) -> Self {
        let rng = fastrand::Rng::with_seed(config.seed);
        let watch = HeatWatch::new(config.index, config.seed);
        Self {
            config,
            tables: BTreeMap::new(),
            heats: BTreeMap::new(),
            watch,
            slices: Slices::default(),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            deadlines: BinaryHeap::new(),
            sweeps: false,
            rng,
        }
    }

    /// Runs until all handles are gone and nothing is in flight.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<LaneMessage>) {
        let called = Arc::clone(&self.config.called);
        let mut open = true;
        while open || !self.attempts.is_empty() {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                Some(done) = self.attempts.join_next_with_id() => self.settle(done),
                message = inbox.recv(), if open => match message {
                    Some(message) => self.take(message),
                    None => open = false,
                },
                () = called.notified(), if open => {}
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() && open => {}
            }
            // Whatever else is there already belongs to the same decision: batches fill from load.
            while let Some(done) = self.attempts.try_join_next_with_id() {
                self.settle(done);
            }
            while let Ok(message) = inbox.try_recv() {
                self.take(message);
            }
            self.pass_deadlines();
            if std::mem::take(&mut self.sweeps) {
                self.sweep();
            }
            if open {
                self.send();
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let tables = self.tables.values().filter_map(TableLane::next_wake);
        tables.chain(self.deadlines.peek().map(|Reverse((at, ..))| *at)).min()
    }

    fn take(&mut self, message: LaneMessage) {
        match message {
            LaneMessage::Rows(slice) => self.take_rows(slice),
            LaneMessage::Sweep => self.sweeps = true,
            LaneMessage::Group(settled) => self.settle_group(&settled),
        }
    }

    fn take_rows(&mut self, Slice { table, owed, rows, memory, group }: Slice) {
        if owed.session().is_cancelled() {
            // Its Sweep came and went while the rows were on their way.
            if let Some(group) = group {
                group.cancel();
            }
            let dropped = rows.len() as u64;
            self.config.instruments.count_rows("dropped", dropped);
            return;
        }
        let PoolTable { name, coalesce, sequence, max_write_units, max_shards } = table;
        let (bulk, deadline, count) = (owed.session().is_bulk(), owed.deadline(), owed.rows());
        let (retry, gates) = (self.config.retry, &self.config.gates);
        let lane = self.tables.entry(Arc::clone(&name)).or_insert_with(|| TableLane {
            queue: TableQueue::new(coalesce, sequence.is_some(), retry),
            gate: gates.of(&name),
            sequence: None,
            turn: None,
            waits: Waits::Nothing,
            in_flight: 0,
            groups: Vec::new(),
            denied: None,
        });
        lane.queue.set_coalesce(coalesce);
        lane.sequence = sequence;
        lane.gate.allow(max_write_units);
        if max_shards > 0
            && let Some(config) = &self.config.heat
        {
            let heat =
                self.heats.entry(Arc::clone(&name)).or_insert_with(|| Heat::new(Arc::clone(&name), config.clone()));
            heat.note(&rows, max_shards, Instant::now());
        }
        let (slice, serial) = self.slices.insert(owed, name, memory);
        if let Some(deadline) = deadline {
            self.deadlines.push(Reverse((deadline, slice, serial)));
        }
        for row in rows {
            lane.queue.push(Part::new(row, slice, bulk, group.clone()));
        }
        self.config.instruments.queued_rows.inc_by(i64::from(count));
    }

    fn pass_deadlines(&mut self) {
        // Most lanes have none, and need not ask for the time.
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(&Reverse((at, slice, serial))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            self.sweeps |= self.slices.expire(slice, serial);
        }
    }

    /// Drops what nobody waits for any more.
    fn sweep(&mut self) {
        // Most sessions end with nothing left, and looking through all keys costs more than through all slices.
        if !self.slices.any_gone() {
            return;
        }
        let mut dropped = Vec::new();
        let standings = Standings(&self.slices);
        for table in self.tables.values_mut() {
            table.queue.drop_waiting(|slice| standings.of(slice), &mut |report| dropped.push(report));
        }
        for report in dropped {
            self.slices.record(&self.config.instruments, report, None, 0.0);
        }
        self.forget_idle_tables();
    }

    fn forget_idle_tables(&mut self) {
        let index = self.config.index;
        self.tables.retain(|_, table| {
            table.groups.retain(|(_, group)| !group.is_cancelled());
            let is_idle = table.is_idle();
            if is_idle {
                // Whatever it waited for at the gate goes to others.
                table.gate.decline(index, &mut table.turn);
            }
            !is_idle
        });
    }

    /// Sends what may go: tables take turns, each as far as its gate lets it.
    fn send(&mut self) {
        let now = Instant::now();
        let index = self.config.index;
        let mut launches = Vec::new();
        for (name, table) in &mut self.tables {
            while let Some((permit, most_units)) = table.admitted(index, now) {
                let taken = match table.due_group(now) {
                    Some(group) => Some(Taken::Group(group)),
                    None => table.queue.take(now, most_units),
                };
                match taken {
                    Some(taken) => {
                        table.in_flight += 1;
                        launches.push((Arc::clone(name), table.sequence.clone(), taken, permit));
                    }
                    None => permit.cancel(),
                }
            }
        }
        for (table, sequence, taken, permit) in launches {
            self.launch(table, sequence, taken, permit, now);
        }
    }

    fn launch(
        &mut self,
        table: Arc<str>,
        sequence: Option<Arc<SequenceRule>>,
        taken: Taken,
        mut permit: Permit,
        now: Instant,
    ) {
        let store = Arc::clone(&self.config.store);
        let name = Arc::clone(&table);
        let span = self.attempt_span(&table, &taken);
        let scope = span.as_ref().map(Span::scope);
        let (what, items, bytes, handle) = match taken {
            Taken::Attempt(Attempt { slots, call, units, bytes }) => {
                permit.takes(units);
                let items = slots.len();
                let handle = self.attempts.spawn(within(scope, async move {
                    match call {
                        Call::Batch(items) => store.batch_write(BatchWrite { table, items }).await,
                        Call::One(item) => store.write_one(OneWrite { table, item, sequence }).await,
                    }
                }));
                (What::Keys(slots), items, bytes, handle)
            }
            Taken::Group(group) => {
                if !group.launch() {
                    // Its session has ended meanwhile; the sweep that comes with that frees its keys.
                    permit.cancel();
                    if let Some(table) = self.tables.get_mut(&table) {
                        table.in_flight -= 1;
                    }
                    return;
                }
                let bytes = group.items().iter().map(|item| item.json.len()).sum();
                permit.takes(group.units());
                let (items, token) = (group.items().to_vec(), Arc::clone(group.token()));
                let count = items.len();
                let request = TransactWrite { table, items, sequence, token };
                let call = async move { store.transact_write(request).await };
                let handle = self.attempts.spawn(within(scope, call));
                (What::Group(group), count, bytes, handle)
            }
        };
        self.config.instruments.attempts_in_flight.inc();
        self.config.instruments.attempt_items.observe(items as f64);
        let running = Running { table: name, what, started: now, items, bytes, permit, span };
        self.running.insert(handle.id(), running);
    }

    fn settle(&mut self, done: Result<(Id, Result<WriteDone, WriteError>), JoinError>) {
        let (id, result) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!("a DynamoDB write call panicked; its rows are tried again");
                (error.id(), Err(WriteError::Unknown { message: "the call's task failed".to_owned() }))
            }
        };
        if let Some(running) = self.running.remove(&id) {
            self.settle_attempt(running, &result);
        }
    }
}

impl TableLane {
    /// A place for an attempt, where there is something to send and the gate lets it; with the most units to send.
    fn admitted(&mut self, lane: usize, now: Instant) -> Option<(Permit, f64)> {
        if !self.queue.has_work(now) && !self.groups.iter().any(|(at, _)| *at <= now) {
            if self.turn.is_some() || self.waits == Waits::Call {
                self.gate.decline(lane, &mut self.turn);
            }
            self.waits = Waits::Nothing;
            return None;
        }
        if matches!(self.waits, Waits::Until(at) if at > now) {
            // Asking again before its turn would take a place and pass it on; two lanes that do so for two tables wake each
            // other without end.
            return None;
        }
        match self.gate.admit(lane, &mut self.turn, now) {
            Admission::Go(permit, most_units) => {
                self.waits = Waits::Nothing;
                return Some((permit, most_units));
            }
            Admission::Later(at) => self.waits = Waits::Until(at),
            Admission::Busy => self.waits = Waits::Call,
        }
        None
    }

    fn is_idle(&self) -> bool {
        self.queue.rows() == 0 && self.in_flight == 0 && self.groups.is_empty()
    }

    fn due_group(&mut self, now: Instant) -> Option<Arc<AtomicGroup>> {
        let at = self.groups.iter().position(|(at, _)| *at <= now)?;
        Some(self.groups.swap_remove(at).1)
    }

    fn next_wake(&self) -> Option<Instant> {
        match self.waits {
            // The gate calls.
            Waits::Call => None,
            Waits::Until(at) => Some(at),
            Waits::Nothing => self.queue.next_wake().into_iter().chain(self.groups.iter().map(|(at, _)| *at)).min(),
        }
    }
}

impl Drop for Lane {
    /// A lane ends with nothing in flight, unless it is torn away: the gauges should not remember what it held.
    fn drop(&mut self) {
        let instruments = &self.config.instruments;
        instruments.attempts_in_flight.dec_by(self.running.len() as i64);
        instruments.queued_rows.dec_by(self.slices.open_rows());
    }
}
