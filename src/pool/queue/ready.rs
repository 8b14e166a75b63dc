//! Keys that may go now: interactive ones first, without starving the others.
//!
//! A key that becomes urgent is queued anew; its old place is stale, and passed over, because the key's slot names the new
//! ticket. The caller is the queue.

use std::collections::VecDeque;

use slab::Slab;

use super::{Slot, SlotId, SlotState};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ready {
    interactive: Class,
    bulk: Class,
    batches: u32,
    tickets: u64,
}

/// Keys of one priority, the next one first.
type Class = VecDeque<(ReadyTicket, SlotId)>;

/// A key's place among the ready ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadyTicket {
    number: u64,
    /// Whether it stands among the bulk.
    pub(super) bulk: bool,
}

/// Which rows a batch is filled with first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    InteractiveFirst,
    BulkFirst,
}

/// One batch in so many starts with bulk rows, so that they move however many others there are.
const BULK_SHARE: u32 = 8;

impl Ready {
    pub(super) fn begin_batch(&mut self) -> Order {
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(BULK_SHARE) { Order::BulkFirst } else { Order::InteractiveFirst }
    }

    /// At least as many as there are.
    pub(super) fn len(&self) -> usize {
        self.interactive.len() + self.bulk.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key that goes next.
    pub(super) fn front(&mut self, order: Order, slots: &Slab<Slot>) -> Option<SlotId> {
        let (first, second) = self.in_order(order);
        for class in [first, second] {
            while let Some(place) = class.front() {
                if is_valid(place, slots) {
                    return Some(place.1);
                }
                class.pop_front();
            }
        }
        None
    }

    /// Forgets stale places when they are more than the others, so that they cannot pile up behind one that waits.
    pub(super) fn tidy(&mut self, slots: &Slab<Slot>) {
        if self.len() > 2 * slots.len() + 64 {
            self.interactive.retain(|place| is_valid(place, slots));
            self.bulk.retain(|place| is_valid(place, slots));
        }
    }

    /// Takes what [`Ready::front`] gave.
    pub(super) fn pop_front(&mut self, order: Order) {
        let (first, second) = self.in_order(order);
        if first.pop_front().is_none() {
            second.pop_front();
        }
    }

    fn in_order(&mut self, order: Order) -> (&mut Class, &mut Class) {
        match order {
            Order::InteractiveFirst => (&mut self.interactive, &mut self.bulk),
            Order::BulkFirst => (&mut self.bulk, &mut self.interactive),
        }
    }

    #[must_use]
    pub(super) fn push_back(&mut self, id: SlotId, bulk: bool) -> ReadyTicket {
        let ticket = self.ticket(bulk);
        self.class(bulk).push_back((ticket, id));
        ticket
    }

    #[must_use]
    pub(super) fn push_front(&mut self, id: SlotId, bulk: bool) -> ReadyTicket {
        let ticket = self.ticket(bulk);
        self.class(bulk).push_front((ticket, id));
        ticket
    }

    fn ticket(&mut self, bulk: bool) -> ReadyTicket {
        self.tickets += 1;
        ReadyTicket { number: self.tickets, bulk }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&SlotId) -> bool) {
        self.interactive.retain(|(_, id)| keep(id));
        self.bulk.retain(|(_, id)| keep(id));
    }

    fn class(&mut self, bulk: bool) -> &mut Class {
        if bulk { &mut self.bulk } else { &mut self.interactive }
    }
}

fn is_valid(&(ticket, id): &(ReadyTicket, SlotId), slots: &Slab<Slot>) -> bool {
    slots.get(id).is_some_and(|slot| slot.state == SlotState::Ready(ticket))
}
