//! Full-jitter back-off for keys that DynamoDB did not process.

use std::time::Duration;

use crate::limits::{READ_BACKOFF_BASE, READ_BACKOFF_MAX};

/// How long to wait before the next attempt: uniformly random up to a ceiling that doubles while nothing gets through.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    fruitless_attempts: u32,
}

impl Backoff {
    /// After an attempt from which at least one key came back: the store is willing, so start over.
    pub(super) fn progressed(&mut self) {
        self.fruitless_attempts = 0;
    }

    /// The wait before the next attempt.
    pub(super) fn next_delay(&mut self) -> Duration {
        let ceiling = READ_BACKOFF_BASE.saturating_mul(1 << self.fruitless_attempts.min(16)).min(READ_BACKOFF_MAX);
        self.fruitless_attempts = self.fruitless_attempts.saturating_add(1);
        ceiling.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_ceiling_and_start_over_after_progress() {
        let mut backoff = Backoff::default();
        for _ in 0..1_000 {
            assert!(backoff.next_delay() <= READ_BACKOFF_MAX);
        }
        backoff.progressed();
        assert!(backoff.next_delay() <= READ_BACKOFF_BASE);
    }
}
