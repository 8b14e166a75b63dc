//! The judge itself: small histories, and what it must say of each.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use forebay::store::{WriteItem, WriteOp};

use crate::checker::{Applied, Cell, Columns, Heard, History, Key, PATIENCE, RowId, Rule, SendId, SentRow, TableRules};
use crate::world::plain_row;

/// A table where the last row wins, and one with sequences.
const RULES: [TableRules; 2] =
    [TableRules { coalesce: true, sequenced: false }, TableRules { coalesce: true, sequenced: true }];
const PLAIN: Key = (0, 1);
const SEQUENCED: Key = (1, 1);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Case {
    history: History,
    stored: BTreeMap<Key, Columns>,
}

impl Case {
    fn new() -> Self {
        Self { history: History::new(RULES.to_vec()), stored: BTreeMap::new() }
    }

    fn row(&mut self, row: SentRow) -> RowId {
        self.history.row(row)
    }

    fn put(&mut self, key: Key) -> RowId {
        self.row(plain_row(key, WriteOp::Put))
    }

    fn put_with(&mut self, sequence: u64) -> RowId {
        self.row(SentRow { sequence: Some(sequence), ..plain_row(SEQUENCED, WriteOp::Put) })
    }

    fn merge(&mut self, column: usize) -> RowId {
        let mut row = plain_row(PLAIN, WriteOp::Merge);
        row.cells[column] = Cell::Sets;
        self.row(row)
    }

    fn sent(&mut self, row: RowId, seconds: u64) -> SendId {
        self.history.sent(row, 0, at(seconds))
    }

    fn acked(&mut self, send: SendId, seconds: u64) {
        self.history.answered(send, at(seconds), Heard::Success);
    }

    /// A write takes effect, and is heard of at the same moment; the store holds what it says.
    fn written(&mut self, op: WriteOp, key: Key, rest: &str, seconds: u64) {
        let text = format!("\"k\":{{\"S\":\"k{}\"}}", key.1);
        let item = WriteItem::new(op, Bytes::from(format!("{{{text},{rest}}}")), text.len() as u32);
        let applied = Applied::new(at(seconds), Some(at(seconds)), key, &item);
        if let Some(columns) = &applied.columns {
            self.stored.insert(key, columns.clone());
        }
        self.history.applied.push(applied);
    }

    fn put_written(&mut self, key: Key, row: RowId, seconds: u64) {
        let sequence = self.history.rows[row as usize].sequence;
        let sequence = sequence.map_or_else(String::new, |sequence| format!("\"s\":{{\"N\":\"{sequence}\"}},"));
        self.written(WriteOp::Put, key, &format!("{sequence}\"v\":{{\"N\":\"{row}\"}}"), seconds);
    }

