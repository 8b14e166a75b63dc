//! One rate limit, and those of one subject together: `governor`'s arithmetic under a lock of ours.
//!
//! governor decides (GCRA: a burst, and a cell a period); it has neither a look without spending nor a way to give back. So
//! its state is a store of ours, which is put back after a look. That is sound only while nobody else decides: a meter is
//! not shared between threads, and the lock around all of them makes "from each of these, or from none" one decision. Time is
//! passed in: the clock that governor reads is set before each question.
//!
//! Nothing smaller than a nanosecond lies between two cells. A rate of more than some ten million a second would be rounded
//! by more than a percent, so that bytes are counted in KiB.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::{Cost, Rates};
use crate::access::Rate;

/// Nanoseconds since the quotas were made.
pub(super) type Time = u64;

/// The time of the question that is asked.
#[derive(Debug, Default)]
struct Hand(Cell<Time>);

impl Clock for Hand {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get().into()
    }
}

/// When the bucket is full again, in GCRA's words the theoretical arrival time; 0 for one that was never used.
#[derive(Debug, Clone, Default)]
struct FullAt(Arc<AtomicU64>);

impl FullAt {
    // Under the lock around all meters there is nothing to order.
    fn get(&self) -> Time {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, time: Time) {
        self.0.store(time, Ordering::Relaxed);
    }
}

impl StateStore for FullAt {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let before = Some(self.get()).filter(|&time| time > 0).map(Nanos::from);
        let (outcome, after) = decide(before)?;
        self.set(after.into());
        Ok(outcome)
    }
}

/// One rate limit.
#[derive(Debug)]
struct Meter {
    rate: Rate,
    full_at: FullAt,
    limiter: RateLimiter<NotKeyed, FullAt, Hand, NoOpMiddleware<Nanos>>,
}

impl Meter {
    fn new(rate: Rate) -> Self {
        let full_at = FullAt::default();
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        // Its time starts at 0: that of a new clock.
        let limiter = RateLimiter::new(quota, full_at.clone(), Hand::default());
        Self { rate, full_at, limiter }
    }

    /// Spends, if there is enough; otherwise says when there would be.
    fn spend(&self, cells: u32, now: Time) -> Result<(), Time> {
        let Some(cells) = NonZeroU32::new(cells) else { return Ok(()) };
        self.limiter.clock().0.set(now);
        match self.limiter.check_n(cells) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.earliest_possible().into()),
            // Callers have compared with the burst.
            Err(_dearer_than_the_burst) => Err(Time::MAX),
        }
    }

    /// When there is enough, if nobody spends before. Spends nothing.
    fn ready_at(&self, cells: u32, now: Time) -> Time {
        let before = self.full_at.get();
        let answer = self.spend(cells, now);
        self.full_at.set(before);
        answer.err().unwrap_or(now)
    }

    /// Nanoseconds between two cells.
    fn period(rate: Rate) -> u64 {
        let period = Quota::per_second(rate.per_second).replenish_interval();
        // A billion cells a second or more: governor takes it for a billion.
        (period.as_nanos() as u64).max(1)
    }

    /// As it was, at another rate: cells that were spent stay spent, up to the new burst.
    fn at_rate(&self, rate: Rate, now: Time) -> Self {
        let spent = self.full_at.get().saturating_sub(now).div_ceil(Self::period(self.rate));
        let meter = Self::new(rate);
        if spent > 0 {
            let spent = spent.min(u64::from(rate.burst.get()));
            meter.full_at.set(now.saturating_add(spent.saturating_mul(Self::period(rate))));
        }
        meter
    }

    /// Whether it is no different from a new one.
    fn is_full(&self, now: Time) -> bool {
        self.full_at.get() <= now
    }
}

/// The rate limits of one subject.
#[derive(Debug, Default)]
pub(super) struct Meters {
    rows: Option<Meter>,
    kib: Option<Meter>,
}

impl Meters {
    /// Takes these rates from now on.
    pub(super) fn set(&mut self, rates: Rates, now: Time) {
        let set = |meter: &mut Option<Meter>, rate: Option<Rate>| match (&meter, rate) {
            (Some(running), Some(rate)) if running.rate == rate => {}
            (Some(running), Some(rate)) => *meter = Some(running.at_rate(rate, now)),
            (None, Some(rate)) => *meter = Some(Meter::new(rate)),
            (_, None) => *meter = None,
        };
        set(&mut self.rows, rates.rows);
        set(&mut self.kib, rates.kib);
    }

