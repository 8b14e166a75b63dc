//! The lane: the task around a [`TableQueue`] for each table. Thin I/O; the decisions are the queue's.
//!
//! One loop: take what came in, settle what came back, send what may go. Attempts run as tasks of their own, so that a
//! lane never waits for DynamoDB. Rows belong to the lane: a client that goes away cancels waiting rows, never an attempt.

use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::memory::MemoryPermit;
use super::outcome::{BatchTotals, Owed, RowFate, refused_by_dynamodb};
use super::queue::{Batch, ItemOutcome, Part, Report, SlotId, TableQueue};
use super::retry::RetryConfig;
use super::verdict::{TableVerdict, Verdict};
use super::{PoolTable, Slice};
use crate::payload::EncodedRow;
use crate::store::{BatchWrite, OneWrite, Store, WriteDone, WriteError};
use crate::telemetry::Instruments;
use crate::telemetry::instruments::OutcomeLabel;

/// What a lane is told.
#[derive(Debug)]
pub enum LaneMessage {
    /// Rows to write.
    Rows(Slice),
    /// A session was cancelled: drop what waits for it.
    Cancel,
}

/// What a lane is made of.
#[derive(Debug)]
pub struct LaneConfig {
    /// Attempts in flight for one table.
    pub attempts_in_flight: usize,
    /// How long to wait before trying again.
    pub retry: RetryConfig,
    /// Seed of the jitter.
    pub seed: u64,
    /// Where rows go.
    pub store: Arc<dyn Store>,
    /// What is counted.
    pub instruments: Arc<Instruments>,
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
    tables: HashMap<Arc<str>, TableLane>,
    slices: Slab<SliceState>,
    attempts: JoinSet<AttemptDone>,
    /// What each running attempt carries, also should its task die.
    running: HashMap<Id, Attempt>,
    /// A session was cancelled: there may be rows to drop.
    cancelled: bool,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct TableLane {
    queue: TableQueue,
    in_flight: usize,
    /// Since when access has been refused, and how many times.
    denied: Option<(Instant, u32)>,
}

#[derive(Debug)]
struct Attempt {
    table: Arc<str>,
    slots: Vec<SlotId>,
    started: Instant,
}

#[derive(Debug)]
struct AttemptDone {
    result: Result<WriteDone, WriteError>,
}

/// Rows of one slice that have no outcome yet.
#[derive(Debug)]
struct SliceState {
    owed: Owed,
    table: Arc<str>,
    open: u32,
    totals: BatchTotals,
    fates: Vec<(u32, RowFate)>,
    /// Freed with the slice.
    _memory: Arc<MemoryPermit>,
}

impl Lane {
    /// A lane that holds nothing.
    pub fn new(config: LaneConfig) -> Self {
        let rng = fastrand::Rng::with_seed(config.seed);
        Self {
            config,
            tables: HashMap::new(),
            slices: Slab::new(),
            attempts: JoinSet::new(),
            running: HashMap::new(),
            cancelled: false,
            rng,
        }
    }

    /// Runs until all handles are gone and nothing is in flight.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<LaneMessage>) {
        let mut open = true;
        while open || !self.attempts.is_empty() {
            // A table whose places are all taken waits for an attempt, not for the clock.
            let limit = self.config.attempts_in_flight;
            let waits = self.tables.values().filter(|table| table.in_flight < limit);
            let wake = waits.filter_map(|table| table.queue.next_wake()).min();
            tokio::select! {
                biased;
                Some(done) = self.attempts.join_next_with_id() => self.settle(done),
                message = inbox.recv(), if open => match message {
                    Some(message) => self.take(message),
                    None => open = false,
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() && open => {}
            }
            // Whatever else is there already belongs to the same decision: batches fill from load.
            while let Some(done) = self.attempts.try_join_next_with_id() {
                self.settle(done);
            }
            while let Ok(message) = inbox.try_recv() {
                self.take(message);
            }
            if std::mem::take(&mut self.cancelled) {
                self.drop_dead();
            }
            if open {
                self.send();
            }
        }
    }

    fn take(&mut self, message: LaneMessage) {
        match message {
            LaneMessage::Rows(slice) => self.take_rows(slice),
            LaneMessage::Cancel => self.cancelled = true,
        }
    }

