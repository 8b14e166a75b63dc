//! A table's gate: what its lanes share to decide whether another attempt may go.
//!
//! One lock a table, taken a few times per attempt and never across a wait. Behind it are pure parts: the [window](super::window) in
//! attempts, the [pace](super::pace) in write units, the [attribution](super::attribution) of throttling, and whether it is
//! [overrun](super::overrun) at all. A lane that may not go is told when to come again, or is called when a place is free; calls are in order, so that no lane starves.
//!
//! Invariant: a place is freed exactly once, on every way out: [`Permit`] frees it when dropped. The caller is `lane`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attribution::{Attribution, Blame};
use super::overrun::Overrun;
use super::pace::Pace;
use super::window::{Observed, Sign, Window, WindowConfig};
use crate::limits::BATCH_WRITE_MAX_OPERATIONS;
use crate::store::ThrottleReason;

/// The gates of all tables.
#[derive(Debug)]
pub(super) struct Gates {
    tables: Mutex<HashMap<Arc<str>, Arc<Gate>>>,
    window: WindowConfig,
    /// How lanes are called.
    lanes: Arc<[Arc<Notify>]>,
}

/// One table's.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    lanes: Arc<[Arc<Notify>]>,
}

#[derive(Debug)]
struct State {
    window: Window,
    pace: Pace,
    attribution: Attribution,
    overrun: Overrun,
    in_flight: usize,
    /// Lanes that wait for a place, in order.
    waiting: VecDeque<usize>,
    /// Lanes that were called and have not come yet: a place is kept for each.
    called: Vec<usize>,
    /// Units of an attempt, of late: what a turn is reserved for before the batch is known.
    usual_units: f64,
}

/// A lane's turn that was reserved and not used yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    at: Instant,
    units: f64,
    /// Of which ceiling: after a cut, turns that were given before come too early.
    cuts: u32,
}

/// Whether an attempt may go.
#[derive(Debug)]
pub(super) enum Admission {
    /// It may, with about so many units.
    Go(Permit, f64),
    /// Not before this time.
    Later(Instant),
    /// Not before the lane is called.
    Busy,
}

/// A place in the window; freed on drop.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    at_limit: bool,
    /// Units that the turn was reserved for, corrected when the batch is known.
    units: f64,
}

/// How an attempt went.
#[derive(Debug)]
pub(super) struct Attempted<'a> {
    pub(super) started: Instant,
    pub(super) now: Instant,
    pub(super) items: usize,
    pub(super) bytes: usize,
    /// Units that DynamoDB reported; `None` where it said nothing.
    pub(super) units: Option<f64>,
    pub(super) result: Answer<'a>,
}

/// What the answer was.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// Answered; the partition hashes of the items that were throttled. None: a clean attempt.
    Answered {
        /// One hash an item.
        throttled: &'a [u64],
        /// Why, as far as DynamoDB says.
        reason: Option<ThrottleReason>,
    },
    /// None came, or there was no way to ask.
    Silent,
    /// One that has nothing to do with capacity.
    Other,
}

/// What an attempt taught.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lesson {
    /// Whose throttling it was.
    pub(super) blame: Blame,
    /// It made the table's window smaller.
    pub(super) is_news: bool,
    /// Nobody knows why: one of the items alone would be told.
    pub(super) wants_reason: bool,
    /// Attempts that may be in flight now.
    pub(super) window: usize,
    /// Units a second that may be written now; `None` where there is no ceiling.
    pub(super) ceiling: Option<f64>,
}

impl Gates {
    pub(super) fn new(window: WindowConfig, lanes: Arc<[Arc<Notify>]>) -> Self {
        Self { tables: Mutex::default(), window, lanes }
    }

