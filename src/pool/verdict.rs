//! What the result of a write call means: for its rows, for its table, for the sessions. Pure. The caller is `lane`.

use super::outcome::{SessionFailure, Trouble};
use super::queue::{ItemOutcome, SlotId, TableQueue};
use crate::store::{ThrottleReason, WriteDone, WriteError};

/// What an attempt's result means for its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableVerdict {
    /// The table takes writes.
    Works,
    /// Only the attempt's own keys are concerned.
    SaysNothing,
    /// The next call would fail as well.
    Rests,
    /// So it would, until access is granted.
    Denied,
}

/// What an attempt's result means for its rows and its table.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) label: &'static str,
    /// Indices that were not processed, where the call succeeded.
    pub(super) unprocessed: Vec<usize>,
    /// For the others.
    pub(super) outcome: ItemOutcome,
    pub(super) table: TableVerdict,
    pub(super) throttled: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) failure: Option<SessionFailure>,
    pub(super) refusal: Option<String>,
}

impl Verdict {
    pub(super) fn of(result: &Result<WriteDone, WriteError>, slots: &[SlotId], queue: &TableQueue) -> Self {
        let verdict = |label, outcome| Self {
            label,
            unprocessed: Vec::new(),
            outcome,
            table: TableVerdict::Works,
            throttled: false,
            trouble: None,
            failure: None,
            refusal: None,
        };
        let waits = |label, trouble| Self {
            table: TableVerdict::Rests,
            trouble: Some(trouble),
            ..verdict(label, ItemOutcome::Retry)
        };
        match result {
            Ok(done) if done.unprocessed.is_empty() => verdict("ok", ItemOutcome::Confirmed),
            Ok(done) => Self::partial(done, slots, queue, verdict("partial", ItemOutcome::Confirmed)),
            Err(WriteError::Throttled { reason: ThrottleReason::KeyRange, .. }) => Self {
                throttled: true,
                table: TableVerdict::SaysNothing,
                ..waits("throttled", Trouble::PartitionThrottled)
            },
            Err(WriteError::Throttled { .. }) => {
                Self { throttled: true, ..waits("throttled", Trouble::TableThrottled) }
            }
            Err(WriteError::Validation { message }) if slots.len() == 1 => {
                Self { refusal: Some(message.clone()), ..verdict("refused", ItemOutcome::Refused) }
            }
            Err(WriteError::Validation { .. }) => verdict("refused", ItemOutcome::Alone),
            Err(WriteError::Condition { .. } | WriteError::Cancelled { .. }) => waits("refused", Trouble::Unavailable),
            Err(WriteError::TableMissing { table }) => Self {
                failure: Some(SessionFailure::TableMissing { table: table.clone() }),
                ..verdict("table_missing", ItemOutcome::Forget)
            },
            Err(WriteError::Access { .. }) => {
                Self { table: TableVerdict::Denied, ..waits("access", Trouble::Unavailable) }
            }
            Err(WriteError::NotSent { .. }) => waits("unreachable", Trouble::Unavailable),
            Err(WriteError::Unknown { .. }) => waits("unknown", Trouble::Unavailable),
        }
    }

    fn partial(done: &WriteDone, slots: &[SlotId], queue: &TableQueue, verdict: Self) -> Self {
        let items = slots.len();
        let mut unprocessed = done.unprocessed.clone();
        unprocessed.sort_unstable();
        unprocessed.dedup();
        if unprocessed.last().is_some_and(|&last| last >= items) {
            // It could be any of them, and none may be taken for written.
            unprocessed = (0..items).collect();
        }
        let mut partitions = slots.iter().map(|&slot| queue.partition_hash(slot));
        let first = partitions.next();
        let (table, trouble) = match unprocessed.len() == items {
            false => (TableVerdict::Works, Trouble::PartitionThrottled),
            // Nothing got through, of several partitions: the next call would not either.
            true if partitions.any(|partition| Some(partition) != first) => {
                (TableVerdict::Rests, Trouble::TableThrottled)
            }
            true => (TableVerdict::SaysNothing, Trouble::PartitionThrottled),
        };
        Self { unprocessed, throttled: true, trouble: Some(trouble), table, ..verdict }
    }

    /// Access is refused for too long.
    pub(super) fn give_up(&mut self, result: &Result<WriteDone, WriteError>) {
        if let Err(WriteError::Access { message }) = result {
            self.failure = Some(SessionFailure::Access { message: message.clone() });
            self.outcome = ItemOutcome::Forget;
        }
    }

    pub(super) fn item(&self, position: usize) -> ItemOutcome {
        if self.unprocessed.binary_search(&position).is_ok() { ItemOutcome::Retry } else { self.outcome }
    }
}