    /// When all of this could be spent, if nobody spends before: now, or later. Spends nothing.
    pub(super) fn ready_at(&self, cost: Cost, now: Time) -> Time {
        self.rows_ready_at(cost, now).max(self.kib.as_ref().map_or(now, |meter| meter.ready_at(cost.kib(), now)))
    }

    /// [`Self::ready_at`] for the rows alone.
    pub(super) fn rows_ready_at(&self, cost: Cost, now: Time) -> Time {
        self.rows.as_ref().map_or(now, |meter| meter.ready_at(cost.rows, now))
    }

    /// Whether it is the rows that take longest, rather than the KiB.
    pub(super) fn is_short_of_rows(&self, cost: Cost, now: Time) -> bool {
        self.rows.is_some() && self.rows_ready_at(cost, now) >= self.ready_at(cost, now)
    }

    /// Spends what [`Self::ready_at`] said can be spent now.
    pub(super) fn spend(&self, cost: Cost, now: Time) {
        for (meter, cells) in [(&self.rows, cost.rows), (&self.kib, cost.kib())] {
            let spent = meter.as_ref().map_or(Ok(()), |meter| meter.spend(cells, now));
            debug_assert!(spent.is_ok(), "nobody else spends between the look and this");
        }
    }

    /// How long the subject works for this at its rate, in nanoseconds.
    pub(super) fn service(&self, cost: Cost) -> u64 {
        let nanos = |meter: &Option<Meter>, cells: u32| {
            meter.as_ref().map_or(0, |meter| Meter::period(meter.rate).saturating_mul(u64::from(cells)))
        };
        nanos(&self.rows, cost.rows).max(nanos(&self.kib, cost.kib()))
    }

    /// Whether nothing is limited.
    pub(super) fn is_unlimited(&self) -> bool {
        self.rows.is_none() && self.kib.is_none()
    }

    /// Whether they are no different from new ones.
    pub(super) fn are_full(&self, now: Time) -> bool {
        [&self.rows, &self.kib].into_iter().flatten().all(|meter| meter.is_full(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    #[test]
    fn a_look_spends_nothing_and_tells_when() {
        let meter = Meter::new(rate(10, 5));
        assert_eq!(meter.ready_at(5, 0), 0);
        assert_eq!(meter.spend(5, 0), Ok(()));
        assert_eq!((meter.ready_at(5, 0), meter.ready_at(1, 0)), (SECOND / 2, SECOND / 10));
        assert_eq!(meter.spend(5, SECOND / 2), Ok(()));
        assert!(!meter.is_full(SECOND - 1) && meter.is_full(SECOND));
    }

    #[test]
    fn what_was_spent_stays_spent_when_the_rate_changes() {
        let mut meters = Meters::default();
        let rates = |rate| Rates { rows: Some(rate), kib: None };
        let cost = |rows| Cost { rows, bytes: 0 };
        meters.set(rates(rate(10, 10)), 0);
        meters.spend(cost(10), 0);
        // Ten cells are missing: at a hundred a second they are there after a tenth of a second.
        meters.set(rates(rate(100, 10)), 0);
        assert_eq!(meters.ready_at(cost(10), 0), SECOND / 10);
        // A smaller burst cannot miss more than all of it.
        meters.set(rates(rate(1, 2)), 0);
        assert_eq!(meters.ready_at(cost(2), 0), 2 * SECOND);
        meters.set(Rates::default(), 0);
        assert!(meters.is_unlimited() && meters.are_full(0));
    }

    #[test]
    fn the_largest_rates_and_bursts_do_not_overflow() {
        let meter = Meter::new(rate(1, u32::MAX));
        let century = 100 * 366 * 86_400 * SECOND;
        assert_eq!(meter.spend(u32::MAX, century), Ok(()));
        assert!(meter.ready_at(u32::MAX, century) > century);
        assert!(meter.at_rate(rate(u32::MAX, u32::MAX), century).ready_at(1, century) > century);
    }
}
