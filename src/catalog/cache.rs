//! The cache of definitions: read without a lock, written rarely.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::{NEGATIVE_TTL, TableVersion};

/// Tables that are loaded at the same time without waiting for each other.
const LOAD_STRIPES: usize = 16;

#[derive(Debug, Clone)]
struct Entry {
    /// The record that the entry comes from; 0 where there was none.
    sk: u64,
    /// `None`: there is no such table.
    version: Option<Arc<TableVersion>>,
    checked_at: Instant,
}

pub(super) struct Cache {
    entries: ArcSwap<HashMap<String, Entry>>,
    generation: watch::Sender<u64>,
    /// Single flight: who loads a table holds its stripe.
    loading: [Mutex<()>; LOAD_STRIPES],
    hasher: foldhash::fast::RandomState,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            entries: ArcSwap::default(),
            generation: watch::Sender::new(0),
            loading: std::array::from_fn(|_| Mutex::new(())),
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl Cache {
    /// What is known and not older than allowed; `Some(None)` is a table that is not there.
    pub(super) fn fresh(&self, name: &str, max_age: Duration) -> Option<Option<Arc<TableVersion>>> {
        let entries = self.entries.load();
        let entry = entries.get(name)?;
        let max_age = if entry.version.is_some() { max_age } else { NEGATIVE_TTL };
        (entry.checked_at.elapsed() <= max_age).then(|| entry.version.clone())
    }

    pub(super) fn peek(&self, name: &str) -> Option<Arc<TableVersion>> {
        self.entries.load().get(name)?.version.clone()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let entries = self.entries.load();
        entries.iter().filter(|(_, entry)| entry.version.is_some()).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn loading(&self, name: &str) -> &Mutex<()> {
        let stripe = self.hasher.hash_one(name) as usize % LOAD_STRIPES;
        &self.loading[stripe]
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Remembers what record `sk` says, unless a newer record was seen.
    pub(super) fn put(&self, name: &str, sk: u64, version: Option<Arc<TableVersion>>) {
        let mut changed = false;
        let checked_at = Instant::now();
        self.entries.rcu(|entries| {
            let known = entries.get(name);
            let mut next = HashMap::clone(entries);
            // Tables that are not there are forgotten here, so that probing for names cannot fill the memory.
            next.retain(|_, entry| entry.version.is_some() || entry.checked_at.elapsed() <= NEGATIVE_TTL);
            changed = false;
            match known {
                Some(known) if known.sk > sk => {}
                known => {
                    changed = known.is_none_or(|known| known.sk != sk);
                    next.insert(name.to_owned(), Entry { sk, version: version.clone(), checked_at });
                }
            }
            next
        });
        if changed {
            self.generation.send_modify(|generation| *generation += 1);
        }
    }
}
