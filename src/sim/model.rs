//! The model: tables with contents and capacity, faults, latency, and what calls do to them. Pure: time and the seed are
//! passed in, and nothing waits.
//!
//! A call has three moments. It [departs](Model::depart): dice say how long it travels and what goes wrong. It arrives, and
//! is done or not ([`Model::batch_write`] and its siblings). Its answer is heard, unless it is lost. The caller passes the
//! moments' times; [`store`](super::store) waits between them.
//!
//! Invariant: between two moments nothing happens but late writes, and those at their own time.

mod calls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use self::calls::Arrival;
use super::bucket::Bucket;
use super::capacity::{Capacity, CapacityConfig, Shortage};
use super::fault::{Fault, FaultCounts, FaultKind};
use super::items::{Contents, ItemKey, KeySchema};
use super::latency::Latency;
use super::trace::Trace;
use super::values::stable_hash;
use crate::store::{BatchWrite, CancelReason, OneWrite, TransactWrite, WriteDone, WriteError, WriteItem};

/// What a model is made of.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Of all dice.
    pub seed: u64,
    /// How long calls take.
    pub latency: Latency,
    /// After so long without an answer the caller hears that the outcome is unknown.
    pub attempt_timeout: Duration,
    /// Write units a second of all tables together.
    pub account_write_units: Option<f64>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Whether items are kept; without them there are no conditions, no merges and no reads.
    pub keep_items: bool,
    /// Whether the trace's lines are kept.
    pub keep_trace: bool,
}

impl ModelConfig {
    /// Nothing goes wrong, everything is kept.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            latency: Latency::default(),
            attempt_timeout: Duration::from_secs(5),
            account_write_units: None,
            faults: Vec::new(),
            keep_items: true,
            keep_trace: false,
        }
    }
}

/// A write that took effect.
#[derive(Debug)]
pub struct Applied<'a> {
    /// When.
    pub at: Duration,
    /// When the caller hears of it; `None` where the answer is lost, or was given long before.
    pub heard_at: Option<Duration>,
    /// The table.
    pub table: &'a str,
    /// The write.
    pub item: &'a WriteItem,
}

/// Is told of every write that takes effect, in the order in which they do.
pub trait Observer: Send {
    /// One did.
    fn applied(&mut self, applied: &Applied<'_>);
}

impl std::fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// A call that departs.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Its table.
    pub table: &'a str,
    /// Bytes that it carries there or back.
    pub bytes: usize,
    /// What kind of call.
    pub kind: CallKind,
}

/// What faults distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// BatchWriteItem.
    Batch,
    /// PutItem, UpdateItem, DeleteItem.
    One,
    /// TransactWriteItems.
    Transact,
    /// Any read.
    Read,
}

/// What the dice say of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Journey {
    /// How long it takes to where it is done, or fails.
    pub there: Duration,
    /// How long the answer takes, or the silence that stands for one.
    pub back: Duration,
    /// How it ends.
    pub end: JourneyEnd,
    /// The share of a batch's items that come back unprocessed.
    pub unprocessed: f64,
}

/// How a call ends.
#[derive(Debug, Clone, PartialEq)]
pub enum JourneyEnd {
    /// It is done, and the answer is heard.
    Answered,
    /// Nothing is done.
    Fails(WriteError),
    /// It is done, and the answer is lost.
    Lost,
    /// Its outcome is unknown at first, and so much later it is done.
    Late(Duration),
}

/// Sums over all write calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CallTotals {
    /// Calls that arrived, or failed on the way.
    pub calls: u64,
    /// Those of which capacity (or a fault that looks like it) stopped at least one item.
    pub throttled_calls: u64,
    /// Items in them.
    pub items: u64,
    /// Items that were stopped so.
    pub throttled_items: u64,
    /// Calls whose outcome the caller does not know.
    pub unknown_calls: u64,
    /// Calls whose condition was false.
    pub condition_calls: u64,
}

impl CallTotals {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.throttled_calls += other.throttled_calls;
        self.items += other.items;
        self.throttled_items += other.throttled_items;
        self.unknown_calls += other.unknown_calls;
        self.condition_calls += other.condition_calls;
    }

    fn count(&mut self, items: usize, throttled: usize, result: &Result<WriteDone, WriteError>) {
        self.calls += 1;
        self.items += items as u64;
        self.throttled_calls += u64::from(throttled > 0);
        self.throttled_items += throttled as u64;
        self.unknown_calls += u64::from(matches!(result, Err(WriteError::Unknown { .. })));
        self.condition_calls += u64::from(matches!(result, Err(WriteError::Condition { .. })));
    }
}

