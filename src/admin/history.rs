//! The last 15 minutes, second by second: what the status page's plots and rates are made of. Pure; time is passed in.
//!
//! Once a second the sampler brings [`Readings`]: what the counters stand at. The history keeps, for each second, one value a
//! [series](SERIES), and for each label of a labelled counter what came in the last seconds and minutes. A second is known by
//! its **sequence number**: whole seconds since the process started. Seconds in which nobody sampled are gaps, and say so.
//!
//! Memory is fixed: [`SECONDS`] x [`SERIES`] values of 4 bytes are 42 KiB; a label costs less than 400 bytes beside its name, and
//! each labelled counter remembers [`LABELS_MAX`] of them at most: half a mebibyte in all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::readings::{Gauges, PrincipalTotals, Readings, TableBounds, Totals};
use crate::telemetry::histogram::Snapshot;

/// Seconds that are kept.
pub(super) const SECONDS: usize = 15 * 60;
/// Labels that each labelled counter remembers; more are counted in the totals alone.
pub(super) const LABELS_MAX: usize = 256;
/// Rates of labelled counters, and the page's large numbers, are means over so many seconds: one second alone flickers.
pub(super) const RATE_SECONDS: usize = 5;
/// Quantiles of what is said to be now are taken over so many seconds: few batches make none worth their name.
const QUANTILE_SECONDS: usize = 10;
/// Minutes of which a labelled counter keeps the sum.
const MINUTES: usize = 15;

/// The names of the series, in order; units are in the names.
pub(super) const SERIES: [&str; SERIES_COUNT] = [
    "rows_per_second",
    "bytes_per_second",
    "ack_p50_ms",
    "ack_p99_ms",
    "write_units_per_second",
    "throttled_calls_per_second",
    "rejected_rows_per_second",
    "reads_per_second",
    "read_p99_ms",
    "memory_reserved_bytes",
    "write_sessions",
    "write_calls_in_flight",
];
const SERIES_COUNT: usize = 12;

/// One second; what is not known is NaN.
type Second = [f32; SERIES_COUNT];
const GAP: Second = [f32::NAN; SERIES_COUNT];

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    /// The newest is at the back, and has this number.
    seconds: VecDeque<Second>,
    newest: Option<u64>,
    /// What the counters stood at, at the ends of the last seconds.
    recent: VecDeque<(Duration, Totals)>,
    /// What there was at the last sample.
    pub(super) gauges: Gauges,
    /// The bounds of DynamoDB tables at the last sample, by name.
    pub(super) tables: Vec<(String, TableBounds)>,
    /// Write units by DynamoDB table.
    pub(super) table_units: Tallies<String>,
    /// Throttled write calls by DynamoDB table, index and reason.
    pub(super) throttles: Tallies<(String, String, &'static str)>,
    /// Rejected rows.
    pub(super) rejects: Tallies<&'static str>,
    /// Rows by principal.
    pub(super) principal_rows: Tallies<String>,
    /// Bytes by principal.
    pub(super) principal_bytes: Tallies<String>,
    /// Keys read by principal.
    pub(super) principal_reads: Tallies<String>,
    /// Seconds that principals' sessions were not read because of a rate limit.
    pub(super) limited_seconds: Tallies<String>,
    /// Calls refused because of a rate limit.
    pub(super) limited_calls: Tallies<String>,
    /// Connections and calls that were refused.
    pub(super) refusals: Tallies<(&'static str, &'static str)>,
    /// Keys read by outcome.
    pub(super) reads: Tallies<&'static str>,
}

/// What is said to be now: means over the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Now {
    /// Rows that DynamoDB confirmed, or that newer confirmed ones superseded, a second.
    pub(super) rows_per_second: f64,
    /// Bytes of batches received a second.
    pub(super) bytes_per_second: f64,
    /// Rows rejected a second.
    pub(super) rejected_rows_per_second: f64,
    /// Write units a second.
    pub(super) write_units_per_second: f64,
    /// Throttled write calls a second.
    pub(super) throttled_calls_per_second: f64,
    /// Write calls to DynamoDB a second.
    pub(super) write_calls_per_second: f64,
    /// Keys read a second.
    pub(super) reads_per_second: f64,
    /// From a batch's arrival to its ack, in seconds.
    pub(super) ack_p50_seconds: Option<f64>,
    /// The same.
    pub(super) ack_p99_seconds: Option<f64>,
    /// Of a read call, in seconds.
    pub(super) read_p50_seconds: Option<f64>,
    /// The same.
    pub(super) read_p99_seconds: Option<f64>,
}

/// Seconds from a sequence number on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Delta {
    /// The sequence number of the first one.
    pub(super) first: u64,
    /// One list a [series](SERIES).
    pub(super) values: Vec<Vec<f32>>,
}

