//! One table's rows in one lane: what waits, what is in flight, what may go next. Pure; time is passed in.
//!
//! Invariants:
//! - Per key, one write is in flight. Later rows for the key wait behind it.
//! - Waiting rows of one key fold (see [`fold`]); the parts of a fold are kept until it is confirmed. If it is refused for
//!   good, or its session is cancelled, they are written after all, in order; only a confirmed fold makes them superseded.
//! - A row that comes back to be tried again goes before every row that came after it (with `sequence_by`: that has a greater
//!   sequence), so the newest still survives.
//! - With coalescing off nothing folds: every row is written, in order.
//! - A row of an atomic group that has come to the head of its key's line is held there until the group is settled.
//!
//! The caller is `lane`; property tests below check it against a sequential model.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;
use tokio::time::Instant;

use super::atomic::{AtomicGroup, GroupOutcome};
use super::budget::RetryBudget;
use super::fold::{self, Fold, FoldRules};
use super::outcome::RowFate;
use super::retry::RetryConfig;
use crate::limits::{BATCH_WRITE_MAX_BYTES, BATCH_WRITE_MAX_OPERATIONS, WRITE_UNIT_BYTES};
use crate::payload::EncodedRow;
use crate::store::{WriteItem, WriteOp};

mod line;
mod ready;
mod settle;

use line::{Line, Parts};
use ready::{Class, Ready, ReadyTicket};

/// One row that waits for its outcome.
#[derive(Debug, Clone)]
pub struct Part {
    /// What is written.
    pub item: WriteItem,
    /// Hash of the key.
    pub key_hash: u64,
    /// Hash of the partition key.
    pub partition_hash: u64,
    /// The lane's slice that the row came in.
    pub slice: usize,
    /// The row's index in the client's batch.
    pub row_index: u32,
    /// Whether others go first.
    pub bulk: bool,
    /// Whether an attempt may have written it without our knowing.
    pub unknown: bool,
    /// The atomic group that it belongs to.
    pub group: Option<Arc<AtomicGroup>>,
}

/// A key's place in the queue.
pub type SlotId = usize;

/// What to send in one attempt.
#[derive(Debug)]
pub enum Call {
    /// Items for one BatchWriteItem.
    Batch(Vec<WriteItem>),
    /// An item that cannot share a call.
    One(WriteItem),
}

/// An attempt on some keys.
#[derive(Debug)]
pub struct Attempt {
    /// The keys, in the order of the items.
    pub slots: Vec<SlotId>,
    /// What to send.
    pub call: Call,
    /// Write units that it takes, about.
    pub units: f64,
    /// Length of the items' text, in bytes.
    pub bytes: usize,
}

/// What may go next.
#[derive(Debug)]
pub enum Taken {
    /// An attempt on keys of this lane.
    Attempt(Attempt),
    /// The last row of a group is held: its transaction may go.
    Group(Arc<AtomicGroup>),
}

/// What became of one key's item in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemOutcome {
    /// DynamoDB confirmed it.
    Confirmed,
    /// A greater sequence is stored.
    Superseded,
    /// Not written: try again later.
    Retry,
    /// Not known to be written: try again later.
    RetryUnknown,
    /// The batch was refused as a whole: try each item on its own.
    Alone,
    /// Refused on its own, for good.
    Refused,
    /// The whole session ends anyway: forget the row.
    Forget,
}

/// Whether somebody still waits for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its session listens, and its time has not passed.
    Live,
    /// Its session was cancelled.
    Dead,
    /// Its deadline has passed.
    Expired,
}

/// What the lane must report.
#[derive(Debug)]
pub enum Report {
    /// The row was written.
    Committed(Part),
    /// A newer row, now confirmed, stands for it.
    Superseded(Part),
    /// A merge that a stored row with a greater sequence has made void.
    Stale(Part),
    /// DynamoDB refused it for good.
    Refused(Part),
    /// What became of a row of an atomic group that was not written.
    Fated(Part, RowFate),
    /// Its session was cancelled, or has failed.
    Dropped(Part),
    /// Its deadline has passed without an outcome.
    Expired(Part),
}

