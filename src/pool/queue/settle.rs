//! What becomes of a key's rows: after an attempt, at the end of a session, at a deadline, at the end of an atomic group.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::time::Instant;

use super::line::Parts;
use super::{GroupOutcome, ItemOutcome, Part, Report, SlotId, SlotState, Standing, TableQueue};
use crate::pool::atomic::AtomicGroup;
use crate::store::WriteOp;

impl TableQueue {
    /// Settles one key of an attempt. `standing` says whether somebody still waits for a slice's rows.
    pub fn settle(
        &mut self,
        id: SlotId,
        outcome: ItemOutcome,
        now: Instant,
        rng: &mut fastrand::Rng,
        standing: impl Fn(usize) -> Standing,
        report: &mut impl FnMut(Report),
    ) {
        let slot = &mut self.slots[id];
        debug_assert_eq!(slot.state, SlotState::InFlight);
        let mut flown = std::mem::take(&mut slot.in_flight);
        let applied_from = slot.applied_from;
        let mut left = 0;
        let mut report = |what: Report| {
            left += 1;
            report(what);
        };
        let mut delay = None;
        match outcome {
            ItemOutcome::Confirmed => {
                slot.settled();
                self.budget.earn(1);
                for (index, part) in flown.drain(..).enumerate() {
                    report(if index >= applied_from {
                        Report::Committed(part)
                    } else if self.rules.sequenced {
                        outdone(part)
                    } else {
                        Report::Superseded(part)
                    });
                }
            }
            // What has a smaller sequence than the one sent is no greater than what is stored, either.
            ItemOutcome::Superseded => {
                slot.settled();
                flown.drain(..).for_each(|part| report(outdone(part)));
            }
            // Several rows' columns were in it: each must have an answer of its own.
            ItemOutcome::Refused if flown.len() - applied_from > 1 => slot.unfold = flown.len(),
            ItemOutcome::Refused => {
                slot.settled();
                // The older rows that it stood for are written after all.
                flown.pop().into_iter().for_each(|part| report(Report::Refused(part)));
            }
            ItemOutcome::Alone => slot.solo = true,
            ItemOutcome::Retry | ItemOutcome::RetryUnknown => {
                slot.attempts = slot.attempts.saturating_add(1);
                delay = Some(self.retry.delay(slot.attempts, rng));
                if outcome == ItemOutcome::RetryUnknown {
                    flown[applied_from..].iter_mut().for_each(|part| part.unknown = true);
                }
            }
            ItemOutcome::Forget => flown.drain(..).for_each(|part| report(Report::Dropped(part))),
        }
        // Those that wait are dropped with their session; those that flew were spared then.
        keep_live(&mut flown, standing, &mut report);
        slot.put_back(flown, self.rules);
        self.rows -= left;
        self.land(id, delay.map(|delay| now + delay));
    }

    /// Drops the waiting rows that nobody waits for any more; rows in flight stay until their attempt is settled.
    pub fn drop_waiting(&mut self, standing: impl Fn(usize) -> Standing, report: &mut impl FnMut(Report)) {
        let mut left = 0;
        let mut report = |what: Report| {
            left += 1;
            report(what);
        };
        let mut emptied = Vec::new();
        for (id, slot) in &mut self.slots {
            slot.waiting.retain(
                self.rules.sequenced,
                |part| !may_drop(part, standing(part.slice)),
                |part| {
                    let why = standing(part.slice);
                    report(dropped(part, why));
                },
            );
            if slot.waiting.is_empty() && matches!(slot.state, SlotState::Ready(_) | SlotState::Delayed) {
                emptied.push(id);
            }
        }
        let given_up: Vec<SlotId> = self
            .held
            .extract_if(.., |(group, id)| {
                let part = self.slots[*id].in_flight.first();
                // A group that another lane's session end has cancelled is nobody's any more.
                part.is_some_and(|part| may_drop(part, standing(part.slice))) || group.is_cancelled()
            })
            .map(|(_, id)| id)
            .collect();
        for &id in &given_up {
            for part in std::mem::take(&mut self.slots[id].in_flight) {
                let why = standing(part.slice);
                report(dropped(part, why));
            }
        }
        self.rows -= left;
        // Slots that are empty have no part that knows their hash.
        self.forget(&emptied);
        for id in given_up {
            self.land(id, None);
        }
    }

