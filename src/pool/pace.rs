//! The ceiling of a table's write units a second: a token bucket whose rate is learnt from throttling. Pure; time is passed in.
//!
//! Concurrency alone cannot pace a small table: one call at a time of 25 units and 10 ms is 2,500 units a second. So, once
//! DynamoDB has throttled, units are what is rationed:
//!
//! - While nothing is throttled there is no ceiling, but the one that the table's owner set.
//! - A throttled attempt cuts the ceiling to a little less than what got through: in proportion to the throttled fraction, and
//!   never far below the share that DynamoDB confirmed in the last moments. Attempts sent before the cut say nothing new.
//! - From then on it grows, slowly at first and then ever faster: it stays near a capacity that has not changed, and finds a
//!   doubled one within seconds. It only grows while it is what holds rows back.
//! - A ceiling that holds nothing back is forgotten after a while.
//!
//! Lanes reserve their turns in order, so that none starves. The caller is `gate`.

use std::time::Duration;

use tokio::time::Instant;

use super::meter::Meter;

/// What is kept of a capacity that was just exceeded.
const KEPT: f64 = 0.98;
/// The most that one attempt may cut below what was confirmed in the last moments.
const DEEPEST_CUT: f64 = 0.95;
/// A cut where nothing at all got through.
const BLIND_CUT: f64 = 0.5;
/// What a table that gave nothing is still asked for, of what it gave before.
const ASKING: f64 = 0.02;
/// The most that is forgotten of it at once,
const FORGETS_TO: f64 = 0.75;
/// and how often.
const FORGETS_EVERY: Duration = Duration::from_millis(500);
/// How fast a ceiling comes back to what is known to be there.
const DOUBLES_IN: Duration = Duration::from_millis(250);
/// How long the ceiling rests after a cut.
const HOLD: Duration = Duration::from_secs(1);
/// Growth is a little of what is known each second: what a table saves meanwhile makes up for the rest;
const CREEP: f64 = 0.004;
/// and a leap that begins late: 1 % after four seconds, 5 % after six, doubled after nine.
const LEAP: f64 = 0.05;
/// When the leap has come to that,
const LEAP_AFTER_SECONDS: f64 = 6.0;
/// and how often it doubles in a second.
const LEAP_DOUBLINGS: f64 = 1.5;
/// The ceiling never falls below this: a table has at least one write unit.
const FLOOR_UNITS_PER_SECOND: f64 = 1.0;
/// Units may go at once that the ceiling allows in this time: it is what a late wake-up loses.
const BURST: Duration = Duration::from_millis(50);
/// After a cut nothing goes for so long, and for so many attempts, so that the table's own bucket is not empty when the next
/// call comes.
const REFILL: Duration = Duration::from_millis(30);
const REFILL_ATTEMPTS: f64 = 1.5;
/// No attempt asks for more than the ceiling allows in this time, so that little is lost where it is throttled.
const ATTEMPT: Duration = Duration::from_millis(25);
/// A cut that was not enough is followed by another before this.
const SETTLES_IN: Duration = Duration::from_millis(300);
/// A ceiling that has held nothing back for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// How long after a reservation had to wait the ceiling counts as what holds rows back.
const LIMITED_FOR: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// What the owner allows, in units a second.
    allowed: Option<f64>,
    learnt: Option<Learnt>,
    /// When the bucket is full again: each unit moves it on.
    full_at: Option<Instant>,
    /// Units that DynamoDB confirmed.
    confirmed: Meter,
    /// Units that were tried.
    tried: Meter,
    /// When a reservation last had to wait.
    limited_at: Option<Instant>,
    /// What was known a while ago, and when that was noted.
    anchor: Option<(f64, Instant)>,
    cuts: u32,
}

