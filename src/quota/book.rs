//! Who waits for what, and who goes next. Pure: time is passed in, and who should ask again is handed out as tickets.
//!
//! A batch needs its principal's limits and its table's, and spends from all of them or from none. Batches of one principal
//! for one table are a line; the first of each line asks. Its answer is one of:
//!
//! - it goes, and has spent;
//! - the principal's own limit is not ready: it *holds* that limit. Nothing else of the principal spends from it before the
//!   holder has gone, so that small batches cannot starve a large one; its place in the table's turns passes to others;
//! - it is not its turn at the table ([`Fair`]), or the table's limit is not ready. A holder keeps its hold meanwhile: what it
//!   has waited for is not spent by others of its principal. Batches that hold nothing keep nobody from other tables.
//!
//! Whoever changes what another waits for puts that ticket on the list of those to be woken. Calls that do not wait
//! ([`Book::try_spend`]) may go before those that do only as long as these could not have gone anyway.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::fair::{Fair, Own, Ticket};
use super::meter::{Meters, Time};
use super::{Cost, Rates};

/// The limits that a batch meets, as they are now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The principal's.
    pub(super) own: Rates,
    /// The table's.
    pub(super) table: Rates,
    /// The principal's share of the table.
    pub(super) weight: NonZeroU32,
    /// What the batch spends.
    pub(super) cost: Cost,
}

/// The answer to a batch that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has spent, and its place is gone.
    Go,
    /// Ask again then, or when woken.
    AskAt(Time),
    /// Ask again when woken.
    Wait,
}

/// Why a call that does not wait is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotNow {
    /// The table whose limit it is, by its place among those asked for; `None` for the principal's own.
    pub(super) table: Option<usize>,
    /// Whether it is the rows that are too many, rather than the KiB.
    pub(super) by_rows: bool,
    /// When it might go.
    pub(super) ready_at: Time,
}

/// Calls that may not pass those that wait are told to come back after this, at least.
const PASS_RETRY: Time = 10_000_000;

#[derive(Debug, Default)]
struct Principal {
    meters: Meters,
    /// By table.
    lines: HashMap<Arc<str>, VecDeque<Ticket>>,
    /// The batch that alone may spend from the meters.
    hold: Option<Ticket>,
    /// When it could have gone if nobody had gone before it.
    due: Option<Time>,
}

#[derive(Debug, Default)]
struct Table {
    meters: Meters,
    fair: Fair,
    /// The batch whose turn it is, and when it could have gone if nobody had gone before it.
    due: Option<(Ticket, Time)>,
}

impl Table {
    /// A batch waits for something else first: calls that do not wait may go before it.
    fn put_off(&mut self, ticket: Ticket) {
        self.due = self.due.filter(|(due, _)| *due != ticket);
    }
}

#[derive(Debug)]
struct Place {
    principal: Arc<str>,
    table: Arc<str>,
}

/// Everybody who waits, and what is left to spend.
#[derive(Debug, Default)]
pub(super) struct Book {
    principals: HashMap<Arc<str>, Principal>,
    tables: HashMap<Arc<str>, Table>,
    places: HashMap<Ticket, Place>,
    next: Ticket,
    woken: Vec<Ticket>,
}

