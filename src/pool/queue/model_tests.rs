//! The queue against a sequential model: whatever the order of arrivals, answers, lost answers, refusals, cancellations and
//! deadlines, every key ends as if its rows had been applied one after another, without those that were refused or dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::payload::EncodedRow;
use crate::pool::{BatchTicket, SessionLink};
use crate::store::{Span, WriteOp};

const COLUMNS: [&str; 3] = ["a", "b", "c"];
const KEYS: u8 = 4;

/// What a row does to its columns: by two bits, it sets, removes or leaves one.
type Cells = [u8; 3];
const SETS: u8 = 0;
const REMOVES: u8 = 1;

#[derive(Debug, Clone)]
enum Step {
    Push {
        row: Row,
    },
    /// Rows of different keys, written in one transaction.
    PushGroup {
        rows: Vec<Row>,
    },
    Take,
    Settle {
        attempt: Index,
        outcomes: Vec<u8>,
    },
    SettleGroup {
        group: Index,
        outcome: u8,
    },
    Cancel {
        session: usize,
    },
    /// The deadline of what a session has sent.
    Expire {
        session: usize,
    },
    Wait,
}

#[derive(Debug, Clone)]
struct Row {
    key: u8,
    session: usize,
    op: WriteOp,
    cells: Cells,
    sequence: u32,
}

