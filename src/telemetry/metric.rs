//! Single metrics: a value in an atomic, which every clone shares.
//!
//! An update is one atomic operation without a lock or an allocation; OpenTelemetry reads the value when it collects
//! ([`super::register`]), the status page and tests read it whenever they like. Updates are relaxed: a metric orders
//! nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A count that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// So many more.
    pub fn inc_by(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A sum that only grows, and has fractions.
#[derive(Debug, Clone, Default)]
pub struct FloatCounter(FloatCell);

impl FloatCounter {
    /// So much more. What is negative, or no number, is left out.
    pub fn inc_by(&self, amount: f64) {
        if amount > 0.0 {
            self.0.add(amount);
        }
    }

    /// The sum.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// How many there are now.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// So many more.
    pub fn inc_by(&self, count: i64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.dec_by(1);
    }

    /// So many less.
    pub fn dec_by(&self, count: i64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// So many.
    pub fn set(&self, count: i64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value of now that has fractions.
#[derive(Debug, Clone, Default)]
pub struct FloatGauge(FloatCell);

impl FloatGauge {
    /// So much.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// How much.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// A float in an atomic: its bits. Zero's bits are zero, so the default is 0.0.
#[derive(Debug, Clone, Default)]
pub(super) struct FloatCell(Arc<AtomicU64>);

impl FloatCell {
    pub(super) fn add(&self, amount: f64) {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let sum = (f64::from_bits(bits) + amount).to_bits();
            match self.0.compare_exchange_weak(bits, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => bits = newer,
            }
        }
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        counter.clone().inc_by(2);
        counter.inc();
        gauge.clone().inc_by(5);
        gauge.dec();
        assert_eq!((counter.get(), gauge.get()), (3, 4));
    }

    #[test]
    fn a_sum_never_shrinks() {
        let sum = FloatCounter::default();
        sum.inc_by(1.5);
        sum.inc_by(-1.0);
        sum.inc_by(f64::NAN);
        assert_eq!(sum.get(), 1.5);
    }

    #[test]
    fn no_addition_of_many_threads_is_lost() {
        let sum = FloatCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| sum.inc_by(0.5)));
            }
        });
        assert_eq!(sum.get(), 2_000.0);
    }
}
