//! When to try again: exponential back-off with full jitter.
//!
//! Full jitter (a uniform draw between zero and the exponential bound) spreads retries best for a given load. Pure: the
//! random number generator comes in as an argument.

use std::time::Duration;

/// How long to wait before trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    /// The bound of the first wait.
    pub base: Duration,
    /// The bound of all waits. Flow must resume within five seconds of an outage's end, so it is well below.
    pub max: Duration,
    /// Refusals of access in a row before sessions are told,
    pub access_attempts: u32,
    /// and how long they must have gone on: fresh credentials need a moment.
    pub access_patience: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_secs(2),
            access_attempts: 4,
            access_patience: Duration::from_secs(3),
        }
    }
}

impl RetryConfig {
    /// The wait before attempt `attempt` (1 is the first retry).
    pub fn delay(&self, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
        let bound = self.base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.max);
        // At least a millisecond: a draw of nothing would spin.
        bound.mul_f64(rng.f64()).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_vary() {
        let config = RetryConfig::default();
        let mut rng = fastrand::Rng::with_seed(1);
        for attempt in 1..40 {
            let bound = (config.base * 2u32.pow(attempt.min(10) - 1)).min(config.max);
            let draws: Vec<_> = (0..100).map(|_| config.delay(attempt, &mut rng)).collect();
            assert!(draws.iter().all(|&draw| draw <= bound && draw >= Duration::from_millis(1)));
            assert!(draws.iter().max() > draws.iter().min());
        }
    }
}