impl History {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            seconds: VecDeque::with_capacity(SECONDS),
            newest: None,
            recent: VecDeque::with_capacity(QUANTILE_SECONDS + 1),
            gauges: Gauges::default(),
            tables: Vec::new(),
            table_units: Tallies::default(),
            throttles: Tallies::default(),
            rejects: Tallies::default(),
            principal_rows: Tallies::default(),
            principal_bytes: Tallies::default(),
            principal_reads: Tallies::default(),
            limited_seconds: Tallies::default(),
            limited_calls: Tallies::default(),
            refusals: Tallies::default(),
            reads: Tallies::default(),
        }
    }

    /// Takes what was read `at` so long after the process started. Readings come in order.
    pub(super) fn record(&mut self, at: Duration, readings: Readings) {
        let before = self.recent.back();
        let second = second(before, at, &readings);
        let number = at.as_secs();
        match self.newest {
            // The second sample of one second stands for both: rates are by true time.
            Some(newest) if number <= newest => {
                self.seconds.pop_back();
            }
            Some(newest) => {
                // A process that slept through the whole ring has a ring of gaps.
                let gaps = usize::try_from(number - newest - 1).unwrap_or(SECONDS).min(SECONDS);
                (0..gaps).for_each(|_| self.push(GAP));
            }
            None => {}
        }
        self.newest = Some(self.newest.unwrap_or(number).max(number));
        self.push(second);

        let Readings { totals, gauges, tables, table_units, throttles, rejects, principals, refusals, reads } =
            readings;
        (self.gauges, self.tables) = (gauges, tables);
        self.table_units.record(at, table_units.into_iter());
        self.throttles.record(at, throttles.into_iter().map(|(label, calls)| (label, calls as f64)));
        self.rejects.record(at, rejects.into_iter().map(|(label, rows)| (label, rows as f64)));
        self.refusals.record(at, refusals.into_iter().map(|(label, times)| (label, times as f64)));
        self.reads.record(at, reads.into_iter().map(|(label, keys)| (label, keys as f64)));
        let by = |read: fn(&PrincipalTotals) -> f64| {
            principals.iter().map(move |(name, totals)| (name.clone(), read(totals)))
        };
        self.principal_rows.record(at, by(|totals| totals.rows as f64));
        self.principal_bytes.record(at, by(|totals| totals.bytes as f64));
        self.principal_reads.record(at, by(|totals| totals.reads as f64));
        self.limited_seconds.record(at, by(|totals| totals.limited_seconds));
        self.limited_calls.record(at, by(|totals| totals.limited_calls as f64));

        if self.recent.len() > QUANTILE_SECONDS {
            self.recent.pop_front();
        }
        self.recent.push_back((at, totals));
    }

    fn push(&mut self, second: Second) {
        if self.seconds.len() == SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
    }

    /// The number of the newest second.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// The seconds above a number, as far as they are kept; all of them where there is none, or where it is not one of ours.
    pub(super) fn since(&self, seen: Option<u64>) -> Delta {
        let Some(newest) = self.newest else { return Delta { first: 0, values: vec![Vec::new(); SERIES_COUNT] } };
        let oldest = newest + 1 - self.seconds.len() as u64;
        let first = seen.filter(|seen| *seen <= newest).map_or(oldest, |seen| (seen + 1).max(oldest));
        // At most as many as are kept.
        let skip = (first - oldest) as usize;
        let of = |series: usize| self.seconds.iter().skip(skip).map(|second| second[series]).collect();
        Delta { first, values: (0..SERIES_COUNT).map(of).collect() }
    }

    /// What is said to be now.
    pub(super) fn now(&self) -> Now {
        let Some((at, totals)) = self.recent.back() else { return Now::default() };
        let ago = |seconds: usize| {
            let index = self.recent.len().saturating_sub(1 + seconds);
            self.recent.get(index).filter(|(then, _)| then < at)
        };
        let Some((then, base)) = ago(RATE_SECONDS) else { return Now::default() };
        let elapsed = (*at - *then).as_secs_f64();
        let rate = |read: fn(&Totals) -> f64| (read(totals) - read(base)).max(0.0) / elapsed;
        let earlier = ago(QUANTILE_SECONDS).map(|(_, base)| base);
        let came = |read: fn(&Totals) -> Option<&Snapshot>| came(read(totals), earlier.and_then(read));
        let (ack, read) = (came(|totals| totals.ack.as_ref()), came(|totals| totals.read.as_ref()));
        let quantile = |came: &Option<Snapshot>, quantile| came.as_ref().and_then(|came| came.quantile(quantile));
        Now {
            rows_per_second: rate(|totals| totals.written_rows as f64),
            bytes_per_second: rate(|totals| totals.received_bytes as f64),
            rejected_rows_per_second: rate(|totals| totals.rejected_rows as f64),
            write_units_per_second: rate(|totals| totals.write_units),
            throttled_calls_per_second: rate(|totals| totals.throttled_calls as f64),
            write_calls_per_second: rate(|totals| totals.write_calls as f64),
            reads_per_second: rate(|totals| totals.read_keys as f64),
            ack_p50_seconds: quantile(&ack, 0.5),
            ack_p99_seconds: quantile(&ack, 0.99),
            read_p50_seconds: quantile(&read, 0.5),
            read_p99_seconds: quantile(&read, 0.99),
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

/// The values of one second.
fn second(before: Option<&(Duration, Totals)>, at: Duration, readings: &Readings) -> Second {
    let Readings { totals: now, gauges, .. } = readings;
    let none = Totals::default();
    // The counters began with the process.
    let (then, before) = before.map_or((Duration::ZERO, &none), |(then, totals)| (*then, totals));
    let elapsed = at.saturating_sub(then).as_secs_f64();
    let rate = |now: f64, before: f64| {
        let rate = if elapsed > 0.0 { (now - before).max(0.0) / elapsed } else { f64::NAN };
        rate as f32
    };
    let (ack, read) = (came(now.ack.as_ref(), before.ack.as_ref()), came(now.read.as_ref(), before.read.as_ref()));
    let ms = |came: &Option<Snapshot>, quantile| {
        let seconds = came.as_ref().and_then(|came| came.quantile(quantile));
        seconds.map_or(f32::NAN, |seconds| (seconds * 1e3) as f32)
    };
    [
        rate(now.written_rows as f64, before.written_rows as f64),
        rate(now.received_bytes as f64, before.received_bytes as f64),
        ms(&ack, 0.5),
        ms(&ack, 0.99),
        rate(now.write_units, before.write_units),
        rate(now.throttled_calls as f64, before.throttled_calls as f64),
        rate(now.rejected_rows as f64, before.rejected_rows as f64),
        rate(now.read_keys as f64, before.read_keys as f64),
        ms(&read, 0.99),
        gauges.reserved_bytes as f32,
        gauges.sessions as f32,
        gauges.attempts_in_flight as f32,
    ]
}

/// What a distribution has got since; all of it where it was not there before.
fn came(now: Option<&Snapshot>, before: Option<&Snapshot>) -> Option<Snapshot> {
    let now = now?;
    Some(before.map_or_else(|| now.clone(), |before| now.since(before)))
}

/// A labelled counter's recent past.
#[derive(Debug)]
pub(super) struct Tallies<L>(BTreeMap<L, Tally>);

/// One label's.
#[derive(Debug, Clone, Default)]
struct Tally {
    total: f64,
    seconds: [f64; RATE_SECONDS],
    minutes: [f64; MINUTES],
    /// When the two were brought up to date.
    second: u64,
    minute: u64,
}

/// What a label's counter has done lately.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lately<'a, L> {
    /// The label.
    pub(super) label: &'a L,
    /// A second, over the last [`RATE_SECONDS`].
    pub(super) per_second: f64,
    /// In the last 15 minutes.
    pub(super) in_15_minutes: f64,
    /// Since the process started.
    pub(super) total: f64,
}

impl<L> Default for Tallies<L> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<L: Ord> Tallies<L> {
    fn record(&mut self, at: Duration, counters: impl Iterator<Item = (L, f64)>) {
        for (label, total) in counters {
            if self.0.len() < LABELS_MAX || self.0.contains_key(&label) {
                self.0.entry(label).or_default().record(at, total);
            }
        }
    }

    /// All labels, in their order.
    pub(super) fn lately(&self) -> impl Iterator<Item = Lately<'_, L>> {
        self.0.iter().map(|(label, tally)| tally.lately(label))
    }

    /// One label.
    pub(super) fn of(&self, label: &L) -> Option<Lately<'_, L>> {
        self.0.get_key_value(label).map(|(label, tally)| tally.lately(label))
    }
}

