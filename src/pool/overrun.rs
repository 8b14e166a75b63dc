//! Whether a table is overrun, or throttles now and then whatever is asked of it. Pure; time is passed in. The caller is `gate`.
//!
//! A table whose capacity is used up throttles until less is asked of it: a cut or two of the ceiling, and it is quiet for
//! seconds. But another writer without manners may have a share of it, or something between throttle a call now and then: such
//! throttling does not end when less is asked, and a ceiling that is cut each time falls to nothing while nearly everything
//! gets through. So cuts that follow each other are looked at together: where they took much and yet few attempts were
//! throttled all the while, they were in vain. Then the ceiling is given back, and for a while only a table that throttles
//! most of what comes counts as overrun.

use std::time::Duration;

use tokio::time::Instant;

/// The weight of an attempt in the share of late.
const LATE: f64 = 1.0 / 8.0;
/// While cuts are known to be in vain, a table is overrun above this share of throttled attempts.
const MOST: f64 = 0.4;
/// So long that is remembered.
const IN_VAIN_FOR: Duration = Duration::from_secs(60);
/// Cuts no further apart than this belong together: a table that has room after a cut is quiet for longer.
const TOGETHER: Duration = Duration::from_secs(3);
/// How long it takes to find the first ceiling.
const FINDING: Duration = Duration::from_secs(5);
/// Cuts that leave less than this of the ceiling took much,
const MUCH: f64 = 0.5;
/// and were in vain where no more than this share of the attempts was throttled meanwhile,
const FEW: f64 = 0.15;
/// of at least so many.
const ATTEMPTS: u32 = 60;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Overrun {
    late: f64,
    series: Option<Series>,
    in_vain_until: Option<Instant>,
}

/// Cuts that follow each other.
#[derive(Debug, Clone, Copy)]
struct Series {
    /// The ceiling before the first, in units a second; 0 while the first ceiling is still being found, which takes much.
    from: f64,
    began_at: Instant,
    last_at: Instant,
    attempts: u32,
    throttled: u32,
}

impl Overrun {
    /// An attempt was answered; whether it was throttled, if only in part, for want of the table's capacity.
    pub(super) fn note(&mut self, throttled: bool) {
        self.late += LATE * (f64::from(u8::from(throttled)) - self.late);
        if let Some(series) = &mut self.series {
            series.attempts += 1;
            series.throttled += u32::from(throttled);
        }
    }

    /// Whether a throttled attempt is a sign that the table is overrun.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.in_vain_until.is_none_or(|until| now >= until) || self.late > MOST
    }

    /// The ceiling was cut; there was none before the first time. The one to give back, where that was in vain, and the cuts
    /// before it.
    pub(super) fn cut(&mut self, before: Option<f64>, after: f64, now: Instant) -> Option<f64> {
        let of_now = Series { from: before.unwrap_or(0.0), began_at: now, last_at: now, attempts: 0, throttled: 0 };
        let series = self.series.get_or_insert(of_now);
        let is_quiet = now.saturating_duration_since(series.last_at) > TOGETHER;
        let is_found = series.from == 0.0 && now.saturating_duration_since(series.began_at) > FINDING;
        if is_quiet || is_found {
            *series = of_now;
        }
        series.last_at = now;
        let Series { from, attempts, throttled, .. } = *series;
        let took_much = after < from * MUCH;
        if !took_much || attempts < ATTEMPTS || f64::from(throttled) > f64::from(attempts) * FEW {
            return None;
        }
        self.series = None;
        self.in_vain_until = Some(now + IN_VAIN_FOR);
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Attempts every 25 ms of which `throttled` says; each sign cuts a tenth. The ceiling in the end, of 1 in the beginning,
    /// and how many were signs.
    fn ceiling_after(attempts: u32, mut throttled: impl FnMut(u32, f64) -> bool) -> (f64, u32) {
        let (mut overrun, mut now, mut ceiling, mut signs) = (Overrun::default(), Instant::now(), 1.0, 0);
        for attempt in 0..attempts {
            now += 25 * MS;
            let throttled = throttled(attempt, ceiling);
            overrun.note(throttled);
            if throttled && overrun.is_on(now) {
                signs += 1;
                let before = ceiling;
                ceiling *= 0.9;
                ceiling = overrun.cut(Some(before), ceiling, now).unwrap_or(ceiling);
            }
        }
        (ceiling, signs)
    }

    #[test]
    fn a_share_that_is_always_throttled_does_not_take_the_ceiling_down() {
        for percent in [2, 5, 10] {
            let mut rng = fastrand::Rng::with_seed(percent);
            let (ceiling, _) = ceiling_after(2_000, |_, _| rng.u64(..100) < percent);
            assert!(ceiling > 0.4, "{percent} %: {ceiling}");
        }
    }

    #[test]
    fn a_table_with_less_than_before_is_followed_down() {
        for capacity in [0.5, 0.1] {
            let (ceiling, _) = ceiling_after(400, |_, ceiling| ceiling > capacity);
            assert!((capacity * 0.85..=capacity).contains(&ceiling), "{capacity}: {ceiling}");
        }
    }

    #[test]
    fn a_table_that_gives_nothing_is_overrun_even_where_cuts_were_in_vain_before() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (ceiling, _) = ceiling_after(1_000, |attempt, _| attempt > 900 || rng.u64(..100) < 5);
        assert!(ceiling < 0.1, "{ceiling}");
    }
}
