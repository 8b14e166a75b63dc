//! What became of a run's rows: written when, told when, and whether anybody was told too much.
//!
//! It sees every write take effect in the model ([`Observer`]) and hears from the writers which rows they were promised. A
//! row that was promised before it, or a newer one of its key, had taken effect is lost in the sense that counts: the
//! promise was a lie. Pure; the caller is `run`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use hdrhistogram::Histogram;

use super::model::{Applied, Observer};
use super::values::stable_hash;
use super::workload::{Heat, SimRow, version_of};

/// Rows of a run, by key.
#[derive(Debug)]
pub struct Ledger {
    measured: std::ops::Range<Duration>,
    versions: u64,
    keys: HashMap<u64, Key>,
    /// Rows, by workload.
    pub workloads: Vec<WorkloadRows>,
    /// Of rows of all workloads.
    pub waits: Waits,
    /// Of rows whose partition has room.
    pub cold_waits: Waits,
    /// Rows confirmed, of each second.
    pub confirmed_by_second: Vec<u64>,
    /// When outages end, and when the first row was confirmed after that.
    pub recoveries: Vec<(Duration, Option<Duration>)>,
    /// Rows that were promised and had not taken effect.
    pub lost_rows: u64,
    /// Writes of hot keys that took effect in the measured time.
    pub hot_writes: u64,
}

/// Rows of a workload.
#[derive(Debug, Clone, Default)]
pub struct WorkloadRows {
    /// Handed to the writer.
    pub submitted: u64,
    /// Of those, in the measured time.
    pub submitted_in_time: u64,
    /// That the writer was told are written.
    pub acked: u64,
    /// That took effect and were heard of, or were replaced by newer ones that were.
    pub confirmed: u64,
    /// Of those, in the measured time.
    pub confirmed_in_time: u64,
    /// That got another outcome.
    pub refused: u64,
    /// How far behind its schedule it was, at most, in rows.
    pub behind_rows: u64,
    /// How long rows waited.
    pub waits: Waits,
}

#[derive(Debug, Default)]
struct Key {
    waiting: VecDeque<Waiting>,
    /// The greatest version that took effect.
    applied: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    version: u64,
    at: Duration,
    workload: u32,
    heat: Heat,
}

/// How long rows waited, to the millisecond or three digits.
#[derive(Debug, Clone)]
pub struct Waits(Histogram<u64>);

impl Default for Waits {
    fn default() -> Self {
        // It grows as it must, and three digits are what it is made for.
        Self(Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are within its bounds")))
    }
}

impl Waits {
    fn record(&mut self, wait: Duration) {
        // It grows as it must.
        let recorded = self.0.record(wait.as_micros() as u64);
        debug_assert!(recorded.is_ok());
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.0.len()
    }

    /// The wait that so many of a hundred rows do not exceed; nothing where there are no rows.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(if self.0.is_empty() { 0 } else { self.0.value_at_percentile(percent) })
    }
}

impl Ledger {
    /// Nothing written yet.
    pub fn new(workloads: usize, measured: std::ops::Range<Duration>, outages: &[(Duration, Duration)]) -> Self {
        Self {
            measured,
            versions: 0,
            keys: HashMap::new(),
            workloads: vec![WorkloadRows::default(); workloads],
            waits: Waits::default(),
            cold_waits: Waits::default(),
            confirmed_by_second: Vec::new(),
            recoveries: outages.iter().map(|(_, end)| (*end, None)).collect(),
            lost_rows: 0,
            hot_writes: 0,
        }
    }

    /// A version that no row has yet.
    pub fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// A row is handed to a writer.
    pub fn submit(&mut self, workload: usize, row: &SimRow, at: Duration) {
        let of = &mut self.workloads[workload];
        of.submitted += 1;
        of.submitted_in_time += u64::from(self.measured.contains(&at));
        let waiting = Waiting { version: row.version, at, workload: workload as u32, heat: row.heat };
        self.keys.entry(row.key_hash).or_default().waiting.push_back(waiting);
    }

    /// A writer was told that a row is written.
    pub fn acked(&mut self, workload: usize, key_hash: u64, version: u64) {
        self.workloads[workload].acked += 1;
        let applied = self.keys.get(&key_hash).map_or(0, |key| key.applied);
        self.lost_rows += u64::from(applied < version);
    }

    /// A writer was told that rows have another outcome.
    pub fn refused(&mut self, workload: usize, rows: u64) {
        self.workloads[workload].refused += rows;
    }