    /// The rules that are broken.
    fn verdict(mut self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.history.check(&self.stored).iter().map(|broken| broken.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

/// A put that was written and acked, as the beginning of a case.
fn begun() -> (Case, RowId) {
    let mut case = Case::new();
    let row = case.put(PLAIN);
    let send = case.sent(row, 1);
    case.put_written(PLAIN, row, 2);
    case.acked(send, 3);
    (case, row)
}

#[test]
fn a_row_that_is_written_and_then_acked_is_well() {
    assert_eq!(begun().0.verdict(), []);
}

#[test]
fn an_ack_without_a_write_is_a_loss_and_so_is_one_before_it() {
    let mut case = Case::new();
    let row = case.put(PLAIN);
    let send = case.sent(row, 1);
    case.acked(send, 3);
    assert_eq!(case.verdict(), [Rule::Lost]);
    let mut case = Case::new();
    let row = case.put(PLAIN);
    let send = case.sent(row, 1);
    case.acked(send, 3);
    case.put_written(PLAIN, row, 4);
    assert_eq!(case.verdict(), [Rule::Lost, Rule::NotOwed]);
}

#[test]
fn what_nobody_sent_for_the_key_is_named() {
    let (mut case, row) = begun();
    case.put_written((0, 2), row, 3);
    assert_eq!(case.verdict(), [Rule::NeverSent], "another key's row");
    let (mut case, row) = begun();
    case.written(WriteOp::Put, PLAIN, &format!("\"v\":{{\"N\":\"{row}\"}},\"a\":{{\"N\":\"{row}\"}}"), 2);
    assert_eq!(case.verdict(), [Rule::NeverSent], "a column that the row does not set");
    let (mut case, _) = begun();
    case.stored.insert((0, 9), Columns::default());
    assert_eq!(case.verdict(), [Rule::NeverSent], "stored, and not written");
}

#[test]
fn an_older_row_over_a_newer_one_is_out_of_order() {
    let mut case = Case::new();
    let (older, newer) = (case.put(PLAIN), case.put(PLAIN));
    let sends = [case.sent(older, 1), case.sent(newer, 1)];
    case.put_written(PLAIN, newer, 2);
    case.acked(sends[1], 3);
    case.put_written(PLAIN, older, 4);
    case.acked(sends[0], 5);
    assert_eq!(case.verdict(), [Rule::Order]);
    let mut case = Case::new();
    let (older, newer) = (case.put(PLAIN), case.put(PLAIN));
    let sends = [case.sent(older, 1), case.sent(newer, 1)];
    case.put_written(PLAIN, newer, 2);
    case.put_written(PLAIN, older, 3);
    sends.into_iter().for_each(|send| case.acked(send, 4));
    assert_eq!(case.verdict(), [Rule::Order], "before its ack, too");
}

#[test]
fn a_fold_has_the_columns_of_every_merge_in_it() {
    for (erased, verdict) in [(false, vec![]), (true, vec![Rule::Lost])] {
        let mut case = Case::new();
        let (older, newer) = (case.merge(1), case.merge(2));
        let sends = [case.sent(older, 1), case.sent(newer, 1)];
        let column = if erased { String::new() } else { format!("\"a\":{{\"N\":\"{older}\"}},") };
        let rest = format!("{column}\"v\":{{\"N\":\"{newer}\"}},\"b\":{{\"N\":\"{newer}\"}}");
        case.written(WriteOp::Merge, PLAIN, &rest, 2);
        sends.into_iter().for_each(|send| case.acked(send, 3));
        assert_eq!(case.verdict(), verdict);
    }
}

#[test]
fn only_a_greater_sequence_supersedes() {
    for (other, verdict) in [(20, vec![]), (9, vec![Rule::Lost])] {
        let mut case = Case::new();
        let (row, other) = (case.put_with(10), case.put_with(other));
        let sends = [case.sent(row, 1), case.sent(other, 1)];
        case.put_written(SEQUENCED, other, 2);
        sends.into_iter().for_each(|send| case.acked(send, 3));
        assert_eq!(case.verdict(), verdict);
    }
    let mut case = Case::new();
    let (greater, smaller) = (case.put_with(10), case.put_with(9));
    let sends = [case.sent(greater, 1), case.sent(smaller, 1)];
    case.put_written(SEQUENCED, greater, 2);
    case.put_written(SEQUENCED, smaller, 2);
    sends.into_iter().for_each(|send| case.acked(send, 3));
    assert_eq!(case.verdict(), [Rule::Order]);
}

#[test]
fn what_is_reported_as_not_written_is_not_written() {
    let mut case = Case::new();
    let row = case.put_with(10);
    let send = case.sent(row, 1);
    case.put_written(SEQUENCED, row, 2);
    case.history.answered(send, at(3), Heard::Retryable);
    assert_eq!(case.verdict(), [Rule::NotWritten]);
    let mut case = Case::new();
    let row = case.row(plain_row(PLAIN, WriteOp::Insert));
    let send = case.sent(row, 1);
    case.written(WriteOp::Insert, PLAIN, &format!("\"v\":{{\"N\":\"{row}\"}}"), 2);
    case.history.answered(send, at(3), Heard::AlreadyExists);
    assert_eq!(case.verdict(), [Rule::NotWritten]);
}

#[test]
fn rows_of_a_session_that_has_gone_are_not_written() {
    for (written_at, verdict) in [(6, vec![]), (20, vec![Rule::NotOwed])] {
        let mut case = Case::new();
        let row = case.put(PLAIN);
        let send = case.sent(row, 1);
        case.history.abandoned(send, at(5));
        case.put_written(PLAIN, row, written_at);
        assert_eq!(case.verdict(), verdict, "an attempt in flight is not torn");
    }
}

#[test]
fn half_a_group_is_torn() {
    let mut case = Case::new();
    for key in [1, 2] {
        let row = case.row(SentRow { group: Some(7), ..plain_row((0, key), WriteOp::Put) });
        case.sent(row, 1);
    }
    case.put_written((0, 1), 0, 2);
    assert_eq!(case.verdict(), [Rule::Torn]);
}

#[test]
fn a_row_has_one_answer_of_those_that_it_may_have() {
    let (mut case, _) = begun();
    case.acked(0, 4);
    assert_eq!(case.verdict(), [Rule::Answer], "twice");
    for heard in
        [Heard::Stale, Heard::AlreadyExists, Heard::AtomicPeer, Heard::Refused, Heard::Retryable, Heard::Unknown]
    {
        let mut case = Case::new();
        let row = case.put(PLAIN);
        let send = case.sent(row, 1);
        case.history.answered(send, at(2), heard);
        assert_eq!(case.verdict(), [Rule::Answer], "{heard:?}");
    }
}

#[test]
fn a_row_without_an_answer_starves() {
    for (answered_at, verdict) in [(at(100) + PATIENCE, vec![]), (at(101) + PATIENCE, vec![Rule::Starved])] {
        let mut case = Case::new();
        let row = case.put(PLAIN);
        let send = case.sent(row, 1);
        case.history.calm_since = Some(at(100));
        case.put_written(PLAIN, row, 2);
        case.acked(send, answered_at.as_secs());
        assert_eq!(case.verdict(), verdict);
    }
}

#[test]
fn a_store_that_holds_something_else_is_named() {
    let (mut case, _) = begun();
    case.stored.remove(&PLAIN);
    assert_eq!(case.verdict(), [Rule::Store]);
}
