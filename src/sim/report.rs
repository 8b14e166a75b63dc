//! What a run showed, as figures. [`text`](super::text) makes words of them.

mod expectations;
mod json;

use std::sync::Arc;
use std::time::Duration;

pub use self::expectations::Checked;
use super::fault::FaultCounts;
use super::ledger::{Ledger, Waits};
use super::model::{CallTotals, Model};
use super::run::{RunOptions, WriterKind};
use super::scenario::{Expect, Priority, Scenario, TABLE};
use super::workload::Source;

/// A change of capacity, or the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// When.
    pub at: Duration,
    /// Write units a second that there are from then on, or that are asked for if those are fewer.
    pub units_per_second: f64,
    /// After so long what is consumed stays within 10 % of that, or above it where capacity has grown: the table had saved some.
    /// `None` where it does not.
    pub converged_after: Option<Duration>,
}

/// One second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Second {
    /// Write units that could be had.
    pub available_units: f64,
    /// Write units consumed.
    pub consumed_units: f64,
    /// Rows confirmed.
    pub confirmed_rows: u64,
    /// Attempts.
    pub attempts: u64,
    /// Attempts that were throttled, wholly or in part.
    pub throttled_attempts: u64,
}

/// One workload of a run.
#[derive(Debug, Clone)]
pub struct WorkloadReport {
    /// Its name.
    pub name: String,
    /// Whether its rows go first.
    pub interactive: bool,
    /// Rows offered a second, where that is set.
    pub rows_per_second: Option<f64>,
    /// Rows submitted.
    pub submitted: u64,
    /// Rows confirmed.
    pub confirmed: u64,
    /// Rows confirmed a second, in the measured time.
    pub confirmed_per_second: f64,
    /// How far behind its schedule it was, at most, in rows.
    pub behind_rows: u64,
    /// From submit to confirmed.
    pub waits: Waits,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The scenario's name.
    pub name: String,
    /// Who wrote.
    pub writer: WriterKind,
    /// Of all dice.
    pub seed: u64,
    /// The time that was measured, in seconds.
    pub measured_seconds: f64,
    /// How long it took until every row had an outcome, or was given up.
    pub ended_after: Duration,
    /// Workloads.
    pub workloads: Vec<WorkloadReport>,
    /// Rows submitted.
    pub submitted: u64,
    /// Rows that the writers were told are written.
    pub acked: u64,
    /// Rows with other outcomes.
    pub refused: u64,
    /// Rows without outcome.
    pub unfinished: u64,
    /// Rows that were promised and not written.
    pub lost: u64,
    /// Rows confirmed a second, in the measured time.
    pub confirmed_per_second: f64,
    /// Write units consumed over those that were there or, where they are fewer, asked for; in the measured time.
    pub capacity_used: f64,
    /// Write units a second that were there, in the measured time.
    pub available_units_per_second: f64,
    /// Write units a second consumed, in the measured time.
    pub consumed_units_per_second: f64,
    /// Write units a second asked for, where every workload says how many rows it offers.
    pub offered_units_per_second: Option<f64>,
    /// Write units of the whole run.
    pub write_units: f64,
    /// What they cost on demand.
    pub usd: f64,
    /// Attempts in the measured time.
    pub attempts: CallTotals,
    /// From submit to confirmed, of rows submitted in the measured time.
    pub waits: Waits,
    /// The same, of rows whose partition has room.
    pub cold_waits: Waits,
    /// The p99 of those with capacity without end, where it was looked at.
    pub unthrottled_cold_p99: Option<Duration>,
    /// Writes of hot keys a second, in the measured time.
    pub hot_writes_per_second: f64,
    /// Memory reserved for rows, at most.
    pub memory_peak_bytes: u64,
    /// The bound.
    pub memory_bound_bytes: u64,
    /// The start, and every change of capacity.
    pub changes: Vec<Change>,
    /// When outages ended, and how long after that a row was confirmed.
    pub recoveries: Vec<(Duration, Option<Duration>)>,
    /// Partitions at the end.
    pub partitions: usize,
    /// Splits for heat.
    pub splits: u32,
    /// How often each fault struck.
    pub faults: FaultCounts,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Why sessions ended early.
    pub failures: Vec<String>,
    /// Of the trace.
    pub trace_hash: u64,
    /// The trace, where it was kept.
    pub trace: Vec<String>,
    /// What was expected.
    pub expect: Expect,
}

