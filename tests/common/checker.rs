//! The judge of a simulated run: what clients sent and heard, beside every write that took effect in the store.
//!
//! Each row has a number, and writes it into every column that it sets, so that a stored column names the row that it came
//! from, however rows were folded on the way. `v` is set by all rows; deletes carry it beside their key, where the store
//! does not look. Rows of one run arrive at the pools in one order, which the history knows.
//!
//! What must hold, by rule:
//! - [`Rule::NeverSent`]: every write consists of what rows sent for its key set, and of whole rows where nothing may fold.
//! - [`Rule::Lost`]: a row acked as written or superseded is in a write that took effect between its sending and its ack and
//!   that DynamoDB confirmed, or everything that it set was set by newer rows in one such write. Of tables with
//!   `sequence_by`: it was written itself, or a greater sequence was.
//! - [`Rule::Order`]: no write of a row follows the ack of a row that came after it, nor the write of one; with
//!   `sequence_by`: no write lowers a sequence.
//! - [`Rule::NotOwed`]: what DynamoDB confirms was owed at that moment: neither answered, nor dropped with its session.
//! - [`Rule::NotWritten`]: what was reported REJECTED, STALE or RETRYABLE is not written, unless an attempt of unknown outcome did it.
//! - [`Rule::Torn`]: an atomic group is written as a whole, and answered as one.
//! - [`Rule::Answer`]: each row has one answer, and one that its kind can have.
//! - [`Rule::Starved`]: an answer comes within [`PATIENCE`] once nothing goes wrong any more.
//! - [`Rule::Memory`]: reserved memory covers what is in hand, and stays below the bound.
//! - [`Rule::Store`]: what is stored in the end is what these writes make, one after another.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay::store::{WriteItem, WriteOp};
use serde_json::Value;

/// Columns that name their row; the first is set by every row.
pub const COLUMNS: [&str; 5] = ["v", "a", "b", "c", "d"];
/// How long an answer may take when nothing goes wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// An attempt of a session that has gone may still be under way for so long: its time-out, and a moment.
const ATTEMPT: Duration = Duration::from_millis(5_100);

/// Names a row.
pub type RowId = u32;
/// Names one sending of a row.
pub type SendId = usize;
/// A table and a key.
pub type Key = (usize, u32);

/// What a row does to a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Leaves,
    Sets,
    Removes,
}

/// A row of a client.
#[derive(Debug, Clone)]
pub struct SentRow {
    pub key: Key,
    pub op: WriteOp,
    /// By [`COLUMNS`]. A put leaves nothing: what it does not set, it removes.
    pub cells: [Cell; 5],
    pub sequence: Option<u64>,
    /// In a table with `sequence_by`, a put that hides the item.
    pub tombstone: bool,
    pub group: Option<u32>,
    /// DynamoDB refuses it.
    pub bad: bool,
    pub sends: Vec<SendId>,
}

impl SentRow {
    /// Whether it says what becomes of a column, and if so, whether the column is set afterwards.
    fn decides(&self, column: usize) -> Option<bool> {
        match (self.op, self.cells[column]) {
            (_, Cell::Sets) => Some(self.op != WriteOp::Delete),
            (_, Cell::Removes) => Some(false),
            (WriteOp::Merge, Cell::Leaves) => None,
            (_, Cell::Leaves) => Some(false),
        }
    }
}

/// What a client heard of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// COMMITTED or SUPERSEDED.
    Success,
    Stale,
    AlreadyExists,
    AtomicPeer,
    Refused,
    Retryable,
    Unknown,
}

/// One sending of a row.
#[derive(Debug, Clone)]
pub struct Send {
    pub row: RowId,
    pub pool: usize,
    /// The place in the order in which rows came to pools.
    pub arrival: usize,
    pub at: Duration,
    pub answer: Option<(Duration, Heard)>,
    /// When its session went away without an answer.
    pub abandoned: Option<Duration>,
}

impl Send {
    fn is_owed(&self, at: Duration) -> bool {
        let until = match (self.answer, self.abandoned) {
            (Some((answered, _)), _) => answered,
            (None, Some(abandoned)) => abandoned + ATTEMPT,
            (None, None) => Duration::MAX,
        };
        self.at <= at && at <= until
    }

    fn succeeded(&self) -> Option<Duration> {
        self.answer.and_then(|(at, heard)| (heard == Heard::Success).then_some(at))
    }
}

