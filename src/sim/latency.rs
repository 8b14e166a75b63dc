//! How long a call takes: log-normal around a base and a share per KB. Pure; the dice are the model's.

use std::time::Duration;

use crate::limits::WRITE_UNIT_BYTES;

/// The distribution of calls' durations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// The median of a call that carries nothing.
    pub base: Duration,
    /// What each KB adds to the median.
    pub per_kb: Duration,
    /// The standard deviation of the logarithm.
    pub sigma: f64,
}

impl Default for Latency {
    /// Chosen to resemble what DynamoDB shows in its own region: a single write has its median near 4 ms and its p99 near
    /// 10 ms; a batch of 25 KB takes about three times as long.
    fn default() -> Self {
        Self { base: Duration::from_micros(4_000), per_kb: Duration::from_micros(300), sigma: 0.4 }
    }
}

impl Latency {
    /// A duration.
    pub fn draw(&self, bytes: usize, rng: &mut fastrand::Rng) -> Duration {
        let kilobytes = bytes as f64 / f64::from(WRITE_UNIT_BYTES);
        let median = self.base + self.per_kb.mul_f64(kilobytes);
        median.mul_f64((self.sigma * normal(rng)).exp())
    }
}

/// A draw from the standard normal distribution (Box and Muller).
fn normal(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_tail_are_where_they_should_be() {
        let (latency, mut rng) = (Latency::default(), fastrand::Rng::with_seed(1));
        let mut draws: Vec<_> = (0..10_001).map(|_| latency.draw(1_024, &mut rng).as_micros()).collect();
        draws.sort_unstable();
        assert!((4_150..4_450).contains(&draws[5_000]), "{}", draws[5_000]);
        assert!((10_000..12_000).contains(&draws[9_900]), "{}", draws[9_900]);
    }
}
