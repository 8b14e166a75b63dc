//! What a table can take: its partitions, its own limit, its indexes, the account. Pure.
//!
//! The modelling choices and their sources are listed in [`sim`](super). The caller is [`model`](super::model).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::Bucket;
use super::partitions::{Partitions, Place};
use crate::limits::{PARTITION_READ_UNITS_PER_SECOND, PARTITION_WRITE_UNITS_PER_SECOND, WRITE_UNIT_BYTES};
use crate::store::ThrottleReason;

/// How a table's capacity is limited.
#[derive(Debug, Clone, PartialEq)]
pub struct CapacityConfig {
    /// Provisioned or on demand.
    pub billing: Billing,
    /// Partitions at the start; `None` for as few as the capacity needs.
    pub partitions: Option<usize>,
    /// Write units a second of a partition.
    pub partition_write_units: f64,
    /// How long a partition is hot before it is split; `None` for never.
    pub split_after: Option<Duration>,
    /// For how long unused provisioned capacity is kept.
    pub burst: Duration,
    /// How much of that is there at the start, 0 to 1.
    pub burst_filled: f64,
    /// Global secondary indexes.
    pub indexes: Vec<IndexConfig>,
}

/// How capacity is paid for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Billing {
    /// So many units a second.
    Provisioned {
        /// Write units a second.
        write_units: f64,
        /// Read units a second.
        read_units: f64,
    },
    /// What is asked for, within the growth rule.
    OnDemand {
        /// What the table takes at once: twice its previous peak.
        initial_write_units: f64,
        /// The table's own maximum.
        max_write_units: Option<f64>,
    },
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Its write units a second.
    pub write_units: f64,
    /// The share of an item's bytes that it holds.
    pub projected: f64,
}

impl CapacityConfig {
    /// Provisioned, without stored burst, splitting after five minutes of heat.
    pub fn provisioned(write_units: f64) -> Self {
        Self {
            billing: Billing::Provisioned { write_units, read_units: write_units },
            partitions: None,
            partition_write_units: PARTITION_WRITE_UNITS_PER_SECOND,
            split_after: Some(Duration::from_secs(300)),
            burst: BURST_KEPT,
            burst_filled: 0.0,
            indexes: Vec::new(),
        }
    }

    /// How many partitions it starts with.
    pub fn partition_count(&self) -> usize {
        let (writes, reads) = match self.billing {
            Billing::Provisioned { write_units, read_units } => (write_units, read_units),
            Billing::OnDemand { initial_write_units, .. } => (initial_write_units, 0.0),
        };
        let needed = writes / PARTITION_WRITE_UNITS_PER_SECOND + reads / PARTITION_READ_UNITS_PER_SECOND;
        self.partitions.unwrap_or(needed.ceil() as usize).max(1)
    }

    /// The same partitions, with capacity without end.
    pub fn unlimited(&self) -> Self {
        let partitions = Some(self.partition_count());
        let without_end = Self::provisioned(UNLIMITED_UNITS);
        Self { partitions, partition_write_units: UNLIMITED_UNITS, split_after: None, ..without_end }
    }

    /// A new table on demand.
    pub fn on_demand() -> Self {
        let billing = Billing::OnDemand { initial_write_units: ON_DEMAND_FIRST_WRITE_UNITS, max_write_units: None };
        Self { billing, ..Self::provisioned(1.0) }
    }
}

/// Five minutes of unused capacity are kept (DynamoDB).
pub const BURST_KEPT: Duration = Duration::from_secs(300);
/// Write units a second that a new table on demand takes at once (DynamoDB).
pub const ON_DEMAND_FIRST_WRITE_UNITS: f64 = 4_000.0;
/// More than anybody asks for.
const UNLIMITED_UNITS: f64 = 1e9;
/// A peak counts as previous after so long (DynamoDB: "within 30 minutes").
const ON_DEMAND_GROWTH_AFTER: Duration = Duration::from_secs(30 * 60);
/// A peak is the mean of so long (chosen: the resolution of CloudWatch's metrics).
const ON_DEMAND_PEAK_SECONDS: u64 = 60;

/// Where capacity was short.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortage {
    /// Why.
    pub reason: ThrottleReason,
    /// The index, where it is not the table itself.
    pub index: Option<Arc<str>>,
}

