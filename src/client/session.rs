//! The writer's state without its I/O: what is unacked, how the caller's batches map to the numbers of the current call,
//! what the window allows, and which outcomes are final.
//!
//! Invariants
//! - The queue holds parts of the caller's batches in the caller's order; they are sent in that order, in every call.
//! - A part leaves the queue only when the gateway's `committed_through` or a committed range covers it.
//! - Outcomes are final only when their part is covered; those of a part that has to be sent again are forgotten, because
//!   the new call reports them again.
//! - A covered part with rows to send again keeps its place in the queue with those rows, and is sent again
//!   under a new number. Such rows are of tables with `sequence_by`, where the order of sending has no meaning.
//!
//! Caller: [`super::writer`], which owns the connection, the clock and the caller's channel.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::wire;
use crate::limits::{CLIENT_BACKOFF_MAX, WINDOW_MAX_UNACKED_BATCHES, WINDOW_MAX_UNACKED_BYTES};
use crate::proto::v1::{self, RowReason, RowStatus};

/// What became of one row that is not plainly committed, in the caller's own numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The caller's batch: what `send_rows` or `send_arrow` returned.
    pub batch: u64,
    /// The row's index in that batch.
    pub row: usize,
    /// What became of it.
    pub status: RowStatus,
    /// Why, for programs.
    pub reason: RowReason,
    /// Where in the row; empty where the row as a whole is meant.
    pub field_path: String,
    /// Why, for people.
    pub message: String,
    /// The declared type there; empty where the row as a whole is meant.
    pub declared_type: String,
    /// The type of what was sent, or `null`; empty where the row as a whole is meant.
    pub found_type: String,
    /// What to do about it, for people; may be empty.
    pub hint: String,
    /// The value, shortened; only where the table has `show_values_in_outcomes`.
    pub value: Option<String>,
    /// When to send a `RETRYABLE` row again.
    pub retry_after: Option<Duration>,
}

/// Something that a writer tells while it works.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A row that is not plainly committed. Comes before its batch's `Acked`.
    Outcome(Outcome),
    /// Every row of a batch has its final outcome. Batches come in the order they were sent.
    Acked(Acked),
    /// The call broke and the writer will try again after a pause.
    Reconnecting {
        /// Why the call broke.
        error: super::ClientError,
        /// The pause.
        pause: Duration,
    },
    /// Rows were not written, or not known to be, when their deadline passed: the writer sends them again after a pause.
    SendingAgain {
        /// The caller's batch.
        batch: u64,
        /// How many of its rows.
        rows: usize,
        /// The pause.
        pause: Duration,
    },
    /// The gateway asked the writer to go elsewhere; it finishes what is unacked and opens a new call.
    Draining,
}

/// Every row of a batch has its final outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// The caller's batch.
    pub batch: u64,
    /// Its rows.
    pub rows: usize,
    /// When the caller handed it over.
    pub accepted_at: Instant,
    /// When it was acked.
    pub acked_at: Instant,
}

impl Acked {
    /// Time from handing over, waiting for the window included, to the ack.
    pub fn latency(&self) -> Duration {
        self.acked_at - self.accepted_at
    }
}

/// Totals of a writer over all its calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Receipt {
    /// Batches of the caller with final outcomes.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows that DynamoDB confirmed.
    pub committed_rows: u64,
    /// Rows superseded by a newer confirmed row. After a broken call this is an estimate: the gateway counts such rows
    /// without listing them, and those of a batch that was sent again may be counted twice.
    pub superseded_rows: u64,
    /// Rows rejected.
    pub rejected_rows: u64,
    /// Rows that were `RETRYABLE` to the end of the writer's patience.
    pub retryable_rows: u64,
    /// Rows that were `UNKNOWN` to the end of the writer's patience.
    pub unknown_rows: u64,
    /// DynamoDB write units, as far as the gateway reported them: what a broken call consumed after its last report is
    /// missing.
    pub write_units: f64,
    /// Attempts that DynamoDB throttled; the same gap as with `write_units`.
    pub throttled_attempts: u64,
    /// Coercions by column and rule; the same gap.
    pub coercions: BTreeMap<String, u64>,
    /// Time that the gateway did not read because of a rate limit; the same gap.
    pub rate_limited_for: Duration,
    /// Calls that were opened.
    pub calls: u32,
}

