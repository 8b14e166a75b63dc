//! A metric with labels: one [`super::metric`] for each set of labels that was seen.
//!
//! The number of sets is bounded, because tables and principals come from outside: when a family is full, new sets share
//! one whose labels all say `other`, and a warning is logged once. Sets that were there before keep counting.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::labels::Labels;
use crate::limits::METRIC_LABEL_SETS_MAX;

/// Metrics by their labels.
pub struct Family<L, M>(Arc<Inner<L, M>>);

struct Inner<L, M> {
    name: &'static str,
    sets: RwLock<HashMap<L, M, foldhash::fast::RandomState>>,
    make: Box<dyn Fn(&L) -> M + Send + Sync>,
    warned: AtomicBool,
}

impl<L, M> Clone for Family<L, M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L, M> fmt::Debug for Family<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<L: Labels, M: Clone> Family<L, M> {
    /// Without a set; `make` makes the metric of a new one.
    pub(super) fn new(name: &'static str, make: impl Fn(&L) -> M + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { name, sets: RwLock::default(), make: Box::new(make), warned: AtomicBool::new(false) }))
    }

    /// The metric of these labels, or the one for `other` when the family is full.
    pub fn get_or_create(&self, labels: &L) -> M {
        let inner = &*self.0;
        // Nothing panics while it holds the lock, and a map that was poisoned all the same is still whole.
        if let Some(metric) = inner.sets.read().unwrap_or_else(PoisonError::into_inner).get(labels) {
            return metric.clone();
        }
        let mut sets = inner.sets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = sets.get(labels) {
            return metric.clone();
        }
        // One place is kept for `other`.
        let full = sets.len() >= METRIC_LABEL_SETS_MAX - 1;
        let labels = if full { L::other() } else { labels.clone() };
        let metric = sets.entry(labels).or_insert_with_key(|labels| (inner.make)(labels)).clone();
        drop(sets);
        if full && !inner.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                metric = inner.name,
                max = METRIC_LABEL_SETS_MAX,
                "a metric has too many label sets; new ones are counted together, as `other`"
            );
        }
        metric
    }

    /// Shows each set and its metric, in no order. No set is added meanwhile, so `show` should be quick.
    pub fn each(&self, mut show: impl FnMut(&L, &M)) {
        for (labels, metric) in self.0.sets.read().unwrap_or_else(PoisonError::into_inner).iter() {
            show(labels, metric);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::instruments::TableLabel;
    use crate::telemetry::labels::OTHER;
    use crate::telemetry::metric::Counter;

    fn table(name: impl ToString) -> TableLabel {
        TableLabel { dynamodb_table: name.to_string() }
    }

    #[test]
    fn label_sets_beyond_the_bound_are_counted_together() {
        let family: Family<TableLabel, Counter> = Family::new("test", |_| Counter::default());
        for name in 0..METRIC_LABEL_SETS_MAX * 2 {
            family.get_or_create(&table(name)).inc();
        }
        let (mut sets, mut sum) = (0, 0);
        family.each(|_, counter| (sets, sum) = (sets + 1, sum + counter.get()));
        assert_eq!((sets, sum), (METRIC_LABEL_SETS_MAX, METRIC_LABEL_SETS_MAX as u64 * 2));
        assert_eq!(family.get_or_create(&table(OTHER)).get(), METRIC_LABEL_SETS_MAX as u64 + 1);

        family.get_or_create(&table(0)).inc();
        assert_eq!(family.get_or_create(&table(0)).get(), 2, "those that were there before keep counting");
    }
}
