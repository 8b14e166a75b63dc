//! What a write session owes its client: which batches came, which have outcomes, how far the acks reach. Pure.
//!
//! Invariants: `committed_through` grows by one batch at a time and never passes a batch with a row without outcome;
//! outcomes are handed out once, with the advance that covers them, or were reported before it, so that they are on the
//! stream when the ack is. In tables with `sequence_by` an advance also covers batches above `committed_through`, as
//! ranges. Few rejects wait for an advance; how many is bounded. The callers are `session` and `unary`.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::payload::Tally;
use crate::pool::{BatchTicket, RowFate};
use crate::telemetry::session_board::Progress;

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
    /// Whether batches above `committed_through` are acked: where sending old rows again cannot undo newer ones.
    acks_ranges: bool,
    /// Of batches in no ack.
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
    /// Acked in a range.
    in_range: bool,
}

/// Totals of the session, for receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    /// Batches received.
    pub(super) batches: u64,
    /// Bytes of batches received.
    pub(super) bytes: u64,
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
    /// What `committed_through` was before.
    pub(super) before: u64,
    /// All batches up to this one.
    pub(super) committed_through: u64,
    /// The batches above it that have outcomes, first and last of each range.
    pub(super) ranges: Vec<(u64, u64)>,
    /// Rows superseded in batches that are new here, those that are listed apart.
    pub(super) superseded: u64,
    /// Rows to list: batch, row, fate.
    pub(super) outcomes: Vec<(u64, u32, RowFate)>,
    /// When each of the batches that are new here was received.
    pub(super) received_at: Vec<Instant>,
}