impl Book {
    /// Takes a place at the end of a line.
    pub(super) fn join(&mut self, principal: &Arc<str>, table: &str) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let table = match self.tables.get_key_value(table) {
            Some((name, _)) => Arc::clone(name),
            None => table.into(),
        };
        let line = self.principals.entry(Arc::clone(principal)).or_default().lines.entry(Arc::clone(&table));
        let line = line.or_default();
        line.push_back(ticket);
        if line.len() == 1 {
            self.tables.entry(Arc::clone(&table)).or_default().fair.enter(principal, ticket);
        }
        self.places.insert(ticket, Place { principal: Arc::clone(principal), table });
        ticket
    }

    /// Whether a batch may go now. Its cost is not above any burst.
    pub(super) fn ask(&mut self, ticket: Ticket, terms: &Terms, now: Time) -> Answer {
        let Some(Place { principal: name, table: table_name }) = self.places.get(&ticket) else { return Answer::Go };
        let (name, table_name) = (Arc::clone(name), Arc::clone(table_name));
        let (Some(principal), Some(table)) = (self.principals.get_mut(&name), self.tables.get_mut(&table_name)) else {
            debug_assert!(false, "a place without its principal or its table");
            return Answer::Go;
        };
        let line = principal.lines.get(&table_name);
        if line.and_then(VecDeque::front) != Some(&ticket) {
            return Answer::Wait;
        }
        principal.meters.set(terms.own, now);
        table.meters.set(terms.table, now);

        if principal.hold.is_some_and(|holder| holder != ticket) {
            table.put_off(ticket);
            table.fair.set_own(&name, Own::Held);
            self.woken.extend(table.fair.turn(now));
            return Answer::Wait;
        }
        let ready_at = principal.meters.ready_at(terms.cost, now);
        if ready_at > now {
            principal.hold = Some(ticket);
            principal.due.get_or_insert(ready_at);
            table.put_off(ticket);
            table.fair.set_own(&name, Own::Until(ready_at));
            self.woken.extend(table.fair.turn(now));
            return Answer::AskAt(ready_at);
        }
        table.fair.set_own(&name, Own::Open);
        if !table.meters.is_unlimited() {
            if table.fair.turn(now) != Some(ticket) {
                return Answer::Wait;
            }
            let ready_at = table.meters.ready_at(terms.cost, now);
            if ready_at > now {
                if table.due.is_none_or(|(due, _)| due != ticket) {
                    table.due = Some((ticket, ready_at));
                }
                return Answer::AskAt(ready_at);
            }
        }
        principal.meters.spend(terms.cost, now);
        table.meters.spend(terms.cost, now);
        table.due = None;
        table.fair.serve(&name, table.meters.service(terms.cost), terms.weight);
        self.step_out(ticket, now);
        Answer::Go
    }

    /// Gives a place back.
    pub(super) fn leave(&mut self, ticket: Ticket, now: Time) {
        let Some(Place { principal, table }) = self.places.get(&ticket) else { return };
        let line = self.principals.get(principal).and_then(|principal| principal.lines.get(table));
        if line.and_then(VecDeque::front) == Some(&ticket)
            && let Some(table) = self.tables.get_mut(table)
        {
            table.fair.leave(principal);
            table.due = None;
        }
        self.step_out(ticket, now);
    }

    /// Takes a batch out of its line, and wakes who is next: in the line, for the principal's limit, and at the table.
    fn step_out(&mut self, ticket: Ticket, now: Time) {
        let Some(Place { principal: name, table: table_name }) = self.places.remove(&ticket) else { return };
        let (Some(principal), Some(table)) = (self.principals.get_mut(&name), self.tables.get_mut(&table_name)) else {
            return;
        };
        if let Some(line) = principal.lines.get_mut(&table_name) {
            let was_first = line.front() == Some(&ticket);
            line.retain(|other| *other != ticket);
            match line.front() {
                None => _ = principal.lines.remove(&table_name),
                Some(&next) if was_first => {
                    table.fair.enter(&name, next);
                    self.woken.push(next);
                }
                Some(_) => {}
            }
        }
        self.woken.extend(table.fair.turn(now));
        if principal.hold == Some(ticket) {
            principal.due = None;
            // The one that has waited longest of those that it kept waiting.
            let firsts = principal.lines.iter().filter_map(|(table, line)| Some((line.front()?, table)));
            let tables = &mut self.tables;
            let kept = firsts
                .filter(|(_, table)| tables.get(*table).is_some_and(|table| table.fair.own(&name) == Some(Own::Held)));
            let next = kept.min().map(|(ticket, table)| (*ticket, Arc::clone(table)));
            principal.hold = next.as_ref().map(|(ticket, _)| *ticket);
            if let Some((next, table)) = next {
                if let Some(table) = tables.get_mut(&table) {
                    table.fair.set_own(&name, Own::Open);
                }
                self.woken.push(next);
            }
        }
    }

    /// Spends from a principal's limits and from those of tables, all or nothing, without waiting. No cost is above any burst,
    /// and no table is there twice.
    pub(super) fn try_spend(
        &mut self,
        principal: (&Arc<str>, Rates, Cost),
        tables: &[(&str, Rates, Cost)],
        now: Time,
    ) -> Result<(), NotNow> {
        let (name, rates, total) = principal;
        let mut refusal: Option<NotNow> = None;
        let mut look = |table, meters: &Meters, cost, due: Option<Time>| {
            let mut ready_at = meters.ready_at(cost, now);
            if due.is_some_and(|due| due <= now) {
                ready_at = ready_at.max(now + PASS_RETRY);
            }
            if ready_at > now && refusal.is_none_or(|refusal| refusal.ready_at < ready_at) {
                let by_rows = meters.is_short_of_rows(cost, now);
                refusal = Some(NotNow { table, by_rows, ready_at });
            }
        };
        if rates.is_limited() {
            let principal = self.principals.entry(Arc::clone(name)).or_default();
            principal.meters.set(rates, now);
            look(None, &principal.meters, total, principal.due);
        }
        for (index, (table_name, rates, cost)) in
            tables.iter().enumerate().filter(|(_, (_, rates, _))| rates.is_limited())
        {
            if !self.tables.contains_key(*table_name) {
                self.tables.insert((*table_name).into(), Table::default());
            }
            if let Some(table) = self.tables.get_mut(*table_name) {
                table.meters.set(*rates, now);
                look(Some(index), &table.meters, *cost, table.due.map(|(_, due)| due));
            }
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if rates.is_limited()
            && let Some(principal) = self.principals.get(name)
        {
            principal.meters.spend(total, now);
        }
        for (table_name, _, cost) in tables.iter().filter(|(_, rates, _)| rates.is_limited()) {
            if let Some(table) = self.tables.get(*table_name) {
                table.meters.spend(*cost, now);
            }
        }
        Ok(())
    }

    /// Whose tickets should ask again, since the last call.
    pub(super) fn take_woken(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.woken)
    }

    /// Forgets who waits for nothing and has spent nothing that would still count.
    pub(super) fn forget_idle(&mut self, now: Time) {
        self.principals.retain(|_, principal| !principal.lines.is_empty() || !principal.meters.are_full(now));
        self.principals.shrink_to_fit();
        self.tables.retain(|_, table| !table.fair.is_empty() || !table.meters.are_full(now));
        self.tables.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    /// Principals and tables that are remembered.
    pub(super) fn len(&self) -> usize {
        self.principals.len() + self.tables.len()
    }
}