#[derive(Debug)]
struct Learnt {
    /// Units a second right after the cut.
    floor: f64,
    /// Units a second that got through when the table was last seen to be full: reached again fast, and left slowly.
    known: f64,
    /// How long the ceiling rests.
    hold: Duration,
    cut_at: Instant,
    /// Time in which the ceiling held rows back, since the hold after the cut.
    grown_for: Duration,
    seen_at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            allowed: None,
            learnt: None,
            full_at: None,
            confirmed: Meter::new(),
            tried: Meter::new(),
            limited_at: None,
            anchor: None,
            cuts: 0,
        }
    }

    /// Follows what the table's owner allows, in units a second; 0 for no limit.
    pub(super) fn allow(&mut self, max_units: u64) {
        self.allowed = (max_units > 0).then_some(max_units as f64);
    }

    /// The ceiling, in units a second; `None` where there is none.
    pub(super) fn ceiling(&self) -> Option<f64> {
        match (self.learnt.as_ref().map(Learnt::rate), self.allowed) {
            (Some(learnt), Some(allowed)) => Some(learnt.min(allowed)),
            (learnt, allowed) => learnt.or(allowed),
        }
    }

    /// The most units that one attempt should ask for: a call of 25 KB at a table of 5 units a second would be throttled
    /// whatever its turn.
    pub(super) fn attempt_units(&self) -> f64 {
        self.ceiling().map_or(f64::INFINITY, |rate| (rate * ATTEMPT.as_secs_f64()).max(1.0))
    }

    /// How often the ceiling was cut: turns that were given before the last time are void.
    pub(super) fn cuts(&self) -> u32 {
        self.cuts
    }

    /// Whether an attempt that began at `started` went when a cut had just done its work: nothing should be throttled then.
    pub(super) fn has_just_cut(&self, started: Instant) -> bool {
        let since = self.learnt.as_ref().map(|learnt| started.saturating_duration_since(learnt.cut_at));
        since.is_some_and(|since| since > SETTLES_IN && since <= HOLD + SETTLES_IN)
    }

    /// Takes a turn for so many units: when it may go.
    pub(super) fn reserve(&mut self, units: f64, now: Instant) -> Instant {
        self.age(now);
        let Some(rate) = self.ceiling() else { return now };
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let turn = full_at.checked_sub(BURST).map_or(now, |at| at.max(now));
        self.full_at = Some(full_at + seconds(units / rate));
        if turn > now {
            self.limited_at = Some(now);
        }
        turn
    }

    /// Corrects a turn: it takes so many units more (or fewer) than was thought. What is throttled is no correction.
    pub(super) fn correct(&mut self, units: f64) {
        let (Some(rate), Some(full_at)) = (self.ceiling(), self.full_at) else { return };
        let by = seconds(units.abs() / rate);
        self.full_at = if units < 0.0 { full_at.checked_sub(by) } else { Some(full_at + by) };
    }

    /// An attempt was answered.
    pub(super) fn note(&mut self, tried: f64, confirmed: f64, now: Instant) {
        self.tried.add(tried, now);
        self.confirmed.add(confirmed, now);
    }

    /// An attempt of so many units that began at `started` was throttled for want of the table's capacity, in this fraction.
    /// Whether that was news.
    pub(super) fn throttled(&mut self, fraction: f64, units: f64, started: Instant, now: Instant) -> bool {
        if self.learnt.as_ref().is_some_and(|learnt| started <= learnt.cut_at) {
            return false;
        }
        if self.learnt.is_none() && !self.tried.is_settled(now) {
            // The first calls after a pause say little about a rate; the window shrinks meanwhile.
            return false;
        }
        self.age(now);
        let confirmed = self.confirmed.per_second(now);
        let rate = self.learnt.as_ref().map_or_else(|| self.tried.per_second(now), Learnt::rate);
        let known = self.learnt.as_ref().map_or(rate, |learnt| learnt.known);
        let (floor, known, hold) = if confirmed > 0.0 {
            let proportional = rate * (1.0 - fraction.clamp(0.0, 1.0)) * KEPT;
            // The pause after a cut must not look like a table that gives less: then only the share of what was tried counts.
            let has_paused = self.learnt.as_ref().is_some_and(|learnt| now - learnt.cut_at < SETTLES_IN);
            let given = if has_paused { rate * confirmed / self.tried.per_second(now).max(confirmed) } else { confirmed };
            let floor = proportional.max(given * DEEPEST_CUT).min(rate * KEPT).max(FLOOR_UNITS_PER_SECOND);
            let known = self.known_after(floor, now);
            (floor, known, if known > floor { Duration::ZERO } else { HOLD })
        } else {
            // Somebody else has it all, for now. Ask rarely, and be back at once when some is free.
            let floor = (rate * BLIND_CUT).max(known * ASKING).max(FLOOR_UNITS_PER_SECOND);
            (floor, known.max(floor), Duration::ZERO)
        };
        self.learnt = Some(Learnt { floor, known, hold, cut_at: now, grown_for: Duration::ZERO, seen_at: now });
        self.limited_at = Some(now);
        self.cuts = self.cuts.wrapping_add(1);
        // The table's bucket is empty: a call at once would be throttled whatever the rate.
        self.full_at = Some(now + BURST + REFILL + seconds(REFILL_ATTEMPTS * units / floor));
        true
    }

    /// What stays known after a cut to `floor`: in any half a second at least a part of what was known before, because a table
    /// that goes away, or is just coming back, gives little for a moment.
    fn known_after(&mut self, floor: f64, now: Instant) -> f64 {
        let Some(learnt) = &self.learnt else { return floor };
        let is_old = |(_, at): (f64, Instant)| now.saturating_duration_since(at) >= FORGETS_EVERY;
        let (anchor, _) = *match &mut self.anchor {
            Some(anchor) if !is_old(*anchor) => anchor,
            anchor => anchor.insert((learnt.known, now)),
        };
        floor.max(anchor * FORGETS_TO)
    }

    /// Lets the ceiling grow by the time that has passed, or forgets it.
    fn age(&mut self, now: Instant) {
        let limited = self.limited_at.is_some_and(|at| now.saturating_duration_since(at) <= LIMITED_FOR);
        let Some(learnt) = &mut self.learnt else { return };
        let passed = now.saturating_duration_since(learnt.seen_at.max(learnt.cut_at + learnt.hold));
        learnt.seen_at = learnt.seen_at.max(now);
        if limited {
            learnt.grown_for += passed;
        }
        if self.limited_at.is_none_or(|at| now.saturating_duration_since(at) > FORGET_AFTER) {
            self.learnt = None;
        }
    }
}