/// What became of capacity in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SecondUsage {
    /// Write units that could be had, without what was stored for bursts.
    pub available_units: f64,
    /// Write units consumed.
    pub consumed_units: f64,
    /// Write units refused.
    pub refused_units: f64,
}

/// What a write asks for.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Where.
    pub place: Place,
    /// Bytes that are charged for.
    pub bytes: usize,
    /// 2 in a transaction.
    pub factor: f64,
}

impl Demand {
    /// Write units of the table: one a KB, begun ones count, at least one.
    pub fn units(&self) -> f64 {
        write_units(self.bytes) * self.factor
    }
}

/// Write units of so many bytes.
pub fn write_units(bytes: usize) -> f64 {
    (bytes as f64 / f64::from(WRITE_UNIT_BYTES)).ceil().max(1.0)
}

/// A table's capacity.
#[derive(Debug)]
pub struct Capacity {
    config: CapacityConfig,
    partitions: Partitions,
    writes: Bucket,
    reads: Option<Bucket>,
    /// The on-demand maximum.
    maximum: Option<Bucket>,
    indexes: Vec<(IndexConfig, Bucket)>,
    growth: Growth,
    seconds: Vec<SecondUsage>,
}

/// How a table on demand grows: it takes twice its previous peak.
#[derive(Debug, Default)]
struct Growth {
    peak_units_per_second: f64,
    minute: u64,
    minute_units: f64,
    /// Means of minutes and when they end, oldest first, that do not count as previous yet.
    recent: VecDeque<(Duration, f64)>,
}

impl Growth {
    /// The limit, where it changed.
    fn note(&mut self, units: f64, at: Duration) -> Option<f64> {
        let minute = at.as_secs() / ON_DEMAND_PEAK_SECONDS;
        if minute <= self.minute {
            self.minute_units += units;
            return None;
        }
        let end = Duration::from_secs((self.minute + 1) * ON_DEMAND_PEAK_SECONDS);
        self.recent.push_back((end, self.minute_units / ON_DEMAND_PEAK_SECONDS as f64));
        (self.minute, self.minute_units) = (minute, units);
        let before = self.peak_units_per_second;
        while let Some(&(end, mean)) = self.recent.front()
            && end + ON_DEMAND_GROWTH_AFTER <= at
        {
            self.peak_units_per_second = self.peak_units_per_second.max(mean);
            self.recent.pop_front();
        }
        (self.peak_units_per_second > before).then_some(2.0 * self.peak_units_per_second)
    }
}

impl Capacity {
    /// A table at rest.
    pub fn new(config: CapacityConfig, seed: u64, at: Duration) -> Self {
        let (rate, reads, maximum, kept) = match config.billing {
            Billing::Provisioned { write_units, read_units } => (write_units, Some(read_units), None, config.burst),
            Billing::OnDemand { initial_write_units, max_write_units } => {
                (initial_write_units, None, max_write_units, Duration::ZERO)
            }
        };
        let count = config.partition_count();
        let bucket = |rate: f64, kept| Bucket::new(rate, kept, config.burst_filled, at);
        let growth = Growth { peak_units_per_second: rate / 2.0, ..Growth::default() };
        let indexes = config.indexes.iter().map(|index| (index.clone(), bucket(index.write_units, config.burst)));
        Self {
            partitions: Partitions::new(count, config.partition_write_units, config.split_after, seed, at),
            writes: bucket(rate, kept),
            reads: reads.map(|rate| bucket(rate, kept)),
            maximum: maximum.map(|rate| bucket(rate, Duration::ZERO)),
            indexes: indexes.collect(),
            growth,
            seconds: Vec::new(),
            config,
        }
    }

