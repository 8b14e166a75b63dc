//! Which partition keys take the most write units a second, in bounded memory.
//!
//! A sketch of a lane's heaviest keys: counters for at most [`CAPACITY`] keys, whose weights decay with [`MEMORY`]. When they
//! are all taken, the median of the counts is subtracted from each, and the lighter half leaves; what was ever subtracted is
//! added to every estimate. So an estimate is never below the truth, and above it by at most two parts in `CAPACITY` of
//! the lane's whole rate: no hot key is missed, and a key that is far from hot is not taken for one.
//!
//! Decay costs nothing per key: weights grow instead (by `e^(t / MEMORY)` since a landmark), and everything is scaled down
//! now and then. Pure: time is passed in. The caller is the lane.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tokio::time::Instant;

/// Keys that are counted at once.
pub const CAPACITY: usize = 256;
/// After this time a unit counts for 1/e. Long enough that a burst is no heat, short enough that heat is seen in seconds.
pub const MEMORY: Duration = Duration::from_secs(10);
/// The exponent at which everything is scaled down: far from where a double's precision or range would suffer.
const SCALE_DOWN_AT: f64 = 64.0;

/// The sketch; of a key that is notable it keeps a `T`, which is the key's text unless somebody says otherwise.
#[derive(Debug)]
pub struct HotKeys<T = Box<[u8]>> {
    keys: HashMap<u64, Counter<T>, foldhash::fast::FixedState>,
    /// What was subtracted from the counts, in grown weights.
    subtracted: f64,
    /// When a unit's weight was 1.
    landmark: Option<Instant>,
    /// The weight of a unit at the time noted last: a lane notes many rows at one time.
    weight: (Option<Instant>, f64),
    /// From this rate on a key's text is kept.
    name_at: f64,
    /// For the median.
    counts: Vec<f64>,
}

#[derive(Debug)]
struct Counter<T> {
    /// Units in grown weights, what was subtracted not among them.
    count: f64,
    text: Option<T>,
    hot_since: Option<Instant>,
}

/// A key above the threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct HotKey<'a, T = Box<[u8]>> {
    /// The hash under which it was noted.
    pub hash: u64,
    /// Its text.
    pub text: &'a T,
    /// Write units a second, never too low.
    pub units_per_second: f64,
    /// For how long it has been above the threshold, as far as [`HotKeys::hot`] was asked.
    pub hot_for: Duration,
}

/// A hot partition key of an adaptive table, for whoever can give it more shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotReport {
    /// The DynamoDB table.
    pub table: Arc<str>,
    /// The partition key, without the shard that its stored form ends with.
    pub partition: String,
    /// The most shards that it may have.
    pub max_shards: u32,
}

impl<T> HotKeys<T> {
    /// A sketch that keeps the texts of keys from this many write units a second on. Texts cost an allocation, so it should
    /// be a good part of the threshold that [`hot`](Self::hot) is asked for, and no more than it.
    pub fn new(name_at_units_per_second: f64) -> Self {
        Self {
            keys: HashMap::with_capacity_and_hasher(CAPACITY, foldhash::fast::FixedState::default()),
            subtracted: 0.0,
            landmark: None,
            weight: (None, 1.0),
            name_at: name_at_units_per_second,
            counts: Vec::with_capacity(CAPACITY),
        }
    }