impl Learnt {
    fn rate(&self) -> f64 {
        let (seconds, doublings) = (self.grown_for.as_secs_f64(), (self.known / self.floor).log2().max(0.0));
        let catching_up = doublings * DOUBLES_IN.as_secs_f64();
        if seconds < catching_up {
            return self.floor * (seconds / DOUBLES_IN.as_secs_f64()).exp2();
        }
        let seconds = seconds - catching_up;
        self.known * (1.0 + CREEP * seconds + LEAP * (LEAP_DOUBLINGS * (seconds - LEAP_AFTER_SECONDS)).exp2())
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends as fast as the pace allows at a table of `capacity(second)` units a second, which saves 300 ms of it, in calls of
    /// 25 units that take 10 ms, and returns per second: units confirmed, attempts, throttled attempts.
    fn drive(seconds: u64, capacity: impl Fn(u64) -> f64) -> Vec<(f64, u32, u32)> {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(), start);
        let (mut tokens, mut filled_at) = (0.0, start);
        let mut series = vec![(0.0, 0, 0); seconds as usize];
        let mut answers = std::collections::VecDeque::<(Instant, Instant, f64, f64)>::new();
        while now < start + Duration::from_secs(seconds) {
            while let Some(&(at, sent, asked, got)) = answers.front()
                && at <= now
            {
                answers.pop_front();
                pace.note(asked, got, at);
                if got < asked {
                    pace.throttled(1.0 - got / asked, asked, sent, at);
                }
            }
            let asked = pace.attempt_units().min(25.0).floor();
            let turn = pace.reserve(asked, now).max(now + MS / 4);
            now = turn;
            let second = (now - start).as_secs();
            if second >= seconds {
                break;
            }
            tokens = (tokens + (now - filled_at).as_secs_f64() * capacity(second)).min(capacity(second) * 0.3);
            filled_at = now;
            let got = tokens.floor().clamp(0.0, asked);
            tokens -= got;
            answers.push_back((now + 10 * MS, now, asked, got));
            let entry = &mut series[second as usize];
            entry.0 += got;
            entry.1 += 1;
            entry.2 += u32::from(got < asked);
        }
        series
    }