impl Ledger {
    /// Nothing received. `acks_ranges` is for tables with `sequence_by`.
    pub(super) fn new(acks_ranges: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            committed_through: 0,
            acks_ranges,
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
        self.entries.push_back(Entry { bytes, held_rejects: 0, received_at: now, done: None, in_range: false });
        self.unacked_bytes += bytes;
        self.totals.batches += 1;
        self.totals.bytes += bytes;
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

    /// Acks what may be acked: moves `committed_through` as far as it may go, and with ranges takes what has outcomes above
    /// it. `None` where nothing is new.
    pub(super) fn advance(&mut self) -> Option<Advance> {
        let mut advance = Advance { before: self.committed_through, ..Advance::default() };
        while let Some(entry) = self.entries.front_mut()
            && (entry.in_range || entry.done.is_some())
        {
            let seq = self.committed_through + 1;
            if let Some(ticket) = entry.done.take() {
                let (bytes, held_rejects, received_at) = (entry.bytes, entry.held_rejects, entry.received_at);
                self.book(seq, &ticket, &mut advance);
                self.release(bytes, held_rejects);
                advance.received_at.push(received_at);
            }
            self.committed_through = seq;
            self.entries.pop_front();
        }
        if self.acks_ranges {
            self.advance_ranges(&mut advance);
        }
        advance.committed_through = self.committed_through;
        let is_new = advance.committed_through > advance.before || !advance.received_at.is_empty();
        is_new.then_some(advance)
    }

    fn advance_ranges(&mut self, advance: &mut Advance) {
        for index in 0..self.entries.len() {
            let seq = self.committed_through + 1 + index as u64;
            let entry = &mut self.entries[index];
            if let Some(ticket) = entry.done.take() {
                entry.in_range = true;
                let (bytes, held_rejects, received_at) = (entry.bytes, entry.held_rejects, entry.received_at);
                self.book(seq, &ticket, advance);
                self.release(bytes, held_rejects);
                advance.received_at.push(received_at);
            }
            if self.entries[index].in_range {
                match advance.ranges.last_mut() {
                    Some((_, last)) if *last + 1 == seq => *last = seq,
                    _ => advance.ranges.push((seq, seq)),
                }
            }
        }
    }

    /// What is acked holds no room in the window, and no rejects.
    fn release(&mut self, bytes: u64, held_rejects: usize) {
        self.unacked_bytes -= bytes;
        self.held_rejects -= held_rejects;
    }

    /// Takes a batch's totals and outcomes.
    fn book(&mut self, seq: u64, ticket: &BatchTicket, advance: &mut Advance) {
        let (totals, fates) = ticket.take();
        self.totals.committed += u64::from(totals.committed);
        self.totals.superseded += u64::from(totals.superseded);
        self.totals.write_units += totals.write_units;
        self.totals.throttled_attempts += u64::from(totals.throttled_attempts);
        advance.superseded += u64::from(totals.superseded);
        for (row, fate) in fates {
            match fate {
                RowFate::Rejected(_) => self.totals.rejected += 1,
                // It is listed, so that an ack does not count it once more.
                RowFate::StaleMerge => self.totals.superseded += 1,
                RowFate::Retryable(_) => self.totals.retryable += 1,
                RowFate::Unknown(_) => self.totals.unknown += 1,
            }
            advance.outcomes.push((seq, row, fate));
        }
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

    /// When the oldest batch above `committed_through` was received.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.received_at)
    }

    /// What the board of sessions shows.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            rows: self.totals.rows,
            bytes: self.totals.bytes,
            unacked_batches: self.entries.iter().filter(|entry| !entry.in_range).count() as u64,
            unacked_bytes: self.unacked_bytes,
            oldest_unacked: self.oldest(),
        }
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
        let mut ledger = Ledger::new(false);
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
    fn ranges_ack_what_an_older_batch_does_not_hold_up() {
        let mut ledger = Ledger::new(true);
        for seq in 1..=6 {
            ledger.admit(seq, 10, Instant::now()).unwrap();
        }
        ledger.settle(done(2, vec![7]));
        ledger.settle(done(3, vec![]));
        ledger.settle(done(5, vec![1]));
        let advance = ledger.advance().unwrap();
        assert_eq!((advance.before, advance.committed_through), (0, 0));
        assert_eq!((&advance.ranges[..], advance.received_at.len()), (&[(2, 3), (5, 5)][..], 3));
        let places = |advance: &Advance| advance.outcomes.iter().map(|(seq, row, _)| (*seq, *row)).collect::<Vec<_>>();
        assert_eq!(places(&advance), [(2, 7), (5, 1)]);
        assert!(ledger.advance().is_none(), "nothing new");
        assert_eq!(ledger.totals().rejected, 2);
        assert!(ledger.has_room(31, 7), "three batches hold the window");
        assert!(!ledger.has_room(30, 7));
        assert!(!ledger.has_room(100, 6), "all of them wait for the first");

        ledger.settle(done(1, vec![0]));
        let advance = ledger.advance().unwrap();
        assert_eq!((advance.committed_through, &advance.ranges[..]), (3, &[(5, 5)][..]));
        assert_eq!((places(&advance), advance.received_at.len()), (vec![(1, 0)], 1), "no outcome is told twice");
        ledger.settle(done(4, vec![]));
        ledger.settle(done(6, vec![]));
        let advance = ledger.advance().unwrap();
        assert_eq!((advance.committed_through, advance.ranges.len(), advance.received_at.len()), (6, 0, 2));
        assert!(ledger.has_room(1, 1));
    }

    #[test]
    fn without_ranges_nothing_is_acked_before_its_turn() {
        let mut ledger = Ledger::new(false);
        ledger.admit(1, 10, Instant::now()).unwrap();
        ledger.admit(2, 10, Instant::now()).unwrap();
        ledger.settle(done(2, vec![7]));
        assert!(ledger.advance().is_none());
        assert!(!ledger.has_room(20, 9));
    }

    #[test]
    fn a_batch_sent_twice_or_left_out_is_named_with_the_expected_number() {
        let mut ledger = Ledger::new(false);
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
        let mut ledger = Ledger::new(false);
        assert!(ledger.has_room(10, 2));
        ledger.admit(1, 1000, Instant::now()).unwrap();
        assert!(!ledger.has_room(10, 2));
        ledger.settle(done(1, vec![]));
        ledger.advance();
        assert!(ledger.has_room(10, 2));
    }
}
