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
//! - [`Rule::Order`]: no write of a row follows the ack of a row that came after it, nor the confirmed write of one; with
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

#[path = "checker_key.rs"]
mod key;

use key::KeyCheck;

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
