//! The model: tables with contents and capacity, faults, latency, and what calls do to them. Pure: time and the seed are
//! passed in, and nothing waits.
//!
//! A call has three moments. It [departs](Model::depart): dice say how long it travels and what goes wrong. It arrives, and
//! is done or not ([`Model::batch_write`] and its siblings). Its answer is heard, unless it is lost. The caller passes the
//! moments' times; [`store`](super::store) waits between them.
//!
//! Invariant: between two moments nothing happens but late writes, and those at their own time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::bucket::Bucket;
use super::capacity::{Capacity, CapacityConfig, Demand, Shortage};
use super::fault::{Fault, FaultCounts, FaultKind};
use super::items::{Change, Contents, ItemKey, KeySchema, Refusal};
use super::latency::Latency;
use super::trace::Trace;
use super::values::stable_hash;
use crate::limits::{BATCH_WRITE_MAX_OPERATIONS, TRANSACTION_MAX_ACTIONS, TRANSACTION_TOKEN_VALID};
use crate::store::{
    BatchWrite, CancelReason, OneWrite, SequenceRule, ThrottleReason, TransactWrite, WriteDone, WriteError, WriteItem,
    WriteOp,
};

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

/// When and how a write arrives.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    at: Duration,
    heard_at: Option<Duration>,
    /// Accepted before: it is done whether there is capacity or not.
    late: bool,
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

    fn do_batch(
        &mut self,
        arrival: Arrival,
        request: &BatchWrite,
        unprocessed_share: f64,
    ) -> (Result<WriteDone, WriteError>, usize) {
        let Self { tables, account, rng, faults, observer, .. } = self;
        let Some(table) = tables.get_mut(&request.table) else {
            return (Err(WriteError::TableMissing { table: request.table.to_string() }), 0);
        };
        let batch_op = |item: &WriteItem| matches!(item.op, WriteOp::Put | WriteOp::Delete);
        if !(1..=BATCH_WRITE_MAX_OPERATIONS).contains(&request.items.len()) || !request.items.iter().all(batch_op) {
            return (Err(refused("a batch has 1 to 25 puts and deletes")), 0);
        }
        let planned = match table.plan(&request.items, None) {
            Ok(planned) => planned,
            Err(message) => return (Err(refused(&message)), 0),
        };
        // DynamoDB writes a batch's items in parallel: which of them find capacity is not a matter of their order.
        let mut planned: Vec<_> = planned.into_iter().enumerate().collect();
        rng.shuffle(&mut planned);
        let (mut done, mut shortages) = (WriteDone::default(), Vec::new());
        for (index, (key, planned)) in planned {
            // Without conditions there is nothing but a change.
            let Ok(change) = planned else { continue };
            if unprocessed_share > 0.0 && rng.f64() < unprocessed_share {
                faults.count(&FaultKind::Unprocessed { share: unprocessed_share });
                shortages.push(Shortage { reason: ThrottleReason::Unknown, index: None });
                done.unprocessed.push(index);
                continue;
            }
            let demand = Demand { place: key.place(), bytes: change.bytes, factor: 1.0 };
            match arrival.take(&mut table.capacity, account, &demand) {
                Ok(units) => {
                    done.write_units += units;
                    table.contents.apply(&key, change);
                    arrival.tell(observer, &request.table, &request.items[index]);
                }
                Err(shortage) => {
                    shortages.push(shortage);
                    done.unprocessed.push(index);
                }
            }
        }
        done.unprocessed.sort_unstable();
        let stopped = done.unprocessed.len();
        if stopped == request.items.len() {
            return (Err(throttled(most_frequent(&shortages))), stopped);
        }
        (Ok(done), stopped)
    }

    fn do_one(&mut self, arrival: Arrival, request: &OneWrite) -> (Result<WriteDone, WriteError>, usize) {
        let Self { tables, account, observer, .. } = self;
        let Some(table) = tables.get_mut(&request.table) else {
            return (Err(WriteError::TableMissing { table: request.table.to_string() }), 0);
        };
        let items = std::slice::from_ref(&request.item);
        let (key, planned) = match table.plan(items, request.sequence.as_deref()) {
            Ok(mut planned) => match planned.pop() {
                Some(planned) => planned,
                None => return (Err(refused("nothing to write")), 0),
            },
            Err(message) => return (Err(refused(&message)), 0),
        };
        let bytes = match &planned {
            Ok(change) => change.bytes,
            Err((_, bytes)) => *bytes,
        };
        let demand = Demand { place: key.place(), bytes, factor: 1.0 };
        let write_units = match arrival.take(&mut table.capacity, account, &demand) {
            Ok(units) => units,
            Err(shortage) => return (Err(throttled(shortage)), 1),
        };
        match planned {
            Ok(change) => {
                table.contents.apply(&key, change);
                arrival.tell(observer, &request.table, &request.item);
                (Ok(WriteDone { unprocessed: Vec::new(), write_units }), 0)
            }
            Err((existing, _)) => (Err(WriteError::Condition { existing }), 0),
        }
    }

    fn do_transact(&mut self, arrival: Arrival, request: &TransactWrite) -> (Result<WriteDone, WriteError>, usize) {
        let Self { tables, account, observer, tokens, .. } = self;
        let Some(table) = tables.get_mut(&request.table) else {
            return (Err(WriteError::TableMissing { table: request.table.to_string() }), 0);
        };
        if !(1..=TRANSACTION_MAX_ACTIONS).contains(&request.items.len()) || request.token.len() > TOKEN_MAX_CHARS {
            return (Err(refused("a transaction has 1 to 100 actions and a token of at most 36 characters")), 0);
        }
        let content = request.items.iter().fold(0u64, |hash, item| hash.rotate_left(5) ^ stable_hash(&item.json));
        tokens.retain(|_, (valid_until, _)| *valid_until > arrival.at);
        match tokens.get(&request.token) {
            Some((_, before)) if *before == content => return (Ok(WriteDone::default()), 0),
            Some(_) => return (Err(refused("IdempotentParameterMismatch: the token is of another request")), 0),
            None => {}
        }
        let planned = match table.plan(&request.items, request.sequence.as_deref()) {
            Ok(planned) => planned,
            Err(message) => return (Err(refused(&message)), 0),
        };
        let demand = |(key, planned): &Planned| {
            let bytes = match planned {
                Ok(change) => change.bytes,
                Err((_, bytes)) => *bytes,
            };
            Demand { place: key.place(), bytes, factor: 2.0 }
        };
        let demands: Vec<_> = planned.iter().map(demand).collect();
        if planned.iter().any(|(_, planned)| planned.is_err()) {
            for demand in &demands {
                table.capacity.force_write(account, demand, arrival.at);
            }
            let reason = |(_, planned): Planned| match planned {
                Ok(_) => CancelReason::None,
                Err((existing, _)) => CancelReason::Condition { existing },
            };
            return (Err(WriteError::Cancelled { reasons: planned.into_iter().map(reason).collect() }), 0);
        }
        let mut write_units = 0.0;
        for (index, demand) in demands.iter().enumerate() {
            match arrival.take(&mut table.capacity, account, demand) {
                Ok(units) => write_units += units,
                Err(shortage) => {
                    for demand in &demands[..index] {
                        table.capacity.give_back(account, demand, arrival.at);
                    }
                    let mut reasons = vec![CancelReason::None; demands.len()];
                    reasons[index] = CancelReason::Throttled(shortage.reason);
                    return (Err(WriteError::Cancelled { reasons }), demands.len());
                }
            }
        }
        for ((key, planned), item) in planned.into_iter().zip(&request.items) {
            if let Ok(change) = planned {
                table.contents.apply(&key, change);
                arrival.tell(observer, &request.table, item);
            }
        }
        tokens.insert(Arc::clone(&request.token), (arrival.at + TRANSACTION_TOKEN_VALID, content));
        (Ok(WriteDone { unprocessed: Vec::new(), write_units }), 0)
    }
}