    /// A workload is behind its schedule by so many rows.
    pub fn behind(&mut self, workload: usize, rows: u64) {
        let of = &mut self.workloads[workload];
        of.behind_rows = of.behind_rows.max(rows);
    }

    /// Sums over all workloads.
    pub fn sum(&self, of: impl Fn(&WorkloadRows) -> u64) -> u64 {
        self.workloads.iter().map(of).sum()
    }

    fn confirm(&mut self, key_hash: u64, version: u64, at: Duration) {
        let Some(key) = self.keys.get_mut(&key_hash) else { return };
        while let Some(row) = key.waiting.front().copied().filter(|row| row.version <= version) {
            key.waiting.pop_front();
            let of = &mut self.workloads[row.workload as usize];
            of.confirmed += 1;
            of.confirmed_in_time += u64::from(self.measured.contains(&at));
            let second = at.as_secs() as usize;
            if self.confirmed_by_second.len() <= second {
                self.confirmed_by_second.resize(second + 1, 0);
            }
            self.confirmed_by_second[second] += 1;
            if self.measured.contains(&row.at) {
                let wait = at.saturating_sub(row.at);
                of.waits.record(wait);
                self.waits.record(wait);
                if row.heat == Heat::Cold {
                    self.cold_waits.record(wait);
                }
            }
        }
        for (end, first) in &mut self.recoveries {
            if first.is_none() && at >= *end {
                *first = Some(at);
            }
        }
    }
}

/// The ledger, shared by the model and the writers of one run.
#[derive(Debug, Clone)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// To be shared.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// A look.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for SharedLedger {
    fn applied(&mut self, applied: &Applied<'_>) {
        let mut ledger = self.lock();
        let (key_hash, version) = (stable_hash(applied.item.key_text()), version_of(applied.item));
        let measured = ledger.measured.contains(&applied.at);
        let key = ledger.keys.entry(key_hash).or_default();
        key.applied = key.applied.max(version);
        let hot = key.waiting.front().is_some_and(|row| row.heat == Heat::Hot);
        ledger.hot_writes += u64::from(hot && measured);
        if let Some(at) = applied.heard_at {
            ledger.confirm(key_hash, version, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{WriteItem, WriteOp};

    const SECOND: Duration = Duration::from_secs(1);

    fn row(version: u64) -> SimRow {
        let key = "\"k\":{\"S\":\"a\"}";
        let json = format!("{{{key},\"v\":{{\"N\":\"{version}\"}}}}");
        let item = WriteItem::new(WriteOp::Put, json.into(), key.len() as u32);
        SimRow { partition_hash: 1, key_hash: stable_hash(item.key_text()), item, version, heat: Heat::Cold }
    }

    fn apply(ledger: &mut SharedLedger, row: &SimRow, at: Duration, heard: bool) {
        let heard_at = heard.then_some(at + SECOND);
        ledger.applied(&Applied { at, heard_at, table: "t", item: &row.item });
    }

    #[test]
    fn a_row_is_confirmed_by_its_own_write_or_a_newer_one_that_was_heard_of() {
        let mut ledger = SharedLedger::new(Ledger::new(1, Duration::ZERO..100 * SECOND, &[]));
        let rows = [row(1), row(2), row(3)];
        rows.iter().for_each(|row| ledger.lock().submit(0, row, SECOND));
        apply(&mut ledger, &rows[1], 2 * SECOND, true);
        assert_eq!(ledger.lock().workloads[0].confirmed, 2);
        apply(&mut ledger, &rows[2], 3 * SECOND, false);
        assert_eq!(ledger.lock().workloads[0].confirmed, 2, "the answer was lost");
        apply(&mut ledger, &rows[2], 6 * SECOND, true);
        let ledger = ledger.lock();
        assert_eq!((ledger.workloads[0].confirmed, ledger.waits.percentile(100.0).as_secs()), (3, 6));
        assert_eq!(ledger.confirmed_by_second, [0, 0, 0, 2, 0, 0, 0, 1]);
    }

    #[test]
    fn a_promise_before_the_write_is_a_lost_row() {
        let mut ledger = SharedLedger::new(Ledger::new(1, Duration::ZERO..SECOND, &[]));
        let rows = [row(1), row(2)];
        rows.iter().for_each(|row| ledger.lock().submit(0, row, Duration::ZERO));
        apply(&mut ledger, &rows[0], SECOND, true);
        ledger.lock().acked(0, rows[0].key_hash, 1);
        assert_eq!(ledger.lock().lost_rows, 0);
        ledger.lock().acked(0, rows[1].key_hash, 2);
        assert_eq!(ledger.lock().lost_rows, 1);
    }
}
