//! Outcomes in the protocol's words.

use super::ends::{ROW_RETRY_AFTER, trouble_words};
use super::ledger::{Advance, Ledger};
use crate::api::convert::duration_to_proto;
use crate::limits::{ACK_MAX_OUTCOMES, BATCH_MAX_ROWS, BATCH_TARGET_BYTES, MESSAGE_MAX_BYTES, RECEIPT_MAX_COERCIONS};
use crate::payload::values::row_reason;
use crate::payload::{Reject, RowReject, RuleBook};
use crate::pool::{RowFate, Trouble};
use crate::proto::v1;
use crate::quota::Bursts;

/// What this server accepts from a session with these bursts. A batch above a burst would never be let through, so clients
/// are told to make smaller ones; those that slice by bytes aim at a size and may miss it by a little.
pub(super) fn limits(bursts: Bursts) -> v1::Limits {
    let burst_bytes = bursts.kib.map_or(u64::MAX, |kib| u64::from(kib) * 1024);
    v1::Limits {
        max_message_bytes: MESSAGE_MAX_BYTES as u64,
        target_batch_bytes: (BATCH_TARGET_BYTES as u64).min(burst_bytes - burst_bytes / 8),
        max_batch_rows: bursts.rows.unwrap_or(u32::MAX).min(BATCH_MAX_ROWS as u32),
    }
}

/// An advance as Acks: a long list of outcomes is split, and only the last Ack says what it covers.
pub(super) fn acks(advance: Advance) -> Vec<v1::Ack> {
    let mut ranges: Vec<_> = advance.ranges.iter().map(|&(first, last)| v1::BatchRange { first, last }).collect();
    let mut outcomes = advance.outcomes.into_iter().map(|(seq, row, fate)| row_outcome(seq, row, fate)).peekable();
    let mut acks = Vec::with_capacity(1);
    loop {
        let part: Vec<_> = outcomes.by_ref().take(ACK_MAX_OUTCOMES).collect();
        let last = outcomes.peek().is_none();
        acks.push(v1::Ack {
            committed_through: if last { advance.committed_through } else { advance.before },
            committed_ranges: if last { std::mem::take(&mut ranges) } else { Vec::new() },
            superseded_count: if last { advance.superseded } else { 0 },
            outcomes: part,
        });
        if last {
            return acks;
        }
    }
}

/// Rejects before their batch's ack, split likewise.
pub(super) fn rejects(committed_through: u64, batch_seq: u64, rejects: Vec<RowReject>) -> Vec<v1::Ack> {
    let mut outcomes = rejects
        .into_iter()
        .map(|RowReject { row_index, reject }| row_outcome(batch_seq, row_index, RowFate::Rejected(reject)))
        .peekable();
    let mut acks = Vec::new();
    while outcomes.peek().is_some() {
        let outcomes = outcomes.by_ref().take(ACK_MAX_OUTCOMES).collect();
        acks.push(v1::Ack { committed_through, outcomes, ..v1::Ack::default() });
    }
    acks
}

/// One row that is not plainly written.
pub(in crate::api) fn row_outcome(batch_seq: u64, row_index: u32, fate: RowFate) -> v1::RowOutcome {
    match fate {
        RowFate::Rejected(Reject { reason, path, message, declared, found, hint, value }) => v1::RowOutcome {
            batch_seq,
            row_index,
            status: v1::RowStatus::Rejected.into(),
            reason: row_reason(reason).into(),
            field_path: path,
            message,
            retry_after: None,
            declared_type: declared.into(),
            found_type: found.into(),
            hint: hint.into_owned(),
            value: value.map(Into::into),
        },
        RowFate::StaleMerge => v1::RowOutcome {
            batch_seq,
            row_index,
            status: v1::RowStatus::Superseded.into(),
            reason: v1::RowReason::StaleMerge.into(),
            message: "a row with a greater sequence is stored; none of this row's columns was written".to_owned(),
            ..v1::RowOutcome::default()
        },
        RowFate::Retryable(trouble) => v1::RowOutcome {
            status: v1::RowStatus::Retryable.into(),
            message: format!("not written within row_deadline: {}", trouble_words(trouble)),
            ..waited(batch_seq, row_index, trouble)
        },
        RowFate::Unknown(trouble) => v1::RowOutcome {
            status: v1::RowStatus::Unknown.into(),
            message: format!("not known to be written within row_deadline: {}", trouble_words(trouble)),
            ..waited(batch_seq, row_index, trouble)
        },
    }
}

/// A row whose deadline passed.
fn waited(batch_seq: u64, row_index: u32, trouble: Trouble) -> v1::RowOutcome {
    let reason = match trouble {
        Trouble::PartitionThrottled => v1::RowReason::PartitionThrottled,
        Trouble::TableThrottled => v1::RowReason::TableThrottled,
        Trouble::Unavailable => v1::RowReason::BackendUnavailable,
        Trouble::None => v1::RowReason::Unspecified,
    };
    let retry_after = Some(duration_to_proto(ROW_RETRY_AFTER));
    v1::RowOutcome { batch_seq, row_index, reason: reason.into(), retry_after, ..v1::RowOutcome::default() }
}

/// A session's totals.
pub(super) fn receipt(ledger: &Ledger, rules: &RuleBook) -> v1::Receipt {
    let totals = ledger.totals();
    let coercions = rules.report(ledger.coercions()).into_iter().take(RECEIPT_MAX_COERCIONS);
    v1::Receipt {
        batches: totals.batches,
        rows: totals.rows,
        committed_rows: totals.committed,
        superseded_rows: totals.superseded,
        rejected_rows: totals.rejected,
        retryable_rows: totals.retryable,
        unknown_rows: totals.unknown,
        write_units: totals.write_units,
        throttled_attempts: totals.throttled_attempts,
        coercions: coercions.map(|(path, rule, count)| (format!("{path}: {rule}"), count)).collect(),
        rate_limited_for: None,
    }
}
