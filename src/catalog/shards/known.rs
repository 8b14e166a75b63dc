//! What a pod knows of the shard map, and what follows from it. Pure: time is passed in.
//!
//! The map only grows: a partition key's shards double, each step being announced by a record. Two rules make it safe that
//! every pod has a copy of its own age:
//!
//! - A **reader** looks at every place that any announced step has, whether or not it is in use; and it reads only with a
//!   copy that was loaded at most `ttl` ago.
//! - A **writer** uses a step only when `ttl` has passed since it saw the step's record itself, and the time that the record
//!   names. By then every copy without that record is too old to be read with.
//!
//! So no clock of another pod is trusted: a record that lands late is seen late. The time in the record makes the pods
//! change over together. A row that is written to an older place, by whoever is behind, is found there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::payload::shard::ShardCounts;

/// One step of one partition key, as its record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Widening {
    /// The DynamoDB table.
    pub(super) table: String,
    /// The partition key.
    pub(super) partition: String,
    /// Its shards from then on.
    pub(super) shards: u32,
    /// Not used by writers before this time, in milliseconds since 1970.
    pub(super) effective_at_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    effective_at_ms: u64,
    seen_at: Instant,
}

/// The steps of a partition key, by their shards.
type Steps = BTreeMap<u32, Step>;

/// The times of the map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// How old a copy may be.
    pub(super) ttl: Duration,
    /// How far clocks may be apart, and drift.
    pub(super) skew: Duration,
    /// How long a step must have been in use before the next one.
    pub(super) patience: Duration,
}

/// All steps that are known.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: HashMap<String, HashMap<String, Steps>>,
}

/// A copy of the map.
#[derive(Debug, Default)]
pub(super) struct View {
    tables: HashMap<String, Counts>,
}

/// The shards of a table's partition keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Where rows may be.
    pub(super) readers: Arc<ShardCounts>,
    /// Where rows go.
    pub(super) writers: Arc<ShardCounts>,
}

impl Known {
    /// Takes in all records there are, read by now.
    pub(super) fn absorb(&mut self, records: Vec<Widening>, now: Instant) {
        let before = std::mem::take(&mut self.tables);
        for Widening { table, partition, shards, effective_at_ms } in records {
            let known = before.get(&table).and_then(|table| table.get(&partition)?.get(&shards));
            let seen_at = known.map_or(now, |step| step.seen_at);
            let steps = self.tables.entry(table).or_default().entry(partition).or_default();
            steps.insert(shards, Step { effective_at_ms, seen_at });
        }
    }

    /// The copy of the map as it is to be used now.
    pub(super) fn view(&self, times: Times, now: Instant, now_ms: u64) -> View {
        let in_use = |step: &Step| {
            now_ms >= step.effective_at_ms && now.saturating_duration_since(step.seen_at) >= times.ttl + times.skew
        };
        let counts = |keys: &HashMap<String, Steps>| {
            let greatest = |used: &dyn Fn(&Step) -> bool| {
                let shards = |steps: &Steps| steps.iter().rev().find(|(_, step)| used(step)).map(|(shards, _)| *shards);
                Arc::new(ShardCounts::new(keys.iter().filter_map(|(key, steps)| Some((&**key, shards(steps)?)))))
            };
            Counts { readers: greatest(&|_| true), writers: greatest(&in_use) }
        };
        View { tables: self.tables.iter().map(|(table, keys)| (table.clone(), counts(keys))).collect() }
    }

    /// The next step of a hot partition key; none where it has as many shards as it may, or where the last step has not
    /// had its time to help.
    pub(super) fn next_step(
        &self,
        times: Times,
        table: &str,
        partition: &str,
        max_shards: u32,
        now_ms: u64,
    ) -> Option<Widening> {
        let steps = self.tables.get(table).and_then(|table| table.get(partition));
        let last = steps.and_then(|steps| steps.last_key_value());
        let (shards, used_since_ms) = last.map_or((1, 0), |(shards, step)| (*shards, step.effective_at_ms));
        if shards >= max_shards || now_ms < used_since_ms.saturating_add(millis(times.patience)) {
            return None;
        }
        Some(Widening {
            table: table.to_owned(),
            partition: partition.to_owned(),
            shards: shards * 2,
            effective_at_ms: now_ms.saturating_add(millis(times.ttl + times.skew)),
        })
    }
}

impl View {
    /// The shards of a table's keys.
    pub(super) fn of(&self, table: &str) -> Counts {
        self.tables.get(table).cloned().unwrap_or_default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
