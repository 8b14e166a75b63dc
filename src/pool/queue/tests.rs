//! The queue's promises, one by one. Against a sequential model they are checked in `model_tests`.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::payload::EncodedRow;
use crate::pool::{BatchTicket, SessionLink};
use crate::store::{Span, WriteOp};

/// A row: `number` is its place in the order of arrival, `session` its slice.
fn row(key: u8, number: u32, session: usize, op: WriteOp) -> Part {
    let key_text = format!("\"k\":{{\"S\":\"{key}\"}}");
    let json = match op {
        WriteOp::Put | WriteOp::Merge | WriteOp::Insert => format!("{{{key_text},\"n\":{{\"N\":\"{number}\"}}}}"),
        WriteOp::Delete => format!("{{{key_text}}}"),
    };
    let item = WriteItem::new(op, Bytes::from(json), key_text.len() as u32);
    // Few hashes for many keys: texts must decide.
    Part { item, key_hash: u64::from(key % 2), slice: session, row_index: number, ..Part::of_test() }
}

fn row_of_text(key: &str, number: u32) -> Part {
    let key_text = format!("\"k\":{{\"S\":\"{key}\"}}");
    let item = WriteItem::new(WriteOp::Put, Bytes::from(format!("{{{key_text}}}")), key_text.len() as u32);
    Part { item, key_hash: u64::from(number), row_index: number, ..Part::of_test() }
}

fn put(key: u8, number: u32) -> Part {
    row(key, number, 0, WriteOp::Put)
}

/// The same row, with a sequence.
fn sequenced(part: Part, sequence: u32) -> Part {
    let key_end = 1 + part.item.key_len as usize;
    let (head, rest) = part.item.json.split_at(key_end);
    let start = (key_end + ",\"s\":".len()) as u32;
    let value = format!("{{\"N\":\"{sequence}\"}}");
    let span = Span { start, end: start + value.len() as u32 };
    let json = [head, b",\"s\":", value.as_bytes(), rest].concat();
    let item = WriteItem { sequence: Some(span), json: Bytes::from(json), ..part.item };
    Part { item, ..part }
}

/// A group of one row.
fn group_of(part: Part) -> Arc<AtomicGroup> {
    let Part { row_index, item, partition_hash, key_hash, .. } = part;
    let row = EncodedRow { row_index, item, partition_hash, key_hash, item_bytes: 0 };
    AtomicGroup::new(&[row], "token".into(), vec![0], &BatchTicket::new(1, SessionLink::new(1, false).0))
}

/// An attempt, as most tests look at it.
#[derive(Debug)]
struct Batch {
    slots: Vec<SlotId>,
    items: Vec<WriteItem>,
    solo: bool,
}

struct Bench {
    queue: TableQueue,
    now: Instant,
    rng: fastrand::Rng,
    dead: HashSet<usize>,
    reports: Vec<(char, u32)>,
}

impl Bench {
    fn new(coalesce: bool) -> Self {
        Self {
            queue: TableQueue::new(coalesce, false, RetryConfig::default()),
            now: Instant::now(),
            rng: fastrand::Rng::with_seed(1),
            dead: HashSet::new(),
            reports: Vec::new(),
        }
    }

    fn take(&mut self) -> Batch {
        self.try_take().expect("something may go")
    }

    fn try_take(&mut self) -> Option<Batch> {
        let Taken::Attempt(Attempt { slots, call, .. }) = self.queue.take(self.now, f64::INFINITY)? else {
            panic!("there are no groups here");
        };
        Some(match call {
            Call::Batch(items) => Batch { slots, items, solo: false },
            Call::One(item) => Batch { slots, items: vec![item], solo: true },
        })
    }

    fn settle(&mut self, slot: SlotId, outcome: ItemOutcome) {
        let (dead, reports) = (&self.dead, &mut self.reports);
        let mut report = |report: Report| reports.push(letter(&report));
        let standing = |slice| if dead.contains(&slice) { Standing::Dead } else { Standing::Live };
        self.queue.settle(slot, outcome, self.now, &mut self.rng, standing, &mut report);
    }