/// A part of a caller's batch: one `Batch` message.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The caller's batch.
    pub(crate) batch: u64,
    /// Index of the part's first row in the caller's batch.
    pub(crate) first_row: usize,
    /// Rows of the part.
    pub(crate) rows: usize,
    /// Rows of the whole batch, on its last part; the batch is acked with it.
    pub(crate) ends_batch_of: Option<usize>,
    /// The payload, encoded once.
    pub(crate) payload: wire::Payload,
    /// When the caller handed it over.
    pub(crate) accepted_at: Instant,
}

#[derive(Debug)]
struct Entry {
    part: Part,
    /// Its number in the current call; 0: not sent in it.
    seq: u64,
    /// Covered: final, only waiting for those before it.
    done: bool,
    outcomes: Vec<v1::RowOutcome>,
    /// Since when some of its rows are sent again.
    again: Option<Again>,
}

/// A part that is sent again.
#[derive(Debug)]
struct Again {
    /// When its rows were first reported as not written.
    since: Instant,
    /// When they may be sent.
    not_before: Instant,
    /// The rows that are left, by their index in the caller's part; `None` where all are.
    rows: Option<Vec<usize>>,
}

/// The protocol was broken by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) String);

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    queue: VecDeque<Entry>,
    max_unacked_bytes: u64,
    max_unacked_batches: u32,
    committed_through: u64,
    last_seq: u64,
    /// Bytes of this call that nothing covers.
    in_flight_bytes: u64,
    call_rows: u64,
    totals: Receipt,
    /// The gateway's newest receipt of the current call.
    call_receipt: Option<v1::Receipt>,
    /// For how long rows are sent again that were not written in time; zero: never.
    resend_for: Duration,
}

impl Session {
    pub(crate) fn new(resend_for: Duration) -> Self {
        Self {
            resend_for,
            queue: VecDeque::new(),
            max_unacked_bytes: WINDOW_MAX_UNACKED_BYTES,
            max_unacked_batches: WINDOW_MAX_UNACKED_BATCHES,
            committed_through: 0,
            last_seq: 0,
            in_flight_bytes: 0,
            call_rows: 0,
            totals: Receipt::default(),
            call_receipt: None,
        }
    }

    /// A new call was opened: everything unacked is to be sent again, numbered from 1.
    pub(crate) fn begin_call(&mut self, now: Instant) -> Vec<Event> {
        self.end_call();
        self.totals.calls += 1;
        (self.committed_through, self.last_seq, self.in_flight_bytes, self.call_rows) = (0, 0, 0, 0);
        for entry in &mut self.queue {
            entry.seq = 0;
            if !entry.done {
                entry.outcomes.clear();
            }
        }
        let mut events = Vec::new();
        self.reap(now, &mut events);
        events
    }

    /// Books what the gateway reported of the call that is over.
    fn end_call(&mut self) {
        if let Some(receipt) = self.call_receipt.take() {
            add_call(&mut self.totals, &receipt);
        }
    }

    /// The window that the gateway set.
    pub(crate) fn set_window(&mut self, window: &v1::Window) {
        self.max_unacked_bytes = window.max_unacked_bytes;
        self.max_unacked_batches = window.max_unacked_batches;
    }

    /// Whether the next part of the caller may come in: only when all before it are sent, so that what is held is the
    /// window and one part. Rows that wait to be sent again keep it out, too.
    pub(crate) fn accepts(&self) -> bool {
        self.queue.iter().all(|entry| entry.seq != 0 || entry.done)
    }

    /// Takes a part of the caller.
    pub(crate) fn accept(&mut self, part: Part) {
        self.queue.push_back(Entry { part, seq: 0, done: false, outcomes: Vec::new(), again: None });
    }

    /// Whether [`Self::next_to_send`] would give one.
    pub(crate) fn can_send(&self, now: Instant) -> bool {
        self.queue.iter().find(|entry| entry.is_due(now)).is_some_and(|entry| self.fits(&entry.part))
    }

