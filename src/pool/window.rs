//! The window of a table: how many attempts may be in flight. It adapts per attempt. Pure; time is passed in.
//!
//! - Clean attempts at the limit let it grow: by one each until the first sign of trouble, then by one a round.
//! - A throttled attempt shrinks it in proportion to its throttled fraction, an attempt without answer by a third; both once
//!   a round, because attempts that were under way together say the same thing.
//! - An attempt that takes much longer than attempts of its size usually do is a queue growing somewhere: no growth, and
//!   where it goes on, a smaller window.
//!
//! The caller is `gate`.

use tokio::time::Instant;

/// A window's bounds, in attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowConfig {
    /// Where it starts.
    pub first: usize,
    /// The most.
    pub most: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    config: WindowConfig,
    limit: f64,
    /// Before the first sign of trouble.
    doubling: bool,
    shrunk_at: Option<Instant>,
    latencies: [Latency; SIZE_CLASSES],
}

/// How an attempt went, as far as the window is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sign {
    /// Answered, and nothing throttled.
    Clean,
    /// This fraction of it was throttled for want of the table's capacity.
    Throttled(f64),
    /// No answer.
    Silent,
    /// It says nothing about the table: a hot key was throttled, say.
    Nothing,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    pub(super) started: Instant,
    pub(super) now: Instant,
    pub(super) bytes: usize,
    /// Whether the window was full when it went.
    pub(super) at_limit: bool,
    pub(super) sign: Sign,
}

/// Latency of attempts of one size.
#[derive(Debug, Clone, Copy, Default)]
struct Latency {
    /// What they take when nothing is in the way: the smallest mean of late, rising slowly so that it forgets.
    base: f64,
    /// What they took of late.
    mean: f64,
}

/// Attempts of up to 4, 16, 64, ... KiB are compared with each other.
const SIZE_CLASSES: usize = 8;
/// The weight of a new latency in the mean.
const MEAN_WEIGHT: f64 = 0.1;
/// How fast the base rises to the mean.
const BASE_WEIGHT: f64 = 0.0002;
/// Times the base, and this much more, are no queue yet: latencies vary.
const SLOW: (f64, f64) = (2.0, 0.010);
/// Beyond this, the window shrinks.
const TOO_SLOW: (f64, f64) = (4.0, 0.050);

impl Window {
    pub(super) fn new(config: WindowConfig) -> Self {
        let limit = config.first.clamp(1, config.most.max(1)) as f64;
        Self { config, limit, doubling: true, shrunk_at: None, latencies: [Latency::default(); SIZE_CLASSES] }
    }

    /// Attempts that may be in flight.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Learns from an attempt; whether it made the window smaller.
    pub(super) fn observe(&mut self, seen: Observed) -> bool {
        let before = self.shrunk_at;
        self.learn(seen);
        self.shrunk_at != before
    }

    fn learn(&mut self, seen: Observed) {
        match seen.sign {
            Sign::Clean => {
                let latency = (seen.now - seen.started).as_secs_f64();
                let class = &mut self.latencies[size_class(seen.bytes)];
                class.note(latency);
                let (slow, too_slow) = (class.is_over(SLOW), class.is_over(TOO_SLOW));
                if too_slow {
                    self.shrink(0.9, seen);
                } else if seen.at_limit && !slow {
                    self.limit += if self.doubling { 1.0 } else { 1.0 / self.limit };
                    self.limit = self.limit.min(self.config.most.max(1) as f64);
                }
            }
            // Half of it: units are rationed besides, and a window of one could not even find out.
            Sign::Throttled(fraction) => self.shrink(1.0 - fraction.clamp(0.0, 1.0) / 2.0, seen),
            Sign::Silent => self.shrink(2.0 / 3.0, seen),
            Sign::Nothing => {}
        }
    }

    fn shrink(&mut self, to: f64, seen: Observed) {
        if self.shrunk_at.is_some_and(|at| seen.started <= at) {
            return;
        }
        self.shrunk_at = Some(seen.now);
        self.doubling = false;
        self.limit = (self.limit * to).max(1.0);
    }
}

