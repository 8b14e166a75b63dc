//! Atomic groups: rows that are written in one transaction, or not at all.
//!
//! A group's keys may belong to several lanes. Its rows stand in the lines of their keys as barriers: nothing that came
//! later overtakes them, and nothing folds across them. When a row has come to the head of its key's line it is *held* there
//! and counted; the lane that holds the last one sends the transaction, and tells the others how it went.
//!
//! Two groups with common keys cannot wait for each other: groups are handed to all their lanes under one lock, so all
//! lines have them in the same order.
//!
//! Callers: `router` makes them, `queue` holds their rows, `lane` sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use tokio::time::Instant;

use super::outcome::{BatchTicket, RowFate, SessionFailure, SessionLink};
use super::same_item::is_same_item;
use crate::limits::WRITE_UNIT_BYTES;
use crate::payload::{EncodedRow, Reject, RejectReason};
use crate::store::{CancelReason, WriteItem, WriteOp};

/// A group on its way.
#[derive(Debug)]
pub struct AtomicGroup {
    /// The client's row of each item.
    rows: Vec<u32>,
    items: Vec<WriteItem>,
    /// Makes a repetition harmless.
    token: Arc<str>,
    /// Lanes that have rows of it.
    lanes: Vec<usize>,
    /// Hashes of the items' partition keys.
    partitions: Vec<u64>,
    session: Arc<SessionLink>,
    /// When nobody waits for it any more.
    deadline: Option<Instant>,
    /// Rows that are not held yet.
    missing: AtomicU32,
    state: AtomicU8,
    /// Whether an attempt may have been done without our knowing.
    unknown: AtomicBool,
    attempts: AtomicU32,
}

/// Rows are gathered, or it waits for another attempt: it can still be cancelled.
const WAITS: u8 = 0;
/// An attempt is in flight.
const IN_FLIGHT: u8 = 1;
/// It will never be sent.
const CANCELLED: u8 = 2;

/// How a group ended.
#[derive(Debug)]
pub(super) enum GroupOutcome {
    /// All rows are written; units for each.
    Committed(f64),
    /// None is. What became of each, in the order of the items.
    Refused(Vec<RowFate>),
    /// None is, and the session ends with this.
    Failed(SessionFailure),
}

impl AtomicGroup {
    pub(super) fn new(rows: &[EncodedRow], token: Arc<str>, lanes: Vec<usize>, ticket: &BatchTicket) -> Arc<Self> {
        Arc::new(Self {
            rows: rows.iter().map(|row| row.row_index).collect(),
            items: rows.iter().map(|row| row.item.clone()).collect(),
            token,
            lanes,
            partitions: rows.iter().map(|row| row.partition_hash).collect(),
            session: Arc::clone(ticket.session()),
            deadline: ticket.deadline(),
            // At most 100.
            missing: AtomicU32::new(rows.len() as u32),
            state: AtomicU8::new(WAITS),
            unknown: AtomicBool::new(false),
            attempts: AtomicU32::new(0),
        })
    }

    pub(super) fn items(&self) -> &[WriteItem] {
        &self.items
    }

    /// Write units that a transaction of them takes, about: twice what they take alone.
    pub(super) fn units(&self) -> f64 {
        let units = |item: &WriteItem| item.json.len().div_ceil(WRITE_UNIT_BYTES as usize);
        2.0 * self.items.iter().map(units).sum::<usize>() as f64
    }

    pub(super) fn partitions(&self) -> &[u64] {
        &self.partitions
    }