    /// A table's gate; what it has learnt stays for the life of the process.
    pub(super) fn of(&self, table: &Arc<str>) -> Arc<Gate> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = tables.entry(Arc::clone(table)).or_insert_with(|| {
            let state = State {
                window: Window::new(self.window),
                pace: Pace::new(),
                attribution: Attribution::new(),
                overrun: Overrun::default(),
                in_flight: 0,
                waiting: VecDeque::new(),
                called: Vec::new(),
                usual_units: BATCH_WRITE_MAX_OPERATIONS as f64,
            };
            Arc::new(Gate { state: Mutex::new(state), lanes: Arc::clone(&self.lanes) })
        });
        Arc::clone(gate)
    }
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves plain numbers behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the owner's ceiling, in units a second; 0 for none.
    pub(super) fn allow(&self, max_write_units: u64) {
        self.state().pace.allow(max_write_units);
    }

    /// Asks for a lane that has something to send. `turn` is the lane's own, kept from one time to the next.
    pub(super) fn admit(self: &Arc<Self>, lane: usize, turn: &mut Option<Turn>, now: Instant) -> Admission {
        let mut state = self.state();
        let was_called = state.uncall(lane);
        let limit = state.window.limit();
        let is_free = state.in_flight + state.called.len() < limit && (was_called || state.waiting.is_empty());
        if !is_free {
            if !state.waiting.contains(&lane) {
                state.waiting.push_back(lane);
            }
            return Admission::Busy;
        }
        let cuts = state.pace.cuts();
        let reserved = match *turn {
            Some(turn) if turn.cuts == cuts => turn,
            _ => {
                let units = state.usual_units.min(state.pace.attempt_units());
                *turn.insert(Turn { at: state.pace.reserve(units, now), units, cuts })
            }
        };
        if reserved.at > now {
            // The place is somebody else's meanwhile.
            state.call(&self.lanes);
            return Admission::Later(reserved.at);
        }
        *turn = None;
        state.in_flight += 1;
        let at_limit = state.in_flight + 1 >= limit;
        let most = state.pace.attempt_units();
        drop(state);
        Admission::Go(Permit { gate: Arc::clone(self), at_limit, units: reserved.units }, most)
    }

    /// A lane has nothing to send after all: its call and its turn go to others.
    pub(super) fn decline(&self, lane: usize, turn: &mut Option<Turn>) {
        let mut state = self.state();
        state.uncall(lane);
        state.waiting.retain(|waiting| *waiting != lane);
        if let Some(turn) = turn.take().filter(|turn| turn.cuts == state.pace.cuts()) {
            state.pace.correct(-turn.units);
        }
        state.call(&self.lanes);
    }

    /// Learns from an attempt. Its permit must be given back besides, with its end.
    pub(super) fn learn(&self, permit: &Permit, attempted: &Attempted<'_>) -> Lesson {
        let mut state = self.state();
        let Attempted { started, now, items, bytes, units, .. } = *attempted;
        let (mut sign, mut blame) = (Sign::Clean, Blame::Keys);
        match &attempted.result {
            Answer::Answered { throttled, reason } => {
                state.attribution.note(items, throttled.iter().copied(), now);
                if let Some(reason) = reason {
                    state.attribution.reason(*reason, now);
                }
                let fraction = throttled.len() as f64 / items.max(1) as f64;
                let expected = permit.units * (1.0 - fraction);
                let confirmed = units.unwrap_or(expected);
                // What was throttled stays spent: given back, it would come again at once, and be throttled again.
                state.pace.correct(confirmed - expected);
                state.pace.note(permit.units - expected + confirmed, confirmed, now);
                blame = state.attribution.blame(now);
                let by_table = !throttled.is_empty() && blame == Blame::Table;
                state.overrun.note(by_table);
                if by_table && state.overrun.is_on(now) {
                    state.cut(fraction, permit.units, started, now);
                    sign = Sign::Throttled(fraction);
                } else if !throttled.is_empty() {
                    sign = Sign::Nothing;
                }
            }
            Answer::Silent => sign = Sign::Silent,
            Answer::Other => sign = Sign::Nothing,
        }
        let is_news = state.window.observe(Observed { started, now, bytes, at_limit: permit.at_limit, sign });
        let (window, ceiling) = (state.window.limit(), state.pace.ceiling());
        Lesson { blame, is_news, wants_reason: state.attribution.wants_reason(now), window, ceiling }
    }
}

impl Permit {
    /// The batch is known: it takes so many units.
    pub(super) fn takes(&mut self, units: f64) {
        let mut state = self.gate.state();
        state.pace.correct(units - self.units);
        state.usual_units += 0.1 * (units - state.usual_units);
        self.units = units;
    }

