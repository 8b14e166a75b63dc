//! How much came in the last moments, as a rate. Pure; time is passed in. The caller is `pace`.

use std::time::Duration;

use tokio::time::Instant;

/// The span of one bucket.
const BUCKET: Duration = Duration::from_millis(50);
/// Buckets that are looked at: a quarter of a second is long enough for several calls, short enough to follow a change.
const BUCKETS: usize = 5;

/// See the module.
#[derive(Debug)]
pub(super) struct Meter {
    /// The newest bucket last; the newest is not over yet.
    amounts: [f64; BUCKETS + 1],
    /// Where the newest bucket begins.
    newest_at: Option<Instant>,
    since: Option<Instant>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { amounts: [0.0; BUCKETS + 1], newest_at: None, since: None }
    }

    pub(super) fn add(&mut self, amount: f64, now: Instant) {
        self.turn(now);
        self.amounts[BUCKETS] += amount;
    }

    /// The rate of the last quarter of a second, or of what there was of it.
    pub(super) fn per_second(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let (Some(newest_at), Some(since)) = (self.newest_at, self.since) else { return 0.0 };
        let span = now.saturating_duration_since(newest_at) + BUCKET * BUCKETS as u32;
        let span = span.min(now.saturating_duration_since(since)).max(Duration::from_millis(10));
        self.amounts.iter().sum::<f64>() / span.as_secs_f64()
    }

    /// Whether it has seen enough to know a rate.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= BUCKET * BUCKETS as u32)
    }

    fn turn(&mut self, now: Instant) {
        let newest_at = *self.newest_at.get_or_insert(now);
        self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(newest_at).as_nanos() / BUCKET.as_nanos();
        // More than there are buckets empties them all.
        let turns = usize::try_from(passed).unwrap_or(usize::MAX).min(BUCKETS + 1);
        if turns == 0 {
            return;
        }
        if turns > BUCKETS {
            // Nothing for so long: what comes now is a new beginning.
            self.since = Some(now);
        }
        self.amounts.rotate_left(turns);
        self.amounts[BUCKETS + 1 - turns..].fill(0.0);
        let whole = u32::try_from(passed).unwrap_or(u32::MAX);
        self.newest_at = Some(newest_at + BUCKET.saturating_mul(whole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_quarter_second() {
        let (mut meter, start) = (Meter::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for ms in (0..1000).step_by(10) {
            meter.add(10.0, at(ms));
        }
        let rate = meter.per_second(at(1000));
        assert!((950.0..1050.0).contains(&rate), "{rate}");
        assert!(meter.is_settled(at(1000)));
        let rate = meter.per_second(at(1125));
        assert!((400.0..700.0).contains(&rate), "{rate}");
        assert!(meter.per_second(at(1400)) < 1.0);
        assert!(meter.per_second(at(100_000)) < 1.0);
        assert!(!meter.is_settled(at(100_001)), "a new beginning");
    }
}