    /// Takes a write's units, or says where they are short. Reasons in the order in which limits are looked at: the
    /// partition, the table, its maximum, the account, the indexes.
    pub fn take_write(&mut self, account: &mut Option<Bucket>, demand: &Demand, at: Duration) -> Result<f64, Shortage> {
        let units = demand.units();
        let on_table = |reason| Shortage { reason, index: None };
        // On demand, what is beyond twice the previous peak is beyond what its partitions are for.
        let (table_reason, on_demand) = match self.config.billing {
            Billing::Provisioned { .. } => (ThrottleReason::Provisioned, false),
            Billing::OnDemand { .. } => (ThrottleReason::KeyRange, true),
        };
        let shortage = if !self.partitions.ask_write(&demand.place, units, at) {
            Some(on_table(ThrottleReason::KeyRange))
        } else if !self.writes.has(units, at) {
            Some(on_table(table_reason))
        } else if self.maximum.as_mut().is_some_and(|maximum| !maximum.has(units, at)) {
            Some(on_table(ThrottleReason::MaxOnDemand))
        } else if account.as_mut().is_some_and(|account| !account.has(units, at)) {
            Some(on_table(ThrottleReason::Account))
        } else {
            self.indexes.iter_mut().find_map(|(index, bucket)| {
                let short = !bucket.has(index_units(index, demand), at);
                short.then(|| Shortage { reason: ThrottleReason::Provisioned, index: Some(Arc::clone(&index.name)) })
            })
        };
        if let Some(shortage) = shortage {
            self.second(account, at).refused_units += units;
            return Err(shortage);
        }
        self.charge(account, demand, 1.0, at);
        if on_demand && let Some(limit) = self.growth.note(units, at) {
            self.writes.set_rate(limit.max(self.writes.units_per_second()), Duration::ZERO, at);
        }
        Ok(units)
    }

    /// Takes a write's units whether they are there or not: a write that was accepted long ago and is done now.
    pub fn force_write(&mut self, account: &mut Option<Bucket>, demand: &Demand, at: Duration) -> f64 {
        self.charge(account, demand, 1.0, at);
        demand.units()
    }

    /// Gives back what a transaction took that is not done after all.
    pub fn give_back(&mut self, account: &mut Option<Bucket>, demand: &Demand, at: Duration) {
        self.charge(account, demand, -1.0, at);
    }

    fn charge(&mut self, account: &mut Option<Bucket>, demand: &Demand, sign: f64, at: Duration) {
        let units = demand.units() * sign;
        self.partitions.take_write(&demand.place, units, at);
        self.writes.take(units, at);
        if let Some(maximum) = &mut self.maximum {
            maximum.take(units, at);
        }
        if let Some(account) = account.as_mut() {
            account.take(units, at);
        }
        for (index, bucket) in &mut self.indexes {
            bucket.take(index_units(index, demand) * sign, at);
        }
        self.second(account, at).consumed_units += units;
    }

    /// Takes read units, or says where they are short.
    pub fn take_read(&mut self, place: &Place, units: f64, at: Duration) -> Result<(), Shortage> {
        let short = |reason| Err(Shortage { reason, index: None });
        if !self.partitions.has_read(place, units, at) {
            return short(ThrottleReason::KeyRange);
        }
        if let Some(reads) = &mut self.reads {
            if !reads.has(units, at) {
                return short(ThrottleReason::Provisioned);
            }
            reads.take(units, at);
        }
        self.partitions.take_read(place, units, at);
        Ok(())
    }

    /// Write units a second that can be had now by writes that are spread over all partitions, without stored burst.
    pub fn available_units_per_second(&self, account: &Option<Bucket>) -> f64 {
        let partitions = self.partitions.units_per_second();
        let limits = [Some(&self.writes), self.maximum.as_ref(), account.as_ref()];
        let rates = limits.into_iter().flatten().map(Bucket::units_per_second);
        let indexes = self.indexes.iter().map(|(index, bucket)| bucket.units_per_second() / index.projected.max(0.001));
        rates.chain(indexes).fold(partitions, f64::min)
    }

    /// Changes what is provisioned, or what a table on demand takes.
    pub fn set_write_units(&mut self, units_per_second: f64, at: Duration) {
        let kept = match &mut self.config.billing {
            Billing::Provisioned { write_units, .. } => {
                *write_units = units_per_second;
                self.config.burst
            }
            Billing::OnDemand { initial_write_units, .. } => {
                *initial_write_units = units_per_second;
                self.growth.peak_units_per_second = units_per_second / 2.0;
                Duration::ZERO
            }
        };
        self.writes.set_rate(units_per_second, kept, at);
    }

