//! The rows of a scenario: keys by the dice, items of the size wanted, each with a version that no other row has.
//!
//! The text of a row is the gateway's own form, so that the pool and the model treat it as any other. Callers: `run`, and
//! whoever writes a scenario's rows ([`pool_writer`](super::pool_writer), [`baselines`](super::baselines)).

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::items::KeySchema;
use super::model::Model;
use super::scenario::{Keys, Scenario, TABLE, Workload};
use super::values::stable_hash;
use crate::schema::table::KeyAttributeType;
use crate::store::{WriteItem, WriteOp};

/// The number of the hot key.
const HOT: u64 = u64::MAX;

/// A row.
#[derive(Debug, Clone)]
pub struct SimRow {
    /// As the gateway encodes it.
    pub item: WriteItem,
    /// Of the partition key.
    pub partition_hash: u64,
    /// Of the whole key; what the ledger knows the key by.
    pub key_hash: u64,
    /// Greater than that of every row made before.
    pub version: u64,
    /// What kind of key it has.
    pub heat: Heat,
}

/// What stands in the way of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heat {
    /// Nothing: its partition has room.
    Cold,
    /// Its partition is asked for more than it gives.
    Shared,
    /// It is the hot key, or asks for more than a partition gives by itself.
    Hot,
}

/// The key of a scenario's table.
pub fn schema(scenario: &Scenario) -> KeySchema {
    let schema = KeySchema::text("k");
    if scenario.table.sort_key { schema.with_sort("n", KeyAttributeType::N) } else { schema }
}

/// A workload's dice and what they need to know, shared by its sessions.
#[derive(Debug)]
pub struct Source {
    /// The workload's number.
    pub index: usize,
    workload: Workload,
    sort_key: bool,
    write_shards: u32,
    /// For Zipf's law: the sums of the frequencies up to each key.
    sums: Vec<f64>,
    /// Of each key; empty where all are cold.
    heat: Vec<Heat>,
}

impl Source {
    /// Of all workloads. The model's table must be there, for which keys share a partition.
    pub fn all(scenario: &Scenario, model: &Model) -> Vec<Arc<Self>> {
        let sources = scenario.workloads.iter().enumerate().map(|(index, workload)| Self {
            index,
            workload: workload.clone(),
            sort_key: scenario.table.sort_key,
            write_shards: scenario.table.write_shards,
            sums: sums(&workload.keys.value),
            heat: Vec::new(),
        });
        let mut sources: Vec<_> = sources.collect();
        // Where no key is more frequent than another, none is in another's way.
        let uneven = |source: &Self| source.workload.keys.value.hot.is_some() || !source.sums.is_empty();
        if !sources.iter().any(uneven) {
            return sources.into_iter().map(Arc::new).collect();
        }
        // What each partition is asked for a second, as far as rates are known.
        let mut asked: Vec<f64> = Vec::new();
        let mut places = Vec::new();
        for source in &sources {
            for key in source.key_numbers() {
                let (item, _) = source.text(key, 0, 0, 0);
                let partition = model.partition_of(TABLE, &item).unwrap_or(0);
                asked.resize(asked.len().max(partition + 1), 0.0);
                asked[partition] += source.units_per_second(key);
                places.push(partition);
            }
        }
        let limit = scenario.capacity().partition_write_units.min(crate::limits::PARTITION_WRITE_UNITS_PER_SECOND);
        let hot_partitions: Vec<_> = sources
            .iter()
            .flat_map(Self::key_numbers)
            .zip(&places)
            .filter_map(|(key, partition)| (key == HOT).then_some(*partition))
            .collect();
        let mut places = places.into_iter();
        for source in &mut sources {
            let heat = |key| {
                let partition = places.next().unwrap_or(0);
                let full = asked.get(partition).is_some_and(|asked| *asked > limit);
                if key == HOT || source.units_per_second(key) > limit {
                    Heat::Hot
                } else if full || hot_partitions.contains(&partition) {
                    Heat::Shared
                } else {
                    Heat::Cold
                }
            };
            source.heat = source.key_numbers().map(heat).collect();
        }
        sources.into_iter().map(Arc::new).collect()
    }

