//! The shard map: which partition keys of adaptive tables have several shards, and since when.
//!
//! Its truth is a control table of its own (`forebay-shards`); every pod has a copy, read again in the background and never
//! used when it is older than [`ShardConfig::ttl`]: reads fail then, and write sessions wait until it can be read, as they
//! wait for DynamoDB. What makes copies of different ages safe is written in `known`. Callers: `api` (readers and writers
//! ask for counts), and the task that is told of hot keys.
//!
//! A record says one step: `pk` is the DynamoDB table and a hash of the partition key, `sk` the doubling (1 for two
//! shards, 2 for four), so that putting it only where there is none is a compare-and-set.

mod known;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use twox_hash::XxHash64;

use self::known::{Counts, Known, Times, View, Widening};
use super::{CatalogError, now_ms};
use crate::payload::shard::ShardCounts;
use crate::pool::hot_keys::HotReport;
use crate::store::{ControlError, ControlRecord, Store};
use crate::telemetry::Instruments;

/// Copies are read again so many times in their life.
const REFRESHES_PER_TTL: u32 = 3;
/// Nobody having asked for so many refreshes, the copy is left to age.
const IDLE_REFRESHES: u32 = 100;
/// The pause of a writer before the map is tried again.
const WRITER_PAUSE: Duration = Duration::from_millis(500);

/// How the shard map is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardConfig {
    /// How old a pod's copy may be. Must be the same for all pods.
    pub ttl: Duration,
    /// How far the clocks of pods may be apart.
    pub skew: Duration,
    /// How long a key must be hot before it is split, and a split have helped before the next.
    pub split_patience: Duration,
    /// From how many write units a second on a stored partition key is hot.
    pub split_at_units_per_second: f64,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            skew: Duration::from_secs(2),
            split_patience: Duration::from_secs(60),
            split_at_units_per_second: 700.0,
        }
    }
}

/// The shard map. Clones share everything.
#[derive(Clone)]
pub struct ShardMap {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    control_table: String,
    times: Times,
    copy: ArcSwapOption<Copy>,
    /// Held while the copy is read anew.
    known: Mutex<Known>,
    used: AtomicBool,
}

struct Copy {
    view: View,
    /// When reading it began: what landed since may be missing.
    loaded_at: Instant,
}

/// A record's body.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    table: String,
    partition: String,
    shards: u32,
    effective_at_ms: u64,
}

impl std::fmt::Debug for ShardMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardMap").field("control_table", &self.inner.control_table).finish_non_exhaustive()
    }
}

impl ShardMap {
    /// The map in a control table that may not exist before there is an adaptive table.
    pub(super) fn new(store: Arc<dyn Store>, control_table: String, config: ShardConfig) -> Self {
        let times = Times { ttl: config.ttl, skew: config.skew, patience: config.split_patience };
        let (copy, known, used) = (ArcSwapOption::empty(), Mutex::default(), AtomicBool::default());
        Self { inner: Arc::new(Inner { store, control_table, times, copy, known, used }) }
    }

    /// The control table's name.
    pub(super) fn control_table(&self) -> &str {
        &self.inner.control_table
    }

    /// Makes the control table, before there is a table that needs it. Never afterwards: an empty map in the place of a lost
    /// one would hide rows.
    pub(super) async fn ensure(&self) -> Result<(), ControlError> {
        self.inner.store.ensure_control_table(&self.inner.control_table).await
    }

    /// The shards under which rows of a table may be.
    pub async fn for_reading(&self, dynamodb_table: &str) -> Result<Arc<ShardCounts>, CatalogError> {
        Ok(self.fresh(dynamodb_table).await?.readers)
    }

