//! What a verifying client sent and what it heard, and the check of both against what is stored.
//!
//! Every put carries a version that no other put of the test has, so that a stored value names the row it came from. A key
//! may have several writers; the order of rows is known within a writer only, and the check asks no more than that.
//!
//! What must hold of each key, whatever happened on the way:
//! - a stored value was sent for this key and not rejected;
//! - it is not older than the newest acked row of the same writer (nothing is asked of other writers' rows: the last one
//!   wins, and their order is not known);
//! - where nothing is stored, some writer's delete explains it, or no row of the key was acked.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};

/// What a row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Stores this version.
    Put(u64),
    Delete,
}

/// Names a row that was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub key: String,
    pub writer: u32,
    index: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Acked,
    Rejected,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// A value is stored that nobody sent for this key, or that was rejected.
    NeverSent { key: String, version: u64 },
    /// A value is stored that is older than an acked row of the same writer.
    Older { key: String, version: u64 },
    /// Nothing is stored, although a put was acked and no delete can have come after it.
    Lost { key: String },
}

/// Everything that was sent.
#[derive(Debug, Clone, Default)]
pub struct History {
    keys: BTreeMap<String, BTreeMap<u32, Vec<(Effect, Heard)>>>,
}

impl History {
    /// A row is sent for the first time. Rows of one key and writer must come here in the order they are sent.
    pub fn sent(&mut self, writer: u32, key: &str, effect: Effect) -> Place {
        let rows = self.keys.entry(key.to_owned()).or_default().entry(writer).or_default();
        rows.push((effect, Heard::Nothing));
        Place { key: key.to_owned(), writer, index: rows.len() - 1 }
    }

    pub fn acked(&mut self, place: &Place) {
        self.heard(place, Heard::Acked);
    }

    pub fn rejected(&mut self, place: &Place) {
        self.heard(place, Heard::Rejected);
    }

    fn heard(&mut self, place: &Place, heard: Heard) {
        let rows = self.keys.get_mut(&place.key).and_then(|writers| writers.get_mut(&place.writer)).unwrap();
        rows[place.index].1 = heard;
    }

    /// Rows sent, and those acked among them.
    pub fn counts(&self) -> (usize, usize) {
        let rows = || self.keys.values().flat_map(BTreeMap::values).flatten();
        (rows().count(), rows().filter(|(_, heard)| *heard == Heard::Acked).count())
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Compares with everything that is stored: versions by key.
    pub fn check(&self, stored: &BTreeMap<String, u64>) -> Vec<Broken> {
        let keys: BTreeSet<&String> = self.keys.keys().chain(stored.keys()).collect();
        keys.into_iter().filter_map(|key| self.check_key(key, stored.get(key).copied())).collect()
    }

    fn check_key(&self, key: &str, stored: Option<u64>) -> Option<Broken> {
        let key = key.to_owned();
        let nobody = BTreeMap::new();
        let writers = self.keys.get(&key).unwrap_or(&nobody);
        let newest_acked = |rows: &[(Effect, Heard)]| rows.iter().rposition(|(_, heard)| *heard == Heard::Acked);
        let Some(version) = stored else {
            let acked = writers.values().any(|rows| newest_acked(rows).is_some());
            let deleted = writers.values().any(|rows| {
                let from = newest_acked(rows).unwrap_or(0);
                rows[from..].iter().any(|row| row.0 == Effect::Delete && row.1 != Heard::Rejected)
            });
            return (acked && !deleted).then_some(Broken::Lost { key });
        };
        let found = writers.values().find_map(|rows| {
            let at = rows.iter().position(|row| row.0 == Effect::Put(version) && row.1 != Heard::Rejected)?;
            Some((rows, at))
        });
        match found {
            None => Some(Broken::NeverSent { key, version }),
            Some((rows, at)) if newest_acked(rows).is_some_and(|acked| at < acked) => {
                Some(Broken::Older { key, version })
            }
            Some(_) => None,
        }
    }
}