    /// The workload.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Mean write units of a row.
    pub fn units_of_row(&self) -> f64 {
        let bytes = self.workload.item_bytes.value;
        super::capacity::write_units(bytes.from.midpoint(bytes.to))
    }

    /// All keys, the hot one last.
    fn key_numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let hot = self.workload.keys.value.hot.is_some();
        (0..self.workload.keys.value.count as u64).chain(hot.then_some(HOT))
    }

    /// What a key is asked for; nothing where rows come as fast as they are taken.
    fn units_per_second(&self, key: u64) -> f64 {
        let keys = &self.workload.keys.value;
        let hot_share = keys.hot.map_or(0.0, |hot| hot.share);
        let share = match (key, self.sums.last()) {
            (HOT, _) => hot_share,
            (_, None) => (1.0 - hot_share) / keys.count as f64,
            (key, Some(total)) => {
                let before = if key == 0 { 0.0 } else { self.sums[key as usize - 1] };
                (1.0 - hot_share) * (self.sums[key as usize] - before) / total
            }
        };
        self.workload.rows_per_second.as_ref().map_or(0.0, |rate| rate.value) * share * self.units_of_row()
    }

    /// Rows a second of all its sessions at a time, where they are known.
    pub fn rows_per_second(&self, at: Duration) -> Option<f64> {
        let active = self.workload.from <= at && self.workload.until.is_none_or(|until| at < until);
        self.workload.rows_per_second.as_ref().map(|rate| if active { rate.value } else { 0.0 })
    }

    /// Draws a row.
    pub fn draw(&self, version: u64, rng: &mut fastrand::Rng) -> SimRow {
        let keys = &self.workload.keys.value;
        let (key, sort) = match keys.hot {
            Some(hot) if rng.f64() < hot.share => (HOT, rng.u64(0..hot.sort_keys)),
            _ => (self.draw_key(rng), 0),
        };
        let bytes = self.workload.item_bytes.value;
        let bytes = rng.usize(bytes.from..=bytes.to);
        let (item, partition_len) = self.text(key, sort, version, bytes);
        let heat = match key {
            HOT => self.heat.last(),
            key => self.heat.get(key as usize),
        };
        SimRow {
            partition_hash: stable_hash(&item.key_text()[..partition_len]),
            key_hash: stable_hash(item.key_text()),
            item,
            version,
            heat: heat.copied().unwrap_or(Heat::Cold),
        }
    }

    fn draw_key(&self, rng: &mut fastrand::Rng) -> u64 {
        match self.sums.last() {
            None => rng.u64(0..self.workload.keys.value.count as u64),
            Some(total) => {
                let at = rng.f64() * total;
                (self.sums.partition_point(|sum| *sum <= at) as u64).min(self.sums.len() as u64 - 1)
            }
        }
    }

    /// The row's text, and how much of its key is the partition key.
    fn text(&self, key: u64, sort: u64, version: u64, bytes: usize) -> (WriteItem, usize) {
        let mut text = Vec::with_capacity(bytes.max(128));
        // Writing to a vector cannot fail.
        let mut write = |arguments: std::fmt::Arguments<'_>| {
            let written = text.write_fmt(arguments);
            debug_assert!(written.is_ok());
            text.len()
        };
        write(format_args!("{{\"k\":{{\"S\":\"{}-", self.index));
        match key {
            HOT => write(format_args!("hot")),
            key => write(format_args!("{key:08}")),
        };
        if self.write_shards > 0 {
            write(format_args!("#{}", stable_hash(&sort.to_be_bytes()) % u64::from(self.write_shards)));
        }
        let partition_len = write(format_args!("\"}}")) - 1;
        let mut key_len = partition_len;
        if self.sort_key {
            key_len = write(format_args!(",\"n\":{{\"N\":\"{sort}\"}}")) - 1;
        }
        write(format_args!("{VERSION}{version}\"}},\"p\":{{\"S\":\""));
        let end = b"\"}}";
        text.resize(text.len().max(bytes.saturating_sub(end.len())), b'x');
        text.extend_from_slice(end);
        (WriteItem::new(WriteOp::Put, Bytes::from(text), key_len as u32), partition_len)
    }
}