fn row() -> impl Strategy<Value = Row> {
    let op = prop_oneof![
        4 => Just(WriteOp::Merge),
        3 => Just(WriteOp::Put),
        1 => Just(WriteOp::Delete),
        1 => Just(WriteOp::Insert),
    ];
    (0..KEYS, 0usize..4, op, prop::array::uniform3(0u8..3), 0u32..40).prop_map(
        |(key, session, op, mut cells, sequence)| {
            // An insert finds itself by its content.
            cells[0] = if op == WriteOp::Insert { SETS } else { cells[0] };
            Row { key, session, op, cells, sequence }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let group = prop::collection::vec(row(), 1..4).prop_map(|mut rows| {
        let mut keys = BTreeSet::new();
        rows.retain(|row| keys.insert(row.key));
        let session = rows[0].session;
        for row in &mut rows {
            // An insert in a transaction is settled like one outside.
            row.op = if row.op == WriteOp::Insert { WriteOp::Merge } else { row.op };
            row.session = session;
        }
        Step::PushGroup { rows }
    });
    prop_oneof![
        12 => row().prop_map(|row| Step::Push { row }),
        2 => group,
        6 => Just(Step::Take),
        6 => (any::<Index>(), prop::collection::vec(0u8..14, 4))
            .prop_map(|(attempt, outcomes)| Step::Settle { attempt, outcomes }),
        1 => (any::<Index>(), 0u8..8).prop_map(|(group, outcome)| Step::SettleGroup { group, outcome }),
        2 => (0usize..4).prop_map(|session| Step::Cancel { session }),
        1 => (0usize..4).prop_map(|session| Step::Expire { session }),
        3 => Just(Step::Wait),
    ]
}

/// A stored item: which row set each column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stored {
    cells: [Option<u32>; 3],
    sequence: Option<u32>,
}

/// What a write makes of an item.
fn after(item: Option<&Stored>, op: WriteOp, cells: [Option<Option<u32>>; 3], sequence: Option<u32>) -> Option<Stored> {
    let mut stored = match op {
        WriteOp::Delete => return None,
        WriteOp::Put | WriteOp::Insert => Stored::default(),
        WriteOp::Merge => item.cloned().unwrap_or_default(),
    };
    for (stored, cell) in stored.cells.iter_mut().zip(cells) {
        if let Some(cell) = cell {
            *stored = cell;
        }
    }
    stored.sequence = sequence;
    Some(stored)
}

impl Row {
    /// What it alone makes of an item.
    fn after(&self, number: u32, item: Option<&Stored>, sequenced: bool) -> Option<Stored> {
        let cells = self.cells.map(|cell| match cell {
            SETS => Some(Some(number)),
            REMOVES => Some(None),
            _ => None,
        });
        // With sequences a delete is a put of a tombstone, and this table's are without columns.
        let (op, cells) = match (self.op, sequenced) {
            (WriteOp::Delete, true) => (WriteOp::Put, [None; 3]),
            (op, _) => (op, cells),
        };
        after(item, op, cells, sequenced.then_some(self.sequence))
    }

    fn part(&self, number: u32, sequenced: bool) -> Part {
        let key_text = format!("\"k\":{{\"S\":\"{}\"}}", self.key);
        let op = if sequenced && self.op == WriteOp::Delete { WriteOp::Put } else { self.op };
        let mut json = format!("{{{key_text}");
        let mut sequence = None;
        if sequenced {
            json.push_str(",\"s\":");
            let (start, value) = (json.len() as u32, format!("{{\"N\":\"{}\"}}", self.sequence));
            sequence = Some(Span { start, end: start + value.len() as u32 });
            json.push_str(&value);
        }
        if self.op != WriteOp::Delete {
            for (name, cell) in COLUMNS.iter().zip(self.cells) {
                match cell {
                    SETS => json.push_str(&format!(",\"{name}\":{{\"N\":\"{number}\"}}")),
                    REMOVES if op == WriteOp::Merge => json.push_str(&format!(",\"{name}\":null")),
                    _ => {}
                }
            }
        }
        json.push('}');
        let item = WriteItem { sequence, ..WriteItem::new(op, Bytes::from(json), key_text.len() as u32) };
        // Few hashes for many keys: texts must decide.
        let key_hash = u64::from(self.key % 2);
        Part { item, key_hash, row_index: number, ..Part::of_test() }
    }
}

/// What an item on its way makes of a stored one.
fn after_item(item: Option<&Stored>, write: &WriteItem) -> Option<Stored> {
    let json: serde_json::Value = serde_json::from_slice(&write.json).unwrap();
    let number = |name: &str| json[name]["N"].as_str().map(|text| text.parse().unwrap());
    let cells = COLUMNS.map(|name| json.get(name).map(|_| number(name)));
    after(item, write.op, cells, number("s"))
}

struct Flying {
    slots: Vec<SlotId>,
    items: Vec<WriteItem>,
}

/// The queue, the store behind it, and what became of each row.
struct World {
    queue: TableQueue,
    coalesce: bool,
    sequenced: bool,
    now: Instant,
    rng: fastrand::Rng,
    /// The slice of each client; a client whose session has ended, or whose deadline has passed, has a new one.
    slices: [usize; 4],
    dead: BTreeSet<usize>,
    expired: BTreeSet<usize>,
    rows: Vec<Row>,
    fates: BTreeMap<u32, char>,
    store: BTreeMap<u8, Stored>,
    applied: BTreeSet<u32>,
    /// Keys on which a row took effect that was then dropped, or refused: a lost answer to a client that went away.
    undefined: BTreeSet<u8>,
    flying: Vec<Flying>,
    flying_groups: Vec<Arc<AtomicGroup>>,
    landed_groups: Vec<Arc<AtomicGroup>>,
    /// Transactions that are done, by their tokens.
    done_groups: BTreeSet<String>,
}

fn key_of(item: &WriteItem) -> u8 {
    let digits = item.key_text().iter().find(|byte| byte.is_ascii_digit()).unwrap();
    digits - b'0'
}

impl World {
    fn new(coalesce: bool, sequenced: bool, seed: u64) -> Self {
        Self {
            queue: TableQueue::new(coalesce, sequenced, RetryConfig::default()),
            coalesce,
            sequenced,
            now: Instant::now(),
            rng: fastrand::Rng::with_seed(seed),
            slices: [0, 1, 2, 3],
            dead: BTreeSet::new(),
            expired: BTreeSet::new(),
            rows: Vec::new(),
            fates: BTreeMap::new(),
            store: BTreeMap::new(),
            applied: BTreeSet::new(),
            undefined: BTreeSet::new(),
            flying: Vec::new(),
            flying_groups: Vec::new(),
            landed_groups: Vec::new(),
            done_groups: BTreeSet::new(),
        }
    }

    fn push(&mut self, row: &Row, group: Option<Arc<AtomicGroup>>) {
        let part = row.part(self.rows.len() as u32, self.sequenced);
        self.rows.push(row.clone());
        self.queue.push(Part { group, slice: self.slices[row.session], ..part });
    }

    /// What a client has sent is nobody's any more.
    fn end_slice(&mut self, session: usize) -> usize {
        let next = self.slices.iter().max().map_or(0, |greatest| greatest + 1);
        std::mem::replace(&mut self.slices[session], next)
    }

    fn push_group(&mut self, rows: &[Row]) {
        let first = self.rows.len() as u32;
        let encoded = |(row, number): (&Row, u32)| {
            let Part { item, row_index, .. } = row.part(number, self.sequenced);
            EncodedRow { row_index, item, partition_hash: 0, key_hash: 0, item_bytes: 0 }
        };
        let encoded: Vec<_> = rows.iter().zip(first..).map(encoded).collect();
        let ticket = BatchTicket::new(1, SessionLink::new(1, false).0);
        let group = AtomicGroup::new(&encoded, format!("group {first}").into(), vec![0], &ticket);
        rows.iter().for_each(|row| self.push(row, Some(Arc::clone(&group))));
    }

    fn take(&mut self) -> bool {
        if let Some(group) = self.landed_groups.pop() {
            if group.launch() {
                self.flying_groups.push(group);
            }
            return true;
        }
        match self.queue.take(self.now, f64::INFINITY) {
            None => return false,
            Some(Taken::Group(group)) => {
                if group.launch() {
                    self.flying_groups.push(group);
                }
            }
            Some(Taken::Attempt(Attempt { slots, call, .. })) => {
                let items = match call {
                    Call::Batch(items) => items,
                    Call::One(item) => vec![item],
                };
                self.flying.push(Flying { slots, items });
            }
        }
        true
    }

    /// What the store would do with a write now, and whether its condition holds.
    fn judge(&self, item: &WriteItem) -> (bool, Option<Stored>) {
        let stored = self.store.get(&key_of(item));
        let made = after_item(stored, item);
        let is_older = stored.is_some_and(|stored| stored.sequence > made.as_ref().and_then(|made| made.sequence));
        let holds = !is_older && (item.op != WriteOp::Insert || stored.is_none());
        (holds, made)
    }

    fn store(&mut self, key: u8, made: Option<Stored>) {
        match made {
            Some(stored) => drop(self.store.insert(key, stored)),
            None => drop(self.store.remove(&key)),
        }
    }

    /// A key's write takes effect, which must be that of its rows one after another.
    fn apply(&mut self, slot: SlotId, item: &WriteItem, made: Option<Stored>) {
        let key = key_of(item);
        let (flown, from) = (&self.queue.slots[slot].in_flight, self.queue.slots[slot].applied_from);
        let mut one_by_one = self.store.get(&key).cloned();
        for part in flown {
            one_by_one = self.rows[part.row_index as usize].after(part.row_index, one_by_one.as_ref(), self.sequenced);
        }
        assert_eq!(made, one_by_one, "the fold is not what its rows make");
        self.applied.extend(flown[from..].iter().map(|part| part.row_index));
        self.store(key, made);
    }

    fn settle(&mut self, flying: Flying, outcomes: &[u8]) {
        for (position, (slot, item)) in flying.slots.into_iter().zip(&flying.items).enumerate() {
            let (holds, made) = self.judge(item);
            let is_there = made.as_ref() == self.store.get(&key_of(item));
            let outcome = match outcomes[position % outcomes.len()] {
                0 => ItemOutcome::Retry,
                1 => ItemOutcome::RetryUnknown,
                2 | 3 => {
                    // It took effect, but the answer was lost.
                    if holds {
                        self.apply(slot, item, made);
                    }
                    ItemOutcome::RetryUnknown
                }
                4 => ItemOutcome::Refused,
                5 => ItemOutcome::Alone,
                _ if holds => {
                    self.apply(slot, item, made);
                    ItemOutcome::Confirmed
                }
                // It was done before, by an attempt without answer.
                _ if item.op == WriteOp::Insert && is_there => ItemOutcome::Confirmed,
                _ if item.op == WriteOp::Insert => ItemOutcome::Refused,
                _ => ItemOutcome::Superseded,
            };
            let mut reports = Vec::new();
            let Self { queue, now, rng, dead, expired, .. } = self;
            let standing = |slice| standing(dead, expired, slice);
            queue.settle(slot, outcome, *now, rng, standing, &mut |report| reports.push(report));
            self.note(reports);
        }
    }

    fn settle_group(&mut self, group: Arc<AtomicGroup>, outcome: u8) {
        let is_done = self.done_groups.contains(&**group.token());
        let judged: Vec<_> = group.items().iter().map(|item| (key_of(item), self.judge(item))).collect();
        let holds = judged.iter().all(|(_, (holds, _))| *holds);
        let refused = || GroupOutcome::Refused(group.items().iter().map(|_| RowFate::StaleMerge).collect());
        let (is_applied, outcome) = match outcome {
            0 => (false, None),
            1 => (holds && !is_done, None),
            2 if !is_done => (false, Some(refused())),
            _ if is_done => (false, Some(GroupOutcome::Committed(0.0))),
            _ if holds => (true, Some(GroupOutcome::Committed(0.0))),
            _ => (false, Some(refused())),
        };
        if is_applied {
            self.done_groups.insert(group.token().to_string());
            judged.into_iter().for_each(|(key, (_, made))| self.store(key, made));
            let rows = (0..self.rows.len() as u32).filter(|row| group.position(*row).is_some());
            self.applied.extend(rows);
        }
        match outcome {
            Some(outcome) => {
                let mut reports = Vec::new();
                self.queue.settle_group(&group, &outcome, &mut |report| reports.push(report));
                self.note(reports);
            }
            None => {
                group.land(true);
                self.landed_groups.push(group);
                self.sweep();
            }
        }
    }

    fn sweep(&mut self) {
        let mut reports = Vec::new();
        let Self { queue, dead, expired, .. } = self;
        queue.drop_waiting(|slice| standing(dead, expired, slice), &mut |report| reports.push(report));
        self.landed_groups.retain(|group| !group.is_cancelled());
        self.note(reports);
    }

    fn note(&mut self, reports: Vec<Report>) {
        for report in reports {
            let (letter, part) = match report {
                Report::Committed(part) => ('C', part),
                Report::Superseded(part) => ('S', part),
                Report::Stale(part) => ('M', part),
                Report::Refused(part) => ('R', part),
                Report::Fated(part, _) => ('F', part),
                Report::Dropped(part) => ('D', part),
                Report::Expired(part) => (if part.unknown { 'U' } else { 'E' }, part),
            };
            let number = part.row_index;
            let Row { key, sequence, op, .. } = self.rows[number as usize];
            assert!(self.fates.insert(number, letter).is_none(), "row {number} has two outcomes");
            let (is_applied, stored) = (self.applied.contains(&number), self.store.get(&key));
            match letter {
                'C' => assert!(is_applied, "row {number} was said to be written"),
                'S' | 'M' if self.sequenced => {
                    assert!(stored.is_some_and(|stored| stored.sequence >= Some(sequence)), "row {number}: {stored:?}");
                    assert_eq!(letter == 'M', op == WriteOp::Merge, "row {number}");
                }
                'S' => assert!(self.coalesce, "nothing folds"),
                'E' | 'F' => assert!(!is_applied, "row {number} was said not to be written"),
                'D' | 'R' if is_applied => drop(self.undefined.insert(key)),
                _ => {}
            }
        }
        assert_eq!(self.queue.rows(), self.rows.len() - self.fates.len(), "rows are counted");
    }

    /// The state of a key after the rows that count, one after another, in the order of their arrival.
    fn expected(&self, key: u8) -> Option<Stored> {
        let mut item = None;
        for (row, number) in self.rows.iter().zip(0u32..) {
            if row.key == key && matches!(self.fates[&number], 'C' | 'S') {
                assert!(row.op != WriteOp::Insert || item.is_none(), "row {number} was inserted over {item:?}");
                item = row.after(number, item.as_ref(), false);
            }
        }
        item
    }
}

fn standing(dead: &BTreeSet<usize>, expired: &BTreeSet<usize>, slice: usize) -> Standing {
    match (dead.contains(&slice), expired.contains(&slice)) {
        (true, _) => Standing::Dead,
        (false, true) => Standing::Expired,
        (false, false) => Standing::Live,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_fold_equals_a_sequential_model(
        coalesce in any::<bool>(), sequenced in any::<bool>(), steps in prop::collection::vec(step(), 1..100),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(coalesce, sequenced, seed);
        for step in &steps {
            match step {
                Step::Push { row } => world.push(row, None),
                Step::PushGroup { rows } => world.push_group(rows),
                Step::Take => drop(world.take()),
                Step::Settle { attempt, outcomes } => {
                    if !world.flying.is_empty() {
                        let flying = world.flying.swap_remove(attempt.index(world.flying.len()));
                        world.settle(flying, outcomes);
                    }
                }
                Step::SettleGroup { group, outcome } => {
                    if !world.flying_groups.is_empty() {
                        let group = world.flying_groups.swap_remove(group.index(world.flying_groups.len()));
                        world.settle_group(group, *outcome);
                    }
                }
                Step::Cancel { session } => {
                    let slice = world.end_slice(*session);
                    world.dead.insert(slice);
                    world.sweep();
                }
                // Only rows with sequences have deadlines.
                Step::Expire { session } if sequenced => {
                    let slice = world.end_slice(*session);
                    world.expired.insert(slice);
                    world.sweep();
                }
                Step::Expire { .. } => {}
                Step::Wait => world.now += Duration::from_secs(3),
            }
        }
        // In the end everything is answered.
        loop {
            world.now += Duration::from_secs(3);
            while world.take() {}
            if let Some(flying) = world.flying.pop() {
                world.settle(flying, &[9]);
            } else if let Some(group) = world.flying_groups.pop() {
                world.settle_group(group, 7);
            } else {
                break;
            }
        }
        prop_assert_eq!(world.queue.rows(), 0);
        prop_assert_eq!(world.fates.len(), world.rows.len(), "every row has an outcome");
        for key in (0..KEYS).filter(|key| !sequenced && !world.undefined.contains(key)) {
            prop_assert_eq!(world.store.get(&key).cloned(), world.expected(key), "key {}", key);
        }
    }
}