    fn take_rows(&mut self, Slice { table, owed, rows, memory }: Slice) {
        if owed.session().is_cancelled() {
            // Its Cancel came and went while the rows were on their way.
            let dropped = rows.len() as u64;
            self.config.instruments.count_rows("dropped", dropped);
            return;
        }
        let PoolTable { name, coalesce, sequence: _, max_write_units: _ } = table;
        let bulk = owed.session().is_bulk();
        let retry = self.config.retry;
        let lane = self.tables.entry(Arc::clone(&name)).or_insert_with(|| TableLane {
            queue: TableQueue::new(coalesce, retry),
            in_flight: 0,
            denied: None,
        });
        lane.queue.set_coalesce(coalesce);
        let count = owed.rows();
        let slice = self.slices.insert(SliceState {
            owed,
            table: name,
            open: count,
            totals: BatchTotals::default(),
            fates: Vec::new(),
            _memory: memory,
        });
        for row in rows {
            let EncodedRow { row_index, item, partition_hash, key_hash, item_bytes: _ } = row;
            lane.queue.push(Part { item, key_hash, partition_hash, slice, row_index, bulk });
        }
        self.config.instruments.queued_rows.inc_by(i64::from(count));
    }

    fn drop_dead(&mut self) {
        // Most sessions end with nothing left, and looking through all keys costs more than through all slices.
        if !self.slices.iter().any(|(_, slice)| slice.owed.session().is_cancelled()) {
            return;
        }
        let (slices, instruments) = (&mut self.slices, &self.config.instruments);
        let mut dropped = Vec::new();
        for table in self.tables.values_mut() {
            let is_live = |slice: usize| !slices[slice].owed.session().is_cancelled();
            table.queue.drop_dead(is_live, &mut |report| dropped.push(report));
        }
        self.tables.retain(|_, table| table.queue.rows() > 0 || table.in_flight > 0);
        for report in dropped {
            record(slices, instruments, report, 0.0);
        }
    }

    /// Sends what may go: tables take turns, each up to its attempts in flight.
    fn send(&mut self) {
        let now = Instant::now();
        for (name, table) in &mut self.tables {
            while table.in_flight < self.config.attempts_in_flight
                && let Some(Batch { slots, items, solo }) = table.queue.take_batch(now)
            {
                table.in_flight += 1;
                self.config.instruments.attempts_in_flight.inc();
                self.config.instruments.attempt_items.observe(items.len() as f64);
                let (store, table) = (Arc::clone(&self.config.store), Arc::clone(name));
                let attempt = Attempt { table: Arc::clone(name), slots, started: now };
                let handle = self.attempts.spawn(async move {
                    let result = match <[_; 1]>::try_from(items) {
                        Ok([item]) if solo => store.write_one(OneWrite { table, item, sequence: None }).await,
                        Ok(item) => store.batch_write(BatchWrite { table, items: item.into() }).await,
                        Err(items) => store.batch_write(BatchWrite { table, items }).await,
                    };
                    AttemptDone { result }
                });
                self.running.insert(handle.id(), attempt);
            }
        }
    }