    /// Settles the rows of a group.
    pub(in crate::pool) fn settle_group(
        &mut self,
        group: &Arc<AtomicGroup>,
        outcome: &GroupOutcome,
        report: &mut impl FnMut(Report),
    ) {
        let held = self.held.extract_if(.., |(held, _)| Arc::ptr_eq(held, group));
        let held: Vec<SlotId> = held.map(|(_, id)| id).collect();
        for id in held {
            for part in std::mem::take(&mut self.slots[id].in_flight) {
                self.rows -= 1;
                let position = group.position(part.row_index);
                report(match outcome {
                    GroupOutcome::Committed(_) => Report::Committed(part),
                    GroupOutcome::Refused(fates) => match position.and_then(|position| fates.get(position)) {
                        Some(fate) => Report::Fated(part, fate.clone()),
                        None => Report::Dropped(part),
                    },
                    GroupOutcome::Failed(_) => Report::Dropped(part),
                });
            }
            self.land(id, None);
        }
    }

    /// The slice of the rows that are held for a group.
    pub(in crate::pool) fn held_slice(&self, group: &Arc<AtomicGroup>) -> Option<usize> {
        let (_, id) = self.held.iter().find(|(held, _)| Arc::ptr_eq(held, group))?;
        self.slots[*id].in_flight.first().map(|part| part.slice)
    }

    /// A key has nothing in flight any more: it waits, is ready, or is gone.
    fn land(&mut self, id: SlotId, delayed_until: Option<Instant>) {
        let slot = &mut self.slots[id];
        if slot.waiting.is_empty() {
            self.forget(&[id]);
        } else if let Some(until) = delayed_until {
            slot.state = SlotState::Delayed;
            self.delayed.push(Reverse((until, id)));
        } else {
            let class = slot.class(self.rules);
            slot.state = SlotState::Ready(self.ready.push_back(id, class));
        }
    }

    /// Removes keys that have no row left.
    fn forget(&mut self, emptied: &[SlotId]) {
        match emptied {
            [] => return,
            // It was in flight, so it is neither ready nor delayed; a stale ticket is passed over.
            [id] if matches!(self.slots[*id].state, SlotState::InFlight | SlotState::Held) => {}
            _ => {
                let gone: hashbrown::HashSet<SlotId> = emptied.iter().copied().collect();
                self.ready.retain(|id| !gone.contains(id));
                self.delayed.retain(|Reverse((_, id))| !gone.contains(id));
            }
        }
        for &id in emptied {
            let hash = self.slots[id].hash;
            self.remove(id, hash);
        }
    }
}

impl super::Slot {
    /// An attempt was answered for good.
    fn settled(&mut self) {
        self.attempts = 0;
        self.solo = false;
        self.unfold = self.unfold.saturating_sub(1);
    }
}

/// A row of a table with `sequence_by` that a greater sequence has outdone.
fn outdone(part: Part) -> Report {
    if part.item.op == WriteOp::Merge { Report::Stale(part) } else { Report::Superseded(part) }
}

/// Whether a row that is not in flight may be dropped. A group goes as a whole, and not while its transaction is in flight.
fn may_drop(part: &Part, standing: Standing) -> bool {
    standing != Standing::Live && part.group.as_ref().is_none_or(|group| group.cancel())
}

fn dropped(mut part: Part, standing: Standing) -> Report {
    if standing == Standing::Expired {
        part.unknown |= part.group.as_ref().is_some_and(|group| group.is_unknown());
        Report::Expired(part)
    } else {
        Report::Dropped(part)
    }
}

fn keep_live(parts: &mut Parts, standing: impl Fn(usize) -> Standing, report: &mut impl FnMut(Report)) {
    let mut kept = Parts::new();
    for part in parts.drain(..) {
        match standing(part.slice) {
            Standing::Live => kept.push(part),
            standing => report(dropped(part, standing)),
        }
    }
    *parts = kept;
}