#[derive(Debug)]
struct Slot {
    waiting: Line,
    in_flight: Parts,
    /// Of those in flight, the first whose columns are in what was sent.
    applied_from: usize,
    attempts: u32,
    solo: bool,
    /// A fold was refused: so many rows go without folding.
    unfold: usize,
    /// Hash of the key.
    hash: u64,
    state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// In [`Ready`], under this ticket.
    Ready(ReadyTicket),
    Delayed,
    InFlight,
    /// Its row's atomic group is not settled yet.
    Held,
}

/// The queue.
#[derive(Debug)]
pub struct TableQueue {
    rules: FoldRules,
    retry: RetryConfig,
    budget: RetryBudget,
    index: HashTable<SlotId>,
    slots: Slab<Slot>,
    ready: Ready,
    delayed: BinaryHeap<Reverse<(Instant, SlotId)>>,
    /// Keys whose row is held for a group.
    held: Vec<(Arc<AtomicGroup>, SlotId)>,
    rows: usize,
    /// Rounds of whole calls that failed one after another; success ends the count.
    failures: u32,
    failed_at: Option<Instant>,
    resting_until: Option<Instant>,
}

impl Part {
    /// A row that a lane has received.
    pub fn new(row: EncodedRow, slice: usize, bulk: bool, group: Option<Arc<AtomicGroup>>) -> Self {
        let EncodedRow { row_index, item, partition_hash, key_hash, item_bytes: _ } = row;
        Self { item, key_hash, partition_hash, slice, row_index, bulk, unknown: false, group }
    }
}

impl TableQueue {
    /// An empty queue. With `sequenced`, rows have sequences, which order them.
    pub fn new(coalesce: bool, sequenced: bool, retry: RetryConfig) -> Self {
        Self {
            rules: FoldRules { coalesce, sequenced },
            retry,
            budget: RetryBudget::default(),
            index: HashTable::new(),
            slots: Slab::new(),
            ready: Ready::default(),
            delayed: BinaryHeap::new(),
            held: Vec::new(),
            rows: 0,
            failures: 0,
            failed_at: None,
            resting_until: None,
        }
    }

    /// Rows that wait or are in flight.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Follows the table's policy; rows that wait already keep the order they have.
    pub fn set_coalesce(&mut self, coalesce: bool) {
        self.rules.coalesce = coalesce;
    }

    /// Takes a row.
    pub fn push(&mut self, part: Part) {
        self.rows += 1;
        let slots = &self.slots;
        let found = self.index.find(part.key_hash, |&slot| slots[slot].key_text() == part.item.key_text()).copied();
        if let Some(id) = found {
            let slot = &mut self.slots[id];
            if !part.bulk && slot.state.is_ready_as_bulk() {
                // The key goes with its most urgent row. What it leaves behind among the bulk is stale.
                let class = Class { bulk: false, alone: slot.solo || self.rules.goes_alone(&part) };
                slot.state = SlotState::Ready(self.ready.push_back(id, class));
            }
            slot.push(part, self.rules);
            return;
        }
        let (hash, class) = (part.key_hash, Class { bulk: part.bulk, alone: self.rules.goes_alone(&part) });
        let entry = self.slots.vacant_entry();
        let id = entry.key();
        entry.insert(Slot {
            waiting: Line::of(part),
            in_flight: Parts::new(),
            applied_from: 0,
            attempts: 0,
            solo: false,
            unfold: 0,
            hash,
            state: SlotState::Ready(self.ready.push_back(id, class)),
        });
        self.index.insert_unique(hash, id, |&slot| self.slots[slot].hash);
    }

    /// Whether [`TableQueue::take`] may have something now.
    pub fn has_work(&mut self, now: Instant) -> bool {
        self.wake(now);
        !self.is_resting(now) && !self.ready.is_empty()
    }

    /// What goes next, if anything may go now: of about so many units at the most, but always an item.
    pub fn take(&mut self, now: Instant, most_units: f64) -> Option<Taken> {
        self.wake(now);
        if self.is_resting(now) {
            return None;
        }
        self.ready.tidy(&self.slots);
        loop {
            let (order, alone) = self.ready.begin_batch(&self.slots)?;
            let taken =
                if alone { self.take_alone(order) } else { self.take_batch(order, most_units).map(Taken::Attempt) };
            if taken.is_some() {
                return taken;
            }
        }
    }