/// What a write does to a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    By(RowId),
    Removed,
}

/// Columns of a write, or of a stored item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    pub cells: [Option<Written>; 5],
    pub sequence: Option<u64>,
    pub tombstone: bool,
}

impl Columns {
    /// From a JSON object; `None` where it is nothing that a test row could be.
    pub fn parse<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>) -> Option<Self> {
        let mut columns = Self::default();
        for (name, value) in members {
            let number = || value.get("N")?.as_str()?.parse::<u64>().ok();
            match name.as_str() {
                "k" | "pad" | "_expires_at" => {}
                "s" => columns.sequence = Some(number()?),
                "_deleted" => columns.tombstone = true,
                name => {
                    let column = COLUMNS.iter().position(|column| *column == name)?;
                    let by = if value.is_null() { Written::Removed } else { Written::By(number()? as RowId) };
                    columns.cells[column] = Some(by);
                }
            }
        }
        Some(columns)
    }

    fn rows(&self) -> impl Iterator<Item = (usize, RowId)> {
        self.cells.iter().enumerate().filter_map(|(column, cell)| match cell {
            Some(Written::By(row)) => Some((column, *row)),
            _ => None,
        })
    }

    /// The newest row in it.
    fn newest(&self) -> Option<RowId> {
        match self.cells[0] {
            Some(Written::By(row)) => Some(row),
            _ => None,
        }
    }
}

/// A write that took effect.
#[derive(Debug, Clone)]
pub struct Applied {
    pub at: Duration,
    /// When the pool heard that it did, if it did.
    pub heard_at: Option<Duration>,
    pub key: Key,
    pub op: WriteOp,
    /// `None` where it is nothing that a test row could be.
    pub columns: Option<Columns>,
}

impl Applied {
    pub fn new(at: Duration, heard_at: Option<Duration>, key: Key, item: &WriteItem) -> Self {
        let json: Option<Value> = serde_json::from_slice(&item.json).ok();
        let columns = json.and_then(|json| Columns::parse(json.as_object()?.iter()));
        Self { at, heard_at, key, op: item.op, columns }
    }

    /// Whether the pool heard of it by then.
    fn was_heard(&self, by: Duration) -> bool {
        self.heard_at.is_some_and(|at| at <= by)
    }
}

/// What tables promise.
#[derive(Debug, Clone, Copy)]
pub struct TableRules {
    pub coalesce: bool,
    pub sequenced: bool,
}

/// A rule of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    NeverSent,
    Lost,
    Order,
    NotOwed,
    NotWritten,
    Torn,
    Answer,
    Starved,
    Memory,
    Store,
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken {
    pub rule: Rule,
    pub what: String,
}

impl std::fmt::Debug for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// Everything that was sent, heard and written.
#[derive(Debug, Default)]
pub struct History {
    pub tables: Vec<TableRules>,
    pub rows: Vec<SentRow>,
    pub sends: Vec<Send>,
    pub applied: Vec<Applied>,
    /// Since when nothing goes wrong.
    pub calm_since: Option<Duration>,
    found: Vec<Broken>,
}

/// What concerns one key.
#[derive(Debug, Default)]
struct OfKey {
    applied: Vec<usize>,
    rows: Vec<RowId>,
}

impl History {
    pub fn new(tables: Vec<TableRules>) -> Self {
        Self { tables, ..Self::default() }
    }

    /// A new row, not sent yet.
    pub fn row(&mut self, row: SentRow) -> RowId {
        self.rows.push(row);
        (self.rows.len() - 1) as RowId
    }

    /// A row goes to a pool.
    pub fn sent(&mut self, row: RowId, pool: usize, at: Duration) -> SendId {
        let arrival = self.sends.len();
        self.sends.push(Send { row, pool, arrival, at, answer: None, abandoned: None });
        self.rows[row as usize].sends.push(arrival);
        arrival
    }

    pub fn answered(&mut self, send: SendId, at: Duration, heard: Heard) {
        if let Some(before) = self.sends[send].answer.replace((at, heard)) {
            self.break_rule(Rule::Answer, format!("{send} was answered {before:?} and then {heard:?}"));
        }
    }

    pub fn abandoned(&mut self, send: SendId, at: Duration) {
        if self.sends[send].answer.is_none() {
            self.sends[send].abandoned = Some(at);
        }
    }

    /// A rule that somebody else sees broken.
    pub fn break_rule(&mut self, rule: Rule, what: String) {
        self.found.push(Broken { rule, what });
    }

