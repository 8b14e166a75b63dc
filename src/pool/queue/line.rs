//! The rows of one key that wait: in the order in which they came, or in that of their sequences.
//!
//! Mostly there is one. Of a hot key whose table does not coalesce there may be tens of thousands, so taking the first one
//! must not touch the others. The caller is the queue.

use std::cmp::Ordering;
use std::collections::VecDeque;

use smallvec::SmallVec;

use super::Part;
use crate::pool::sequence;
use crate::store::WriteItem;

/// Rows that go together, the newest one last.
pub(super) type Parts = SmallVec<[Part; 1]>;

/// So many rows are moved as fast as they are found.
const FEW: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    rows: Rows,
    /// How many of them are not bulk.
    interactive: usize,
}

#[derive(Debug)]
enum Rows {
    Few(Parts),
    Many(VecDeque<Part>),
}

impl Line {
    /// A line of one.
    pub(super) fn of(part: Part) -> Self {
        let interactive = usize::from(!part.bulk);
        Self { rows: Rows::Few(SmallVec::from_elem(part, 1)), interactive }
    }

    pub(super) fn len(&self) -> usize {
        match &self.rows {
            Rows::Few(parts) => parts.len(),
            Rows::Many(parts) => parts.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every row is bulk.
    pub(super) fn is_bulk(&self) -> bool {
        self.interactive == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        let (few, many) = match &self.rows {
            Rows::Few(parts) => (Some(parts.iter()), None),
            Rows::Many(parts) => (None, Some(parts.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// The row that came last, or has the greatest sequence.
    pub(super) fn last(&self) -> Option<&Part> {
        self.len().checked_sub(1).and_then(|index| self.get(index))
    }

    pub(super) fn get(&self, index: usize) -> Option<&Part> {
        match &self.rows {
            Rows::Few(parts) => parts.get(index),
            Rows::Many(parts) => parts.get(index),
        }
    }

    /// Adds the newest row.
    pub(super) fn push(&mut self, part: Part) {
        self.interactive += usize::from(!part.bulk);
        match &mut self.rows {
            Rows::Few(parts) if parts.len() < FEW => parts.push(part),
            Rows::Few(parts) => {
                let mut many: VecDeque<Part> = std::mem::take(parts).into_iter().collect();
                many.push_back(part);
                self.rows = Rows::Many(many);
            }
            Rows::Many(parts) => parts.push_back(part),
        }
    }

    /// Adds a row by its sequence: behind those that are not greater. A row of an atomic group is a barrier: nothing that came
    /// later goes before it.
    pub(super) fn push_by_sequence(&mut self, part: Part) {
        let stays_before = |other: &Part| {
            other.group.is_some() || part.group.is_some() || compare(&other.item, &part.item) != Ordering::Greater
        };
        let at = (0..self.len()).rev().find(|&index| self.get(index).is_some_and(stays_before)).map_or(0, |at| at + 1);
        self.insert(at, part);
    }

    /// Puts rows back by their sequences: each before those that are not smaller, because it came before them.
    pub(super) fn put_back_by_sequence(&mut self, parts: Parts) {
        let mut at = 0;
        for part in parts {
            while self
                .get(at)
                .is_some_and(|other| other.group.is_none() && compare(&other.item, &part.item) == Ordering::Less)
            {
                at += 1;
            }
            self.insert(at, part);
            at += 1;
        }
    }

    fn insert(&mut self, at: usize, part: Part) {
        if at == self.len() {
            return self.push(part);
        }
        self.interactive += usize::from(!part.bulk);
        match &mut self.rows {
            Rows::Few(parts) => parts.insert(at, part),
            Rows::Many(parts) => parts.insert(at, part),
        }
    }

    /// Takes the oldest rows.
    pub(super) fn take(&mut self, count: usize) -> Parts {
        let taken: Parts = match &mut self.rows {
            Rows::Few(parts) if count >= parts.len() => std::mem::take(parts),
            Rows::Few(parts) => parts.drain(..count).collect(),
            Rows::Many(parts) => parts.drain(..count.min(parts.len())).collect(),
        };
        self.interactive -= taken.iter().filter(|part| !part.bulk).count();
        if self.is_empty() {
            // What a burst took is given back.
            self.rows = Rows::Few(SmallVec::new());
        }
        taken
    }

    /// Puts rows back before all others, in their order.
    pub(super) fn put_back(&mut self, parts: Parts) {
        self.interactive += parts.iter().filter(|part| !part.bulk).count();
        match &mut self.rows {
            Rows::Few(rows) if rows.is_empty() => *rows = parts,
            Rows::Few(rows) => rows.insert_many(0, parts),
            Rows::Many(rows) => parts.into_iter().rev().for_each(|part| rows.push_front(part)),
        }
    }

    /// Takes out the rows that `keep` denies. `by_sequence`: a row of an atomic group that goes no longer keeps those behind
    /// it from their places.
    pub(super) fn retain(&mut self, by_sequence: bool, keep: impl Fn(&Part) -> bool, mut gone: impl FnMut(Part)) {
        let all = self.take(usize::MAX);
        for part in all {
            if keep(&part) {
                if by_sequence {
                    self.push_by_sequence(part);
                } else {
                    self.push(part);
                }
            } else {
                gone(part);
            }
        }
    }
}

fn compare(a: &WriteItem, b: &WriteItem) -> Ordering {
    sequence::compare(a.sequence_text(), b.sequence_text())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::store::{WriteItem, WriteOp};

    fn part(number: u32) -> Part {
        let item = WriteItem::new(WriteOp::Put, Bytes::new(), 0);
        Part { item, row_index: number, bulk: number.is_multiple_of(3), ..Part::of_test() }
    }

    fn numbers(line: &Line) -> Vec<u32> {
        (0..line.len()).map(|index| line.get(index).unwrap().row_index).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Take(usize),
        TakeAndPutBack(usize),
        DropThoseDividedBy(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1u8..40).prop_map(Step::Push),
            (0usize..50).prop_map(Step::Take),
            (0usize..50).prop_map(Step::TakeAndPutBack),
            (2u32..5).prop_map(Step::DropThoseDividedBy),
        ];
        proptest::collection::vec(step, 1..30)
    }

    proptest! {
        #[test]
        fn a_line_is_a_queue_however_long_it_is(steps in steps()) {
            let (mut line, mut model, mut next) = (Line::of(part(0)), vec![0], 1);
            for step in steps {
                match step {
                    Step::Push(count) => {
                        for _ in 0..count {
                            line.push(part(next));
                            model.push(next);
                            next += 1;
                        }
                    }
                    Step::Take(count) => {
                        let count = count.min(model.len());
                        let taken: Vec<u32> = line.take(count).iter().map(|part| part.row_index).collect();
                        prop_assert_eq!(taken, model.drain(..count).collect::<Vec<_>>());
                    }
                    Step::TakeAndPutBack(count) => {
                        let taken = line.take(count);
                        line.put_back(taken);
                    }
                    Step::DropThoseDividedBy(divisor) => {
                        let mut gone = Vec::new();
                        line.retain(false, |part| part.row_index % divisor > 0, |part| gone.push(part.row_index));
                        let expected: Vec<u32> = model.extract_if(.., |number| *number % divisor == 0).collect();
                        prop_assert_eq!(gone, expected);
                    }
                }
                prop_assert_eq!(numbers(&line), model.clone());
                prop_assert_eq!(line.is_bulk(), model.iter().all(|number| number.is_multiple_of(3)));
            }
        }
    }
}
