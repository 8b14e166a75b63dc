//! What the result of a write call means: for its rows, for its table, for the sessions. Pure. The caller is `lane`.

use super::atomic::already_exists;
use super::outcome::{RowFate, SessionFailure, refused_by_dynamodb};
use super::queue::ItemOutcome;
use super::same_item::is_same_item;
use crate::store::{ThrottleReason, WriteDone, WriteError, WriteItem, WriteOp};

/// What an attempt's result means for its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableVerdict {
    /// It answers.
    Works,
    /// The next call would fail as well.
    Rests,
    /// So it would, until access is granted.
    Denied,
}

/// What an attempt's result means for its rows and its table.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) label: &'static str,
    /// Indices of items that were throttled.
    pub(super) throttled: Vec<usize>,
    /// For the others.
    pub(super) outcome: ItemOutcome,
    pub(super) table: TableVerdict,
    /// Why it was throttled, as far as DynamoDB says.
    pub(super) reason: Option<ThrottleReason>,
    pub(super) failure: Option<SessionFailure>,
    /// What becomes of a row that is refused.
    pub(super) refusal: Option<RowFate>,
}

impl Verdict {
    /// The verdict on `items` items; `alone` is the item, where it was sent alone.
    pub(super) fn of(result: &Result<WriteDone, WriteError>, items: usize, alone: Option<&WriteItem>) -> Self {
        let verdict = |label, outcome| Self {
            label,
            throttled: Vec::new(),
            outcome,
            table: TableVerdict::Works,
            reason: None,
            failure: None,
            refusal: None,
        };
        let refused = |fate| Self { refusal: Some(fate), ..verdict("refused", ItemOutcome::Refused) };
        let rests = |label, outcome| Self { table: TableVerdict::Rests, ..verdict(label, outcome) };
        match result {
            Ok(done) if done.unprocessed.is_empty() => verdict("ok", ItemOutcome::Confirmed),
            Ok(done) => Self { throttled: unprocessed(done, items), ..verdict("partial", ItemOutcome::Confirmed) },
            Err(WriteError::Throttled { reason, .. }) => Self {
                throttled: (0..items).collect(),
                reason: Some(*reason),
                ..verdict("throttled", ItemOutcome::Retry)
            },
            Err(WriteError::Condition { existing }) => match alone {
                Some(item) if item.op == WriteOp::Insert => {
                    // It was written before: its answer was lost, or its client sends it again.
                    let same = existing.as_ref().is_some_and(|existing| is_same_item(item, existing));
                    if same { verdict("ok", ItemOutcome::Confirmed) } else { refused(already_exists()) }
                }
                _ => verdict("superseded", ItemOutcome::Superseded),
            },
            Err(WriteError::Validation { message }) if items == 1 => refused(refused_by_dynamodb(message)),
            Err(WriteError::Validation { .. }) => verdict("refused", ItemOutcome::Alone),
            Err(WriteError::TableMissing { table }) => Self {
                failure: Some(SessionFailure::TableMissing { table: table.clone() }),
                ..verdict("table_missing", ItemOutcome::Forget)
            },
            Err(WriteError::Access { .. }) => {
                Self { table: TableVerdict::Denied, ..verdict("access", ItemOutcome::Retry) }
            }
            Err(WriteError::NotSent { .. }) => rests("unreachable", ItemOutcome::Retry),
            Err(WriteError::Unknown { .. }) => rests("unknown", ItemOutcome::RetryUnknown),
            // The answer to a transaction, which these items were not: whatever was done, they are not known to be written.
            Err(WriteError::Cancelled { .. }) => rests("unknown", ItemOutcome::RetryUnknown),
        }
    }

    /// Whether DynamoDB did, or could not do, the work: other answers come before capacity is looked at.
    pub(super) fn tells_of_capacity(&self) -> bool {
        matches!(self.label, "ok" | "partial" | "throttled" | "superseded")
    }

    /// Access is refused for too long.
    pub(super) fn give_up(&mut self, result: &Result<WriteDone, WriteError>) {
        if let Err(WriteError::Access { message }) = result {
            self.failure = Some(SessionFailure::Access { message: message.clone() });
            self.outcome = ItemOutcome::Forget;
        }
    }

    pub(super) fn item(&self, position: usize) -> ItemOutcome {
        if self.throttled.binary_search(&position).is_ok() { ItemOutcome::Retry } else { self.outcome }
    }
}

/// The items that were not processed, in order.
fn unprocessed(done: &WriteDone, items: usize) -> Vec<usize> {
    let mut unprocessed = done.unprocessed.clone();
    unprocessed.sort_unstable();
    unprocessed.dedup();
    if unprocessed.last().is_some_and(|&last| last >= items) {
        // It could be any of them, and none may be taken for written.
        unprocessed = (0..items).collect();
    }
    unprocessed
}
