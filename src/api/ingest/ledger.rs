//! What a write session owes its client: which batches came, which have outcomes, how far the acks reach. Pure.
//!
//! Invariants: `committed_through` grows by one batch at a time and never passes a batch with a row without outcome;
//! outcomes are handed out with the advance that covers them, or were reported before it, so that they are on the stream
//! when the ack is. Few rejects wait for an advance; how many is bounded. The caller is `session`.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::payload::Tally;
use crate::pool::{BatchTicket, RowFate};

/// A batch number that is not the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("batch_seq is {found}; expected {expected}")]
pub(super) struct SequenceError {
    /// What the client sent.
    pub(super) found: u64,
    /// What it should have sent.
    pub(super) expected: u64,
}

/// The session's books.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    committed_through: u64,
    unacked_bytes: u64,
    held_rejects: usize,
    totals: Totals,
    coercions: Tally,
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    /// Its rejects that wait for its ack.
    held_rejects: usize,
    received_at: Instant,
    done: Option<Arc<BatchTicket>>,
}

/// Totals of the session, for receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    /// Batches received.
    pub(super) batches: u64,
    /// Rows received.
    pub(super) rows: u64,
    /// Rows confirmed.
    pub(super) committed: u64,
    /// Rows superseded.
    pub(super) superseded: u64,
    /// Rows rejected.
    pub(super) rejected: u64,
    /// Rows to be sent again.
    pub(super) retryable: u64,
    /// Rows that may be written, to be sent again.
    pub(super) unknown: u64,
    /// Write units.
    pub(super) write_units: f64,
    /// Throttled attempts.
    pub(super) throttled_attempts: u64,
}

/// Batches that have become acked.
#[derive(Debug, Default)]
pub(super) struct Advance {
    /// All batches up to this one.
    pub(super) committed_through: u64,
    /// Rows superseded in them.
    pub(super) superseded: u64,
    /// Rows to list: batch, row, fate.
    pub(super) outcomes: Vec<(u64, u32, RowFate)>,
    /// When each of the batches was received.
    pub(super) received_at: Vec<Instant>,
}

