//! Rate limits: how fast a principal may go, and how fast a table may be used by all of them.
//!
//! Streams wait ([`Quotas::acquire`]); unary calls are refused and told when to come back ([`Quotas::try_acquire`]). A limit
//! counts rows and KiB; a batch spends from its principal's limits and from its table's in one decision, or from none of
//! them. Where several principals wait for one table, it serves them in proportion to their weights.
//!
//! `rates` is what the policy says, `refusal` what a client hears; `meter` is one limit, on `governor`; `fair` says whose turn
//! it is at a table, `book` who goes next: all of them pure. Here are the locks, the clock and the waiting. The limits are
//! those of the policy in force whenever somebody asks; who waits asks again when it changes. A caller that nobody knows, and
//! what no limit names, costs nothing.
//!
//! Callers: `api` for rows, `middleware::stream_open` for streams.

mod book;
mod fair;
mod meter;
mod rates;
mod refusal;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::book::{Answer, Book, Terms};
use self::fair::Ticket;
use self::meter::Time;
pub use self::rates::{Bursts, Cost, Usage};
use self::rates::{Rates, limit_name};
pub use self::refusal::{Refusal, Subject, TooDear, UsedUp};
pub use self::streams::StreamPermit;
use self::streams::Streams;
use crate::access::{Caller, Policy, PolicyWatch, Rate};
use crate::limits::{QUOTA_IDLE_SWEEP, STREAM_RETRY};

/// The limits of everybody. Clones share them.
#[derive(Debug, Clone)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The zero of the meters' time.
    origin: Instant,
    writes: Desk,
    reads: Desk,
    opens: Desk,
    streams: Arc<Streams>,
}

/// A book under its lock, and a bell for each who waits. One lock for all: a decision takes a microsecond, and there is one
/// for a batch or a call, never for a row.
#[derive(Debug, Default)]
struct Desk(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    book: Book,
    bells: HashMap<Ticket, Arc<Notify>>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn ring(&mut self) {
        for ticket in self.book.take_woken() {
            if let Some(bell) = self.bells.get(&ticket) {
                bell.notify_one();
            }
        }
    }
}

/// A place in a line. Whoever drops it leaves, and has spent nothing.
struct Place<'a> {
    quotas: &'a Inner,
    desk: &'a Desk,
    ticket: Ticket,
    bell: Arc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.desk.lock();
        waiting.bells.remove(&self.ticket);
        // Of no effect where the batch has gone.
        waiting.book.leave(self.ticket, self.quotas.now());
        waiting.ring();
    }
}

impl Inner {
    fn now(&self) -> Time {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(Time::MAX)
    }

    fn desk(&self, usage: Usage) -> &Desk {
        match usage {
            Usage::Write => &self.writes,
            Usage::Read => &self.reads,
        }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self::new()
    }
}

impl Quotas {
    /// Nothing is spent. What the limits are says the policy of whoever asks.
    pub fn new() -> Self {
        let (writes, reads, opens) = (Desk::default(), Desk::default(), Desk::default());
        Self(Arc::new(Inner { origin: Instant::now(), writes, reads, opens, streams: Arc::default() }))
    }

    /// Whether anything limits the caller at this table.
    pub fn limit(&self, usage: Usage, caller: &Caller, table: &str) -> bool {
        caller.policy().is_some_and(|policy| {
            Rates::of_principal(&policy, &caller.name(), usage).0.is_limited()
                || Rates::of_table(&policy, table, usage).is_limited()
        })
    }

    /// What the caller may write to the table, or read from it, at once.
    pub fn bursts(&self, usage: Usage, caller: &Caller, table: &str) -> Bursts {
        let Some(policy) = caller.policy() else { return Bursts { rows: None, kib: None } };
        let own = Rates::of_principal(&policy, &caller.name(), usage).0;
        let shared = Rates::of_table(&policy, table, usage);
        let least = |a: Option<Rate>, b: Option<Rate>| [a, b].into_iter().flatten().map(|rate| rate.burst.get()).min();
        Bursts { rows: least(own.rows, shared.rows), kib: least(own.kib, shared.kib) }
    }

    /// Waits until the caller may spend this at the table, and spends it. Dropping the future gives its place to the next,
    /// and spends nothing.
    ///
    /// # Errors
    ///
    /// Where that can never be.
    pub async fn acquire(&self, usage: Usage, caller: &Caller, table: &str, cost: Cost) -> Result<(), TooDear> {
        let Some(mut changes) = caller.policy_changes() else { return Ok(()) };
        let (name, inner) = (caller.name(), &*self.0);
        let desk = inner.desk(usage);
        let mut place: Option<Place<'_>> = None;
        loop {
            let terms = terms(&changes.borrow_and_update(), usage, &name, table, cost)?;
            if !terms.own.is_limited() && !terms.table.is_limited() {
                return Ok(());
            }
            let now = inner.now();
            let answer = {
                let mut waiting = desk.lock();
                let ticket = match &place {
                    Some(place) => place.ticket,
                    None => {
                        let (ticket, bell) = (waiting.book.join(&name, table), Arc::new(Notify::new()));
                        waiting.bells.insert(ticket, Arc::clone(&bell));
                        place = Some(Place { quotas: inner, desk, ticket, bell });
                        ticket
                    }
                };
                let answer = waiting.book.ask(ticket, &terms, now);
                waiting.ring();
                answer
            };
            let Some(place) = &place else { continue };
            let again = match answer {
                Answer::Go => return Ok(()),
                Answer::AskAt(time) => Some(inner.origin + Duration::from_nanos(time)),
                Answer::Wait => None,
            };
            tokio::select! {
                () = place.bell.notified() => {}
                () = tokio::time::sleep_until(again.unwrap_or(inner.origin)), if again.is_some() => {}
                () = changed(&mut changes) => {}
            }
        }
    }

