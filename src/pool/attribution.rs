//! Who was throttled: a few keys, or the table? Pure; time is passed in.
//!
//! DynamoDB names a reason only where a whole call was throttled; unprocessed items come without. So two things are kept for
//! a table: the last reason that was given, for a little while; and which partition keys the throttled items of the last
//! moments had. Throttling is the keys' own affair where DynamoDB said so, or, lacking its word, where few partition keys
//! have most of it; unless so much of everything is throttled that going on as before would only add to it.
//!
//! The caller is `gate`.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::ThrottleReason;

/// Whose throttling it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The keys that were throttled cool; others go on.
    Keys,
    /// The whole table slows down.
    Table,
}

/// How long a reason is believed.
const REASON_FOR: Duration = Duration::from_secs(2);
/// Counts fade to half in this time.
const HALF_LIFE: Duration = Duration::from_secs(1);
/// Partition keys that are told apart.
const TRACKED: usize = 32;
/// So many partition keys are few,
const FEW: usize = 4;
/// if they have this share of the throttled items.
const MOST: f64 = 0.6;
/// Where more than this share of all items is throttled, the table slows down whatever the reason.
const TOO_MUCH: f64 = 0.3;

/// See the module.
#[derive(Debug)]
pub(super) struct Attribution {
    reason: Option<(ThrottleReason, Instant)>,
    /// Throttled items by partition hash: space-saving, so a count may be too high by the smallest.
    counts: Vec<(u64, f64)>,
    throttled: f64,
    tried: f64,
    faded_at: Option<Instant>,
}

impl Attribution {
    pub(super) fn new() -> Self {
        Self { reason: None, counts: Vec::with_capacity(TRACKED), throttled: 0.0, tried: 0.0, faded_at: None }
    }

    /// An attempt was answered: so many items, of which those with these partition hashes were throttled.
    pub(super) fn note(&mut self, items: usize, throttled: impl Iterator<Item = u64>, now: Instant) {
        self.fade(now);
        self.tried += items as f64;
        for partition in throttled {
            self.throttled += 1.0;
            self.count(partition);
        }
    }

    /// DynamoDB gave a reason.
    pub(super) fn reason(&mut self, reason: ThrottleReason, now: Instant) {
        if reason != ThrottleReason::Unknown {
            self.reason = Some((reason, now));
        }
    }

    /// Whether the reason is not known: one item alone would tell.
    pub(super) fn wants_reason(&self, now: Instant) -> bool {
        self.reason.is_none_or(|(_, at)| now.saturating_duration_since(at) > REASON_FOR)
    }

    /// Whose throttling it is just now.
    pub(super) fn blame(&self, now: Instant) -> Blame {
        let reason = self.reason.filter(|(_, at)| now.saturating_duration_since(*at) <= REASON_FOR);
        let is_keys_own = match reason {
            Some((ThrottleReason::KeyRange, _)) => self.throttled <= self.tried * TOO_MUCH || self.is_concentrated(),
            Some(_) => false,
            // Where a few keys are all there is, they are the table. One throttled item says nothing about who else would be.
            None => self.is_concentrated() && self.throttled >= 2.0 && self.tried >= self.throttled * 1.5,
        };
        if is_keys_own { Blame::Keys } else { Blame::Table }
    }

    fn is_concentrated(&self) -> bool {
        let mut counts: Vec<f64> = self.counts.iter().map(|(_, count)| *count).collect();
        counts.sort_unstable_by(|a, b| b.total_cmp(a));
        counts.iter().take(FEW).sum::<f64>() >= self.throttled * MOST
    }

    fn count(&mut self, partition: u64) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(hash, _)| *hash == partition) {
            *count += 1.0;
        } else if self.counts.len() < TRACKED {
            self.counts.push((partition, 1.0));
        } else if let Some(least) = self.counts.iter_mut().min_by(|(_, a), (_, b)| a.total_cmp(b)) {
            *least = (partition, least.1 + 1.0);
        }
    }

    fn fade(&mut self, now: Instant) {
        let since = *self.faded_at.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        // Often enough for the half-life, rarely enough for a hot path.
        if passed < HALF_LIFE / 10 {
            return;
        }
        self.faded_at = Some(now);
        let kept = 0.5_f64.powf(passed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.throttled *= kept;
        self.tried *= kept;
        self.counts.retain_mut(|(_, count)| {
            *count *= kept;
            *count > 0.1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(attribution: &mut Attribution, calls: u64, now: Instant) {
        for call in 0..calls {
            attribution.note(25, (0..3).map(|item| call * 25 + item), now);
        }
    }

    #[test]
    fn few_keys_with_most_of_it_are_to_blame_and_many_with_little_each_are_not() {
        let now = Instant::now();
        let mut hot = Attribution::new();
        for call in 0..20 {
            hot.note(25, [7, 7, 1000 + call].into_iter(), now);
        }
        assert_eq!(hot.blame(now), Blame::Keys);
        let mut even = Attribution::new();
        spread(&mut even, 40, now);
        assert_eq!(even.blame(now), Blame::Table);
    }

    #[test]
    fn dynamodbs_word_counts_more_than_a_guess_while_it_is_fresh() {
        let now = Instant::now();
        let mut attribution = Attribution::new();
        spread(&mut attribution, 40, now);
        attribution.reason(ThrottleReason::KeyRange, now);
        assert_eq!(attribution.blame(now), Blame::Keys);
        assert!(!attribution.wants_reason(now));
        let later = now + REASON_FOR + Duration::from_millis(1);
        assert_eq!(attribution.blame(later), Blame::Table);
        assert!(attribution.wants_reason(later));

        let mut hot = Attribution::new();
        (0..20).for_each(|_| hot.note(25, [7, 7].into_iter(), now));
        hot.reason(ThrottleReason::Account, now);
        assert_eq!(hot.blame(now), Blame::Table);
    }

    #[test]
    fn a_table_whose_every_partition_is_full_slows_down_whatever_the_reason() {
        let now = Instant::now();
        let mut attribution = Attribution::new();
        for call in 0..40u64 {
            attribution.note(25, (0..15).map(|item| call * 25 + item), now);
        }
        attribution.reason(ThrottleReason::KeyRange, now);
        assert_eq!(attribution.blame(now), Blame::Table);
    }

    #[test]
    fn a_table_of_a_few_keys_is_not_spared_for_having_few() {
        let now = Instant::now();
        let mut attribution = Attribution::new();
        (0..20).for_each(|_| attribution.note(2, [1, 2].into_iter(), now));
        assert_eq!(attribution.blame(now), Blame::Table);
    }
}