    /// Notes write units of a key. `key_text` is called when the key becomes notable, once for as long as it stays so.
    pub fn note(&mut self, hash: u64, key_text: impl FnOnce() -> T, units: f64, now: Instant) {
        let weight = self.weight_at(now);
        if self.keys.len() == CAPACITY && !self.keys.contains_key(&hash) {
            self.make_room();
        }
        let counter = match self.keys.entry(hash) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Counter { count: 0.0, text: None, hot_since: None }),
        };
        counter.count += units * weight;
        if counter.text.is_none() && rate(counter.count + self.subtracted, weight) >= self.name_at {
            counter.text = Some(key_text());
        }
    }

    /// The keys above a rate, in any order. To be asked regularly: it is also what learns how long a key has been hot.
    pub fn hot(&mut self, threshold_units_per_second: f64, now: Instant) -> impl Iterator<Item = HotKey<'_, T>> {
        let weight = self.weight_at(now);
        let subtracted = self.subtracted;
        self.keys.iter_mut().filter_map(move |(&hash, counter)| {
            let units_per_second = rate(counter.count + subtracted, weight);
            if units_per_second < threshold_units_per_second {
                counter.hot_since = None;
                return None;
            }
            let since = *counter.hot_since.get_or_insert(now);
            let text = counter.text.as_ref()?;
            Some(HotKey { hash, text, units_per_second, hot_for: now.saturating_duration_since(since) })
        })
    }

    /// The keys that surely are above a rate, in any order, by hash: what was subtracted is left out, so that these rates
    /// are never too high. No key is missing whose text is kept from that rate on, and which is above it by what the sketch
    /// may err.
    pub fn surely(&mut self, at_least_units_per_second: f64, now: Instant) -> impl Iterator<Item = (u64, &T, f64)> {
        let weight = self.weight_at(now);
        self.keys.iter().filter_map(move |(&hash, counter)| {
            let units_per_second = rate(counter.count, weight);
            let text = counter.text.as_ref().filter(|_| units_per_second >= at_least_units_per_second)?;
            Some((hash, text, units_per_second))
        })
    }

    /// Forgets a key: its writes go elsewhere from now on.
    pub fn forget(&mut self, hash: u64) {
        self.keys.remove(&hash);
    }

    /// The weight of a unit that is written now, with everything scaled so that it is a number at all.
    fn weight_at(&mut self, now: Instant) -> f64 {
        if self.weight.0 == Some(now) {
            return self.weight.1;
        }
        let landmark = *self.landmark.get_or_insert(now);
        let exponent = now.saturating_duration_since(landmark).div_duration_f64(MEMORY);
        let mut weight = exponent.exp();
        if exponent > SCALE_DOWN_AT {
            // After an hour's silence the factor is zero, and so is what is left of the counts.
            let factor = (-exponent).exp();
            self.subtracted *= factor;
            self.keys.values_mut().for_each(|counter| counter.count *= factor);
            self.landmark = Some(now);
            weight = 1.0;
        }
        self.weight = (Some(now), weight);
        weight
    }

    /// Drops the lighter half of the keys, and counts it against all.
    fn make_room(&mut self) {
        self.counts.clear();
        self.counts.extend(self.keys.values().map(|counter| counter.count));
        let middle = self.counts.len() / 2;
        let (_, &mut median, _) = self.counts.select_nth_unstable_by(middle, f64::total_cmp);
        self.subtracted += median;
        self.keys.retain(|_, counter| {
            counter.count -= median;
            counter.count > 0.0
        });
    }
}