    fn settle(&mut self, done: Result<(Id, AttemptDone), JoinError>) {
        let (id, result) = match done {
            Ok((id, done)) => (id, done.result),
            Err(error) => {
                tracing::error!("a DynamoDB write call panicked; its rows are tried again");
                (error.id(), Err(WriteError::Unknown { message: "the call's task failed".to_owned() }))
            }
        };
        let Some(attempt) = self.running.remove(&id) else { return };
        let now = Instant::now();
        let instruments = &self.config.instruments;
        instruments.attempts_in_flight.dec();
        instruments.attempt_seconds.observe((now - attempt.started).as_secs_f64());
        let Some(table) = self.tables.get_mut(&attempt.table) else { return };
        table.in_flight -= 1;

        let mut verdict = Verdict::of(&result, &attempt.slots, &table.queue);
        instruments.attempts.get_or_create(&OutcomeLabel { outcome: verdict.label }).inc();
        let mut first_of_round = false;
        match verdict.table {
            TableVerdict::Works => {
                table.queue.note_success();
                table.denied = None;
            }
            TableVerdict::SaysNothing => {}
            TableVerdict::Rests => {
                first_of_round = table.queue.note_failure(attempt.started, now, &mut self.rng);
                table.denied = None;
            }
            TableVerdict::Denied => {
                first_of_round = table.queue.note_failure(attempt.started, now, &mut self.rng);
                let (since, times) = table.denied.unwrap_or((now, 0));
                let times = times + u32::from(first_of_round);
                table.denied = Some((since, times));
                let retry = &self.config.retry;
                if times >= retry.access_attempts && now - since >= retry.access_patience {
                    verdict.give_up(&result);
                }
            }
        }
        if first_of_round && let Some(trouble) = verdict.trouble {
            // It keeps all rows of the table waiting, not only those that were tried.
            let waiting = self.slices.iter().filter(|(_, slice)| slice.table == attempt.table);
            waiting.for_each(|(_, slice)| slice.owed.session().note(trouble));
        }
        if let Err(error) = &result {
            tracing::debug!(table = %attempt.table, items = attempt.slots.len(), %error, "a write attempt failed");
        }

        let written = attempt.slots.len() - verdict.unprocessed.len();
        let units = match &result {
            Ok(done) => {
                instruments.write_units.inc_by(done.write_units.max(0.0));
                done.write_units / written.max(1) as f64
            }
            Err(_) => 0.0,
        };
        let (slices, rng) = (&mut self.slices, &mut self.rng);
        let mut reports = Vec::with_capacity(attempt.slots.len());
        let mut held_up = SmallVec::<[usize; 8]>::new();
        for (position, slot) in attempt.slots.iter().enumerate() {
            let outcome = verdict.item(position);
            if matches!(outcome, ItemOutcome::Retry | ItemOutcome::Forget) {
                held_up.extend(table.queue.in_flight_slices(*slot));
            }
        }
        // A slice has many rows in one attempt, and counts it once.
        held_up.sort_unstable();
        held_up.dedup();
        for slice in held_up {
            let state = &mut slices[slice];
            state.totals.throttled_attempts += u32::from(verdict.throttled);
            if let Some(trouble) = verdict.trouble {
                state.owed.session().note(trouble);
            }
            if let Some(failure) = &verdict.failure {
                state.owed.session().fail(failure.clone());
            }
        }
        for (position, slot) in attempt.slots.iter().enumerate() {
            let is_live = |slice: usize| !slices[slice].owed.session().is_cancelled();
            let outcome = verdict.item(position);
            table.queue.settle(*slot, outcome, now, rng, is_live, &mut |report| reports.push(report));
        }
        let refusal = verdict.refusal.take();
        for report in reports {
            match (&report, &refusal) {
                (Report::Refused(part), Some(message)) => {
                    slices[part.slice].fates.push((part.row_index, refused_by_dynamodb(message)));
                    record(slices, instruments, report, 0.0);
                }
                _ => record(slices, instruments, report, units),
            }
        }
        if table.queue.rows() == 0 && table.in_flight == 0 {
            self.tables.remove(&attempt.table);
        }
    }
}

/// Notes one row's outcome with its slice, and reports the slice when it was the last.
fn record(slices: &mut Slab<SliceState>, instruments: &Instruments, report: Report, units: f64) {
    let part = match &report {
        Report::Committed(part) | Report::Superseded(part) | Report::Refused(part) | Report::Dropped(part) => part,
    };
    let index = part.slice;
    let slice = &mut slices[index];
    match report {
        Report::Committed(_) => {
            slice.totals.committed += 1;
            slice.totals.write_units += units;
        }
        Report::Superseded(_) => slice.totals.superseded += 1,
        Report::Refused(_) | Report::Dropped(_) => {}
    }
    slice.open -= 1;
    if slice.open > 0 {
        return;
    }
    let SliceState { owed, totals, fates, .. } = slices.remove(index);
    let rows = owed.rows();
    let (committed, superseded, refused) =
        (u64::from(totals.committed), u64::from(totals.superseded), fates.len() as u64);
    instruments.queued_rows.dec_by(i64::from(rows));
    instruments.count_rows("committed", committed);
    instruments.count_rows("superseded", superseded);
    instruments.count_rows("rejected", refused);
    instruments.count_rows("dropped", u64::from(rows) - committed - superseded - refused);
    owed.report(totals, fates);
}

impl Drop for Lane {
    /// A lane ends with nothing in flight, unless it is torn away: the gauges should not remember what it held.
    fn drop(&mut self) {
        let instruments = &self.config.instruments;
        instruments.attempts_in_flight.dec_by(self.running.len() as i64);
        let rows: i64 = self.slices.iter().map(|(_, slice)| i64::from(slice.owed.rows())).sum();
        instruments.queued_rows.dec_by(rows);
    }
}
