//! Whether a table is overrun, or throttles now and then whatever is asked of it. Pure. The caller is `gate`.
//!
//! A table whose capacity is used up throttles one attempt after another, until less is asked of it. But another writer
//! without manners may take a share of it, or something between throttle a call now and then: such throttling does not end when less
//! is asked, and a ceiling that fell with each of them would fall to nothing while nearly everything gets through. So the
//! share of throttled attempts of late is held against what is usual for the table: what is throttled even right after a cut,
//! when a table that was overrun has room.

/// The weight of an attempt in the share of late.
const LATE: f64 = 1.0 / 8.0;
/// The weight of an attempt in what is usual.
const USUAL: f64 = 1.0 / 100.0;
/// Above so many times what is usual,
const TIMES: f64 = 3.0;
/// and so much, it is overrun: where nothing is usual, by the first throttled attempt.
const MARGIN: f64 = 0.1;
/// Above this share it is overrun, however usual that is.
const ALWAYS: f64 = 0.5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Overrun {
    late: f64,
    usual: f64,
}

impl Overrun {
    /// An attempt was answered; whether it was throttled, if only in part, for want of the table's capacity, and whether it went
    /// right after a cut.
    pub(super) fn note(&mut self, throttled: bool, after_cut: bool) {
        let sign = f64::from(u8::from(throttled));
        self.late += LATE * (sign - self.late);
        if after_cut {
            self.usual += USUAL * (sign - self.usual);
        }
    }

    /// Whether it is overrun.
    pub(super) fn is_on(&self) -> bool {
        self.late > (TIMES * self.usual + MARGIN).min(ALWAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the throttled attempts were a sign of a table that is overrun.
    fn signs(attempts: impl IntoIterator<Item = bool>) -> (u32, u32) {
        let mut overrun = Overrun::default();
        let (mut signs, mut throttled) = (0, 0);
        for attempt in attempts {
            overrun.note(attempt, true);
            throttled += u32::from(attempt);
            signs += u32::from(attempt && overrun.is_on());
        }
        (signs, throttled)
    }

    #[test]
    fn a_share_that_is_always_throttled_is_no_overrun() {
        for percent in [5, 10, 20] {
            let mut rng = fastrand::Rng::with_seed(percent);
            let (signs, throttled) = signs((0..20_000).map(|_| rng.u64(..100) < percent));
            assert!(f64::from(signs) < 0.1 * f64::from(throttled), "{percent} %: {signs} of {throttled}");
        }
    }

    #[test]
    fn one_throttled_attempt_after_another_is_one() {
        let run = |throttled: usize| (0..200).map(|_| false).chain((0..throttled).map(|_| true));
        assert_eq!(signs(run(1)), (1, 1));
        assert_eq!(signs(run(2)), (2, 2));
        let always = (0..10_000).map(|_| true);
        assert_eq!(signs(always), (10_000, 10_000), "however usual it is");
    }
}