/// The model.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    tables: BTreeMap<Arc<str>, Table>,
    account: Option<Bucket>,
    rng: fastrand::Rng,
    trace: Trace,
    faults: FaultCounts,
    totals: CallTotals,
    /// Of each second.
    seconds: Vec<CallTotals>,
    late: BTreeMap<(Duration, u64), Late>,
    late_count: u64,
    tokens: HashMap<Arc<str>, (Duration, u64)>,
    observer: Option<Box<dyn Observer>>,
}

#[derive(Debug)]
struct Table {
    schema: KeySchema,
    contents: Contents,
    capacity: Capacity,
}

#[derive(Debug)]
enum Late {
    Batch(BatchWrite),
    One(OneWrite),
    Transact(TransactWrite),
}

fn unknown(message: &str) -> WriteError {
    WriteError::Unknown { message: message.to_owned() }
}

fn refused(message: &str) -> WriteError {
    WriteError::Validation { message: message.to_owned() }
}

impl Model {
    /// Without tables.
    pub fn new(config: ModelConfig) -> Self {
        let account = config.account_write_units.map(|rate| Bucket::new(rate, Duration::ZERO, 0.0, Duration::ZERO));
        Self {
            rng: fastrand::Rng::with_seed(config.seed),
            trace: Trace::new(config.keep_trace),
            config,
            tables: BTreeMap::new(),
            account,
            faults: FaultCounts::default(),
            totals: CallTotals::default(),
            seconds: Vec::new(),
            late: BTreeMap::new(),
            late_count: 0,
            tokens: HashMap::new(),
            observer: None,
        }
    }

    /// Adds a table, or replaces it by an empty one.
    pub fn add_table(&mut self, name: &str, schema: KeySchema, capacity: CapacityConfig, at: Duration) {
        let capacity = Capacity::new(capacity, self.rng.u64(..), at);
        let table = Table { schema, contents: Contents::new(self.config.keep_items), capacity };
        self.tables.insert(name.into(), table);
    }

    /// Deletes a table. False where there is none.
    pub fn remove_table(&mut self, name: &str) -> bool {
        self.tables.remove(name).is_some()
    }

    /// The key of a table.
    pub fn schema(&self, table: &str) -> Option<&KeySchema> {
        self.tables.get(table).map(|table| &table.schema)
    }

    /// What a table holds.
    pub fn contents(&self, table: &str) -> Option<&Contents> {
        self.tables.get(table).map(|table| &table.contents)
    }

    /// A table's capacity.
    pub fn capacity(&self, table: &str) -> Option<&Capacity> {
        self.tables.get(table).map(|table| &table.capacity)
    }

    /// A table's capacity, to be changed.
    pub fn capacity_mut(&mut self, table: &str) -> Option<&mut Capacity> {
        self.tables.get_mut(table).map(|table| &mut table.capacity)
    }

    /// The partition that a write would go to.
    pub fn partition_of(&self, table: &str, item: &WriteItem) -> Option<usize> {
        let table = self.tables.get(table)?;
        Some(table.capacity.partitions().index_of(&table.schema.key_of_write(item)?.place()))
    }

    /// What is left for these tables of the account's write units a second.
    pub fn set_account(&mut self, units_per_second: Option<f64>, at: Duration) {
        self.account = units_per_second.map(|rate| Bucket::new(rate, Duration::ZERO, 0.0, at));
    }

    /// Adds a fault to the schedule.
    pub fn add_fault(&mut self, fault: Fault) {
        self.config.faults.push(fault);
    }

    /// Ends the schedule: nothing goes wrong any more.
    pub fn end_faults(&mut self) {
        self.config.faults.clear();
    }

    /// Who is told of every write that takes effect.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// How often each fault struck.
    pub fn faults(&self) -> &FaultCounts {
        &self.faults
    }

    /// Sums over all write calls.
    pub fn totals(&self) -> &CallTotals {
        &self.totals
    }

    /// The same, of each second since the start; short of the end where nothing came.
    pub fn seconds(&self) -> &[CallTotals] {
        &self.seconds
    }

    /// What happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether an outage refuses all calls to a table at this moment.
    pub fn is_away(&self, table: &str, at: Duration) -> bool {
        let away = |fault: &Fault| matches!(fault.kind, FaultKind::Refused | FaultKind::BlackHole);
        self.config.faults.iter().any(|fault| away(fault) && fault.probability >= 1.0 && fault.concerns(table, at))
    }

    /// Writes that are accepted and not done yet.
    pub fn late_writes(&self) -> usize {
        self.late.len()
    }

    /// Does the late writes that are due, and notes what capacity there is in this second.
    pub fn advance(&mut self, at: Duration) {
        self.do_late_writes(at);
        for table in self.tables.values_mut() {
            table.capacity.second(&self.account, at);
        }
    }

