//! When to try again: exponential back-off with jitter, as a pure function of attempt and chance.

use std::time::Duration;

use crate::limits::{CLIENT_BACKOFF_BASE, CLIENT_BACKOFF_MAX};

/// The wait before attempt number `attempt` (0 for the first repetition). `chance` is in 0..1; the wait is between half
/// and all of the doubled base, never less than what the gateway asked for.
pub(crate) fn delay(attempt: u32, chance: f64, asked: Option<Duration>) -> Duration {
    let full = CLIENT_BACKOFF_BASE.saturating_mul(1 << attempt.min(16)).min(CLIENT_BACKOFF_MAX);
    let jittered = full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0));
    jittered.max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        assert_eq!(delay(0, 1.0, None), CLIENT_BACKOFF_BASE);
        assert_eq!(delay(1, 1.0, None), CLIENT_BACKOFF_BASE * 2);
        assert_eq!(delay(60, 1.0, None), CLIENT_BACKOFF_MAX);
        assert_eq!(delay(60, 0.0, None), CLIENT_BACKOFF_MAX / 2);
    }

    #[test]
    fn the_gateways_wish_is_a_minimum() {
        assert_eq!(delay(0, 0.3, Some(Duration::from_secs(7))), Duration::from_secs(7));
    }
}