    /// When the next of the rows that are sent again is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = self.queue.iter().filter(|entry| entry.is_unsent());
        waiting.filter_map(|entry| entry.again.as_ref()).map(|again| again.not_before).min()
    }

    /// The next message to send, where there is one and the window has room.
    pub(crate) fn next_to_send(&mut self, now: Instant) -> Option<(u64, wire::Payload)> {
        let at = self.queue.iter().position(|entry| entry.is_due(now))?;
        if !self.fits(&self.queue[at].part) {
            return None;
        }
        self.last_seq += 1;
        let entry = &mut self.queue[at];
        entry.seq = self.last_seq;
        self.in_flight_bytes += entry.part.payload.message_bytes(entry.seq) as u64;
        self.call_rows += entry.part.rows as u64;
        Some((entry.seq, entry.part.payload.clone()))
    }

    /// Whether everything accepted has been sent in this call.
    pub(crate) fn all_sent(&self) -> bool {
        !self.queue.iter().any(Entry::is_unsent)
    }

    /// Whether everything accepted has a final outcome.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether something sent in this call waits for its ack.
    pub(crate) fn has_in_flight(&self) -> bool {
        self.queue.iter().any(|entry| entry.seq != 0 && !entry.done)
    }

    /// Batches and rows sent in this call, for `Finish`.
    pub(crate) fn call_counts(&self) -> (u64, u64) {
        (self.last_seq, self.call_rows)
    }

    /// Takes an ack; gives what became final by it, in order.
    pub(crate) fn on_ack(&mut self, ack: v1::Ack, now: Instant) -> Result<Vec<Event>, Violation> {
        for outcome in ack.outcomes {
            let entry = self.queue.iter_mut().find(|entry| entry.seq == outcome.batch_seq && !entry.done);
            let entry = entry.filter(|entry| entry.seq != 0 && (outcome.row_index as usize) < entry.part.rows);
            let Some(entry) = entry else {
                return Err(Violation(format!(
                    "an outcome for row {} of batch {}, which is not waiting for one",
                    outcome.row_index, outcome.batch_seq
                )));
            };
            entry.outcomes.push(outcome);
        }
        self.totals.superseded_rows += ack.superseded_count;
        let mut events = Vec::new();
        self.commit(ack.committed_through, &ack.committed_ranges, now, &mut events)?;
        Ok(events)
    }

    /// Takes the answer to `Flush`.
    pub(crate) fn on_flushed(&mut self, flushed: v1::Flushed, now: Instant) -> Result<Vec<Event>, Violation> {
        let mut events = Vec::new();
        self.commit(flushed.committed_through, &[], now, &mut events)?;
        self.call_receipt = flushed.receipt.or(self.call_receipt.take());
        Ok(events)
    }

    /// Takes the last message of a call.
    pub(crate) fn on_finished(&mut self, finished: v1::Finished, now: Instant) -> Result<Vec<Event>, Violation> {
        if self.has_in_flight() {
            return Err(Violation("Finished came before every batch was acked".to_owned()));
        }
        let mut events = Vec::new();
        self.commit(self.last_seq, &[], now, &mut events)?;
        self.call_receipt = finished.receipt.or(self.call_receipt.take());
        self.end_call();
        Ok(events)
    }

    /// Totals up to now.
    pub(crate) fn receipt(&self) -> Receipt {
        let mut receipt = self.totals.clone();
        if let Some(call) = &self.call_receipt {
            add_call(&mut receipt, call);
        }
        let other = receipt.rejected_rows + receipt.retryable_rows + receipt.unknown_rows;
        receipt.superseded_rows = receipt.superseded_rows.min(receipt.rows.saturating_sub(other));
        receipt.committed_rows = receipt.rows.saturating_sub(other + receipt.superseded_rows);
        receipt
    }

    fn fits(&self, part: &Part) -> bool {
        let bytes = part.payload.message_bytes(self.last_seq + 1) as u64;
        let in_flight = self.last_seq - self.committed_through;
        in_flight == 0
            || (self.in_flight_bytes + bytes <= self.max_unacked_bytes
                && in_flight < u64::from(self.max_unacked_batches))
    }

    fn commit(
        &mut self,
        through: u64,
        ranges: &[v1::BatchRange],
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        if through < self.committed_through || through > self.last_seq {
            return Err(Violation(format!(
                "committed_through is {through}; it was {} and {} batches were sent",
                self.committed_through, self.last_seq
            )));
        }
        let (totals, resend_for) = (&mut self.totals, self.resend_for);
        for entry in self.queue.iter_mut().filter(|entry| entry.seq != 0 && !entry.done) {
            let in_range = ranges.iter().any(|range| (range.first..=range.last).contains(&entry.seq));
            if entry.seq > through && !in_range {
                continue;
            }
            self.in_flight_bytes -= entry.part.payload.message_bytes(entry.seq) as u64;
            if entry.send_again(resend_for, now, totals, events) {
                continue;
            }
            entry.done = true;
            // The window is about bytes that we hold as much as about what the gateway holds.
            entry.part.payload = entry.part.payload.released();
            settle(entry, totals, events);
        }
        self.committed_through = through;
        self.reap(now, events);
        Ok(())
    }

    /// Lets go of what is final and has nothing before it.
    fn reap(&mut self, now: Instant, events: &mut Vec<Event>) {
        while let Some(entry) = self.queue.pop_front_if(|entry| entry.done) {
            if let Some(rows) = entry.part.ends_batch_of {
                self.totals.batches += 1;
                events.push(Event::Acked(Acked {
                    batch: entry.part.batch,
                    rows,
                    accepted_at: entry.part.accepted_at,
                    acked_at: now,
                }));
            }
        }
    }
}