    /// There is no batch.
    pub(super) fn cancel(self) {
        self.gate.state().pace.correct(-self.units);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.in_flight -= 1;
        state.call(&self.gate.lanes);
    }
}

impl State {
    /// Cuts the ceiling for an attempt that was throttled; or gives it back, where cutting does not help.
    fn cut(&mut self, fraction: f64, units: f64, started: Instant, now: Instant) {
        let before = self.pace.learnt_ceiling();
        if self.pace.throttled(fraction, units, started, now)
            && let Some(after) = self.pace.learnt_ceiling()
            && let Some(given_back) = self.overrun.cut(before, after, now)
        {
            self.pace.give_back(given_back, now);
        }
    }

    fn uncall(&mut self, lane: usize) -> bool {
        let before = self.called.len();
        self.called.retain(|called| *called != lane);
        self.called.len() < before
    }

    /// Calls lanes for free places.
    fn call(&mut self, lanes: &[Arc<Notify>]) {
        while self.in_flight + self.called.len() < self.window.limit()
            && let Some(lane) = self.waiting.pop_front()
        {
            self.called.push(lane);
            lanes[lane].notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(first: usize) -> Arc<Gate> {
        let lanes: Arc<[Arc<Notify>]> = (0..3).map(|_| Arc::new(Notify::new())).collect();
        Gates::new(WindowConfig { first, most: first }, lanes).of(&"t".into())
    }

    fn go(gate: &Arc<Gate>, lane: usize, now: Instant) -> Option<Permit> {
        match gate.admit(lane, &mut None, now) {
            Admission::Go(permit, _) => Some(permit),
            _ => None,
        }
    }

    #[test]
    fn a_freed_place_goes_to_the_lane_that_waited_first() {
        let (gate, now) = (gate(1), Instant::now());
        let first = go(&gate, 0, now).unwrap();
        assert!(go(&gate, 1, now).is_none() && go(&gate, 2, now).is_none());
        drop(first);
        assert!(go(&gate, 0, now).is_none(), "it was not called");
        assert!(go(&gate, 2, now).is_none(), "nor was this one");
        let second = go(&gate, 1, now).unwrap();
        drop(second);
        // Lane 0 had come again before lane 2 did, but lane 2 has waited since the beginning.
        assert!(go(&gate, 0, now).is_none());
        assert!(go(&gate, 2, now).is_some());
    }

    #[test]
    fn a_lane_that_needs_no_place_passes_it_on() {
        let (gate, now) = (gate(1), Instant::now());
        let first = go(&gate, 0, now).unwrap();
        assert!(go(&gate, 1, now).is_none() && go(&gate, 2, now).is_none());
        drop(first);
        gate.decline(1, &mut None);
        assert!(go(&gate, 2, now).is_some());
    }

    #[test]
    fn a_throttled_table_is_paced_in_units_over_all_lanes() {
        let (gate, start) = (gate(8), Instant::now());
        let throttled: Vec<u64> = (0..25).collect();
        let (mut now, mut ceiling) = (start, None);
        for _ in 0..30 {
            let mut permit = go(&gate, 0, now).unwrap();
            permit.takes(25.0);
            let (started, reason) = (now, Some(ThrottleReason::Provisioned));
            now += std::time::Duration::from_millis(10);
            let result = Answer::Answered { throttled: &throttled[..12], reason };
            let attempted = Attempted { started, now, items: 25, bytes: 25_000, units: Some(13.0), result };
            let lesson = gate.learn(&permit, &attempted);
            assert_eq!(lesson.blame, Blame::Table);
            ceiling = lesson.ceiling;
            if ceiling.is_some() {
                break;
            }
        }
        assert!(ceiling.is_some());
        let mut turns = Vec::new();
        for lane in 0..3 {
            let mut turn = None;
            match gate.admit(lane, &mut turn, now + std::time::Duration::from_millis(1)) {
                Admission::Later(at) => turns.push(at),
                Admission::Go(permit, _) => drop(permit),
                Admission::Busy => panic!("the window has room"),
            }
        }
        assert!(turns.is_sorted() && turns.len() >= 2, "{turns:?}");
    }
}
