//! A table's partitions: ranges of places, each with buckets of its own, that split when they are hot for long.
//!
//! A place is the hash of an item's partition key and, after it, its sort key: DynamoDB may split within a partition key,
//! between sort keys, but never within an item. Pure. The caller is [`capacity`](super::capacity).

use std::hash::{BuildHasher, Hasher as _};
use std::time::Duration;

use super::bucket::Bucket;
use crate::limits::PARTITION_READ_UNITS_PER_SECOND;

/// Where an item lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Of the partition key's text.
    pub hash: u64,
    /// The sort key, as bytes that compare as DynamoDB compares sort keys; empty without one.
    pub sort: Box<[u8]>,
}

impl Place {
    /// The place of a partition key's text and a sort key.
    pub fn new(partition_text: &[u8], sort: Box<[u8]>) -> Self {
        // A hash of its own, so that the pool's lanes and the table's partitions have nothing to do with each other.
        let mut hasher = foldhash::quality::FixedState::with_seed(PLACE_SEED).build_hasher();
        hasher.write(partition_text);
        Self { hash: hasher.finish(), sort }
    }
}

const PLACE_SEED: u64 = 0x00d1_4a30_d8b5;
/// A partition is hot in a second in which so much of its capacity was asked for.
const HOT_SHARE: f64 = 0.9;
/// Places that are remembered of a hot partition's writes.
const SAMPLES: usize = 64;
/// So often the sample starts anew: a place that was hot before says little.
const SAMPLE_SECONDS: u64 = 10;

/// All partitions of a table, in order.
#[derive(Debug)]
pub struct Partitions {
    /// Sorted by start; the first starts before every place.
    all: Vec<Partition>,
    /// Write units a second of each.
    limit: f64,
    split_after: Option<Duration>,
    splits: u32,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Partition {
    start: Place,
    writes: Bucket,
    reads: Bucket,
    /// The second that `asked_units` is of.
    second: u64,
    asked_units: f64,
    hot_seconds: u64,
    sample: Vec<Place>,
    sampled: u64,
}

impl Partition {
    fn new(start: Place, limit: f64, at: Duration) -> Self {
        let bucket = |rate: f64| Bucket::new(rate, Duration::ZERO, 0.0, at);
        Self {
            start,
            writes: bucket(limit),
            reads: bucket(PARTITION_READ_UNITS_PER_SECOND),
            second: at.as_secs(),
            asked_units: 0.0,
            hot_seconds: 0,
            sample: Vec::new(),
            sampled: 0,
        }
    }

    /// Closes the seconds before `at`.
    fn turn(&mut self, at: Duration) {
        let passed = at.as_secs().saturating_sub(self.second);
        if passed == 0 {
            return;
        }
        let hot = self.asked_units >= HOT_SHARE * self.writes.units_per_second();
        self.hot_seconds = if hot { self.hot_seconds + 1 } else { self.hot_seconds.saturating_sub(1) };
        // Nobody asked in the seconds between.
        self.hot_seconds = self.hot_seconds.saturating_sub(passed - 1);
        self.asked_units = 0.0;
        if self.second / SAMPLE_SECONDS != at.as_secs() / SAMPLE_SECONDS {
            self.sampled = 0;
            self.sample.clear();
        }
        self.second = at.as_secs();
    }

    fn remember(&mut self, place: &Place, rng: &mut fastrand::Rng) {
        self.sampled += 1;
        if self.sample.len() < SAMPLES {
            self.sample.push(place.clone());
        } else if let Some(slot) = self.sample.get_mut(rng.u64(0..self.sampled) as usize) {
            *slot = place.clone();
        }
    }

