//! A distribution: counts by upper bound, and the sum.
//!
//! The buckets are kept twice: in atomics of our own, which the status page and tests read, and in OpenTelemetry's
//! aggregation, because OpenTelemetry has no histogram that it could read from elsewhere.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;

use super::metric::FloatCell;

/// A distribution of durations or sizes.
#[derive(Clone)]
pub struct Histogram(Arc<Inner>);

struct Inner {
    bounds: &'static [f64],
    /// One a bound, and one for what is above the last.
    counts: Box<[AtomicU64]>,
    sum: FloatCell,
    exported: opentelemetry::metrics::Histogram<f64>,
    attributes: Vec<KeyValue>,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.snapshot()).finish()
    }
}

impl Histogram {
    /// Empty, with ascending bounds; `exported` has the same.
    pub(super) fn new(
        bounds: &'static [f64],
        exported: opentelemetry::metrics::Histogram<f64>,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, counts, sum: FloatCell::default(), exported, attributes }))
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let inner = &*self.0;
        let bucket = inner.bounds.partition_point(|bound| *bound < value);
        inner.counts[bucket].fetch_add(1, Ordering::Relaxed);
        inner.sum.add(value);
        inner.exported.record(value, &inner.attributes);
    }

    /// What was counted up to now. Values that come in meanwhile may be in the counts and not in the sum.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let counts = inner.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Snapshot { bounds: inner.bounds, counts, sum: inner.sum.get() }
    }
}

/// A histogram at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The buckets' upper bounds, ascending; a value that equals a bound is below it.
    pub bounds: &'static [f64],
    /// Values in each bucket (not added up), and at the end those above the last bound.
    pub counts: Vec<u64>,
    /// The sum of the values.
    pub sum: f64,
}

impl Snapshot {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came in since an earlier snapshot of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.counts.iter().zip(&earlier.counts);
        let counts = pairs.map(|(now, then)| now.saturating_sub(*then)).collect();
        Self { bounds: self.bounds, counts, sum: self.sum - earlier.sum }
    }

    /// An estimate of a quantile (0.99): values are taken as spread evenly over their bucket. Nothing where there is no
    /// value; the last bound where the quantile is above it.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * count as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (upper, in_bucket) in self.bounds.iter().zip(&self.counts) {
            let in_bucket = *in_bucket as f64;
            if in_bucket > 0.0 && below + in_bucket >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / in_bucket));
            }
            below += in_bucket;
            lower = *upper;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram() -> Histogram {
        let meter = opentelemetry_sdk::metrics::SdkMeterProvider::builder().build();
        let meter = opentelemetry::metrics::MeterProvider::meter(&meter, "test");
        Histogram::new(&[1.0, 2.0, 4.0], meter.f64_histogram("test").build(), Vec::new())
    }

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let histogram = histogram();
        for value in [0.5, 1.0, 1.5, 4.0, 9.0] {
            histogram.observe(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.counts.as_slice(), snapshot.sum), ([2, 1, 1, 1].as_slice(), 16.0));
    }

    #[test]
    fn a_quantile_is_estimated_within_its_bucket() {
        let histogram = histogram();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for _ in 0..10 {
            histogram.observe(1.5);
        }
        let before = histogram.snapshot();
        assert_eq!(before.quantile(0.5), Some(1.5));
        assert_eq!(before.quantile(1.0), Some(2.0));
        (0..30).for_each(|_| histogram.observe(3.0));
        assert_eq!(histogram.snapshot().quantile(0.25), Some(2.0));
        assert_eq!(histogram.snapshot().since(&before).quantile(0.5), Some(3.0));
        (0..1000).for_each(|_| histogram.observe(100.0));
        assert_eq!(histogram.snapshot().quantile(0.99), Some(4.0), "the last bound that is known");
    }
}
