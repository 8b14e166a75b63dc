//! What goes wrong, and when: faults on a schedule, each with a probability. Pure; the dice are the model's.

use std::sync::Arc;
use std::time::Duration;

use crate::store::ThrottleReason;

/// A kind of fault.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// The whole call is throttled though there is capacity; [`ThrottleReason::Unknown`] for no reason given.
    Throttle {
        /// What DynamoDB says.
        reason: ThrottleReason,
        /// The index that it names.
        index: Option<Arc<str>>,
    },
    /// Items of a batch come back unprocessed though there is capacity.
    Unprocessed {
        /// The share of items.
        share: f64,
    },
    /// The call takes longer.
    Slow {
        /// So many times as long,
        factor: f64,
        /// and so much more.
        more: Duration,
    },
    /// An outage: the connection is refused, nothing is sent.
    Refused,
    /// An outage: the call goes nowhere, and nobody says so before the attempt's time-out.
    BlackHole,
    /// An internal error of the service, before anything is done; the caller cannot know.
    ServerError,
    /// The call is done, and its answer is lost: the connection breaks, or falls silent.
    LostAnswer,
    /// The connection breaks, and the call is done all the same, up to so much later: perhaps over newer writes.
    DelayedApply {
        /// At most so late.
        by: Duration,
    },
    /// There is no such table.
    TableDeleted,
    /// Credentials are refused.
    AccessDenied,
    /// A transaction meets another one.
    Conflict,
}

impl FaultKind {
    /// Names of all kinds, in the order of [`FaultCounts`].
    pub const NAMES: [&'static str; 11] = [
        "throttle",
        "unprocessed",
        "slow",
        "refused",
        "black_hole",
        "server_error",
        "lost_answer",
        "delayed_apply",
        "table_deleted",
        "access_denied",
        "conflict",
    ];

    /// Its place in [`FaultKind::NAMES`].
    pub fn index(&self) -> usize {
        match self {
            Self::Throttle { .. } => 0,
            Self::Unprocessed { .. } => 1,
            Self::Slow { .. } => 2,
            Self::Refused => 3,
            Self::BlackHole => 4,
            Self::ServerError => 5,
            Self::LostAnswer => 6,
            Self::DelayedApply { .. } => 7,
            Self::TableDeleted => 8,
            Self::AccessDenied => 9,
            Self::Conflict => 10,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

/// A fault on the schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// From when,
    pub from: Duration,
    /// until when.
    pub until: Duration,
    /// How likely it strikes a call that leaves in that time.
    pub probability: f64,
    /// Only calls to this table; `None` for all.
    pub table: Option<Arc<str>>,
}

impl Fault {
    /// A fault that strikes every call in a time.
    pub fn during(kind: FaultKind, from: Duration, until: Duration) -> Self {
        Self { kind, from, until, probability: 1.0, table: None }
    }

    /// A fault that may strike at any time.
    pub fn always(kind: FaultKind, probability: f64) -> Self {
        Self { kind, from: Duration::ZERO, until: Duration::MAX, probability, table: None }
    }

    /// Whether it can strike a call.
    pub fn concerns(&self, table: &str, at: Duration) -> bool {
        self.from <= at && at < self.until && self.table.as_deref().is_none_or(|of| of == table)
    }
}

/// A schedule drawn from a seed: background faults of a few kinds all the time, and windows of outage, slowness and
/// throttling. Nothing that ends sessions for good (a table deleted, access denied) is among them.
pub fn random_schedule(rng: &mut fastrand::Rng, length: Duration) -> Vec<Fault> {
    let mut faults = Vec::new();
    let background = [
        FaultKind::Throttle { reason: ThrottleReason::Unknown, index: None },
        FaultKind::Throttle { reason: ThrottleReason::KeyRange, index: None },
        FaultKind::Unprocessed { share: 0.1 + 0.5 * rng.f64() },
        FaultKind::Slow { factor: 2.0 + 20.0 * rng.f64(), more: Duration::ZERO },
        FaultKind::ServerError,
        FaultKind::LostAnswer,
        FaultKind::DelayedApply { by: Duration::from_millis(rng.u64(10..20_000)) },
        FaultKind::Conflict,
    ];
    for kind in background {
        if rng.f64() < 0.6 {
            faults.push(Fault::always(kind, 0.05 * rng.f64()));
        }
    }
    for _ in 0..rng.usize(1..4) {
        let kind = match rng.u32(0..5) {
            0 => FaultKind::Refused,
            1 => FaultKind::BlackHole,
            2 => FaultKind::Slow { factor: 1.0, more: Duration::from_millis(rng.u64(100..6_000)) },
            3 => FaultKind::Throttle { reason: ThrottleReason::Provisioned, index: None },
            _ => FaultKind::LostAnswer,
        };
        let from = length.mul_f64(rng.f64() * 0.8);
        let until = from + length.mul_f64(0.02 + 0.15 * rng.f64());
        faults.push(Fault { probability: 0.3 + 0.7 * rng.f64(), ..Fault::during(kind, from, until) });
    }
    faults
}

/// How often each kind of fault changed what became of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; FaultKind::NAMES.len()]);

impl FaultCounts {
    /// One more.
    pub fn count(&mut self, kind: &FaultKind) {
        self.0[kind.index()] += 1;
    }

    /// Names and counts, also of those that never struck.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        FaultKind::NAMES.into_iter().zip(self.0)
    }

    /// Of one kind.
    pub fn of(&self, name: &str) -> u64 {
        self.iter().find(|(of, _)| *of == name).map_or(0, |(_, count)| count)
    }

    /// How many kinds struck at least once.
    pub fn kinds(&self) -> usize {
        self.0.iter().filter(|count| **count > 0).count()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_schedule_and_others_differ() {
        let draw = |seed| random_schedule(&mut fastrand::Rng::with_seed(seed), Duration::from_secs(60));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let mut kinds = [false; FaultKind::NAMES.len()];
        (0..50).flat_map(draw).for_each(|fault| kinds[fault.kind.index()] = true);
        let [.., table_deleted, access_denied, conflict] = kinds;
        assert!(
            (table_deleted, access_denied, conflict) == (false, false, true) && kinds[..8].iter().all(|drawn| *drawn)
        );
    }

    #[test]
    fn a_fault_concerns_its_time_and_its_table_only() {
        let second = Duration::from_secs(1);
        let fault = Fault { table: Some("t".into()), ..Fault::during(FaultKind::Refused, second, 2 * second) };
        assert!(fault.concerns("t", second) && !fault.concerns("u", second));
        assert!(!fault.concerns("t", 2 * second) && !fault.concerns("t", Duration::ZERO));
    }
}
