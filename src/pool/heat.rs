//! Finds the partition keys of a table that have been hot for so long that DynamoDB alone does not help them.
//!
//! DynamoDB splits partitions for heat by itself, which often ends the throttling; so a key must stay above the threshold
//! for a while before it is reported. A reported key starts anew. Pure but for the channel of the reports, which never
//! waits: a report that finds it full is made again. The caller is the lane, for tables with adaptive write shards.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::hot_keys::{HotKeys, HotReport};
use crate::limits::WRITE_UNIT_BYTES;
use crate::payload::EncodedRow;
use crate::payload::shard;

/// How often a lane looks for hot keys.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// From this part of the threshold on a key's text is kept.
const NAMED_FROM: f64 = 0.5;

/// What is hot, and who is told.
#[derive(Debug, Clone)]
pub struct HeatConfig {
    /// From how many write units a second on a stored partition key is hot.
    pub split_at_units_per_second: f64,
    /// How long it must be hot.
    pub patience: Duration,
    /// Who can do something about it.
    pub reports: mpsc::Sender<HotReport>,
}

/// The heat of one table's keys in one lane.
#[derive(Debug)]
pub(super) struct Heat {
    config: HeatConfig,
    table: Arc<str>,
    keys: HotKeys,
    next_check: Option<Instant>,
}

impl Heat {
    pub(super) fn new(table: Arc<str>, config: HeatConfig) -> Self {
        let keys = HotKeys::new(config.split_at_units_per_second * NAMED_FROM);
        Self { config, table, keys, next_check: None }
    }

    /// Notes rows that have come to be written.
    pub(super) fn note(&mut self, rows: &[EncodedRow], max_shards: u32, now: Instant) {
        for row in rows {
            let units = f64::from(row.item_bytes.div_ceil(WRITE_UNIT_BYTES).max(1));
            self.keys.note(row.partition_hash, || row.item.key_text().into(), units, now);
        }
        if self.next_check.is_none_or(|at| at <= now) {
            self.next_check = Some(now + CHECK_INTERVAL);
            self.check(max_shards, now);
        }
    }

    fn check(&mut self, max_shards: u32, now: Instant) {
        let HeatConfig { split_at_units_per_second, patience, reports } = &self.config;
        let mut reported = Vec::new();
        for key in self.keys.hot(*split_at_units_per_second, now).filter(|key| key.hot_for >= *patience) {
            let Some(partition) = partition_of(key.text) else { continue };
            let report = HotReport { table: Arc::clone(&self.table), partition, max_shards };
            match reports.try_send(report) {
                Ok(()) => reported.push(key.hash),
                Err(error) => tracing::debug!(table = &*self.table, %error, "a hot key is not reported now"),
            }
        }
        reported.into_iter().for_each(|hash| self.keys.forget(hash));
    }
}

/// The partition key of a row's key text, without its shard: `"id":{"S":"a#00"},"at":{"N":"1"}`.
fn partition_of(key_text: &[u8]) -> Option<String> {
    let json = [b"{", key_text, b"}"].concat();
    let key: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&json).ok()?;
    let (_, partition) = key.iter().next()?;
    Some(shard::split(partition.get("S")?.as_str()?)?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{WriteItem, WriteOp};

    fn row(partition: &str, at: usize, item_bytes: u32) -> EncodedRow {
        let key = format!(r#""id":{{"S":"{partition}"}},"at":{{"N":"{at}"}}"#);
        let item = WriteItem::new(WriteOp::Put, format!("{{{key}}}").into(), key.len() as u32);
        let hash = partition.bytes().fold(0, |hash, byte| hash * 256 + u64::from(byte));
        EncodedRow { row_index: 0, item, partition_hash: hash, key_hash: at as u64, item_bytes }
    }

    fn heat(patience: Duration, room: usize) -> (Heat, mpsc::Receiver<HotReport>) {
        let (reports, hot) = mpsc::channel(room);
        let config = HeatConfig { split_at_units_per_second: 700.0, patience, reports };
        (Heat::new("events".into(), config), hot)
    }

    /// 800 units a second for one key, 400 for another.
    fn second(heat: &mut Heat, now: Instant) {
        let rows: Vec<_> = (0..400).flat_map(|at| [row("hot\\\"#0a", at, 1_500), row("warm#00", at, 90)]).collect();
        heat.note(&rows, 16, now);
    }

    #[test]
    fn a_key_is_reported_when_it_has_been_hot_for_long_and_then_again_only_after_as_long() {
        let (mut heat, mut hot) = heat(Duration::from_secs(60), 8);
        let start = Instant::now();
        let mut reported_at = Vec::new();
        for elapsed in 0..200 {
            second(&mut heat, start + Duration::from_secs(elapsed));
            while let Ok(report) = hot.try_recv() {
                let (table, partition) = ("events".into(), "hot\"".to_owned());
                assert_eq!(report, HotReport { table, partition, max_shards: 16 }, "as the client knows it");
                reported_at.push(elapsed);
            }
        }
        assert_eq!(reported_at.len(), 2, "{reported_at:?}");
        assert!((75..95).contains(&reported_at[0]) && reported_at[1] >= reported_at[0] + 60, "{reported_at:?}");
    }

    #[test]
    fn a_burst_is_no_heat_and_a_full_channel_loses_no_key() {
        let (mut burst, mut hot) = heat(Duration::from_secs(60), 8);
        let start = Instant::now();
        (0..20).for_each(|_| second(&mut burst, start));
        for elapsed in 1..100 {
            burst.note(&[row("warm#00", 0, 1)], 16, start + Duration::from_secs(elapsed));
        }
        assert!(hot.try_recv().is_err());

        let (mut patient, mut hot) = heat(Duration::ZERO, 1);
        let filler = HotReport { table: "other".into(), partition: String::new(), max_shards: 2 };
        patient.config.reports.try_send(filler).unwrap();
        (0..30).for_each(|elapsed| second(&mut patient, start + Duration::from_secs(elapsed)));
        assert_eq!(&*hot.try_recv().unwrap().table, "other");
        second(&mut patient, start + Duration::from_secs(30));
        assert_eq!(hot.try_recv().unwrap().partition, "hot\"");
    }
}