    /// `None` where the row is held for a group that is not complete.
    fn take_alone(&mut self, order: ready::Order) -> Option<Taken> {
        let id = self.ready.front(order, true, &self.slots)?;
        self.ready.pop_front(order, true);
        let slot = &mut self.slots[id];
        if let Some(group) = slot.waiting.get(0).and_then(|part| part.group.clone()) {
            slot.in_flight = slot.waiting.take(1);
            slot.applied_from = 0;
            slot.state = SlotState::Held;
            self.held.push((Arc::clone(&group), id));
            return group.hold().then_some(Taken::Group(group));
        }
        let fold = slot.next_fold(self.rules)?;
        let (units, bytes) = (units(&fold.item), fold.item.json.len());
        let item = slot.fly(fold);
        let call = if slot.solo || is_alone(&item) { Call::One(item) } else { Call::Batch(vec![item]) };
        Some(Taken::Attempt(Attempt { slots: vec![id], call, units, bytes }))
    }

    /// `None` where none of the ready keys can share a call after all; they are ready to go alone then.
    fn take_batch(&mut self, order: ready::Order, most_units: f64) -> Option<Attempt> {
        let room = self.ready.len().min(BATCH_WRITE_MAX_OPERATIONS);
        let (mut slots, mut items) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let (mut total_units, mut bytes) = (0.0, 0);
        while slots.len() < BATCH_WRITE_MAX_OPERATIONS
            && let Some(id) = self.ready.front(order, false, &self.slots)
        {
            let slot = &mut self.slots[id];
            debug_assert!(slot.in_flight.is_empty());
            let in_group = slot.waiting.get(0).is_some_and(|part| part.group.is_some());
            let fold = if in_group || slot.solo { None } else { slot.next_fold(self.rules) };
            let Some(fold) = fold.filter(|fold| !is_alone(&fold.item)) else {
                self.ready.pop_front(order, false);
                let class = Class { bulk: slot.waiting.is_bulk(), alone: true };
                slot.state = SlotState::Ready(self.ready.push_back(id, class));
                continue;
            };
            let (item_units, item_bytes) = (units(&fold.item), fold.item.json.len());
            let is_full = total_units + item_units > most_units || bytes + item_bytes > BATCH_WRITE_MAX_BYTES;
            if is_full && !slots.is_empty() {
                break;
            }
            (total_units, bytes) = (total_units + item_units, bytes + item_bytes);
            items.push(slot.fly(fold));
            slots.push(id);
            self.ready.pop_front(order, false);
        }
        (!slots.is_empty()).then(|| Attempt { slots, call: Call::Batch(items), units: total_units, bytes })
    }

    /// When [`TableQueue::take`] may have something, if it has nothing now.
    pub fn next_wake(&self) -> Option<Instant> {
        let delayed = self.delayed.peek().map(|Reverse((at, _))| *at);
        let delayed = delayed.map(|at| self.budget.free_at().map_or(at, |free| at.max(free)));
        match (self.resting_until, self.ready.is_empty()) {
            (Some(until), false) => Some(until),
            (Some(until), true) => delayed.map(|at| at.max(until)),
            (None, _) => delayed,
        }
    }

    /// A call succeeded, at least in part: the table is there.
    pub fn note_success(&mut self) {
        self.failures = 0;
        self.failed_at = None;
        self.resting_until = None;
    }

    /// A whole call that began at `started` failed for a reason that others would meet too: rest before the next one.
    /// Calls that were under way together fail together, and count as one: false for all but the first.
    pub fn note_failure(&mut self, started: Instant, now: Instant, rng: &mut fastrand::Rng) -> bool {
        if self.failed_at.is_some_and(|failed_at| started <= failed_at) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.resting_until = Some(now + self.retry.delay(self.failures, rng));
        true
    }

    /// The slices of the rows that a key's attempt carries.
    pub fn in_flight_slices(&self, id: SlotId) -> impl Iterator<Item = usize> {
        self.slots[id].in_flight.iter().map(|part| part.slice)
    }

    /// The partition of a key in flight, by its hash.
    pub fn partition_hash(&self, id: SlotId) -> u64 {
        self.slots[id].any_part().map_or(0, |part| part.partition_hash)
    }