    /// Where the partition would be halved: at the median of what was written, or right after it where it is the
    /// partition's first place already. `None` where one item has all the heat.
    fn middle(&mut self) -> Option<Place> {
        self.sample.sort_unstable();
        let median = self.sample.get(self.sample.len() / 2)?;
        if *median > self.start {
            return Some(median.clone());
        }
        self.sample.iter().find(|place| **place > self.start).cloned()
    }
}

impl Partitions {
    /// So many equal partitions of so many write units a second; with `split_after`, one that is hot for so long is split.
    pub fn new(count: usize, limit: f64, split_after: Option<Duration>, seed: u64, at: Duration) -> Self {
        let count = count.max(1);
        let start = |index: usize| ((index as u128 * (1 << 64)) / count as u128) as u64;
        let place = |index| Place { hash: start(index), sort: Box::default() };
        let all = (0..count).map(|index| Partition::new(place(index), limit, at)).collect();
        Self { all, limit, split_after, splits: 0, rng: fastrand::Rng::with_seed(seed) }
    }

    /// Write units a second of all of them.
    pub fn units_per_second(&self) -> f64 {
        self.all.len() as f64 * self.limit
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// How often one was split.
    pub fn splits(&self) -> u32 {
        self.splits
    }

    /// The partition of a place, by its number in order.
    pub fn index_of(&self, place: &Place) -> usize {
        // The first partition starts before every place.
        self.all.partition_point(|partition| partition.start <= *place).saturating_sub(1)
    }

    /// Notes that so much was asked for, whether it can be had or not, and says whether it can.
    pub fn ask_write(&mut self, place: &Place, units: f64, at: Duration) -> bool {
        let index = self.index_of(place);
        let partition = &mut self.all[index];
        partition.turn(at);
        partition.asked_units += units;
        if self.split_after.is_some() && partition.hot_seconds > 0 {
            partition.remember(place, &mut self.rng);
        }
        let has = partition.writes.has(units, at);
        if self.split_after.is_some_and(|after| partition.hot_seconds >= after.as_secs().max(1)) {
            self.split(index, at);
        }
        has
    }

    /// Takes what was asked for.
    pub fn take_write(&mut self, place: &Place, units: f64, at: Duration) {
        let index = self.index_of(place);
        self.all[index].writes.take(units, at);
    }

    /// Whether so many read units can be had.
    pub fn has_read(&mut self, place: &Place, units: f64, at: Duration) -> bool {
        let index = self.index_of(place);
        self.all[index].reads.has(units, at)
    }

    /// Takes read units.
    pub fn take_read(&mut self, place: &Place, units: f64, at: Duration) {
        let index = self.index_of(place);
        self.all[index].reads.take(units, at);
    }

    fn split(&mut self, index: usize, at: Duration) {
        let partition = &mut self.all[index];
        if partition.sample.len() < SAMPLES {
            return;
        }
        match partition.middle() {
            Some(middle) => {
                partition.hot_seconds = 0;
                partition.sample.clear();
                partition.sampled = 0;
                self.all.insert(index + 1, Partition::new(middle, self.limit, at));
                self.splits += 1;
            }
            // It is looked at again when the sample is a new one.
            None => partition.sample.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: f64 = crate::limits::PARTITION_WRITE_UNITS_PER_SECOND;

    fn place(key: u64, sort: u64) -> Place {
        Place::new(key.to_string().as_bytes(), Box::new(sort.to_be_bytes()))
    }

    /// Asks for twice a partition's limit, for so many seconds; gives the units of the last ten, per second.
    fn heat(partitions: &mut Partitions, seconds: u64, mut next: impl FnMut(u64) -> Place) -> f64 {
        let mut taken = 0.0;
        for step in 0..seconds * 2_000 {
            let (at, place) = (Duration::from_micros(step * 500), next(step));
            if partitions.ask_write(&place, 1.0, at) {
                partitions.take_write(&place, 1.0, at);
                taken += if step >= (seconds - 10) * 2_000 { 0.1 } else { 0.0 };
            }
        }
        taken
    }

    #[test]
    fn every_place_has_one_partition() {
        let partitions = Partitions::new(7, LIMIT, None, 1, Duration::ZERO);
        let mut seen = [0u32; 7];
        (0..7_000).for_each(|key| seen[partitions.index_of(&place(key, 0))] += 1);
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!(partitions.index_of(&Place { hash: 0, sort: Box::default() }), 0);
        assert_eq!(partitions.index_of(&Place { hash: u64::MAX, sort: Box::new([255]) }), 6);
    }

    #[test]
    fn a_partition_never_gives_more_than_its_limit() {
        let mut partitions = Partitions::new(1, LIMIT, None, 1, Duration::ZERO);
        let taken = heat(&mut partitions, 30, |step| place(step, 0));
        assert!((LIMIT - 2.0..=LIMIT + 2.0).contains(&taken), "{taken}");
        assert_eq!(partitions.count(), 1);
    }

    #[test]
    fn sustained_heat_over_many_keys_splits_and_helps() {
        let mut partitions = Partitions::new(1, LIMIT, Some(Duration::from_secs(15)), 1, Duration::ZERO);
        let taken = heat(&mut partitions, 60, |step| place(step, 0));
        assert!(partitions.splits() >= 1 && taken > 1.9 * LIMIT, "{taken} {}", partitions.splits());
    }

    #[test]
    fn one_key_with_many_sort_keys_splits_between_them() {
        let mut partitions = Partitions::new(4, LIMIT, Some(Duration::from_secs(15)), 1, Duration::ZERO);
        let mut rng = fastrand::Rng::with_seed(2);
        let taken = heat(&mut partitions, 60, |_| place(7, rng.u64(..)));
        assert!(taken > 1.9 * LIMIT, "{taken}");
    }

    #[test]
    fn an_ever_increasing_sort_key_defeats_splitting() {
        let mut partitions = Partitions::new(4, LIMIT, Some(Duration::from_secs(15)), 1, Duration::ZERO);
        let taken = heat(&mut partitions, 120, |step| place(7, step));
        assert!(partitions.splits() >= 1 && taken < 1.1 * LIMIT, "{taken} {}", partitions.splits());
    }

    #[test]
    fn a_single_hot_item_is_never_helped_but_its_neighbours_are() {
        let mut partitions = Partitions::new(1, LIMIT, Some(Duration::from_secs(10)), 1, Duration::ZERO);
        let taken = heat(&mut partitions, 120, |_| place(7, 7));
        assert!(partitions.splits() <= 1 && taken <= LIMIT + 2.0, "{taken} {}", partitions.splits());
        let (mut rng, mut cold, mut asked) = (fastrand::Rng::with_seed(2), 0, 0);
        let mut partitions = Partitions::new(1, LIMIT, Some(Duration::from_secs(10)), 1, Duration::ZERO);
        for step in 0..120 * 2_000u64 {
            let at = Duration::from_micros(step * 500);
            let place = if rng.f64() < 0.9 { place(7, 7) } else { place(rng.u64(100..), 0) };
            let got = partitions.ask_write(&place, 1.0, at);
            if got {
                partitions.take_write(&place, 1.0, at);
            }
            if at.as_secs() >= 100 && partitions.index_of(&place) != partitions.index_of(&self::place(7, 7)) {
                asked += 1;
                cold += u32::from(got);
            }
        }
        assert!(asked > 1_000 && cold == asked, "{cold} of {asked}");
    }

    #[test]
    fn heat_that_does_not_last_splits_nothing() {
        let mut partitions = Partitions::new(1, LIMIT, Some(Duration::from_secs(15)), 1, Duration::ZERO);
        for round in 0..20u64 {
            for step in 0..10_000u64 {
                let at = Duration::from_secs(round * 10) + Duration::from_micros(step * 500);
                partitions.ask_write(&place(step, 0), 1.0, at);
            }
        }
        assert_eq!(partitions.splits(), 0);
    }
}