/// Units a second: in the steady state a key's weights add up to its rate times `MEMORY`.
fn rate(count: f64, weight: f64) -> f64 {
    count / weight / MEMORY.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn text_of(key: u64) -> Box<[u8]> {
        format!("key {key}").into_bytes().into()
    }

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_rate_is_estimated_and_its_end_is_seen() {
        let (mut keys, start) = (HotKeys::new(100.0), Instant::now());
        for millis in (0..60_000).step_by(10) {
            keys.note(1, || text_of(1), 8.0, at(start, millis));
            keys.note(2, || text_of(2), 3.0, at(start, millis));
        }
        let hot: Vec<_> = keys.hot(700.0, at(start, 60_000)).map(|key| (key.hash, key.text.to_vec())).collect();
        assert_eq!(hot, [(1, b"key 1".to_vec())]);
        let rates: Vec<_> = keys.hot(1.0, at(start, 60_000)).map(|key| (key.hash, key.units_per_second)).collect();
        for (hash, units_per_second) in rates {
            let expected = if hash == 1 { 800.0 } else { 300.0 };
            assert!((units_per_second - expected).abs() < expected * 0.01, "{hash}: {units_per_second}");
        }
        assert_eq!(keys.hot(700.0, at(start, 63_000)).count(), 0, "three seconds of silence end it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_hot_since_it_was_first_seen_so() {
        let (mut keys, start) = (HotKeys::new(100.0), Instant::now());
        let mut hot_for = Duration::ZERO;
        for second in 0..90 {
            keys.note(1, || text_of(1), 1_000.0, at(start, second * 1_000));
            if let Some(key) = keys.hot(700.0, at(start, second * 1_000)).next() {
                hot_for = key.hot_for;
            }
        }
        let warming = Duration::from_secs(90) - hot_for;
        assert!((Duration::from_secs(8)..Duration::from_secs(16)).contains(&warming), "{warming:?}");
        assert_eq!(keys.hot(700.0, at(start, 100_000)).count(), 0);
        for second in 100..130 {
            keys.note(1, || text_of(1), 1_000.0, at(start, second * 1_000));
        }
        assert_eq!(keys.hot(700.0, at(start, 130_000)).next().unwrap().hot_for, Duration::ZERO, "it cooled in between");
        keys.forget(1);
        assert_eq!(keys.hot(1.0, at(start, 130_000)).count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hot_key_is_found_among_a_million_others_and_they_are_not_named() {
        let (mut keys, start) = (HotKeys::new(350.0), Instant::now());
        let mut named = 0;
        // 1,000 units a second for one key, and 10,000 for keys that never come again.
        for millis in 0..60_000_u64 {
            keys.note(u64::MAX, || text_of(0), 1.0, at(start, millis));
            for other in 0..10 {
                let name = || {
                    named += 1;
                    text_of(1)
                };
                keys.note(millis * 10 + other, name, 1.0, at(start, millis));
            }
            assert!(keys.keys.len() <= CAPACITY);
        }
        let hot: Vec<_> = keys.hot(700.0, at(start, 60_000)).collect();
        assert_eq!(hot.iter().map(|key| key.hash).collect::<Vec<_>>(), [u64::MAX]);
        assert!((990.0..1_100.0).contains(&hot[0].units_per_second), "{}", hot[0].units_per_second);
        assert_eq!(named, 0, "a text costs an allocation");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_surely_hot_is_never_said_to_be_hotter_than_it_is() {
        let (mut keys, start) = (HotKeys::new(10.0), Instant::now());
        for millis in 0..60_000_u64 {
            keys.note(u64::MAX, || text_of(0), 1.0, at(start, millis));
            for other in 0..10 {
                keys.note(millis * 10 + other, || text_of(1), 1.0, at(start, millis));
            }
        }
        let sure: Vec<_> = keys.surely(10.0, at(start, 60_000)).map(|(hash, _, units)| (hash, units)).collect();
        assert_eq!(sure.len(), 1, "keys that came once are not hot: {sure:?}");
        assert!(sure[0].0 == u64::MAX && (900.0..=1_000.0).contains(&sure[0].1), "{sure:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn hours_and_days_do_not_wear_the_numbers_out() {
        let (mut keys, start) = (HotKeys::new(1.0), Instant::now());
        for second in 0..100_000 {
            keys.note(1, || text_of(1), 50.0, at(start, second * 1_000));
        }
        let rate = keys.hot(1.0, at(start, 100_000_000)).next().unwrap().units_per_second;
        assert!((45.0..52.0).contains(&rate), "{rate}");
        let later = start + Duration::from_secs(400 * 86_400);
        assert_eq!(keys.hot(1.0, later).count(), 0);
        keys.note(1, || text_of(1), 50.0, later);
        assert_eq!(keys.hot(4.0, later).next().unwrap().units_per_second, 5.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against exact decayed counts: never below, and above by two parts in `CAPACITY` of everything at most.
        #[test]
        fn estimates_are_never_too_low_and_too_high_within_bounds(
            seed in any::<u64>(), keys in 1u64..3_000, skew in 0.5f64..3.0, notes in 1usize..6_000,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut sketch = HotKeys::new(0.0);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let start = runtime.block_on(async { Instant::now() });
            let (mut exact, mut now) = (HashMap::<u64, f64>::new(), start);
            for _ in 0..notes {
                let step = Duration::from_micros(random.u64(0..20_000));
                let fading = (-step.div_duration_f64(MEMORY)).exp();
                exact.values_mut().for_each(|units| *units *= fading);
                now += step;
                // Small numbers are frequent.
                let key = ((keys as f64) * random.f64().powf(skew)) as u64;
                let units = f64::from(random.u32(1..5));
                *exact.entry(key).or_default() += units;
                sketch.note(key, || text_of(key), units, now);
            }
            let total = exact.values().sum::<f64>() / MEMORY.as_secs_f64();
            let (slack, rounding) = (2.0 * total / CAPACITY as f64, 1e-9 * total);
            let mut counted = HashMap::new();
            for hot in sketch.hot(0.0, now) {
                let truth = exact[&hot.hash] / MEMORY.as_secs_f64();
                prop_assert!(hot.units_per_second >= truth - rounding);
                prop_assert!(hot.units_per_second <= truth + slack + rounding, "{} {truth} {slack}", hot.units_per_second);
                prop_assert_eq!(hot.text, &text_of(hot.hash));
                counted.insert(hot.hash, hot.units_per_second);
            }
            prop_assert!(counted.len() <= CAPACITY);
            for (key, units) in exact {
                let rate = units / MEMORY.as_secs_f64();
                prop_assert!(counted.contains_key(&key) || rate <= slack + rounding, "a heavy key was lost: {rate}");
            }
        }
    }
}