    /// As [`Self::acquire`], for rows that have come already: those that are above a burst are paid for in several parts.
    pub async fn acquire_in_parts(&self, usage: Usage, caller: &Caller, table: &str, rows: usize) {
        let mut left = rows;
        while left > 0 {
            let burst = self.bursts(usage, caller, table).rows.map_or(left, |burst| burst as usize);
            let part = left.min(burst);
            // A burst that has just become smaller: a smaller part, then.
            if self.acquire(usage, caller, table, Cost::rows(part)).await.is_ok() {
                left -= part;
            }
        }
    }

    /// Spends this now: from the caller's limits, and from those of each table what is for it, or nothing at all.
    ///
    /// # Errors
    ///
    /// Where a limit does not let it through, the one that would take longest.
    pub fn try_acquire(&self, usage: Usage, caller: &Caller, tables: &[(&str, Cost)]) -> Result<(), Refusal> {
        let total = tables.iter().fold(Cost::default(), |total, (_, cost)| total.and(*cost));
        self.try_spend(usage, caller, total, tables)
    }

    /// Spends this now, from the caller's limits alone: for work that no table has a part in.
    ///
    /// # Errors
    ///
    /// The limit that does not let it through.
    pub fn try_acquire_own(&self, usage: Usage, caller: &Caller, cost: Cost) -> Result<(), Refusal> {
        self.try_spend(usage, caller, cost, &[])
    }

    fn try_spend(&self, usage: Usage, caller: &Caller, total: Cost, tables: &[(&str, Cost)]) -> Result<(), Refusal> {
        let Some(policy) = caller.policy() else { return Ok(()) };
        let name = caller.name();
        let (own, _) = Rates::of_principal(&policy, &name, usage);
        own.check(total, usage, || Subject::Principal(Arc::clone(&name)))?;
        let mut limited: Vec<(&str, Rates, Cost)> = Vec::with_capacity(tables.len());
        for (table, cost) in tables {
            match limited.iter_mut().find(|(name, ..)| name == table) {
                Some((_, _, sum)) => *sum = sum.and(*cost),
                None => limited.push((table, Rates::of_table(&policy, table, usage), *cost)),
            }
        }
        for (table, rates, cost) in &limited {
            rates.check(*cost, usage, || Subject::Table((*table).into()))?;
        }
        if !own.is_limited() && !limited.iter().any(|(_, rates, _)| rates.is_limited()) {
            return Ok(());
        }
        let now = self.0.now();
        let spent = self.0.desk(usage).lock().book.try_spend((&name, own, total), &limited, now);
        spent.map_err(|refused| {
            let subject = match refused.table {
                Some(index) => Subject::Table(limited[index].0.into()),
                None => Subject::Principal(Arc::clone(&name)),
            };
            let retry_after = wait(now, refused.ready_at);
            UsedUp { subject, limit: limit_name(usage, refused.by_rows), retry_after }.into()
        })
    }

    /// Lets the caller open a stream, as far as its limits of streams at once and of streams a second let it.
    ///
    /// # Errors
    ///
    /// The limit that does not.
    pub fn try_open_stream(&self, caller: &Caller) -> Result<StreamPermit, UsedUp> {
        // Where nobody has to say who they are nobody is counted.
        let Some(limits) = caller.limits() else { return Ok(StreamPermit::uncounted()) };
        let name = caller.name();
        let used_up = |limit, retry_after| {
            let subject = Subject::Principal(Arc::clone(&name));
            UsedUp { subject, limit, retry_after }
        };
        let permit = self.0.streams.open(&name, limits.streams).ok_or_else(|| used_up("streams", STREAM_RETRY))?;
        let (now, rates) = (self.0.now(), Rates { rows: limits.stream_opens, kib: None });
        let spent = self.0.opens.lock().book.try_spend((&name, rates, Cost::rows(1)), &[], now);
        spent.map_err(|refused| used_up("stream_opens", wait(now, refused.ready_at)))?;
        Ok(permit)
    }

    /// Forgets who has not been here for a while, regularly, until told to stop.
    pub async fn forget_loop(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(QUOTA_IDLE_SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.forget_idle(),
            }
        }
    }

    /// Forgets who waits for nothing and whose limits are no different from new ones.
    fn forget_idle(&self) {
        let now = self.0.now();
        for desk in [&self.0.writes, &self.0.reads, &self.0.opens] {
            let mut waiting = desk.lock();
            waiting.book.forget_idle(now);
            waiting.bells.shrink_to_fit();
        }
    }

    /// Principals and tables that are remembered.
    pub fn remembered(&self) -> usize {
        [&self.0.writes, &self.0.reads, &self.0.opens].into_iter().map(|desk| desk.lock().book.len()).sum()
    }
}

/// The wait until a time, in whole milliseconds: nobody needs more digits, and a little later is not too early.
fn wait(now: Time, until: Time) -> Duration {
    Duration::from_millis(until.saturating_sub(now).div_ceil(1_000_000))
}

/// The limits as they are now.
fn terms(policy: &Policy, usage: Usage, name: &Arc<str>, table: &str, cost: Cost) -> Result<Terms, TooDear> {
    let (own, weight) = Rates::of_principal(policy, name, usage);
    let shared = Rates::of_table(policy, table, usage);
    own.check(cost, usage, || Subject::Principal(Arc::clone(name)))?;
    shared.check(cost, usage, || Subject::Table(table.into()))?;
    Ok(Terms { own, table: shared, weight, cost })
}

/// Resolves when there is another policy. Never does when nobody changes it any more, at the end of the process.
async fn changed(policy: &mut PolicyWatch) {
    if policy.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