impl Ledger {
    /// Nothing received.
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            committed_through: 0,
            unacked_bytes: 0,
            held_rejects: 0,
            totals: Totals::default(),
            coercions: Tally::default(),
        }
    }

    /// Enters a batch.
    pub(super) fn admit(&mut self, batch_seq: u64, bytes: u64, now: Instant) -> Result<(), SequenceError> {
        let expected = self.last_seq() + 1;
        if batch_seq != expected {
            return Err(SequenceError { found: batch_seq, expected });
        }
        self.entries.push_back(Entry { bytes, held_rejects: 0, received_at: now, done: None });
        self.unacked_bytes += bytes;
        self.totals.batches += 1;
        Ok(())
    }

    /// Counts rows of the newest batch.
    pub(super) fn count_rows(&mut self, rows: u64) {
        self.totals.rows += rows;
    }

    /// Counts coercions of rows that were accepted.
    pub(super) fn count_coercions(&mut self, coercions: &Tally) {
        self.coercions.add(coercions);
    }

    /// Coercions of the session's rows.
    pub(super) fn coercions(&self) -> &Tally {
        &self.coercions
    }

    /// Whether rejects of the newest batch may wait for its ack: together with the others that wait, no more than `most`.
    pub(super) fn hold_rejects(&mut self, rejects: usize, most: usize) -> bool {
        if self.held_rejects + rejects > most {
            return false;
        }
        self.held_rejects += rejects;
        if let Some(newest) = self.entries.back_mut() {
            newest.held_rejects += rejects;
        }
        true
    }

    /// Counts rejects that were reported before their batch's ack.
    pub(super) fn count_rejected(&mut self, rejects: u64) {
        self.totals.rejected += rejects;
    }

    /// Every row of the ticket's batch has an outcome.
    pub(super) fn settle(&mut self, ticket: Arc<BatchTicket>) {
        let index = ticket.seq().checked_sub(self.committed_through + 1);
        let entry = index.and_then(|index| self.entries.get_mut(usize::try_from(index).ok()?));
        debug_assert!(entry.is_some(), "a ticket that is not in the books");
        if let Some(entry) = entry {
            entry.done = Some(ticket);
        }
    }

    /// Moves `committed_through` as far as it may go; `None` where it does not move.
    pub(super) fn advance(&mut self) -> Option<Advance> {
        let mut advance = Advance::default();
        while let Some(Entry { done: Some(ticket), bytes, held_rejects, received_at }) = self.entries.front() {
            let (totals, fates) = ticket.take();
            let seq = self.committed_through + 1;
            self.committed_through = seq;
            self.unacked_bytes -= bytes;
            self.held_rejects -= held_rejects;
            self.totals.committed += u64::from(totals.committed);
            self.totals.superseded += u64::from(totals.superseded);
            self.totals.write_units += totals.write_units;
            self.totals.throttled_attempts += u64::from(totals.throttled_attempts);
            advance.superseded += u64::from(totals.superseded);
            advance.received_at.push(*received_at);
            for (row, fate) in fates {
                match fate {
                    RowFate::Rejected(_) => self.totals.rejected += 1,
                    RowFate::StaleMerge => {
                        self.totals.superseded += 1;
                        advance.superseded += 1;
                    }
                    RowFate::Retryable(_) => self.totals.retryable += 1,
                    RowFate::Unknown(_) => self.totals.unknown += 1,
                }
                advance.outcomes.push((seq, row, fate));
            }
            self.entries.pop_front();
        }
        advance.committed_through = self.committed_through;
        (!advance.received_at.is_empty()).then_some(advance)
    }

    /// All batches up to this one have outcomes.
    pub(super) fn committed_through(&self) -> u64 {
        self.committed_through
    }

    /// The newest batch; 0 where there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.committed_through + self.entries.len() as u64
    }

    /// Whether another batch fits the window. With nothing in flight, one always does.
    pub(super) fn has_room(&self, max_bytes: u64, max_batches: u32) -> bool {
        self.entries.is_empty()
            || (self.unacked_bytes < max_bytes
                && self.entries.len() < usize::try_from(max_batches).unwrap_or(usize::MAX))
    }

    /// When the oldest batch without ack was received.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.received_at)
    }

    /// Totals of what was received, and of what was acked.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Reject, RejectReason, RowReject};
    use crate::pool::{SessionEvent, SessionLink};

    fn done(seq: u64, rejects: Vec<u32>) -> Arc<BatchTicket> {
        let (link, mut events) = SessionLink::new(1, false);
        let ticket = BatchTicket::new(seq, link);
        let reject = |row_index| RowReject { row_index, reject: *Reject::new(RejectReason::OutOfRange, "no") };
        ticket.reject(rejects.into_iter().map(reject).collect());
        ticket.seal();
        let Ok(SessionEvent::BatchDone(ticket)) = events.try_recv() else {
            panic!("an empty batch is done when sealed")
        };
        ticket
    }

    #[test]
    fn acks_wait_for_the_oldest_batch() {
        let mut ledger = Ledger::new();
        let now = Instant::now();
        for seq in 1..=3 {
            ledger.admit(seq, 10, now).unwrap();
        }
        ledger.settle(done(2, vec![]));
        ledger.settle(done(3, vec![5]));
        assert!(ledger.advance().is_none());
        ledger.settle(done(1, vec![1, 0]));
        let advance = ledger.advance().unwrap();
        assert_eq!(advance.committed_through, 3);
        let places: Vec<_> = advance.outcomes.iter().map(|(seq, row, _)| (*seq, *row)).collect();
        assert_eq!(places, [(1, 0), (1, 1), (3, 5)]);
        assert_eq!((ledger.oldest(), ledger.totals().rejected), (None, 3));
    }

    #[test]
    fn a_batch_sent_twice_or_left_out_is_named_with_the_expected_number() {
        let mut ledger = Ledger::new();
        let now = Instant::now();
        ledger.admit(1, 1, now).unwrap();
        assert_eq!(ledger.admit(1, 1, now), Err(SequenceError { found: 1, expected: 2 }));
        assert_eq!(ledger.admit(3, 1, now), Err(SequenceError { found: 3, expected: 2 }));
        ledger.settle(done(1, vec![]));
        ledger.advance();
        assert_eq!(ledger.admit(1, 1, now), Err(SequenceError { found: 1, expected: 2 }));
        ledger.admit(2, 1, now).unwrap();
    }

    #[test]
    fn one_batch_is_always_admitted_when_nothing_is_in_flight() {
        let mut ledger = Ledger::new();
        assert!(ledger.has_room(10, 2));
        ledger.admit(1, 1000, Instant::now()).unwrap();
        assert!(!ledger.has_room(10, 2));
        ledger.settle(done(1, vec![]));
        ledger.advance();
        assert!(ledger.has_room(10, 2));
    }
}