    /// Checks everything, with what is stored in the end.
    pub fn check(&mut self, stored: &BTreeMap<Key, Columns>) -> Vec<Broken> {
        let mut found = std::mem::take(&mut self.found);
        let keys = self.by_key(&mut found);
        for (key, of) in &keys {
            let check = KeyCheck { history: self, key: *key, rules: self.tables[key.0], of };
            check.run(stored.get(key), &mut found);
        }
        for key in stored.keys().filter(|key| !keys.contains_key(key)) {
            found.push(Broken { rule: Rule::NeverSent, what: format!("{key:?} is stored, and nobody wrote it") });
        }
        self.check_groups(&mut found);
        self.check_patience(&mut found);
        found
    }

    fn by_key(&self, found: &mut Vec<Broken>) -> BTreeMap<Key, OfKey> {
        let mut keys: BTreeMap<Key, OfKey> = BTreeMap::new();
        for (id, row) in self.rows.iter().enumerate().filter(|(_, row)| !row.sends.is_empty()) {
            keys.entry(row.key).or_default().rows.push(id as RowId);
        }
        for (index, applied) in self.applied.iter().enumerate() {
            match keys.get_mut(&applied.key) {
                Some(of) => of.applied.push(index),
                None => {
                    found.push(Broken { rule: Rule::NeverSent, what: format!("{applied:?} is of a key of nobody") })
                }
            }
        }
        keys
    }

    fn check_groups(&self, found: &mut Vec<Broken>) {
        let mut members: BTreeMap<u32, BTreeSet<RowId>> = BTreeMap::new();
        for (id, row) in self.rows.iter().enumerate() {
            if let Some(group) = row.group {
                members.entry(group).or_default().insert(id as RowId);
            }
        }
        let mut written: BTreeMap<(u32, Duration), BTreeSet<RowId>> = BTreeMap::new();
        for applied in &self.applied {
            let newest =
                applied.columns.as_ref().and_then(Columns::newest).filter(|row| self.rows.len() > *row as usize);
            if let Some(row) = newest
                && let Some(group) = self.rows[row as usize].group
            {
                written.entry((group, applied.at)).or_default().insert(row);
            }
        }
        for ((group, at), rows) in written {
            if rows != members[&group] {
                let what = format!("of group {group} only {rows:?} were written at {at:?}, not {:?}", members[&group]);
                found.push(Broken { rule: Rule::Torn, what });
            }
        }
    }

    fn check_patience(&self, found: &mut Vec<Broken>) {
        let Some(calm) = self.calm_since else { return };
        for send in &self.sends {
            let since = send.at.max(calm);
            let late = match (send.answer, send.abandoned) {
                (Some((at, _)), _) | (None, Some(at)) => at > since + PATIENCE,
                (None, None) => true,
            };
            if late {
                let what = format!("{send:?} had no answer within {PATIENCE:?} after {since:?}");
                found.push(Broken { rule: Rule::Starved, what });
            }
        }
    }
}

/// The check of one key.
struct KeyCheck<'a> {
    history: &'a History,
    key: Key,
    rules: TableRules,
    of: &'a OfKey,
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

    fn run(&self, stored: Option<&Columns>, found: &mut Vec<Broken>) {
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
            let mut written = [None::<usize>; 5];
            for (applied, columns) in self.writes() {
                for (column, id) in columns.rows() {
                    let all_here = self.sends(id).filter(|send| send.at <= applied.at).all(|send| send.pool == pool);
                    let arrival = self.sends(id).filter(|send| send.at <= applied.at).map(|send| send.arrival).max();
                    let Some(arrival) = arrival.filter(|_| all_here) else { continue };
                    let before = acked.partition_point(|(at, _)| *at < applied.at);
                    let is_after_ack = before > 0 && acked[before - 1].1 > arrival;
                    let is_once = self.row(id).sends.len() == 1;
                    let is_after_write = is_once && written[column].is_some_and(|newest| newest > arrival);
                    if applied.heard_at.is_some() && (is_after_ack || is_after_write) {
                        let why = if is_after_ack { "after a newer row's ack" } else { "after a newer row's write" };
                        self.broken(found, Rule::Order, why, &(applied, arrival, written[column]));
                    }
                    if is_once && self.sends(id).any(|send| send.succeeded().is_some()) {
                        written[column] = written[column].max(Some(arrival));
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