/// Within this share of the capacity, a rate has converged.
const CONVERGED: f64 = 0.1;

impl Report {
    /// From what a run left behind.
    #[allow(clippy::too_many_arguments, reason = "one caller, and each of them is something else")]
    pub(super) fn draw_up(
        scenario: &Scenario,
        options: RunOptions,
        sources: &[Arc<Source>],
        model: &Model,
        ledger: &Ledger,
        memory_peak_bytes: u64,
        ended_after: Duration,
        failures: Vec<String>,
    ) -> Self {
        let seconds = seconds(model, ledger);
        let offered = |second: usize| {
            let at = Duration::from_secs(second as u64);
            let units = |source: &Arc<Source>| Some(source.rows_per_second(at)? * source.units_of_row());
            sources.iter().map(units).sum::<Option<f64>>()
        };
        let whole = scenario.warm_up.as_secs() as usize..scenario.duration.as_secs() as usize;
        let measured_seconds = whole.len().max(1) as f64;
        let (mut available, mut wanted, mut consumed) = (0.0, 0.0, 0.0);
        let mut attempts = CallTotals::default();
        for second in whole.clone() {
            let of = seconds.get(second).copied().unwrap_or_default();
            available += of.available_units;
            wanted += offered(second).unwrap_or(f64::INFINITY).min(of.available_units);
            consumed += of.consumed_units;
            if let Some(calls) = model.seconds().get(second) {
                attempts.add(calls);
            }
        }
        let usage = model.capacity(TABLE).map(|capacity| capacity.seconds()).unwrap_or_default();
        let write_units: f64 = usage.iter().map(|second| second.consumed_units).sum();
        let workloads = sources.iter().zip(&ledger.workloads).map(|(source, rows)| WorkloadReport {
            name: source.workload().name.clone(),
            interactive: source.workload().priority == Priority::Interactive,
            rows_per_second: source.workload().rows_per_second.as_ref().map(|rate| rate.value),
            submitted: rows.submitted,
            confirmed: rows.confirmed,
            confirmed_per_second: rows.confirmed_in_time as f64 / measured_seconds,
            behind_rows: rows.behind_rows,
            waits: rows.waits.clone(),
        });
        let (submitted, acked) = (ledger.sum(|rows| rows.submitted), ledger.sum(|rows| rows.acked));
        let refused = ledger.sum(|rows| rows.refused);
        let partitions = model.capacity(TABLE).map(|capacity| capacity.partitions());
        let recovered = |(end, first): &(Duration, Option<Duration>)| (*end, first.map(|first| first - *end));
        Self {
            name: scenario.name.clone(),
            writer: options.writer,
            seed: options.seed,
            measured_seconds,
            ended_after,
            workloads: workloads.collect(),
            submitted,
            acked,
            refused,
            unfinished: submitted.saturating_sub(acked + refused),
            lost: ledger.lost_rows,
            confirmed_per_second: ledger.sum(|rows| rows.confirmed_in_time) as f64 / measured_seconds,
            capacity_used: if wanted > 0.0 { consumed / wanted } else { 0.0 },
            available_units_per_second: available / measured_seconds,
            consumed_units_per_second: consumed / measured_seconds,
            offered_units_per_second: whole.clone().map(offered).sum::<Option<f64>>().map(|sum| sum / measured_seconds),
            write_units,
            usd: write_units / 1e6 * scenario.usd_per_million_write_units,
            attempts,
            waits: ledger.waits.clone(),
            cold_waits: ledger.cold_waits.clone(),
            unthrottled_cold_p99: None,
            hot_writes_per_second: ledger.hot_writes as f64 / measured_seconds,
            memory_peak_bytes,
            memory_bound_bytes: (scenario.gateway.memory_mib as u64) << 20,
            changes: changes(scenario, &seconds, offered),
            recoveries: ledger.recoveries.iter().map(recovered).collect(),
            partitions: partitions.map_or(0, |partitions| partitions.count()),
            splits: partitions.map_or(0, |partitions| partitions.splits()),
            faults: *model.faults(),
            seconds,
            failures,
            trace_hash: model.trace().hash(),
            trace: model.trace().lines().to_vec(),
            expect: scenario.expect,
        }
    }