    fn cancel(&mut self, session: usize) {
        self.dead.insert(session);
        let (dead, reports) = (&self.dead, &mut self.reports);
        let standing = |slice| if dead.contains(&slice) { Standing::Dead } else { Standing::Live };
        self.queue.drop_waiting(standing, &mut |report| reports.push(letter(&report)));
    }
}

fn letter(report: &Report) -> (char, u32) {
    match report {
        Report::Committed(part) => ('C', part.row_index),
        Report::Superseded(part) => ('S', part.row_index),
        Report::Refused(part) => ('R', part.row_index),
        Report::Dropped(part) => ('D', part.row_index),
        Report::Stale(part) => ('M', part.row_index),
        Report::Fated(part, _) => ('F', part.row_index),
        Report::Expired(part) => (if part.unknown { 'U' } else { 'E' }, part.row_index),
    }
}

fn numbers(batch: &Batch) -> Vec<String> {
    let number = |item: &WriteItem| {
        let json: serde_json::Value = serde_json::from_slice(&item.json).unwrap();
        json["n"]["N"].as_str().unwrap_or("delete").to_owned()
    };
    batch.items.iter().map(number).collect()
}

#[test]
fn a_batch_has_at_most_25_items_with_different_keys() {
    let mut bench = Bench::new(true);
    for number in 0..60 {
        bench.queue.push(put((number % 30) as u8, number));
    }
    let (first, second) = (bench.take(), bench.take());
    assert_eq!((first.items.len(), second.items.len()), (25, 5));
    let keys: HashSet<_> = first.items.iter().chain(&second.items).map(|item| item.key_text().to_vec()).collect();
    assert_eq!(keys.len(), 30);
    assert!(bench.try_take().is_none());
}

#[test]
fn one_write_of_a_key_is_in_flight_and_waiting_rows_fold_to_the_newest() {
    let mut bench = Bench::new(true);
    bench.queue.push(put(1, 0));
    let first = bench.take();
    for number in 1..4 {
        bench.queue.push(put(1, number));
    }
    assert!(bench.try_take().is_none(), "the key is in flight");
    bench.settle(first.slots[0], ItemOutcome::Confirmed);
    let second = bench.take();
    assert_eq!(numbers(&second), ["3"]);
    assert_eq!(bench.reports, [('C', 0)], "nothing is acked for a newer row that is not confirmed yet");
    bench.settle(second.slots[0], ItemOutcome::Confirmed);
    assert_eq!(bench.reports, [('C', 0), ('S', 1), ('S', 2), ('C', 3)]);
    assert_eq!(bench.queue.rows(), 0);
}

#[test]
fn a_newer_row_supersedes_a_queued_retry() {
    let mut bench = Bench::new(true);
    bench.queue.push(put(1, 0));
    let first = bench.take();
    bench.queue.push(put(1, 1));
    bench.settle(first.slots[0], ItemOutcome::Retry);
    assert!(bench.try_take().is_none(), "it cools");
    bench.now += Duration::from_secs(3);
    assert_eq!(numbers(&bench.take()), ["1"]);
}

#[test]
fn parts_are_written_after_all_when_their_survivor_is_refused() {
    let mut bench = Bench::new(true);
    for number in 0..3 {
        bench.queue.push(put(1, number));
    }
    let first = bench.take();
    assert_eq!(numbers(&first), ["2"]);
    bench.settle(first.slots[0], ItemOutcome::Refused);
    assert_eq!(bench.reports, [('R', 2)]);
    let second = bench.take();
    assert_eq!(numbers(&second), ["1"]);
    bench.settle(second.slots[0], ItemOutcome::Confirmed);
    assert_eq!(bench.reports, [('R', 2), ('S', 0), ('C', 1)]);
}

#[test]
fn parts_of_other_sessions_outlive_a_cancelled_survivor() {
    let mut bench = Bench::new(true);
    bench.queue.push(row(1, 0, 0, WriteOp::Put));
    bench.queue.push(row(1, 1, 7, WriteOp::Delete));
    bench.cancel(7);
    assert_eq!(bench.reports, [('D', 1)]);
    assert_eq!(numbers(&bench.take()), ["0"]);
}

