//! One table's rows in one lane: what waits, what is in flight, what may go next. Pure; time is passed in.
//!
//! Invariants:
//! - Per key, one write is in flight. Later rows for the key wait behind it.
//! - Waiting rows of one key fold by this table; the newest row is the *survivor*, the older ones are its *parts*:
//!
//!   | newer \ older | PUT | DELETE |
//!   |---|---|---|
//!   | PUT | the newer PUT | the newer PUT |
//!   | DELETE | the DELETE | the newer DELETE |
//!
//! - Parts are kept until the survivor is confirmed. If it is refused for good, or its session is cancelled, the parts are
//!   written after all, in order; only a confirmed survivor makes them superseded.
//! - A row that comes back to be tried again goes before every row that came after it, so the newest still survives.
//! - With coalescing off nothing folds: every row is written, in order.
//!
//! The caller is `lane`; a property test below checks the fold against a sequential model.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashTable;
use slab::Slab;
use tokio::time::Instant;

use super::retry::RetryConfig;
use crate::limits::{BATCH_WRITE_MAX_BYTES, BATCH_WRITE_MAX_OPERATIONS};
use crate::store::WriteItem;

mod line;
mod ready;

use line::{Line, Parts};
use ready::{Ready, ReadyTicket};

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
}

/// A key's place in the queue.
pub type SlotId = usize;

/// Items to send in one attempt, one for each key.
#[derive(Debug)]
pub struct Batch {
    /// The keys.
    pub slots: Vec<SlotId>,
    /// What to write, in the order of `slots`.
    pub items: Vec<WriteItem>,
    /// Send by PutItem or DeleteItem: the key's row was in a batch that DynamoDB refused as a whole.
    pub solo: bool,
}

/// What became of one key's item in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemOutcome {
    /// DynamoDB confirmed it.
    Confirmed,
    /// Not written, or not known to be: try again later.
    Retry,
    /// The batch was refused as a whole: try each item on its own.
    Alone,
    /// Refused on its own, for good.
    Refused,
    /// The whole session ends anyway: forget the row.
    Forget,
}

/// What the lane must report.
#[derive(Debug)]
pub enum Report {
    /// The row was written.
    Committed(Part),
    /// A newer row, now confirmed, stands for it.
    Superseded(Part),
    /// DynamoDB refused it for good.
    Refused(Part),
    /// Its session was cancelled, or has failed.
    Dropped(Part),
}

#[derive(Debug)]
struct Slot {
    waiting: Line,
    in_flight: Parts,
    attempts: u32,
    solo: bool,
    state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// In [`Ready`], under this ticket.
    Ready(ReadyTicket),
    Delayed,
    InFlight,
}

/// The queue.
#[derive(Debug)]
pub struct TableQueue {
    coalesce: bool,
    retry: RetryConfig,
    index: HashTable<SlotId>,
    slots: Slab<Slot>,
    ready: Ready,
    delayed: BinaryHeap<Reverse<(Instant, SlotId)>>,
    rows: usize,
    /// Rounds of whole calls that failed one after another; success ends the count.
    failures: u32,
    failed_at: Option<Instant>,
    resting_until: Option<Instant>,
}