    /// The share of attempts that were throttled, wholly or in part.
    pub fn throttled_attempts(&self) -> f64 {
        self.attempts.throttled_calls as f64 / self.attempts.calls.max(1) as f64
    }

    /// The share of items in attempts that were throttled.
    pub fn throttled_items(&self) -> f64 {
        self.attempts.throttled_items as f64 / self.attempts.items.max(1) as f64
    }

    /// The p99 of rows whose partition has room, over what it is with capacity without end.
    pub fn cold_p99_ratio(&self) -> Option<f64> {
        let without_end = self.unthrottled_cold_p99?.as_secs_f64();
        (without_end > 0.0).then(|| self.cold_waits.percentile(99.0).as_secs_f64() / without_end)
    }

    /// The longest time until a change of capacity was followed; `None` where one never was.
    pub fn converged_after(&self) -> Option<Duration> {
        let changes = self.changes.iter().filter(|change| change.at > Duration::ZERO);
        changes.map(|change| change.converged_after).try_fold(Duration::ZERO, |most, after| Some(most.max(after?)))
    }

    /// The longest time after an outage until a row was confirmed; `None` where none was.
    pub fn recovered_after(&self) -> Option<Duration> {
        self.recoveries.iter().try_fold(Duration::ZERO, |most, (_, after)| Some(most.max((*after)?)))
    }

    /// Whether everything is as expected.
    pub fn as_expected(&self) -> bool {
        self.checked().iter().all(|checked| checked.met)
    }
}

fn seconds(model: &Model, ledger: &Ledger) -> Vec<Second> {
    let usage = model.capacity(TABLE).map(|capacity| capacity.seconds()).unwrap_or_default();
    let second = |(at, usage): (usize, &super::capacity::SecondUsage)| {
        let calls = model.seconds().get(at).copied().unwrap_or_default();
        Second {
            available_units: usage.available_units,
            consumed_units: usage.consumed_units,
            confirmed_rows: ledger.confirmed_by_second.get(at).copied().unwrap_or(0),
            attempts: calls.calls,
            throttled_attempts: calls.throttled_calls,
        }
    };
    usage.iter().enumerate().map(second).collect()
}

/// The start and every change of capacity, with how long it took to follow.
fn changes(scenario: &Scenario, seconds: &[Second], offered: impl Fn(usize) -> Option<f64>) -> Vec<Change> {
    let capacity_events = scenario.events.iter().filter(|event| event.fault.is_none() && !scenario.unlimited);
    let mut times: Vec<_> = capacity_events.map(|event| event.at.value.0).collect();
    times.sort_unstable();
    times.insert(0, Duration::ZERO);
    let end = scenario.duration;
    let change = |(index, at): (usize, &Duration)| {
        let until = times.get(index + 1).copied().unwrap_or(end).min(end);
        let range = at.as_secs() as usize..(until.as_secs() as usize).min(seconds.len());
        let wanted = |second: usize| offered(second).unwrap_or(f64::INFINITY).min(seconds[second].available_units);
        let before = range.start.checked_sub(1).map_or(f64::INFINITY, |second| seconds[second].available_units);
        let has_grown = range.clone().next().is_some_and(|second| seconds[second].available_units > before);
        let away = |second: &usize| {
            let (wanted, consumed) = (wanted(*second), seconds[*second].consumed_units);
            // More than there is can only be what a table had saved; where capacity has grown, that is no going astray.
            let is_over = consumed > wanted * (1.0 + CONVERGED) && !has_grown;
            is_over || consumed < wanted * (1.0 - CONVERGED)
        };
        let first_good = range.clone().rev().find(away).map_or(range.start, |last_away| last_away + 1);
        let converged = first_good < range.end;
        Change {
            at: *at,
            units_per_second: if range.is_empty() { 0.0 } else { wanted(range.end - 1) },
            converged_after: converged.then(|| Duration::from_secs(first_good as u64).saturating_sub(*at)),
        }
    };
    times.iter().enumerate().map(change).collect()
}