/// What stands between a row's key and its version.
const VERSION: &str = ",\"v\":{\"N\":\"";

/// The version of a row's text.
pub fn version_of(item: &WriteItem) -> u64 {
    let digits = item.json[1 + item.key_len as usize..].get(VERSION.len()..).unwrap_or_default();
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |version, digit| version * 10 + u64::from(digit - b'0'))
}

fn sums(keys: &Keys) -> Vec<f64> {
    let Some(exponent) = keys.zipf else { return Vec::new() };
    let frequencies = (1..=keys.count).map(|rank| (rank as f64).powf(-exponent));
    frequencies
        .scan(0.0, |sum, frequency| {
            *sum += frequency;
            Some(*sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::ModelConfig;

    fn sources(table: &str, keys: &str) -> Vec<Arc<Source>> {
        let text = format!(
            "name: n\nduration: 10s\ntable: {table}\nworkloads:\n  - name: w\n    rows_per_second: 9000\n    \
             item_bytes: 200..1500\n    keys: {keys}\n"
        );
        let scenario = Scenario::parse("s.yaml", &text).unwrap();
        let mut model = Model::new(ModelConfig::new(1));
        model.add_table(TABLE, schema(&scenario), scenario.capacity(), Duration::ZERO);
        Source::all(&scenario, &model)
    }

    const TABLE_TEXT: &str = "{billing: provisioned, write_units: 20000, sort_key: true}";

    #[test]
    fn a_row_is_a_json_item_of_the_size_wanted_and_its_version_reads_back() {
        let source = &sources(TABLE_TEXT, "{count: 100, zipf: 1.2, hot: {share: 0.3, sort_keys: 9}}")[0];
        let mut rng = fastrand::Rng::with_seed(1);
        for version in 1..500 {
            let row = source.draw(version, &mut rng);
            assert!((200..=1_500).contains(&row.item.json.len()));
            assert!(crate::sim::values::parse_item(&row.item.json).is_some());
            let key = KeySchema::text("k").with_sort("n", KeyAttributeType::N).key_of_write(&row.item).unwrap();
            assert_eq!(
                row.partition_hash,
                stable_hash(format!("\"k\":{{\"S\":\"{}\"}}", std::str::from_utf8(&key.partition).unwrap()).as_bytes())
            );
            assert_eq!(version_of(&row.item), version);
        }
    }

    #[test]
    fn keys_are_as_frequent_as_the_law_says_and_the_hot_ones_are_known() {
        let source = &sources(TABLE_TEXT, "{count: 1000, zipf: 1.2, hot: {share: 0.5}}")[0];
        let mut rng = fastrand::Rng::with_seed(1);
        let rows: Vec<_> = (0..20_000).map(|version| source.draw(version, &mut rng)).collect();
        let share = |heat: Heat| rows.iter().filter(|row| row.heat == heat).count() as f64 / rows.len() as f64;
        // The most frequent of the others asks for 0.5 * 9,000 / 4.33 units, and more for its larger items.
        assert!((0.6..0.65).contains(&share(Heat::Hot)), "{}", share(Heat::Hot));
        assert!(
            share(Heat::Cold) > 0.2 && share(Heat::Shared) > 0.001,
            "{} {}",
            share(Heat::Cold),
            share(Heat::Shared)
        );
    }

    #[test]
    fn shards_spread_one_partition_key() {
        let table = "{billing: provisioned, write_units: 4000, sort_key: true, write_shards: 16}";
        let source = &sources(table, "{count: 1, hot: {share: 1.0, sort_keys: 100000}}")[0];
        let mut rng = fastrand::Rng::with_seed(1);
        let hashes: std::collections::BTreeSet<_> =
            (0..1_000).map(|version| source.draw(version, &mut rng).partition_hash).collect();
        assert_eq!(hashes.len(), 16);
    }
}