    /// Does every write that was accepted and is not done yet, however late it would be.
    pub fn finish_late_writes(&mut self) {
        self.do_late_writes(Duration::MAX);
    }

    fn do_late_writes(&mut self, until: Duration) {
        while let Some(entry) = self.late.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), late) = entry.remove_entry();
            let arrival = Arrival { at, heard_at: None, late: true };
            let (result, _) = match &late {
                Late::Batch(request) => self.do_batch(arrival, request, 0.0),
                Late::One(request) => self.do_one(arrival, request),
                Late::Transact(request) => self.do_transact(arrival, request),
            };
            self.trace.note(at, format_args!("late -> {}", Told(&result)));
        }
    }

    /// Draws a call's way.
    pub fn depart(&mut self, at: Duration, call: Call<'_>) -> Journey {
        let mut whole = self.config.latency.draw(call.bytes, &mut self.rng);
        let timeout = self.config.attempt_timeout;
        let mut journey =
            Journey { there: Duration::ZERO, back: Duration::ZERO, end: JourneyEnd::Answered, unprocessed: 0.0 };
        let mut silent = false;
        for fault in &self.config.faults {
            let fits = match fault.kind {
                FaultKind::Unprocessed { .. } => call.kind == CallKind::Batch,
                FaultKind::Conflict => call.kind == CallKind::Transact,
                FaultKind::LostAnswer | FaultKind::DelayedApply { .. } => call.kind != CallKind::Read,
                _ => true,
            };
            // One fault decides how a call ends; what only delays or thins it goes beside.
            let beside = matches!(fault.kind, FaultKind::Slow { .. } | FaultKind::Unprocessed { .. });
            if !fits || !fault.concerns(call.table, at) || (!beside && journey.end != JourneyEnd::Answered) {
                continue;
            }
            if fault.probability < 1.0 && self.rng.f64() >= fault.probability {
                continue;
            }
            match &fault.kind {
                FaultKind::Slow { factor, more } => whole = whole.mul_f64(*factor) + *more,
                // Counted where an item comes back.
                FaultKind::Unprocessed { share } => {
                    journey.unprocessed = *share;
                    continue;
                }
                FaultKind::Throttle { reason, index } => {
                    let error = WriteError::Throttled { reason: *reason, index: index.clone() };
                    journey.end = JourneyEnd::Fails(error);
                }
                FaultKind::Refused => {
                    let message = "connection refused".to_owned();
                    journey.end = JourneyEnd::Fails(WriteError::NotSent { message });
                    whole = whole.min(REFUSED_WITHIN);
                }
                FaultKind::BlackHole => {
                    journey.end = JourneyEnd::Fails(unknown("no answer within the time-out"));
                    silent = true;
                }
                FaultKind::ServerError => journey.end = JourneyEnd::Fails(unknown("internal server error")),
                FaultKind::LostAnswer => {
                    journey.end = JourneyEnd::Lost;
                    silent = self.rng.bool();
                }
                FaultKind::DelayedApply { by } => {
                    let by = by.mul_f64(self.rng.f64());
                    journey.end = JourneyEnd::Late(by);
                }
                FaultKind::TableDeleted => {
                    journey.end = JourneyEnd::Fails(WriteError::TableMissing { table: call.table.to_owned() });
                }
                FaultKind::AccessDenied => {
                    let message = "the security token is not valid".to_owned();
                    journey.end = JourneyEnd::Fails(WriteError::Access { message });
                }
                FaultKind::Conflict => {
                    journey.end = JourneyEnd::Fails(WriteError::Cancelled { reasons: vec![CancelReason::Conflict] });
                }
            }
            self.faults.count(&fault.kind);
        }
        // It is done half-way. One that takes too long is done, and nobody waits any more.
        journey.there = (whole / 2).min(timeout);
        journey.back = whole / 2;
        if silent || journey.there + journey.back > timeout {
            journey.back = timeout.saturating_sub(journey.there);
            if journey.end == JourneyEnd::Answered {
                journey.end = JourneyEnd::Lost;
            }
        }
        journey
    }

    /// A BatchWriteItem arrives.
    pub fn batch_write(
        &mut self,
        at: Duration,
        journey: &Journey,
        request: &BatchWrite,
    ) -> Result<WriteDone, WriteError> {
        self.advance(at);
        let items = request.items.len();
        let (result, throttled) = match &journey.end {
            JourneyEnd::Fails(error) => (Err(error.clone()), throttled_by(error, items)),
            JourneyEnd::Late(by) => (self.postpone(at + *by, Late::Batch(request.clone())), 0),
            JourneyEnd::Answered | JourneyEnd::Lost => {
                self.do_batch(Arrival::of(at, journey), request, journey.unprocessed)
            }
        };
        self.close(at, journey, ("batch", &request.table, &request.items), result, throttled)
    }

    /// A PutItem, UpdateItem or DeleteItem arrives.
    pub fn write_one(&mut self, at: Duration, journey: &Journey, request: &OneWrite) -> Result<WriteDone, WriteError> {
        self.advance(at);
        let (result, throttled) = match &journey.end {
            JourneyEnd::Fails(error) => (Err(error.clone()), throttled_by(error, 1)),
            JourneyEnd::Late(by) => (self.postpone(at + *by, Late::One(request.clone())), 0),
            JourneyEnd::Answered | JourneyEnd::Lost => self.do_one(Arrival::of(at, journey), request),
        };
        self.close(at, journey, ("one", &request.table, std::slice::from_ref(&request.item)), result, throttled)
    }

    /// A TransactWriteItems arrives.
    pub fn transact_write(
        &mut self,
        at: Duration,
        journey: &Journey,
        request: &TransactWrite,
    ) -> Result<WriteDone, WriteError> {
        self.advance(at);
        let items = request.items.len();
        let (result, throttled) = match &journey.end {
            JourneyEnd::Fails(WriteError::Cancelled { .. }) => {
                let mut reasons = vec![CancelReason::None; items];
                let at = self.rng.usize(0..items.max(1));
                reasons.iter_mut().skip(at).take(1).for_each(|reason| *reason = CancelReason::Conflict);
                (Err(WriteError::Cancelled { reasons }), 0)
            }
            JourneyEnd::Fails(error) => (Err(error.clone()), throttled_by(error, items)),
            JourneyEnd::Late(by) => (self.postpone(at + *by, Late::Transact(request.clone())), 0),
            JourneyEnd::Answered | JourneyEnd::Lost => self.do_transact(Arrival::of(at, journey), request),
        };
        self.close(at, journey, ("transact", &request.table, &request.items), result, throttled)
    }

    /// A read of one place arrives: takes its units.
    pub fn read(
        &mut self,
        at: Duration,
        journey: &Journey,
        table: &str,
        key: &ItemKey,
        units: f64,
    ) -> Result<(), WriteError> {
        self.advance(at);
        if let JourneyEnd::Fails(error) = &journey.end {
            return Err(error.clone());
        }
        let missing = || WriteError::TableMissing { table: table.to_owned() };
        let capacity = &mut self.tables.get_mut(table).ok_or_else(missing)?.capacity;
        capacity.take_read(&key.place(), units, at).map_err(throttled)
    }

    fn postpone(&mut self, due: Duration, late: Late) -> Result<WriteDone, WriteError> {
        self.late_count += 1;
        self.late.insert((due, self.late_count), late);
        Err(unknown("the connection broke"))
    }

    /// Counts and traces a call; gives what its caller hears.
    fn close(
        &mut self,
        at: Duration,
        journey: &Journey,
        (name, table, items): (&str, &str, &[WriteItem]),
        done: Result<WriteDone, WriteError>,
        throttled: usize,
    ) -> Result<WriteDone, WriteError> {
        let heard = if journey.end == JourneyEnd::Lost { Err(unknown("the answer was lost")) } else { done.clone() };
        let second = at.as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, CallTotals::default());
        }
        self.totals.count(items.len(), throttled, &heard);
        self.seconds[second].count(items.len(), throttled, &heard);
        let hash = items.iter().fold(0u64, |hash, item| hash.rotate_left(5) ^ stable_hash(&item.json));
        let lost = if journey.end == JourneyEnd::Lost { " (answer lost)" } else { "" };
        let (count, back) = (items.len(), journey.back.as_micros());
        self.trace.note(
            at,
            format_args!("{name} {table} items={count} content={hash:016x} back={back}us -> {}{lost}", Told(&done)),
        );
        heard
    }
}

/// A refused connection says so within this (chosen: a round trip).
const REFUSED_WITHIN: Duration = Duration::from_millis(2);
fn throttled(Shortage { reason, index }: Shortage) -> WriteError {
    WriteError::Throttled { reason, index }
}

fn throttled_by(error: &WriteError, items: usize) -> usize {
    if matches!(error, WriteError::Throttled { .. }) { items } else { 0 }
}

/// A result in a few words.
struct Told<'a>(&'a Result<WriteDone, WriteError>);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Ok(done) if done.unprocessed.is_empty() => write!(f, "done, {} units", done.write_units),
            Ok(done) => write!(f, "done but {:?}, {} units", done.unprocessed, done.write_units),
            Err(WriteError::Throttled { reason, index: Some(index) }) => {
                write!(f, "throttled: {reason}, index {index}")
            }
            Err(error) => write!(f, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests;