#[test]
fn an_attempt_in_flight_is_not_torn_by_a_cancellation() {
    let mut bench = Bench::new(true);
    bench.queue.push(row(1, 0, 7, WriteOp::Put));
    let batch = bench.take();
    bench.cancel(7);
    assert_eq!(bench.reports, []);
    bench.settle(batch.slots[0], ItemOutcome::Confirmed);
    assert_eq!(bench.reports, [('C', 0)]);
}

#[test]
fn a_cancelled_sessions_row_is_never_tried_again() {
    let mut bench = Bench::new(true);
    bench.queue.push(row(1, 0, 7, WriteOp::Put));
    let batch = bench.take();
    bench.cancel(7);
    bench.settle(batch.slots[0], ItemOutcome::Retry);
    assert_eq!(bench.reports, [('D', 0)]);
    assert_eq!((bench.queue.rows(), bench.queue.next_wake()), (0, None));
}

#[test]
fn a_refused_batch_is_tried_one_by_one() {
    let mut bench = Bench::new(true);
    for key in 0..3 {
        bench.queue.push(put(key, u32::from(key)));
    }
    let batch = bench.take();
    for slot in batch.slots {
        bench.settle(slot, ItemOutcome::Alone);
    }
    for _ in 0..3 {
        let alone = bench.take();
        assert!(alone.solo && alone.items.len() == 1);
    }
}

#[test]
fn without_coalescing_every_row_is_written_in_order() {
    let mut bench = Bench::new(false);
    for number in 0..5 {
        bench.queue.push(put(1, number));
    }
    for number in 0..5 {
        let batch = bench.take();
        assert_eq!(numbers(&batch), [number.to_string()]);
        bench.settle(batch.slots[0], ItemOutcome::Confirmed);
    }
    assert_eq!(bench.reports, [('C', 0), ('C', 1), ('C', 2), ('C', 3), ('C', 4)]);
}

#[test]
fn a_table_that_fails_rests_and_then_goes_on() {
    let mut bench = Bench::new(true);
    bench.queue.push(put(1, 0));
    bench.queue.push(put(2, 1));
    bench.queue.note_failure(bench.now, bench.now, &mut bench.rng);
    assert!(bench.try_take().is_none());
    let wake = bench.queue.next_wake().expect("it wakes by itself");
    bench.now = wake;
    assert_eq!(bench.take().items.len(), 2);
}

#[test]
fn interactive_rows_go_first_and_bulk_rows_still_move() {
    let mut bench = Bench::new(true);
    for number in 0..250u32 {
        bench.queue.push(Part { bulk: true, ..put(number as u8, number) });
    }
    let mut bulk_before_interactive = 0;
    for round in 0..16u32 {
        for number in 0..25 {
            // Interactive rows never run out.
            bench.queue.push(row_of_text(&format!("i{round}-{number}"), 1000 + round * 25 + number));
        }
        let batch = bench.take();
        bulk_before_interactive +=
            batch.items.iter().filter(|item| !item.key_text().starts_with(b"\"k\":{\"S\":\"i")).count();
    }
    assert_eq!(bulk_before_interactive, 2 * 25, "one batch in eight");
}

#[test]
fn rows_behind_a_group_that_goes_find_their_places_by_sequence() {
    let mut bench = Bench { queue: TableQueue::new(true, true, RetryConfig::default()), ..Bench::new(true) };
    let group = group_of(row(1, 9, 7, WriteOp::Put));
    bench.queue.push(sequenced(put(1, 0), 30));
    bench.queue.push(Part { group: Some(group), ..sequenced(row(1, 9, 7, WriteOp::Put), 31) });
    bench.queue.push(sequenced(put(1, 1), 20));
    bench.cancel(7);
    assert_eq!(bench.reports, [('D', 9)]);
    let batch = bench.take();
    assert_eq!(numbers(&batch), ["0"], "20 came later, and stands for nothing");
    bench.settle(batch.slots[0], ItemOutcome::Confirmed);
    assert_eq!(bench.reports[1..], [('S', 1), ('C', 0)]);
}
