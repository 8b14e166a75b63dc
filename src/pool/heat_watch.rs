//! Which partition keys take the most write units, of all tables of a lane, for the board that operators look at.
//!
//! Unlike [`heat`](super::heat), which decides about shards and so counts every row that comes, this is fed from one in
//! [`SAMPLED_ONE_IN`] of the items that DynamoDB has confirmed, because it is fed for every table: what a row costs is to be
//! less than a nanosecond or two. Rates are said too low rather than too high. The caller is the lane.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::hot_keys::HotKeys;
use crate::telemetry::hot_key_board::{HotKeyBoard, KeyHeat};

/// Of so many confirmed items one is counted, on average. The gaps vary, because items of a batch may come in patterns.
pub(super) const SAMPLED_ONE_IN: usize = 8;
/// How often a lane publishes its heaviest keys.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// A key is worth a look from this rate on: a hundredth of what a partition takes.
const WARM_UNITS_PER_SECOND: f64 = 10.0;
/// Keys that a lane publishes.
const PUBLISHED: usize = 16;

/// What a lane knows of its heaviest keys.
#[derive(Debug)]
pub(super) struct HeatWatch {
    lane: usize,
    keys: HotKeys<Arc<str>>,
    /// Items to pass by before the next one is counted.
    skip: usize,
    rng: fastrand::Rng,
    next_publication: Option<Instant>,
}

impl HeatWatch {
    pub(super) fn new(lane: usize, seed: u64) -> Self {
        let keys = HotKeys::new(WARM_UNITS_PER_SECOND);
        Self { lane, keys, skip: 0, rng: fastrand::Rng::with_seed(seed), next_publication: None }
    }

    /// Notes the items of an attempt; `written` says the partition's hash and the write units of one of them, where it was
    /// written.
    pub(super) fn note(
        &mut self,
        board: &HotKeyBoard,
        table: &Arc<str>,
        items: usize,
        written: impl Fn(usize) -> Option<(u64, f64)>,
        now: Instant,
    ) {
        let mut position = self.skip;
        while position < items {
            if let Some((hash, units)) = written(position) {
                // The same key in two tables is two keys.
                let hash = hash ^ foldhash::fast::FixedState::default().hash_one(&**table);
                self.keys.note(hash, || Arc::clone(table), units * SAMPLED_ONE_IN as f64, now);
            }
            position += self.rng.usize(1..2 * SAMPLED_ONE_IN);
        }
        self.skip = position - items;
        if self.next_publication.is_none_or(|at| at <= now) {
            self.next_publication = Some(now + PUBLISH_INTERVAL);
            self.publish(board, now);
        }
    }

    fn publish(&mut self, board: &HotKeyBoard, now: Instant) {
        let heat = |(hash, table, units_per_second): (u64, &Arc<str>, f64)| KeyHeat {
            dynamodb_table: Arc::clone(table),
            hash,
            units_per_second,
        };
        let mut keys: Vec<_> = self.keys.surely(WARM_UNITS_PER_SECOND, now).map(heat).collect();
        keys.sort_by(|a, b| b.units_per_second.total_cmp(&a.units_per_second));
        keys.truncate(PUBLISHED);
        board.publish(self.lane, keys, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_key_is_published_with_its_table_and_its_rate_and_cold_ones_are_not() {
        let (mut watch, board, start) = (HeatWatch::new(0, 7), HotKeyBoard::default(), Instant::now());
        let (cards, users): (Arc<str>, Arc<str>) = ("cards".into(), "users".into());
        for tick in 0..600_u64 {
            let now = start + Duration::from_millis(tick * 100);
            // Four of 25 items are the hot one's, twice ten units a second each; the others come once.
            let item = |position: usize| {
                Some(if position.is_multiple_of(6) { (1, 2.0) } else { (1_000 + tick * 100 + position as u64, 1.0) })
            };
            watch.note(&board, &cards, 24, item, now);
            watch.note(&board, &users, 24, item, now);
        }
        let end = start + Duration::from_secs(60);
        let hot = board.heaviest(10, end);
        let mut tables: Vec<_> = hot.iter().map(|key| &*key.dynamodb_table).collect();
        tables.sort_unstable();
        assert_eq!(tables, ["cards", "users"], "{hot:?}");
        assert_ne!(hot[0].hash, hot[1].hash, "they are the same key only by name");
        for key in hot {
            assert!((40.0..100.0).contains(&key.units_per_second), "80 units a second, about: {key:?}");
        }
    }

    #[test]
    fn what_was_not_written_heats_nothing() {
        let (mut watch, board, start) = (HeatWatch::new(0, 7), HotKeyBoard::default(), Instant::now());
        for tick in 0..100 {
            watch.note(&board, &"cards".into(), 25, |_| None, start + Duration::from_millis(tick * 100));
        }
        assert_eq!(board.heaviest(10, start + Duration::from_secs(10)), []);
    }
}
