//! Whose turn it is at one table: start-time fair queueing. Pure.
//!
//! Each principal that waits has one batch here, its first. A batch starts, in virtual time, when the principal's last one
//! there was finished, or now; it is finished as much later as it takes of the table's rate, divided by the principal's
//! weight. The smallest start goes next. So over any time in which several wait, each gets the table in proportion to its
//! weight, whatever the sizes of their batches and the number of their streams; and what a principal did not use is nobody's
//! debt: virtual time follows whoever is served.
//!
//! A principal that waits for its own limit is passed over, but keeps its start: it goes first when its limit lets it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::meter::Time;

/// A place in a queue; those that came later have larger ones.
pub(super) type Ticket = u64;

/// Whether a principal's first batch waits for the principal's own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// No, or it is not known yet.
    Open,
    /// Until then, at least.
    Until(Time),
    /// Another batch of the principal comes first.
    Held,
}

#[derive(Debug)]
struct Head {
    ticket: Ticket,
    start: u64,
    own: Own,
}

/// The principals that wait for one table.
#[derive(Debug, Default)]
pub(super) struct Fair {
    virtual_now: u64,
    heads: HashMap<Arc<str>, Head>,
    /// Where a principal's last batch was finished, if that is not over.
    finished: HashMap<Arc<str>, u64>,
}

impl Fair {
    /// A batch is the principal's first now.
    pub(super) fn enter(&mut self, principal: &Arc<str>, ticket: Ticket) {
        let start = self.finished.get(principal).copied().unwrap_or(0).max(self.virtual_now);
        self.heads.insert(Arc::clone(principal), Head { ticket, start, own: Own::Open });
    }

    /// The principal's first batch is gone, unserved.
    pub(super) fn leave(&mut self, principal: &str) {
        self.heads.remove(principal);
    }

    /// The principal's first batch was served, and took so many nanoseconds of the table's rate.
    pub(super) fn serve(&mut self, principal: &Arc<str>, service: u64, weight: NonZeroU32) {
        let Some(head) = self.heads.remove(principal) else { return };
        self.virtual_now = self.virtual_now.max(head.start);
        let finished = head.start.saturating_add(service / u64::from(weight.get()));
        self.finished.insert(Arc::clone(principal), finished);
        let now = self.virtual_now;
        self.finished.retain(|_, finished| *finished > now);
    }

    /// Whether the principal's first batch waits for the principal's own limit.
    pub(super) fn own(&self, principal: &str) -> Option<Own> {
        self.heads.get(principal).map(|head| head.own)
    }

    /// Says so.
    pub(super) fn set_own(&mut self, principal: &str, own: Own) {
        if let Some(head) = self.heads.get_mut(principal) {
            head.own = own;
        }
    }

    /// Whose turn it is: the smallest start among those that wait for nothing else.
    pub(super) fn turn(&self, now: Time) -> Option<Ticket> {
        let ready = |head: &&Head| match head.own {
            Own::Open => true,
            Own::Until(time) => time <= now,
            Own::Held => false,
        };
        self.heads.values().filter(ready).min_by_key(|head| (head.start, head.ticket)).map(|head| head.ticket)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|index| format!("p{index}").into()).collect()
    }

    #[test]
    fn who_waits_for_its_own_limit_holds_nobody_up_and_goes_first_afterwards() {
        let names = names(2);
        let (slow, fast) = (&names[0], &names[1]);
        let mut fair = Fair::default();
        fair.enter(slow, 0);
        fair.set_own(slow, Own::Until(1000));
        for ticket in 1..4 {
            fair.enter(fast, ticket);
            assert_eq!(fair.turn(999), Some(ticket));
            fair.serve(fast, 10, NonZeroU32::MIN);
        }
        fair.enter(fast, 4);
        assert_eq!(fair.turn(1000), Some(0), "its limit lets it");
        fair.set_own(slow, Own::Held);
        assert_eq!(fair.turn(1000), Some(4));
    }

    #[test]
    fn what_nobody_else_wanted_is_no_debt() {
        let names = names(2);
        let mut fair = Fair::default();
        for ticket in 0..1000 {
            fair.enter(&names[0], ticket);
            fair.serve(&names[0], 10, NonZeroU32::MIN);
        }
        // Somebody else comes: both take turns at once.
        let mut served = Vec::new();
        for ticket in 1000..1010 {
            for (name, ticket) in [(&names[0], ticket * 2), (&names[1], ticket * 2 + 1)] {
                if fair.own(name).is_none() {
                    fair.enter(name, ticket);
                }
            }
            let turn = fair.turn(0).unwrap();
            served.push((turn % 2) as usize);
            fair.serve(&names[(turn % 2) as usize], 10, NonZeroU32::MIN);
        }
        assert_eq!(served.iter().filter(|who| **who == 0).count(), 5, "{served:?}");
        assert!(fair.finished.len() <= 2);
    }

    proptest! {
        /// Between any two principals that always wait, what they get in proportion to their weights never differs by more
        /// than one batch of each.
        #[test]
        fn shares_follow_weights_whatever_the_sizes(
            weights in prop::collection::vec(1u32..10, 2..5),
            sizes in prop::collection::vec(1u64..1000, 50..200),
        ) {
            let names = names(weights.len());
            let mut fair = Fair::default();
            let mut got = vec![0.0; weights.len()];
            let mut ticket = 0;
            for size in sizes {
                // In thousands, so that dividing by the weight loses nothing that counts.
                let service = size * 1000;
                for name in &names {
                    if fair.own(name).is_none() {
                        fair.enter(name, ticket);
                        ticket += 1;
                    }
                }
                let turn = fair.turn(0).unwrap();
                let who = names.iter().position(|name| fair.heads[name].ticket == turn).unwrap();
                fair.serve(&names[who], service, weights[who].try_into().unwrap());
                got[who] += service as f64 / f64::from(weights[who]);
                for (a, b) in (0..got.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                    let slack = 1e6 * (1.0 / f64::from(weights[a]) + 1.0 / f64::from(weights[b])) + 200.0;
                    prop_assert!((got[a] - got[b]).abs() <= slack, "{got:?} by {weights:?}");
                }
            }
        }
    }
}
