//! A token bucket: the shape of every limit of DynamoDB's. Pure; time is what passed since the model's start.

use std::time::Duration;

/// Units that flow in at a rate, and are kept up to a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    units_per_second: f64,
    capacity_units: f64,
    units: f64,
    at: Duration,
}

/// Sums of many small fractions miss whole numbers by less than this.
const ROUNDING_UNITS: f64 = 1e-6;

impl Bucket {
    /// A bucket that keeps what flows in during `kept` (at least a second: limits are said in units a second), and that
    /// holds a second's worth at first, and `filled` (0 to 1) of the rest.
    pub fn new(units_per_second: f64, kept: Duration, filled: f64, at: Duration) -> Self {
        let capacity_units = units_per_second * kept.as_secs_f64().max(1.0);
        let units = units_per_second + (capacity_units - units_per_second) * filled.clamp(0.0, 1.0);
        Self { units_per_second, capacity_units, units, at }
    }

    /// The rate.
    pub fn units_per_second(&self) -> f64 {
        self.units_per_second
    }

    /// What it holds.
    pub fn units(&mut self, at: Duration) -> f64 {
        self.refill(at);
        self.units
    }

    /// Whether so many units can be taken. What is more than the bucket can ever hold needs a full one, and leaves a debt:
    /// an item of 400 units can be written to a table of one unit a second.
    pub fn has(&mut self, units: f64, at: Duration) -> bool {
        self.refill(at);
        self.units + ROUNDING_UNITS >= units.min(self.capacity_units)
    }

    /// Takes units, also such as are not there.
    pub fn take(&mut self, units: f64, at: Duration) {
        self.refill(at);
        self.units -= units;
    }

    /// Changes the rate; what was kept stays, up to the new bound.
    pub fn set_rate(&mut self, units_per_second: f64, kept: Duration, at: Duration) {
        self.refill(at);
        self.units_per_second = units_per_second;
        self.capacity_units = units_per_second * kept.as_secs_f64().max(1.0);
        self.units = self.units.min(self.capacity_units);
    }

    fn refill(&mut self, at: Duration) {
        // A delayed write may be accounted for a little late.
        let passed = at.saturating_sub(self.at);
        self.at = self.at.max(at);
        self.units = (self.units + self.units_per_second * passed.as_secs_f64()).min(self.capacity_units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut bucket = Bucket::new(100.0, Duration::ZERO, 0.0, Duration::ZERO);
        let mut taken = 0.0;
        for step in 0..10_000u64 {
            let at = Duration::from_millis(step);
            while bucket.has(1.0, at) {
                bucket.take(1.0, at);
                taken += 1.0;
            }
        }
        // Ten seconds' worth, and the second that it started with.
        assert!((1_098.0..=1_100.0).contains(&taken), "{taken}");
    }

    #[test]
    fn unused_units_are_kept_for_as_long_as_it_says() {
        let mut bucket = Bucket::new(10.0, 300 * SECOND, 0.0, Duration::ZERO);
        assert_eq!(bucket.units(SECOND), 20.0);
        assert_eq!(bucket.units(10_000 * SECOND), 3_000.0);
        assert_eq!(Bucket::new(10.0, 300 * SECOND, 1.0, Duration::ZERO).units(Duration::ZERO), 3_000.0);
    }

    #[test]
    fn a_write_larger_than_the_bucket_waits_for_a_full_one_and_leaves_a_debt() {
        let mut bucket = Bucket::new(10.0, SECOND, 0.0, Duration::ZERO);
        bucket.take(1.0, Duration::ZERO);
        assert!(!bucket.has(400.0, Duration::ZERO));
        assert!(bucket.has(400.0, SECOND / 10));
        bucket.take(400.0, SECOND / 10);
        assert!(!bucket.has(1.0, 39 * SECOND));
        assert!(bucket.has(1.0, 40 * SECOND));
    }

    #[test]
    fn a_smaller_rate_keeps_less() {
        let mut bucket = Bucket::new(100.0, SECOND, 0.0, Duration::ZERO);
        bucket.set_rate(50.0, SECOND, Duration::ZERO);
        assert_eq!(bucket.units(Duration::ZERO), 50.0);
        assert_eq!(bucket.units(10 * SECOND), 50.0);
    }
}
