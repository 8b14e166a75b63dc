//! What must hold of one key: its rows, as they were sent and answered, beside the writes that took effect.

use std::time::Duration;

use forebay::store::WriteOp;

use super::{
    Applied, Broken, COLUMNS, Cell, Columns, Heard, History, Key, OfKey, RowId, Rule, Send, SentRow, TableRules,
    Written,
};

/// The check of one key.
pub(super) struct KeyCheck<'a> {
    pub(super) history: &'a History,
    pub(super) key: Key,
    pub(super) rules: TableRules,
    pub(super) of: &'a OfKey,
}

impl KeyCheck<'_> {
    fn row(&self, id: RowId) -> &SentRow {
        &self.history.rows[id as usize]
    }

    fn sends(&self, id: RowId) -> impl Iterator<Item = &Send> {
        self.row(id).sends.iter().map(|&send| &self.history.sends[send])
    }

    fn writes(&self) -> impl DoubleEndedIterator<Item = (&Applied, &Columns)> {
        let writes = self.of.applied.iter().map(|&index| &self.history.applied[index]);
        writes.filter_map(|applied| Some((applied, applied.columns.as_ref()?)))
    }

    /// Writes of a row as the newest one in them.
    fn own_writes(&self, id: RowId) -> impl Iterator<Item = &Applied> {
        self.writes().filter(move |(_, columns)| columns.newest() == Some(id)).map(|(applied, _)| applied)
    }

    fn broken(&self, found: &mut Vec<Broken>, rule: Rule, what: &str, of: &dyn std::fmt::Debug) {
        found.push(Broken { rule, what: format!("{:?}: {what}: {of:?}", self.key) });
    }

    pub(super) fn run(&self, stored: Option<&Columns>, found: &mut Vec<Broken>) {
        for &index in &self.of.applied {
            let applied = &self.history.applied[index];
            if !applied.columns.as_ref().is_some_and(|columns| self.is_of_rows(applied, columns)) {
                self.broken(found, Rule::NeverSent, "no rows make this write", applied);
                // The other rules would only say so again.
                return;
            }
        }
        let made = self.replay(found);
        if made.as_ref() != stored {
            self.broken(found, Rule::Store, "stored is not what the writes make", &(stored, made));
        }
        self.check_owed(found);
        if !self.rules.sequenced {
            self.check_order(found);
        }
        for &id in &self.of.rows {
            self.check_row(id, found);
        }
    }

    /// Whether a write consists of rows that were sent before it, as they fold.
    fn is_of_rows(&self, applied: &Applied, columns: &Columns) -> bool {
        let Some(newest) = columns.newest() else { return false };
        let is_of_key = |id: RowId| {
            (id as usize) < self.history.rows.len()
                && self.row(id).key == self.key
                && self.sends(id).any(|send| send.at <= applied.at)
        };
        if !columns.rows().all(|(column, id)| is_of_key(id) && self.row(id).cells[column] == Cell::Sets) {
            return false;
        }
        let row = self.row(newest);
        let is_newest_whole = (0..COLUMNS.len()).all(|column| match (row.cells[column], columns.cells[column]) {
            (Cell::Sets, written) => written == Some(Written::By(newest)),
            (Cell::Removes, written) => !matches!(written, Some(Written::By(_))),
            (Cell::Leaves, _) => true,
        });
        let others = || columns.rows().filter(|(_, id)| *id != newest);
        let may_fold = self.rules.coalesce && !self.rules.sequenced && row.op == WriteOp::Merge && row.group.is_none();
        is_newest_whole
            && !row.bad
            && columns.tombstone == row.tombstone
            && columns.sequence == row.sequence
            && match applied.op {
                // A merge folded over a put or a delete.
                WriteOp::Put if may_fold => true,
                op => op == row.op,
            }
            && (may_fold || (others().count() == 0 && applied.op == row.op))
            && others().all(|(_, id)| {
                let other = self.row(id);
                matches!(other.op, WriteOp::Put | WriteOp::Merge) && other.group.is_none() && !other.bad
            })
    }

    /// What the writes make of the key, one after another.
    fn replay(&self, found: &mut Vec<Broken>) -> Option<Columns> {
        let mut item: Option<Columns> = None;
        for (applied, columns) in self.writes() {
            if self.rules.sequenced && item.as_ref().is_some_and(|item| item.sequence > columns.sequence) {
                self.broken(found, Rule::Order, "a smaller sequence over a greater one", &(applied, &item));
            }
            item = match applied.op {
                WriteOp::Put | WriteOp::Insert => Some(columns.clone()),
                WriteOp::Delete => None,
                WriteOp::Merge => {
                    let mut merged = item.unwrap_or_default();
                    for (cell, written) in merged.cells.iter_mut().zip(columns.cells) {
                        *cell = match written {
                            None => *cell,
                            Some(Written::Removed) => None,
                            by => by,
                        };
                    }
                    Some(Columns { sequence: columns.sequence, tombstone: false, ..merged })
                }
            };
        }
        item
    }

    fn check_owed(&self, found: &mut Vec<Broken>) {
        for (applied, columns) in self.writes().filter(|(applied, _)| applied.heard_at.is_some()) {
            for (_, id) in columns.rows() {
                if !self.sends(id).any(|send| send.is_owed(applied.at)) {
                    let sends: Vec<_> = self.sends(id).collect();
                    self.broken(found, Rule::NotOwed, "written when nobody waited for it", &(applied, sends));
                }
            }
        }
    }

    fn check_order(&self, found: &mut Vec<Broken>) {
        let pools = self.of.rows.iter().flat_map(|&id| self.sends(id)).map(|send| send.pool).max().unwrap_or(0);
        for pool in 0..=pools {
            let sends = self.of.rows.iter().flat_map(|&id| self.sends(id)).filter(|send| send.pool == pool);
            // When acks were heard, with the newest arrival acked until then.
            let mut acked: Vec<(Duration, usize)> =
                sends.filter_map(|send| Some((send.succeeded()?, send.arrival))).collect();
            acked.sort_unstable();
            let mut newest = 0;
            for (_, arrival) in &mut acked {
                newest = newest.max(*arrival);
                *arrival = newest;
            }
            // The newest arrival in a write so far, and that write.
            let mut written = [None::<(usize, &Applied)>; 5];
            for (applied, columns) in self.writes() {
                for (column, id) in columns.rows() {
                    let all_here = self.sends(id).filter(|send| send.at <= applied.at).all(|send| send.pool == pool);
                    let arrival = self.sends(id).filter(|send| send.at <= applied.at).map(|send| send.arrival).max();
                    let Some(arrival) = arrival.filter(|_| all_here) else { continue };
                    let before = acked.partition_point(|(at, _)| *at < applied.at);
                    let is_after_ack = before > 0 && acked[before - 1].1 > arrival;
                    let is_once = self.row(id).sends.len() == 1;
                    let is_after_write = is_once && written[column].is_some_and(|(newest, _)| newest > arrival);
                    if applied.heard_at.is_some() && (is_after_ack || is_after_write) {
                        let why = if is_after_ack { "after a newer row's ack" } else { "after a newer row's write" };
                        self.broken(found, Rule::Order, why, &(applied, arrival, written[column]));
                    }
                    // Of a write of unknown outcome the pool may have to send the parts again, in order.
                    let is_known = applied.heard_at.is_some();
                    let is_newest = written[column].is_none_or(|(newest, _)| newest < arrival);
                    if is_known && is_newest && is_once && self.sends(id).any(|send| send.succeeded().is_some()) {
                        written[column] = Some((arrival, applied));
                    }
                }
            }
        }
    }

    fn check_row(&self, id: RowId, found: &mut Vec<Broken>) {
        let row = self.row(id);
        let first = self.sends(id).next().map_or(Duration::ZERO, |send| send.at);
        for send in self.sends(id) {
            let Some((at, heard)) = send.answer else { continue };
            let may_be = match heard {
                Heard::Success | Heard::Refused => true,
                Heard::Stale => self.rules.sequenced && (row.op == WriteOp::Merge || row.group.is_some()),
                Heard::AlreadyExists => row.op == WriteOp::Insert,
                Heard::AtomicPeer => row.group.is_some(),
                Heard::Retryable | Heard::Unknown => self.rules.sequenced,
            };
            if !may_be {
                self.broken(found, Rule::Answer, "such a row has no such answer", &(row, send));
            }
            if heard == Heard::Success && !self.is_kept(id, send, first, at) {
                self.broken(found, Rule::Lost, "acked, and neither written nor superseded", &(id, row, send));
            }
            if heard == Heard::Refused && !self.is_refused_rightly(row) {
                self.broken(found, Rule::Answer, "refused, and there is nothing wrong with it", &(row, send));
            }
            if heard == Heard::Stale && row.group.is_none() && !self.is_outdone(row, at) {
                self.broken(found, Rule::Answer, "stale, and no greater sequence was there", &(row, send));
            }
        }
        self.check_not_written(id, found);
    }

    fn is_refused_rightly(&self, row: &SentRow) -> bool {
        let in_group = |other: &SentRow| row.group.is_some() && other.group == row.group;
        row.bad || self.history.rows.iter().any(|other| other.bad && in_group(other))
    }

    fn is_outdone(&self, row: &SentRow, by: Duration) -> bool {
        self.writes().any(|(applied, columns)| applied.at <= by && columns.sequence > row.sequence)
    }

    /// Whether the ack of a row is true.
    fn is_kept(&self, id: RowId, send: &Send, first: Duration, answered: Duration) -> bool {
        let row = self.row(id);
        if row.op == WriteOp::Insert || row.group.is_some() {
            // A repetition finds it done: by its token, or by the item that is there.
            return self.own_writes(id).any(|applied| first <= applied.at && applied.at <= answered);
        }
        let confirmed =
            |applied: &Applied| send.at <= applied.at && applied.at <= answered && applied.was_heard(answered);
        if self.rules.sequenced {
            // A merge that a greater sequence has outdone is told so.
            let may_be_outdone = row.op != WriteOp::Merge;
            return self.own_writes(id).any(confirmed) || (may_be_outdone && self.is_outdone(row, answered));
        }
        self.writes().any(|(applied, columns)| confirmed(applied) && self.covers(applied, columns, id, send))
    }

    /// Whether a write does to each column what a row wanted, or what a newer row did.
    fn covers(&self, applied: &Applied, columns: &Columns, id: RowId, send: &Send) -> bool {
        let is_newer = |other: RowId| {
            self.sends(other)
                .any(|later| later.pool == send.pool && later.arrival > send.arrival && later.at <= applied.at)
        };
        if !self.rules.coalesce && columns.newest() != Some(id) {
            return false;
        }
        (0..COLUMNS.len()).all(|column| {
            let Some(is_set) = self.row(id).decides(column) else { return true };
            match columns.cells[column] {
                Some(Written::By(by)) => by == id || is_newer(by),
                None if applied.op == WriteOp::Merge => false,
                None | Some(Written::Removed) => {
                    let removes = |&other: &RowId| is_newer(other) && self.row(other).decides(column) == Some(false);
                    !is_set || self.of.rows.iter().any(removes)
                }
            }
        })
    }

    fn check_not_written(&self, id: RowId, found: &mut Vec<Broken>) {
        let row = self.row(id);
        let sends: Vec<&Send> = self.sends(id).collect();
        let was = |send: &Send, wanted: &[Heard]| send.answer.is_some_and(|(_, heard)| wanted.contains(&heard));
        let retryable = sends.iter().take_while(|send| was(send, &[Heard::Retryable])).count();
        if retryable > 0 {
            let until = sends.get(retryable).map_or(Duration::MAX, |send| send.at);
            if let Some(applied) = self.own_writes(id).find(|applied| applied.at < until) {
                self.broken(found, Rule::NotWritten, "RETRYABLE, and written", &(applied, &sends));
            }
        }
        let denied = [Heard::Stale, Heard::AlreadyExists, Heard::AtomicPeer, Heard::Refused];
        if let [send] = &*sends
            && was(send, &denied)
            && let Some(applied) = self.own_writes(id).find(|applied| applied.heard_at.is_some() || row.bad)
        {
            self.broken(found, Rule::NotWritten, "denied, and written", &(applied, send));
        }
    }
}