    #[test]
    fn a_steady_capacity_is_used_with_few_throttled_attempts() {
        for capacity in [100.0, 300.0, 1_000.0, 5_000.0, 40_000.0] {
            let series = drive(120, |_| capacity);
            let settled = &series[10..];
            let used: f64 = settled.iter().map(|entry| entry.0).sum::<f64>() / (110.0 * capacity);
            let attempts: u32 = settled.iter().map(|entry| entry.1).sum();
            let throttled: u32 = settled.iter().map(|entry| entry.2).sum();
            let share = f64::from(throttled) / f64::from(attempts);
            assert!(used >= 0.95, "{capacity}: {used} used");
            assert!(share < 0.02, "{capacity}: {share} of {attempts} attempts throttled");
        }
    }

    #[test]
    fn a_changed_capacity_is_found_within_ten_seconds() {
        for (before, after) in [(2_000.0, 1_000.0), (2_000.0, 4_000.0), (40_000.0, 20_000.0), (500.0, 1_000.0)] {
            let series = drive(60, |second| if second < 30 { before } else { after });
            // Three seconds at a time: in one of them it may use what the table has saved.
            for entries in series[40..].windows(3) {
                let mean = entries.iter().map(|entry| entry.0).sum::<f64>() / 3.0;
                assert!((mean / after - 1.0).abs() <= 0.1, "{before} to {after}: {series:?}");
            }
        }
    }

    #[test]
    fn a_table_that_gave_nothing_for_a_while_is_back_at_once() {
        let series = drive(40, |second| if (10..20).contains(&second) { 0.0 } else { 2_000.0 });
        let throttled: u32 = series[11..20].iter().map(|entry| entry.2).sum();
        assert!(throttled < 9 * 25, "{series:?}");
        assert!(series[23].0 > 1_000.0, "{series:?}");
    }

    #[test]
    fn what_the_owner_allows_is_held_without_throttling() {
        let mut pace = Pace::new();
        pace.allow(100);
        let start = Instant::now();
        let mut now = start;
        let mut units = 0.0;
        while now < start + Duration::from_secs(10) {
            now = pace.reserve(5.0, now);
            units += 5.0;
        }
        assert!((1_000.0..=1_020.0).contains(&units), "{units}");
    }

    #[test]
    fn a_ceiling_that_holds_nothing_back_is_forgotten() {
        let mut pace = Pace::new();
        let start = Instant::now();
        pace.note(100.0, 50.0, start - Duration::from_millis(250));
        pace.note(100.0, 50.0, start);
        assert!(pace.throttled(0.5, 100.0, start + MS, start + 2 * MS));
        assert!(!pace.throttled(0.5, 100.0, start + MS, start + 3 * MS), "it was sent before the cut");
        assert!(pace.ceiling().is_some());
        pace.reserve(0.001, start + FORGET_AFTER * 2);
        assert_eq!(pace.ceiling(), None);
    }
}