impl Latency {
    fn note(&mut self, seconds: f64) {
        if self.mean == 0.0 {
            (self.base, self.mean) = (seconds, seconds);
            return;
        }
        self.mean += MEAN_WEIGHT * (seconds - self.mean);
        self.base = if self.mean < self.base { self.mean } else { self.base + BASE_WEIGHT * (self.mean - self.base) };
    }

    /// Whether the mean of late is over the base by so much.
    fn is_over(&self, (times, seconds): (f64, f64)) -> bool {
        self.mean > self.base * times + seconds
    }
}

fn size_class(bytes: usize) -> usize {
    let kib = (bytes / 4096) as u32;
    ((u32::BITS - kib.leading_zeros()).div_ceil(2) as usize).min(SIZE_CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CONFIG: WindowConfig = WindowConfig { first: 4, most: 64 };

    struct Rounds {
        window: Window,
        now: Instant,
    }

    impl Rounds {
        /// A full window of attempts that take so long.
        fn round(&mut self, ms: u64, sign: Sign) -> usize {
            let started = self.now;
            self.now += Duration::from_millis(ms);
            for _ in 0..self.window.limit() {
                let at_limit = true;
                self.window.observe(Observed { started, now: self.now, bytes: 20_000, at_limit, sign });
            }
            self.now += Duration::from_millis(1);
            self.window.limit()
        }
    }

    fn rounds() -> Rounds {
        Rounds { window: Window::new(CONFIG), now: Instant::now() }
    }

    #[test]
    fn it_doubles_until_trouble_and_then_grows_by_one_a_round() {
        let mut rounds = rounds();
        assert_eq!(rounds.round(10, Sign::Clean), 8);
        assert_eq!(rounds.round(10, Sign::Clean), 16);
        assert_eq!(rounds.round(10, Sign::Throttled(0.5)), 12, "once a round, in proportion");
        assert_eq!(rounds.round(10, Sign::Clean), 12 + 1 - 1, "a little less than one: the limit grows on the way");
        assert_eq!(rounds.round(10, Sign::Clean), 13);
        for _ in 0..100 {
            rounds.round(10, Sign::Clean);
        }
        assert_eq!(rounds.window.limit(), CONFIG.most);
    }

    #[test]
    fn silence_brings_it_down_to_one_and_never_to_none() {
        let mut rounds = rounds();
        for _ in 0..20 {
            rounds.round(5_000, Sign::Silent);
        }
        assert_eq!(rounds.window.limit(), 1);
    }

    #[test]
    fn a_throttled_hot_key_does_not_shrink_it() {
        let mut rounds = rounds();
        assert_eq!(rounds.round(10, Sign::Nothing), 4);
    }

    #[test]
    fn a_growing_queue_ends_growth_and_a_long_one_shrinks_it() {
        let mut rounds = rounds();
        for _ in 0..3 {
            rounds.round(10, Sign::Clean);
        }
        let before = rounds.window.limit();
        rounds.round(45, Sign::Clean);
        let slow = rounds.window.limit();
        for _ in 0..2 {
            rounds.round(45, Sign::Clean);
        }
        assert!(rounds.window.limit() <= slow, "from {before}");
        for _ in 0..30 {
            rounds.round(300, Sign::Clean);
        }
        assert!(rounds.window.limit() < slow / 2, "{}", rounds.window.limit());
    }

    #[test]
    fn latencies_count_only_between_attempts_of_similar_size() {
        assert_ne!(size_class(400), size_class(20_000));
        assert_ne!(size_class(20_000), size_class(400_000));
        assert_eq!(size_class(usize::MAX >> 8), SIZE_CLASSES - 1);
        let mut window = Window::new(CONFIG);
        let mut now = Instant::now();
        for _ in 0..100 {
            for (bytes, ms) in [(1_000, 5), (4_000_000, 150)] {
                let started = now;
                now += Duration::from_millis(ms);
                window.observe(Observed { started, now, bytes, at_limit: true, sign: Sign::Clean });
            }
        }
        assert_eq!(window.limit(), CONFIG.most);
    }
}