    pub(super) fn session(&self) -> &Arc<SessionLink> {
        &self.session
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_unwanted(&self, now: Instant) -> bool {
        self.session.is_cancelled() || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn token(&self) -> &Arc<str> {
        &self.token
    }

    pub(super) fn lanes(&self) -> &[usize] {
        &self.lanes
    }

    /// One more row is held; true for the last one.
    pub(super) fn hold(&self) -> bool {
        self.missing.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// An attempt may go; false where the group was cancelled.
    pub(super) fn launch(&self) -> bool {
        let launched = self.state.compare_exchange(WAITS, IN_FLIGHT, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.attempts.fetch_add(u32::from(launched), Ordering::Relaxed);
        launched
    }

    /// Attempts so far.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// The attempt failed; there will be another.
    pub(super) fn land(&self, unknown: bool) {
        self.unknown.fetch_or(unknown, Ordering::Relaxed);
        self.state.store(WAITS, Ordering::Release);
    }

    /// Gives the group up, unless an attempt is in flight; whether it is given up.
    pub(super) fn cancel(&self) -> bool {
        match self.state.compare_exchange(WAITS, CANCELLED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == CANCELLED,
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Acquire) == CANCELLED
    }

    /// Whether an attempt may have been done without our knowing.
    pub(super) fn is_unknown(&self) -> bool {
        self.unknown.load(Ordering::Relaxed)
    }

    /// The place of a client's row among the items.
    pub(super) fn position(&self, row_index: u32) -> Option<usize> {
        self.rows.iter().position(|row| *row == row_index)
    }

    /// What a cancelled transaction means; `None` where it is worth another attempt.
    pub(super) fn refused(&self, reasons: &[CancelReason]) -> Option<GroupOutcome> {
        let of = |position: usize| reasons.get(position).unwrap_or(&CancelReason::None);
        let at_fault: Vec<Option<RowFate>> = self
            .items
            .iter()
            .enumerate()
            .map(|(position, item)| match of(position) {
                CancelReason::Condition { existing } if item.op == WriteOp::Insert => {
                    // A lost answer, long ago: the token is forgotten after ten minutes.
                    let same = existing.as_ref().is_some_and(|existing| is_same_item(item, existing));
                    (!same || !self.is_unknown()).then(already_exists)
                }
                // A greater sequence is stored: the group as a whole came too late.
                CancelReason::Condition { .. } => Some(RowFate::StaleMerge),
                CancelReason::Refused { message } => Some(super::outcome::refused_by_dynamodb(message)),
                CancelReason::None | CancelReason::Conflict | CancelReason::Throttled(_) => None,
            })
            .collect();
        let replayed = reasons.iter().any(|reason| matches!(reason, CancelReason::Condition { .. }));
        if at_fault.iter().all(Option::is_none) {
            return replayed.then_some(GroupOutcome::Committed(0.0));
        }
        Some(GroupOutcome::Refused(at_fault.into_iter().map(|fate| fate.unwrap_or_else(atomic_peer)).collect()))
    }

    /// DynamoDB refused the transaction as a whole.
    pub(super) fn refused_whole(&self, message: &str) -> GroupOutcome {
        GroupOutcome::Refused(self.items.iter().map(|_| super::outcome::refused_by_dynamodb(message)).collect())
    }
}

/// The fate of an insert that found an item.
pub(super) fn already_exists() -> RowFate {
    let message = "there is an item with this key, and it is not this row";
    RowFate::Rejected(*Reject::new(RejectReason::AlreadyExists, message))
}

/// The fate of a row whose neighbour kept the group from being written.
fn atomic_peer() -> RowFate {
    let message = "another row of the atomic group was not written";
    RowFate::Rejected(*Reject::new(RejectReason::AtomicPeer, message))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::Item;

    fn group(ops: &[WriteOp]) -> Arc<AtomicGroup> {
        let row = |(index, op): (usize, &WriteOp)| EncodedRow {
            row_index: 10 + index as u32,
            item: WriteItem::new(*op, Bytes::from(format!("{{\"k\":{{\"S\":\"{index}\"}}}}")), 13),
            partition_hash: 0,
            key_hash: 0,
            item_bytes: 20,
        };
        let rows: Vec<_> = ops.iter().enumerate().map(row).collect();
        let ticket = BatchTicket::new(1, SessionLink::new(1, false).0);
        AtomicGroup::new(&rows, "token".into(), vec![0], &ticket)
    }

    fn reasons_of(outcome: Option<GroupOutcome>) -> Vec<String> {
        let Some(GroupOutcome::Refused(fates)) = outcome else { panic!("{outcome:?}") };
        let name = |fate: RowFate| match fate {
            RowFate::Rejected(reject) => format!("{:?}", reject.reason),
            other => format!("{other:?}"),
        };
        fates.into_iter().map(name).collect()
    }

    #[test]
    fn one_members_failure_cancels_the_group_and_its_neighbours_are_named_as_such() {
        let group = group(&[WriteOp::Put, WriteOp::Insert, WriteOp::Put]);
        let exists = CancelReason::Condition { existing: Some(Item::new()) };
        let outcome = group.refused(&[CancelReason::None, exists, CancelReason::None]);
        assert_eq!(reasons_of(outcome), ["AtomicPeer", "AlreadyExists", "AtomicPeer"]);
        let stale = CancelReason::Condition { existing: None };
        let outcome = group.refused(&[stale, CancelReason::None, CancelReason::None]);
        assert_eq!(reasons_of(outcome), ["StaleMerge", "AtomicPeer", "AtomicPeer"]);
    }

    #[test]
    fn conflicts_and_throttling_are_worth_another_attempt() {
        let group = group(&[WriteOp::Put, WriteOp::Put]);
        assert!(group.refused(&[CancelReason::Conflict, CancelReason::None]).is_none());
        let throttled = CancelReason::Throttled(crate::store::ThrottleReason::KeyRange);
        assert!(group.refused(&[CancelReason::None, throttled]).is_none());
    }

    #[test]
    fn it_is_sent_once_at_a_time_and_never_after_it_was_given_up() {
        let group = group(&[WriteOp::Put, WriteOp::Put]);
        assert!(!group.hold());
        assert!(group.hold());
        assert!(group.launch());
        assert!(!group.launch() && !group.cancel(), "an attempt is in flight");
        group.land(true);
        assert!(group.cancel() && group.cancel() && !group.launch());
        assert!(group.is_unknown() && group.is_cancelled());
    }
}
