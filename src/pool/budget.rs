//! The retry budget: repetitions may be a share of what succeeds, and a few more. Pure; time is passed in.
//!
//! Beyond it repetitions are paced, never failed: rows wait. It keeps a table that answers half of everything from spending
//! its other half on repetitions. The caller is `queue`, which has one for each table and lane.

use std::time::Duration;

use tokio::time::Instant;

/// Repetitions that one success earns.
const EARNED: f64 = 0.2;
/// Repetitions a second that need no success: after an outage there is none.
const PER_SECOND: f64 = 100.0;
/// The most that can be saved.
const MOST: f64 = 500.0;

/// See the module.
#[derive(Debug)]
pub(super) struct RetryBudget {
    saved: f64,
    filled_at: Option<Instant>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: MOST, filled_at: None }
    }
}

impl RetryBudget {
    /// So many items were confirmed.
    pub(super) fn earn(&mut self, items: usize) {
        self.saved = (self.saved + EARNED * items as f64).min(MOST);
    }

    /// Takes one repetition, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(*self.filled_at.get_or_insert(now));
        self.filled_at = Some(now);
        self.saved = (self.saved + PER_SECOND * passed.as_secs_f64()).min(MOST);
        if self.saved < 1.0 {
            return false;
        }
        self.saved -= 1.0;
        true
    }

    /// When the next one is there; `None` where one is there now.
    pub(super) fn free_at(&self) -> Option<Instant> {
        let filled_at = self.filled_at?;
        let missing = 1.0 - self.saved;
        // A little later than exactly: rounding must not wake in vain.
        (missing > 0.0).then(|| filled_at + Duration::from_secs_f64(missing / PER_SECOND) + Duration::from_micros(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_paced_and_never_refused_for_good() {
        let (mut budget, mut now) = (RetryBudget::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| budget.take(now)).count(), MOST as usize);
        for _ in 0..10 {
            now = budget.free_at().expect("it is used up");
            assert!(budget.take(now) && !budget.take(now));
        }
        budget.earn(25);
        assert_eq!((0..100).filter(|_| budget.take(now)).count(), 5);
    }
}