/// A refused connection says so within this (chosen: a round trip).
const REFUSED_WITHIN: Duration = Duration::from_millis(2);
/// Longest client token (DynamoDB).
const TOKEN_MAX_CHARS: usize = 36;

/// A write's key, and its change or what its false condition found (and the bytes that this costs).
type Planned = (ItemKey, Result<Change, (Option<crate::store::Item>, usize)>);

impl Table {
    /// What writes to different keys would do; an error refuses the whole call.
    fn plan(&self, items: &[WriteItem], sequence: Option<&SequenceRule>) -> Result<Vec<Planned>, String> {
        let mut seen = HashSet::with_capacity(items.len());
        let plan = |item| {
            let key = self.schema.key_of_write(item).ok_or("the provided key element does not match the schema")?;
            if items.len() > 1 && !seen.insert(key.clone()) {
                return Err("provided list of item keys contains duplicates".to_owned());
            }
            match self.contents.evaluate(&key, item, sequence) {
                Ok(change) => Ok((key, Ok(change))),
                Err(Refusal::Condition { existing, bytes }) => Ok((key, Err((existing, bytes)))),
                Err(Refusal::Validation(message)) => Err(message),
            }
        };
        items.iter().map(plan).collect()
    }
}

impl Arrival {
    fn of(at: Duration, journey: &Journey) -> Self {
        let heard = journey.end == JourneyEnd::Answered;
        Self { at, heard_at: heard.then_some(at + journey.back), late: false }
    }

    fn take(&self, capacity: &mut Capacity, account: &mut Option<Bucket>, demand: &Demand) -> Result<f64, Shortage> {
        if self.late {
            return Ok(capacity.force_write(account, demand, self.at));
        }
        capacity.take_write(account, demand, self.at)
    }

    fn tell(&self, observer: &mut Option<Box<dyn Observer>>, table: &str, item: &WriteItem) {
        if let Some(observer) = observer {
            observer.applied(&Applied { at: self.at, heard_at: self.heard_at, table, item });
        }
    }
}

fn throttled(Shortage { reason, index }: Shortage) -> WriteError {
    WriteError::Throttled { reason, index }
}

fn throttled_by(error: &WriteError, items: usize) -> usize {
    if matches!(error, WriteError::Throttled { .. }) { items } else { 0 }
}

/// What a call that was throttled as a whole says: the reason of most of its items, the first of those that are as many.
fn most_frequent(shortages: &[Shortage]) -> Shortage {
    let count = |shortage: &Shortage| shortages.iter().filter(|other| *other == shortage).count();
    let first_of_most = shortages.iter().rev().max_by_key(|shortage| count(shortage));
    first_of_most.cloned().unwrap_or(Shortage { reason: ThrottleReason::Unknown, index: None })
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
#[path = "model_tests.rs"]
mod tests;