    /// Changes the on-demand maximum.
    pub fn set_maximum(&mut self, units_per_second: Option<f64>, at: Duration) {
        self.maximum = units_per_second.map(|rate| Bucket::new(rate, Duration::ZERO, 0.0, at));
    }

    /// Changes an index's units. False where there is no such index.
    pub fn set_index_units(&mut self, name: &str, units_per_second: f64, at: Duration) -> bool {
        let kept = self.config.burst;
        let found = self.indexes.iter_mut().find(|(index, _)| &*index.name == name);
        found.map(|(_, bucket)| bucket.set_rate(units_per_second, kept, at)).is_some()
    }

    /// The partitions.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// What was used, second by second since the start.
    pub fn seconds(&self) -> &[SecondUsage] {
        &self.seconds
    }

    /// The second of `at`, with what can be had now.
    pub fn second(&mut self, account: &Option<Bucket>, at: Duration) -> &mut SecondUsage {
        let (index, available_units) = (at.as_secs() as usize, self.available_units_per_second(account));
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, SecondUsage { available_units, ..SecondUsage::default() });
        }
        let second = &mut self.seconds[index];
        second.available_units = available_units;
        second
    }
}

fn index_units(index: &IndexConfig, demand: &Demand) -> f64 {
    write_units((demand.bytes as f64 * index.projected) as usize) * demand.factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(key: u64) -> Demand {
        Demand { place: Place::new(&key.to_be_bytes(), Box::default()), bytes: 1_000, factor: 1.0 }
    }

    /// Offers a rate for so many seconds; gives the units taken in the last of them, and what was said of the rest.
    fn offer(
        capacity: &mut Capacity,
        account: &mut Option<Bucket>,
        per_second: u64,
        from: u64,
        seconds: u64,
        key: impl Fn(u64) -> u64,
    ) -> (f64, Option<Shortage>) {
        let (mut last, mut said) = (0.0, None);
        for step in 0..per_second * seconds {
            let at = Duration::from_secs(from) + Duration::from_nanos(step * 1_000_000_000 / per_second);
            match capacity.take_write(account, &demand(key(step)), at) {
                Ok(units) if at.as_secs() + 1 == from + seconds => last += units,
                Ok(_) => {}
                Err(shortage) => said = Some(shortage),
            }
        }
        (last, said)
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() <= right * 0.02 + 1.0
    }

    #[test]
    fn a_unit_is_a_begun_kilobyte_and_a_transaction_doubles_it() {
        for (bytes, units) in [(0, 1.0), (1, 1.0), (1_024, 1.0), (1_025, 2.0), (409_600, 400.0)] {
            assert_eq!(write_units(bytes), units);
        }
        assert_eq!(Demand { factor: 2.0, bytes: 1_500, ..demand(1) }.units(), 4.0);
    }

    #[test]
    fn a_provisioned_table_gives_what_is_provisioned_and_says_so() {
        let mut capacity = Capacity::new(CapacityConfig::provisioned(500.0), 1, Duration::ZERO);
        let (taken, said) = offer(&mut capacity, &mut None, 2_000, 0, 10, |step| step);
        assert!(close(taken, 500.0), "{taken}");
        assert_eq!(said, Some(Shortage { reason: ThrottleReason::Provisioned, index: None }));
        let usage = capacity.seconds()[9];
        assert!(close(usage.consumed_units, 500.0) && close(usage.refused_units, 1_500.0), "{usage:?}");
        assert_eq!(usage.available_units, 500.0);
    }

    #[test]
    fn capacity_that_was_not_used_is_there_for_a_burst_but_not_beyond_a_partition() {
        let mut capacity = Capacity::new(CapacityConfig::provisioned(100.0), 1, Duration::ZERO);
        // After 300 s of rest there are 30,000 units; one partition gives 1,000 of them a second.
        let (taken, said) = offer(&mut capacity, &mut None, 3_000, 400, 10, |step| step);
        assert!(close(taken, 1_000.0), "{taken}");
        assert_eq!(said.unwrap().reason, ThrottleReason::KeyRange);
        let (taken, _) = offer(&mut capacity, &mut None, 3_000, 410, 60, |step| step);
        assert!(close(taken, 100.0), "{taken}");
    }

    #[test]
    fn one_hot_key_is_short_of_its_partition_while_the_table_has_more() {
        let mut capacity = Capacity::new(CapacityConfig::provisioned(10_000.0), 1, Duration::ZERO);
        let (taken, said) = offer(&mut capacity, &mut None, 5_000, 0, 10, |_| 7);
        assert!(close(taken, 1_000.0), "{taken}");
        assert_eq!(said.unwrap().reason, ThrottleReason::KeyRange);
    }

    #[test]
    fn the_account_the_maximum_and_an_index_say_their_own_reasons() {
        let bucket = |rate| Some(Bucket::new(rate, Duration::ZERO, 0.0, Duration::ZERO));
        let mut capacity = Capacity::new(CapacityConfig::provisioned(3_000.0), 1, Duration::ZERO);
        let (taken, said) = offer(&mut capacity, &mut bucket(700.0), 2_000, 0, 5, |step| step);
        assert!(close(taken, 700.0), "{taken}");
        assert_eq!(said.unwrap().reason, ThrottleReason::Account);

        let mut capacity = Capacity::new(CapacityConfig::on_demand(), 1, Duration::ZERO);
        capacity.set_maximum(Some(300.0), Duration::ZERO);
        let (taken, said) = offer(&mut capacity, &mut None, 2_000, 0, 5, |step| step);
        assert!(close(taken, 300.0), "{taken}");
        assert_eq!(said.unwrap().reason, ThrottleReason::MaxOnDemand);

        let index = IndexConfig { name: "by_day".into(), write_units: 200.0, projected: 1.0 };
        let config = CapacityConfig { indexes: vec![index], ..CapacityConfig::provisioned(3_000.0) };
        let mut capacity = Capacity::new(config, 1, Duration::ZERO);
        let (taken, said) = offer(&mut capacity, &mut None, 2_000, 0, 5, |step| step);
        assert!(close(taken, 200.0), "{taken}");
        let said = said.unwrap();
        assert_eq!((said.reason, said.index.as_deref()), (ThrottleReason::Provisioned, Some("by_day")));
        assert!(capacity.set_index_units("by_day", 900.0, Duration::from_secs(5)));
        let (taken, _) = offer(&mut capacity, &mut None, 2_000, 5, 5, |step| step);
        assert!(close(taken, 900.0), "{taken}");
    }

    #[test]
    fn a_table_on_demand_takes_4000_and_twice_its_peak_half_an_hour_later() {
        let config = CapacityConfig { partitions: Some(20), split_after: None, ..CapacityConfig::on_demand() };
        let mut capacity = Capacity::new(config, 1, Duration::ZERO);
        let (taken, said) = offer(&mut capacity, &mut None, 9_000, 0, 130, |step| step);
        assert!(close(taken, 4_000.0), "{taken}");
        assert_eq!(said.unwrap().reason, ThrottleReason::KeyRange);
        let (taken, _) = offer(&mut capacity, &mut None, 9_000, 1_700, 10, |step| step);
        assert!(close(taken, 4_000.0), "{taken}");
        let (taken, _) = offer(&mut capacity, &mut None, 9_000, 2_000, 10, |step| step);
        assert!(close(taken, 8_000.0), "{taken}");
    }

    #[test]
    fn a_halved_table_is_halved_at_once() {
        let mut capacity = Capacity::new(CapacityConfig::provisioned(1_000.0), 1, Duration::ZERO);
        offer(&mut capacity, &mut None, 2_000, 0, 5, |step| step);
        capacity.set_write_units(500.0, Duration::from_secs(5));
        let (taken, _) = offer(&mut capacity, &mut None, 2_000, 5, 3, |step| step);
        assert!(close(taken, 500.0), "{taken}");
        assert_eq!(capacity.available_units_per_second(&None), 500.0);
    }

    #[test]
    fn reads_have_limits_of_their_own() {
        let mut capacity = Capacity::new(CapacityConfig::on_demand(), 1, Duration::ZERO);
        let place = demand(7).place;
        let served = (0..5_000).filter(|_| capacity.take_read(&place, 1.0, Duration::ZERO).is_ok()).count();
        assert_eq!(served, 3_000);
    }
}