impl Tally {
    fn lately<'a, L>(&self, label: &'a L) -> Lately<'a, L> {
        Lately {
            label,
            per_second: self.seconds.iter().sum::<f64>() / RATE_SECONDS as f64,
            in_15_minutes: self.minutes.iter().sum(),
            total: self.total,
        }
    }

    fn record(&mut self, at: Duration, total: f64) {
        let came = (total - self.total).max(0.0);
        self.total = total;
        turn(&mut self.seconds, &mut self.second, at.as_secs(), came);
        turn(&mut self.minutes, &mut self.minute, at.as_secs() / 60, came);
    }
}

/// Adds to the place of a period, after those that have passed since were emptied.
fn turn<const N: usize>(places: &mut [f64; N], newest: &mut u64, period: u64, came: f64) {
    let passed = period.saturating_sub(*newest).min(N as u64);
    for back in 0..passed {
        places[((period - back) % N as u64) as usize] = 0.0;
    }
    *newest = period.max(*newest);
    places[(*newest % N as u64) as usize] += came;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rows(written_rows: u64) -> Readings {
        Readings { totals: Totals { written_rows, ..Totals::default() }, ..Readings::default() }
    }

    fn of<'a>(delta: &'a Delta, name: &str) -> &'a [f32] {
        &delta.values[SERIES.iter().position(|series| *series == name).unwrap()]
    }

    #[test]
    fn a_page_that_knows_a_second_gets_only_those_after_it() {
        let mut history = History::new();
        assert_eq!(history.since(None).values[0], [0.0; 0]);
        for second in 0..10 {
            history.record(at(second), rows(second * 100));
        }
        let all = history.since(None);
        assert_eq!((all.first, of(&all, "rows_per_second").len()), (0, 10));
        let delta = history.since(Some(7));
        assert_eq!((delta.first, of(&delta, "rows_per_second")), (8, &[100.0, 100.0][..]));
        let nothing = history.since(Some(9));
        assert_eq!((nothing.first, nothing.values[0].len()), (10, 0));
        let of_another_process = history.since(Some(4_000));
        assert_eq!((of_another_process.first, of_another_process.values[0].len()), (0, 10));
    }

    #[test]
    fn the_ring_keeps_fifteen_minutes_and_no_more_memory() {
        let mut history = History::new();
        for second in 0..5_000 {
            history.record(at(second), rows(second));
        }
        let all = history.since(None);
        assert_eq!((all.first, all.values[0].len()), (5_000 - SECONDS as u64, SECONDS));
        let late = history.since(Some(3));
        assert_eq!(late.first, all.first, "what is gone is gone");
        assert_eq!(history.seconds.capacity(), SECONDS);
    }

    #[test]
    fn seconds_that_nobody_sampled_are_gaps_and_the_rate_after_them_is_by_true_time() {
        let mut history = History::new();
        history.record(at(1), rows(100));
        history.record(at(5), rows(900));
        let all = history.since(None);
        let values = of(&all, "rows_per_second");
        assert_eq!((all.first, values.len()), (1, 5));
        assert!(values[1..4].iter().all(|value| value.is_nan()), "{values:?}");
        assert_eq!((values[0], values[4]), (100.0, 200.0));
        history.record(at(1_000_000), rows(900));
        assert_eq!(history.since(None).values[0].len(), SECONDS);
        assert_eq!(history.newest(), Some(1_000_000));
    }

    #[test]
    fn now_is_the_mean_of_five_seconds_and_a_quantile_of_ten() {
        let mut history = History::new();
        let mut ack = Snapshot { bounds: &[0.01, 0.1, 1.0], counts: vec![0; 4], sum: 0.0 };
        let mut written_rows = 0;
        for second in 0..60 {
            written_rows += if second % 5 == 0 { 1_000 } else { 0 };
            // A slow batch long ago, and quick ones since.
            ack.counts[if second < 40 { 2 } else { 0 }] += 10;
            let totals = Totals { written_rows, ack: Some(ack.clone()), ..Totals::default() };
            history.record(at(second), Readings { totals, ..Readings::default() });
        }
        let now = history.now();
        assert!((now.rows_per_second - 200.0).abs() < 1e-9, "{now:?}");
        assert!(now.ack_p99_seconds.unwrap() <= 0.01, "{now:?}");
        assert_eq!(now.read_p99_seconds, None, "nothing was read");
        assert!(of(&history.since(Some(30)), "ack_p99_ms")[0] > 100.0);
    }

    #[test]
    fn a_label_has_a_rate_and_a_sum_that_both_forget() {
        let mut history = History::new();
        let rejects = |rows| Readings { rejects: vec![("out_of_range", rows)], ..Readings::default() };
        let seen = |history: &History| {
            history.rejects.of(&"out_of_range").map(|label| (label.per_second, label.in_15_minutes, label.total))
        };
        assert_eq!(seen(&history), None);
        for second in 0..60 {
            history.record(at(second), rejects((second + 1) * 10));
        }
        assert_eq!(seen(&history), Some((10.0, 600.0, 600.0)));
        for second in 60..900 {
            history.record(at(second), rejects(600));
        }
        assert_eq!(seen(&history), Some((0.0, 600.0, 600.0)), "the first minute is the fifteenth");
        history.record(at(900), rejects(600));
        assert_eq!(seen(&history), Some((0.0, 0.0, 600.0)));
    }

    #[test]
    fn labels_beyond_the_bound_are_not_remembered() {
        let mut history = History::new();
        let principals = (0..2 * LABELS_MAX).map(|i| (format!("p{i:04}"), Default::default())).collect();
        history.record(at(1), Readings { principals, ..Readings::default() });
        assert_eq!(history.principal_rows.lately().count(), LABELS_MAX);
    }
}
