//! The client-side rate limiter of the AWS SDKs' adaptive retry mode, as their public documents and sources describe it: a
//! token bucket whose rate falls to 70 % at a throttling error, and grows back along a cubic curve; off until the first
//! such error. Pure. The caller is [`baselines`](super::baselines).

use std::time::Duration;

/// The rate after a throttling error, over the rate before.
const BETA: f64 = 0.7;
/// How steep the curve is on which the rate grows back.
const CURVE: f64 = 0.4;
/// The weight of the newest half second in the measured rate.
const SMOOTH: f64 = 0.8;
/// The rate is at least this.
const LEAST_RATE: f64 = 0.5;
/// The bucket holds at least this.
const LEAST_CAPACITY: f64 = 1.0;

/// See the module.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// Off until the first throttling error.
    on: bool,
    rate: f64,
    capacity: f64,
    tokens: f64,
    filled_at: f64,
    measured_rate: f64,
    /// The half second that is being measured.
    bucket_at: f64,
    bucket_requests: u64,
    rate_at_throttle: f64,
    throttled_at: f64,
}

impl RateLimiter {
    /// Whether it limits anything: from the first throttling error on.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Takes tokens for a request, or says how long to wait before asking again.
    pub fn permit(&mut self, tokens: f64, at: Duration) -> Result<(), Duration> {
        if !self.on {
            return Ok(());
        }
        self.fill(at.as_secs_f64());
        // A request that costs more than the bucket holds waits for what it holds.
        let missing = tokens.min(self.capacity) - self.tokens;
        if missing > 1e-9 {
            // At least a millisecond, which is what the clock can tell apart.
            return Err(Duration::from_secs_f64(missing / self.rate).max(Duration::from_millis(1)));
        }
        self.tokens = (self.tokens - tokens).max(0.0);
        Ok(())
    }

    /// Learns from an answer.
    pub fn note(&mut self, throttled: bool, at: Duration) {
        let at = at.as_secs_f64();
        self.measure(at);
        let rate = if throttled {
            let rate = if self.on { self.measured_rate.min(self.rate) } else { self.measured_rate };
            self.rate_at_throttle = rate;
            self.throttled_at = at;
            self.on = true;
            rate * BETA
        } else {
            // At the plateau of the curve it is as fast as when it was throttled last.
            let plateau = (self.rate_at_throttle * (1.0 - BETA) / CURVE).cbrt();
            CURVE * (at - self.throttled_at - plateau).powi(3) + self.rate_at_throttle
        };
        let rate = rate.min(2.0 * self.measured_rate);
        self.fill(at);
        self.rate = rate.max(LEAST_RATE);
        self.capacity = rate.max(LEAST_CAPACITY);
        self.tokens = self.tokens.min(self.capacity);
    }

    fn measure(&mut self, at: f64) {
        let bucket = (at * 2.0).floor() / 2.0;
        self.bucket_requests += 1;
        if bucket > self.bucket_at {
            let rate = self.bucket_requests as f64 / (bucket - self.bucket_at);
            self.measured_rate = rate * SMOOTH + self.measured_rate * (1.0 - SMOOTH);
            self.bucket_requests = 0;
            self.bucket_at = bucket;
        }
    }

    fn fill(&mut self, at: f64) {
        self.tokens = (self.tokens + (at - self.filled_at) * self.rate).min(self.capacity);
        self.filled_at = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as it may, with an answer at once; gives requests in each second.
    fn drive(limiter: &mut RateLimiter, seconds: std::ops::Range<u64>, most: u64, throttles_above: u64) -> Vec<u64> {
        let mut sent_by_second = Vec::new();
        for second in seconds {
            let mut sent = 0;
            for step in 0..most {
                let at = Duration::from_secs(second) + Duration::from_secs(1) * step as u32 / most as u32;
                if limiter.permit(1.0, at).is_ok() {
                    sent += 1;
                    limiter.note(sent > throttles_above, at);
                }
            }
            sent_by_second.push(sent);
        }
        sent_by_second
    }

    #[test]
    fn it_does_nothing_before_the_first_throttling_error() {
        let mut limiter = RateLimiter::default();
        assert_eq!(drive(&mut limiter, 0..5, 500, u64::MAX), [500; 5]);
    }

    #[test]
    fn it_falls_with_throttling_and_grows_back_when_that_ends() {
        let mut limiter = RateLimiter::default();
        let throttled = drive(&mut limiter, 0..30, 500, 100);
        let mean = throttled[10..].iter().sum::<u64>() / 20;
        assert!(mean < 130, "{throttled:?}");
        let free = drive(&mut limiter, 30..60, 500, u64::MAX);
        assert!(free[29] > 300, "{free:?}");
    }

    #[test]
    fn a_wait_is_never_nothing() {
        let mut limiter = RateLimiter::default();
        drive(&mut limiter, 0..5, 500, 10);
        let at = Duration::from_secs(5);
        let wait = (0..1_000).find_map(|_| limiter.permit(1.0, at).err()).unwrap();
        assert!(wait >= Duration::from_millis(1));
    }
}