    /// What a key's attempt carries, where it is one row's own.
    pub(super) fn sent_item(&self, id: SlotId) -> Option<&WriteItem> {
        self.slots[id].in_flight.last().map(|part| &part.item)
    }

    /// Write units of what a key's attempt carries, about: of its newest row, where several were folded.
    pub(super) fn sent_units(&self, id: SlotId) -> f64 {
        self.sent_item(id).map_or(0.0, units)
    }

    /// The key's next attempt goes alone: DynamoDB gives a reason only for a call that it refuses as a whole.
    pub(super) fn probe(&mut self, id: SlotId) {
        self.slots[id].solo = true;
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.resting_until.is_some_and(|until| until > now)
    }

    fn wake(&mut self, now: Instant) {
        while let Some(&Reverse((at, id))) = self.delayed.peek()
            && at <= now
            && self.budget.take(now)
        {
            self.delayed.pop();
            // It has waited longest.
            let class = self.slots[id].class(self.rules);
            self.slots[id].state = SlotState::Ready(self.ready.push_front(id, class));
        }
    }

    fn remove(&mut self, id: SlotId, hash: u64) {
        if let Ok(entry) = self.index.find_entry(hash, |&slot| slot == id) {
            entry.remove();
        }
        self.slots.remove(id);
    }
}

impl FoldRules {
    /// Whether a row's write cannot share a call, as far as the row itself says.
    fn goes_alone(self, part: &Part) -> bool {
        self.sequenced || part.group.is_some() || is_alone(&part.item)
    }
}

/// BatchWriteItem carries neither conditions nor expressions.
fn is_alone(item: &WriteItem) -> bool {
    item.sequence.is_some() || matches!(item.op, WriteOp::Merge | WriteOp::Insert)
}

/// Write units of an item, from the length of its text: a few too many rather than too few.
pub(super) fn units(item: &WriteItem) -> f64 {
    (item.json.len() as f64 / f64::from(WRITE_UNIT_BYTES)).ceil()
}

impl SlotState {
    fn is_ready_as_bulk(self) -> bool {
        matches!(self, Self::Ready(ReadyTicket { class: Class { bulk: true, .. }, .. }))
    }
}

impl Slot {
    fn push(&mut self, part: Part, rules: FoldRules) {
        if rules.sequenced { self.waiting.push_by_sequence(part) } else { self.waiting.push(part) }
    }

    fn put_back(&mut self, parts: Parts, rules: FoldRules) {
        if rules.sequenced { self.waiting.put_back_by_sequence(parts) } else { self.waiting.put_back(parts) }
    }

    fn next_fold(&self, rules: FoldRules) -> Option<Fold> {
        let rules = FoldRules { coalesce: rules.coalesce && self.unfold == 0, ..rules };
        fold::next(self.waiting.iter(), rules)
    }

    /// Takes off with a fold.
    fn fly(&mut self, fold: Fold) -> WriteItem {
        self.in_flight = self.waiting.take(fold.rows);
        self.applied_from = fold.applied_from;
        self.state = SlotState::InFlight;
        fold.item
    }

    /// Where the key stands when it is ready; its newest row is a good guess of what its rows fold to.
    fn class(&self, rules: FoldRules) -> Class {
        let part = if rules.coalesce && self.unfold == 0 { self.waiting.last() } else { self.waiting.get(0) };
        let is_held_up = self.waiting.get(0).is_some_and(|part| part.group.is_some());
        let alone = self.solo || is_held_up || part.is_some_and(|part| rules.goes_alone(part));
        Class { bulk: self.waiting.is_bulk(), alone }
    }

    /// A slot always holds a row, in flight or waiting, but for the moment in which it is removed.
    fn any_part(&self) -> Option<&Part> {
        self.in_flight.first().or(self.waiting.get(0))
    }

    fn key_text(&self) -> &[u8] {
        self.any_part().map_or(&[], |part| part.item.key_text())
    }
}

#[cfg(test)]
impl Part {
    /// A part that tests complete.
    pub(super) fn of_test() -> Self {
        let item = WriteItem::new(WriteOp::Put, bytes::Bytes::new(), 0);
        Self { item, key_hash: 0, partition_hash: 0, slice: 0, row_index: 0, bulk: false, unknown: false, group: None }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
