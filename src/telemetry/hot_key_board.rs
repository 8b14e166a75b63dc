//! The board of partition keys that take the most write units, over all lanes and tables.
//!
//! Lanes publish the heaviest keys of their sketches about once a second; a key belongs to one lane, so that a look only has
//! to put the lists together. Neither a key's text comes here nor the hash that the pool goes by: what is shown is a keyed
//! hash of that, whose secret is made when the process starts and never leaves it, so that a guess at a key cannot be
//! checked against it. Time is passed in. Callers: `pool::lane` publishes, `admin` looks.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a lane published so long ago is not true any more: it has had nothing to do since.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// A partition key's heat.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyHeat {
    /// The DynamoDB table.
    pub dynamodb_table: Arc<str>,
    /// The key's hash: the pool's where it is published, the board's own where it is shown.
    pub hash: u64,
    /// Write units a second, at least.
    pub units_per_second: f64,
}

/// The board. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct HotKeyBoard(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    secret: RandomState,
    by_lane: Mutex<BTreeMap<usize, (Instant, Vec<KeyHeat>)>>,
}

impl HotKeyBoard {
    /// Replaces what a lane has published.
    pub fn publish(&self, lane: usize, keys: Vec<KeyHeat>, now: Instant) {
        self.by_lane().insert(lane, (now, keys));
    }

    /// The heaviest keys of all lanes, the heaviest first.
    pub fn heaviest(&self, most: usize, now: Instant) -> Vec<KeyHeat> {
        let lanes = self.by_lane();
        let fresh = lanes.values().filter(|(at, _)| now.saturating_duration_since(*at) < STALE_AFTER);
        let mut keys: Vec<_> = fresh.flat_map(|(_, keys)| keys.iter().cloned()).collect();
        drop(lanes);
        keys.sort_by(|a, b| b.units_per_second.total_cmp(&a.units_per_second));
        keys.truncate(most);
        keys.iter_mut().for_each(|key| key.hash = self.0.secret.hash_one(key.hash));
        keys
    }

    fn by_lane(&self) -> MutexGuard<'_, BTreeMap<usize, (Instant, Vec<KeyHeat>)>> {
        // A panic elsewhere leaves plain numbers behind, which stay true.
        self.0.by_lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hash: u64, units_per_second: f64) -> KeyHeat {
        KeyHeat { dynamodb_table: "t".into(), hash, units_per_second }
    }

    #[test]
    fn the_heaviest_keys_of_all_lanes_come_first_and_silence_ends_them() {
        let (board, start) = (HotKeyBoard::default(), Instant::now());
        board.publish(0, vec![key(1, 10.0), key(2, 900.0)], start);
        board.publish(1, vec![key(3, 400.0)], start + Duration::from_secs(3));
        let units = |most, at| board.heaviest(most, at).iter().map(|key| key.units_per_second).collect::<Vec<_>>();
        assert_eq!(units(2, start + Duration::from_secs(4)), [900.0, 400.0]);
        assert_eq!(units(9, start + Duration::from_secs(6)), [400.0]);
        board.publish(1, vec![], start + Duration::from_secs(7));
        assert_eq!(units(9, start + Duration::from_secs(7)), [0.0; 0]);
    }

    #[test]
    fn a_key_keeps_its_shown_hash_which_is_not_the_pools_nor_another_processs() {
        let (board, other, now) = (HotKeyBoard::default(), HotKeyBoard::default(), Instant::now());
        for board in [&board, &other] {
            board.publish(0, vec![key(7, 1.0)], now);
        }
        let shown = board.heaviest(1, now)[0].hash;
        assert_eq!(shown, board.heaviest(1, now)[0].hash);
        assert_ne!(shown, 7);
        assert_ne!(shown, other.heaviest(1, now)[0].hash);
    }
}