impl TableQueue {
    /// An empty queue.
    pub fn new(coalesce: bool, retry: RetryConfig) -> Self {
        Self {
            coalesce,
            retry,
            index: HashTable::new(),
            slots: Slab::new(),
            ready: Ready::default(),
            delayed: BinaryHeap::new(),
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
        self.coalesce = coalesce;
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
                slot.state = SlotState::Ready(self.ready.push_back(id, false));
            }
            slot.waiting.push(part);
            return;
        }
        let (hash, bulk) = (part.key_hash, part.bulk);
        let entry = self.slots.vacant_entry();
        let id = entry.key();
        entry.insert(Slot {
            waiting: Line::of(part),
            in_flight: Parts::new(),
            attempts: 0,
            solo: false,
            state: SlotState::Ready(self.ready.push_back(id, bulk)),
        });
        self.index.insert_unique(hash, id, |&slot| self.slots[slot].key_hash());
    }

    /// The next attempt, if anything may go now.
    pub fn take_batch(&mut self, now: Instant) -> Option<Batch> {
        self.wake(now);
        if self.resting_until.is_some_and(|until| until > now) {
            return None;
        }
        self.ready.tidy(&self.slots);
        let order = self.ready.begin_batch();
        let first = self.ready.front(order, &self.slots)?;
        let solo = self.slots[first].solo;
        let room = if solo { 1 } else { self.ready.len().min(BATCH_WRITE_MAX_OPERATIONS) };
        let mut batch = Batch { slots: Vec::with_capacity(room), items: Vec::with_capacity(room), solo };
        let mut bytes = 0;
        while batch.slots.len() < room
            && let Some(id) = self.ready.front(order, &self.slots)
        {
            let slot = &mut self.slots[id];
            if slot.solo != solo {
                break;
            }
            debug_assert!(slot.in_flight.is_empty());
            let survivor = if self.coalesce { slot.waiting.len() - 1 } else { 0 };
            let Some(Part { item, .. }) = slot.waiting.get(survivor) else { break };
            bytes += item.json.len();
            if bytes > BATCH_WRITE_MAX_BYTES && !batch.slots.is_empty() {
                break;
            }
            batch.items.push(item.clone());
            slot.in_flight = slot.waiting.take(survivor + 1);
            slot.state = SlotState::InFlight;
            batch.slots.push(id);
            self.ready.pop_front(order);
        }
        Some(batch)
    }

    /// When [`TableQueue::take_batch`] may have something, if it has nothing now.
    pub fn next_wake(&self) -> Option<Instant> {
        let delayed = self.delayed.peek().map(|Reverse((at, _))| *at);
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

    /// Settles one key of an attempt. `is_live` says whether a slice's session still listens.
    pub fn settle(
        &mut self,
        id: SlotId,
        outcome: ItemOutcome,
        now: Instant,
        rng: &mut fastrand::Rng,
        is_live: impl Fn(usize) -> bool,
        report: &mut impl FnMut(Report),
    ) {
        let slot = &mut self.slots[id];
        debug_assert_eq!(slot.state, SlotState::InFlight);
        let mut flown = std::mem::take(&mut slot.in_flight);
        let hash = flown.first().map_or(0, |part| part.key_hash);
        let mut left = 0;
        let mut report = |what: Report| {
            left += 1;
            report(what);
        };
        let mut delay = None;
        match outcome {
            ItemOutcome::Confirmed => {
                slot.attempts = 0;
                slot.solo = false;
                let survivor = flown.pop();
                flown.drain(..).for_each(|part| report(Report::Superseded(part)));
                survivor.into_iter().for_each(|part| report(Report::Committed(part)));
            }
            ItemOutcome::Refused => {
                slot.attempts = 0;
                slot.solo = false;
                // The older rows that it stood for are written after all.
                flown.pop().into_iter().for_each(|part| report(Report::Refused(part)));
            }
            ItemOutcome::Alone => slot.solo = true,
            ItemOutcome::Retry => {
                slot.attempts = slot.attempts.saturating_add(1);
                delay = Some(self.retry.delay(slot.attempts, rng));
            }
            ItemOutcome::Forget => flown.drain(..).for_each(|part| report(Report::Dropped(part))),
        }
        // Those that wait are dropped with their session; those that flew were spared then.
        flown.retain(|part| {
            let live = is_live(part.slice);
            if !live {
                report(Report::Dropped(part.clone()));
            }
            live
        });
        slot.waiting.put_back(flown);
        self.rows -= left;
        if slot.waiting.is_empty() {
            self.remove(id, hash);
        } else if let Some(delay) = delay {
            slot.state = SlotState::Delayed;
            self.delayed.push(Reverse((now + delay, id)));
        } else {
            slot.state = SlotState::Ready(self.ready.push_back(id, slot.waiting.is_bulk()));
        }
    }

    /// Drops the waiting rows that `is_live` denies; rows in flight stay until their attempt is settled.
    pub fn drop_dead(&mut self, is_live: impl Fn(usize) -> bool, report: &mut impl FnMut(Report)) {
        let mut emptied = Vec::new();
        let mut left = 0;
        for (id, slot) in &mut self.slots {
            let hash = slot.key_hash();
            slot.waiting.retain(
                |part| is_live(part.slice),
                |part| {
                    left += 1;
                    report(Report::Dropped(part));
                },
            );
            if slot.waiting.is_empty() && slot.state != SlotState::InFlight {
                emptied.push((id, hash));
            }
        }
        self.rows -= left;
        if emptied.is_empty() {
            return;
        }
        let gone: hashbrown::HashSet<SlotId> = emptied.iter().map(|&(id, _)| id).collect();
        self.ready.retain(|id| !gone.contains(id));
        self.delayed.retain(|Reverse((_, id))| !gone.contains(id));
        for (id, hash) in emptied {
            self.remove(id, hash);
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some(&Reverse((at, id))) = self.delayed.peek()
            && at <= now
        {
            self.delayed.pop();
            // It has waited longest.
            let slot = &mut self.slots[id];
            slot.state = SlotState::Ready(self.ready.push_front(id, slot.waiting.is_bulk()));
        }
    }

    fn remove(&mut self, id: SlotId, hash: u64) {
        if let Ok(entry) = self.index.find_entry(hash, |&slot| slot == id) {
            entry.remove();
        }
        self.slots.remove(id);
    }
}

impl SlotState {
    fn is_ready_as_bulk(self) -> bool {
        matches!(self, Self::Ready(ReadyTicket { bulk: true, .. }))
    }
}

impl Slot {
    /// A slot always holds a row, in flight or waiting, but for the moment in which it is removed.
    fn any_part(&self) -> Option<&Part> {
        self.in_flight.first().or(self.waiting.get(0))
    }

    fn key_text(&self) -> &[u8] {
        self.any_part().map_or(&[], |part| part.item.key_text())
    }

    fn key_hash(&self) -> u64 {
        self.any_part().map_or(0, |part| part.key_hash)
    }
}

#[cfg(test)]
mod tests;
