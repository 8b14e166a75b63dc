//! Keys that may go now: interactive ones first, without starving the others; those that can share a call and those that go
//! alone by turns.
//!
//! A key that becomes urgent is queued anew; its old place is stale, and passed over, because the key's slot names the new
//! ticket. The caller is the queue.

use std::collections::VecDeque;

use slab::Slab;

use super::{Slot, SlotId, SlotState};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// By [`Class`].
    queues: [VecDeque<(ReadyTicket, SlotId)>; 4],
    batches: u32,
    tickets: u64,
    /// Whether those that go alone are next, where both kinds are there.
    alone_next: bool,
}

/// A key's place among the ready ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadyTicket {
    number: u64,
    pub(super) class: Class,
}

/// Which keys stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// They let others go first.
    pub(super) bulk: bool,
    /// They cannot share a call.
    pub(super) alone: bool,
}

/// Which rows a batch is filled with first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    InteractiveFirst,
    BulkFirst,
}

/// One batch in so many starts with bulk rows, so that they move however many others there are.
const BULK_SHARE: u32 = 8;

impl Class {
    fn index(self) -> usize {
        usize::from(self.bulk) * 2 + usize::from(self.alone)
    }
}

impl Order {
    fn bulk(self) -> [bool; 2] {
        match self {
            Self::InteractiveFirst => [false, true],
            Self::BulkFirst => [true, false],
        }
    }
}

impl Ready {
    /// Starts a batch: which rows go first, and whether the next one goes alone. `None` where there is nothing.
    pub(super) fn begin_batch(&mut self, slots: &Slab<Slot>) -> Option<(Order, bool)> {
        self.batches = self.batches.wrapping_add(1);
        let is_bulk_turn = self.batches.is_multiple_of(BULK_SHARE);
        let order = if is_bulk_turn { Order::BulkFirst } else { Order::InteractiveFirst };
        for bulk in order.bulk() {
            let has = |ready: &mut Self, alone| ready.first_of(Class { bulk, alone }, slots).is_some();
            let (together, alone) = (has(self, false), has(self, true));
            if together || alone {
                let alone = alone && (!together || self.alone_next);
                self.alone_next = !alone;
                return Some((order, alone));
            }
        }
        None
    }

    /// At least as many as there are.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// The key of a kind that goes next.
    pub(super) fn front(&mut self, order: Order, alone: bool, slots: &Slab<Slot>) -> Option<SlotId> {
        order.bulk().into_iter().find_map(|bulk| self.first_of(Class { bulk, alone }, slots))
    }

    /// Takes what [`Ready::front`] gave.
    pub(super) fn pop_front(&mut self, order: Order, alone: bool) {
        for bulk in order.bulk() {
            if self.queues[Class { bulk, alone }.index()].pop_front().is_some() {
                return;
            }
        }
    }

    fn first_of(&mut self, class: Class, slots: &Slab<Slot>) -> Option<SlotId> {
        let queue = &mut self.queues[class.index()];
        while let Some(place) = queue.front() {
            if is_valid(place, slots) {
                return Some(place.1);
            }
            queue.pop_front();
        }
        None
    }

    /// Forgets stale places when they are more than the others, so that they cannot pile up behind one that waits.
    pub(super) fn tidy(&mut self, slots: &Slab<Slot>) {
        if self.len() > 2 * slots.len() + 64 {
            self.queues.iter_mut().for_each(|queue| queue.retain(|place| is_valid(place, slots)));
        }
    }

    #[must_use]
    pub(super) fn push_back(&mut self, id: SlotId, class: Class) -> ReadyTicket {
        let ticket = self.ticket(class);
        self.queues[class.index()].push_back((ticket, id));
        ticket
    }

    #[must_use]
    pub(super) fn push_front(&mut self, id: SlotId, class: Class) -> ReadyTicket {
        let ticket = self.ticket(class);
        self.queues[class.index()].push_front((ticket, id));
        ticket
    }

    fn ticket(&mut self, class: Class) -> ReadyTicket {
        self.tickets += 1;
        ReadyTicket { number: self.tickets, class }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&SlotId) -> bool) {
        self.queues.iter_mut().for_each(|queue| queue.retain(|(_, id)| keep(id)));
    }
}

fn is_valid(&(ticket, id): &(ReadyTicket, SlotId), slots: &Slab<Slot>) -> bool {
    slots.get(id).is_some_and(|slot| slot.state == SlotState::Ready(ticket))
}