impl Entry {
    fn is_unsent(&self) -> bool {
        self.seq == 0 && !self.done
    }

    /// Unsent, and not to be held back.
    fn is_due(&self, now: Instant) -> bool {
        self.is_unsent() && self.again.as_ref().is_none_or(|again| again.not_before <= now)
    }

    /// The row's index in the caller's part.
    fn row_in_part(&self, row_index: u32) -> usize {
        let left = self.again.as_ref().and_then(|again| again.rows.as_ref());
        left.and_then(|rows| rows.get(row_index as usize)).copied().unwrap_or(row_index as usize)
    }

    /// Where rows are to be sent again and there is patience left: makes the part one of those rows, unsent. False where all
    /// outcomes are final.
    fn send_again(
        &mut self,
        resend_for: Duration,
        now: Instant,
        totals: &mut Receipt,
        events: &mut Vec<Event>,
    ) -> bool {
        let is_again =
            |outcome: &&v1::RowOutcome| matches!(outcome.status(), RowStatus::Retryable | RowStatus::Unknown);
        let waited = || self.outcomes.iter().filter(is_again);
        let mut indices: Vec<usize> = waited().map(|outcome| outcome.row_index as usize).collect();
        let since = self.again.as_ref().map_or(now, |again| again.since);
        if indices.is_empty() || resend_for.is_zero() || now - since > resend_for {
            return false;
        }
        let pause = waited().filter_map(|outcome| Duration::try_from(outcome.retry_after?).ok()).max();
        let pause = pause.unwrap_or(CLIENT_BACKOFF_MAX);
        indices.sort_unstable();
        indices.dedup();
        let rows = match self.part.payload.select(&indices) {
            Some(payload) => {
                let rows = indices.iter().map(|row| self.row_in_part(*row as u32)).collect::<Vec<_>>();
                self.outcomes.retain(|outcome| !is_again(&outcome));
                totals.rows += (self.part.rows - rows.len()) as u64;
                self.part.rows = rows.len();
                tell_outcomes(self, totals, events);
                self.part.payload = payload;
                Some(rows)
            }
            // All rows of the part: in such tables those that are written already are written again to no effect.
            None => {
                self.outcomes.clear();
                None
            }
        };
        self.seq = 0;
        self.again = Some(Again { since, not_before: now + pause, rows });
        events.push(Event::SendingAgain { batch: self.part.batch, rows: indices.len(), pause });
        true
    }
}

/// Books a part's rows and gives its outcomes in the caller's numbers.
fn settle(entry: &mut Entry, totals: &mut Receipt, events: &mut Vec<Event>) {
    totals.rows += entry.part.rows as u64;
    tell_outcomes(entry, totals, events);
}

/// Gives the outcomes that a part has, which are final.
fn tell_outcomes(entry: &mut Entry, totals: &mut Receipt, events: &mut Vec<Event>) {
    for outcome in std::mem::take(&mut entry.outcomes) {
        let status = outcome.status();
        match status {
            RowStatus::Rejected => totals.rejected_rows += 1,
            RowStatus::Retryable => totals.retryable_rows += 1,
            RowStatus::Unknown => totals.unknown_rows += 1,
            RowStatus::Superseded => totals.superseded_rows += 1,
            RowStatus::Committed | RowStatus::Unspecified => {}
        }
        events.push(Event::Outcome(Outcome {
            batch: entry.part.batch,
            row: entry.part.first_row + entry.row_in_part(outcome.row_index),
            status,
            reason: outcome.reason(),
            field_path: outcome.field_path,
            message: outcome.message,
            declared_type: outcome.declared_type,
            found_type: outcome.found_type,
            hint: outcome.hint,
            value: outcome.value,
            retry_after: outcome.retry_after.and_then(|after| after.try_into().ok()),
        }));
    }
}

/// Adds what only the gateway knows; the rows are our own count.
fn add_call(totals: &mut Receipt, call: &v1::Receipt) {
    totals.write_units += call.write_units;
    totals.throttled_attempts += call.throttled_attempts;
    for (rule, count) in &call.coercions {
        *totals.coercions.entry(rule.clone()).or_default() += count;
    }
    let limited = call.rate_limited_for.and_then(|time| Duration::try_from(time).ok());
    totals.rate_limited_for += limited.unwrap_or_default();
}

#[cfg(test)]
mod tests;