    /// The shards under which rows of a table are to be written. Waits for as long as the map cannot be read.
    pub async fn for_writing(&self, dynamodb_table: &str) -> Arc<ShardCounts> {
        let mut told = false;
        loop {
            match self.fresh(dynamodb_table).await {
                Ok(counts) => return counts.writers,
                Err(error) if !told => {
                    tracing::warn!(dynamodb_table, %error, "rows wait: the shard map is too old and cannot be read");
                    told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(WRITER_PAUSE).await;
        }
    }

    async fn fresh(&self, dynamodb_table: &str) -> Result<Counts, CatalogError> {
        self.inner.used.store(true, Ordering::Relaxed);
        if let Some(counts) = self.at_hand(dynamodb_table) {
            return Ok(counts);
        }
        let mut known = self.inner.known.lock().await;
        if let Some(counts) = self.at_hand(dynamodb_table) {
            return Ok(counts);
        }
        self.refresh(&mut known).await?;
        // A copy that was read so slowly that it is too old already is one that cannot be read.
        let too_slow =
            || ControlError::Unavailable { message: "reading the shard map takes longer than it keeps".to_owned() };
        self.at_hand(dynamodb_table).ok_or_else(|| too_slow().into())
    }

    fn at_hand(&self, dynamodb_table: &str) -> Option<Counts> {
        let copy = self.inner.copy.load();
        let copy = copy.as_ref().filter(|copy| copy.loaded_at.elapsed() <= self.inner.times.ttl)?;
        Some(copy.view.of(dynamodb_table))
    }

    async fn refresh(&self, known: &mut Known) -> Result<(), CatalogError> {
        let Inner { store, control_table, times, copy, .. } = &*self.inner;
        let loaded_at = Instant::now();
        let records = store.scan_records(control_table).await?;
        known.absorb(records.iter().map(read).collect::<Result<_, _>>()?, Instant::now());
        let view = known.view(*times, Instant::now(), now_ms());
        copy.store(Some(Arc::new(Copy { view, loaded_at })));
        Ok(())
    }

    /// Keeps the copy young until cancelled, as long as it is asked for. Run it as a task.
    pub async fn refresh_loop(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval((self.inner.times.ttl / REFRESHES_PER_TTL).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut idle = IDLE_REFRESHES;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            idle = if self.inner.used.swap(false, Ordering::Relaxed) { 0 } else { idle.saturating_add(1) };
            if idle >= IDLE_REFRESHES {
                continue;
            }
            let mut known = self.inner.known.lock().await;
            if let Err(error) = self.refresh(&mut known).await {
                tracing::warn!(%error, "cannot read the shard map; its last copy is used until it is too old");
            }
        }
    }

    /// Doubles the shards of a hot partition key, unless it has as many as it may, was split a short time ago, or somebody
    /// else is at it. Says the shards that it has from then on.
    pub async fn widen(
        &self,
        dynamodb_table: &str,
        partition: &str,
        max_shards: u32,
    ) -> Result<Option<u32>, CatalogError> {
        let mut known = self.inner.known.lock().await;
        // Another pod may have been faster.
        self.refresh(&mut known).await?;
        let step = known.next_step(self.inner.times, dynamodb_table, partition, max_shards, now_ms());
        let Some(step) = step else { return Ok(None) };
        let shards = step.shards;
        match self.inner.store.put_record(&self.inner.control_table, write(&step)?, true).await {
            Ok(()) => {}
            Err(ControlError::Conflict) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        tracing::info!(dynamodb_table, shards, "a hot partition key gets more write shards");
        self.refresh(&mut known).await?;
        Ok(Some(shards))
    }

    /// Widens what is reported as hot, until nobody can report any more. Run it as a task.
    pub async fn widen_hot(self, mut reports: mpsc::Receiver<HotReport>, instruments: Arc<Instruments>) {
        while let Some(HotReport { table, partition, max_shards }) = reports.recv().await {
            match self.widen(&table, &partition, max_shards).await {
                Ok(Some(_)) => {
                    instruments.key_splits.inc();
                }
                Ok(None) => {}
                // It is reported again as long as it is hot.
                Err(error) => {
                    tracing::warn!(dynamodb_table = &*table, %error, "a hot partition key cannot get more write shards");
                }
            }
        }
    }
}

fn read(record: &ControlRecord) -> Result<Widening, CatalogError> {
    let damaged = |message: String| CatalogError::Damaged { name: record.pk.clone(), sk: record.sk, message };
    let body: Body = serde_json::from_str(&record.body).map_err(|error| damaged(error.to_string()))?;
    let Body { table, partition, shards, effective_at_ms } = body;
    if !shards.is_power_of_two() || shards > crate::limits::WRITE_SHARDS_MAX {
        return Err(damaged(format!("{shards} is no number of write shards")));
    }
    Ok(Widening { table, partition, shards, effective_at_ms })
}

fn write(step: &Widening) -> Result<ControlRecord, CatalogError> {
    let Widening { table, partition, shards, effective_at_ms } = step.clone();
    // A partition key may be as long as DynamoDB's longest. Should two share their 128 bits, one of them is never split.
    let hashes = [0, 1].map(|seed| XxHash64::oneshot(seed, partition.as_bytes()));
    let (pk, sk) = (format!("{table}/{:016x}{:016x}", hashes[0], hashes[1]), u64::from(shards.ilog2()));
    let body = serde_json::to_string(&Body { table, partition, shards, effective_at_ms });
    let damaged = |error: serde_json::Error| CatalogError::Damaged { name: pk.clone(), sk, message: error.to_string() };
    Ok(ControlRecord { body: body.map_err(damaged)?, pk, sk })
}
