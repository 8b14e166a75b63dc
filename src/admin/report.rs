//! `/status.json`: what the status page shows, in a stable shape that docs/status.md describes. Units are in the names.
//!
//! Fields may be added and none is renamed. Pure but for what it is given to read: the history, the boards, and the time.
//! Every list is bounded ([`LISTED`]), so that an answer stays below 100 KB. The caller is the side port.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::history::{Delta, History, Lately, Now, RATE_SECONDS, SECONDS, SERIES, Tallies};
use crate::telemetry::hot_key_board::KeyHeat;
use crate::telemetry::session_board::SessionLine;

/// Entries of a list.
pub(super) const LISTED: usize = 20;
/// From this share of throttled write calls on, throttling is what the page says first.
const THROTTLED_SHARE: f64 = 0.02;
/// A batch that has waited so long for its ack is worth a word.
const BEHIND: Duration = Duration::from_secs(30);
/// From this share of the memory for rows on, it counts as full.
const MEMORY_FULL: f64 = 0.95;

/// What is not in the history.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// Milliseconds since 1970.
    pub(super) now_unix_ms: u64,
    /// Likewise, when the process started.
    pub(super) started_unix_ms: u64,
    /// How long ago that was.
    pub(super) uptime: Duration,
    /// Where rows go, for people.
    pub(super) backend: String,
    /// For how long DynamoDB has not answered, where it does not.
    pub(super) backend_silent_for: Option<Duration>,
    /// How much time open streams still have, where the process is asked to end.
    pub(super) drains_for: Option<Duration>,
    /// The budget of memory for rows.
    pub(super) memory_limit_bytes: u64,
    /// Memory of the process, where the system says so.
    pub(super) resident_bytes: Option<u64>,
    /// Write sessions at once.
    pub(super) sessions_limit: u64,
    /// The listed sessions, and how many there are on the board.
    pub(super) sessions: (Vec<SessionLine>, usize),
    /// The heaviest keys.
    pub(super) hot_keys: Vec<KeyHeat>,
}

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    forebay_version: &'static str,
    now_unix_ms: u64,
    started_unix_ms: u64,
    uptime_seconds: u64,
    state: State,
    ready: bool,
    not_ready_because: Vec<&'static str>,
    drain_ends_in_seconds: Option<Figure>,
    backend: Backend,
    rates: Rates,
    memory: Memory,
    connections_open: i64,
    queued_rows: i64,
    write_calls_in_flight: i64,
    write_sessions: Sessions,
    tables: List<Table>,
    throttling: List<Throttle>,
    hot_keys: Vec<HotKey>,
    principals: List<Principal>,
    rejects: List<Reason>,
    refusals: List<Refusal>,
    reads: List<Read>,
    series: Series,
}

/// What a person should know first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct State {
    /// `healthy`, `idle`, `behind`, `memory_full`, `throttled`, `backend_down`, `draining`.
    pub(super) name: &'static str,
    /// `good`, `quiet`, `warning`, `bad`.
    pub(super) level: &'static str,
    /// The same in a sentence.
    pub(super) sentence: String,
}

#[derive(Debug, Serialize)]
struct Backend {
    name: String,
    answers: bool,
    silent_for_seconds: Option<Figure>,
}

#[derive(Debug, Serialize)]
struct Rates {
    mean_over_seconds: usize,
    rows_per_second: Figure,
    bytes_per_second: Figure,
    rejected_rows_per_second: Figure,
    write_units_per_second: Figure,
    write_calls_per_second: Figure,
    throttled_calls_per_second: Figure,
    reads_per_second: Figure,
    ack_p50_ms: Option<Figure>,
    ack_p99_ms: Option<Figure>,
    read_p50_ms: Option<Figure>,
    read_p99_ms: Option<Figure>,
}

#[derive(Debug, Serialize)]
struct Memory {
    reserved_bytes: i64,
    limit_bytes: u64,
    resident_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Sessions {
    open: i64,
    limit: u64,
    #[serde(flatten)]
    list: List<Session>,
}

/// The first entries, and how many there are beside them.
#[derive(Debug, Serialize)]
struct List<T> {
    listed: Vec<T>,
    more: usize,
}

#[derive(Debug, Serialize)]
struct Session {
    session: String,
    table: String,
    principal: String,
    open_for_seconds: Figure,
    rows: u64,
    bytes: u64,
    rows_per_second: Figure,
    bytes_per_second: Figure,
    unacked_batches: u64,
    unacked_bytes: u64,
    oldest_unacked_seconds: Option<Figure>,
}

#[derive(Debug, Serialize)]
struct Table {
    dynamodb_table: String,
    write_units_per_second: Figure,
    write_units_ceiling_per_second: Option<Figure>,
    window_calls: i64,
    throttled_calls_per_second: Figure,
    throttled_calls_15_minutes: Figure,
}

#[derive(Debug, Serialize)]
struct Throttle {
    dynamodb_table: String,
    /// Empty for the table itself.
    index: String,
    reason: &'static str,
    calls_per_second: Figure,
    calls_15_minutes: Figure,
}

#[derive(Debug, Serialize)]
struct HotKey {
    key_hash: String,
    dynamodb_table: String,
    write_units_per_second: Figure,
}

#[derive(Debug, Serialize)]
struct Principal {
    principal: String,
    rows_per_second: Figure,
    bytes_per_second: Figure,
    reads_per_second: Figure,
    /// Of all bytes received in the last 15 minutes, from 0 to 1.
    share_of_bytes: Figure,
    rows_15_minutes: Figure,
    limited_seconds_15_minutes: Figure,
    limited_calls_15_minutes: Figure,
}

#[derive(Debug, Serialize)]
struct Reason {
    reason: &'static str,
    rows_per_second: Figure,
    rows_15_minutes: Figure,
}

#[derive(Debug, Serialize)]
struct Refusal {
    /// `connection` or `call`.
    what: &'static str,
    reason: &'static str,
    per_second: Figure,
    in_15_minutes: Figure,
}

#[derive(Debug, Serialize)]
struct Read {
    outcome: &'static str,
    keys_per_second: Figure,
    keys_15_minutes: Figure,
}

/// The seconds that the page does not have yet: the first one has the number `first_sequence`.
#[derive(Debug, Serialize)]
struct Series {
    interval_seconds: u64,
    kept: usize,
    first_sequence: u64,
    newest_sequence: Option<u64>,
    values: BTreeMap<&'static str, Vec<Figure>>,
}

/// A number for people: no more digits than mean something. What is not known is `null`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figure(f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = match self.0.abs() {
            small if small < 10.0 => (self.0 * 1e3).round() / 1e3,
            middle if middle < 1e3 => (self.0 * 10.0).round() / 10.0,
            _ => self.0.round(),
        };
        match value {
            unknown if !unknown.is_finite() => serializer.serialize_none(),
            // Without `.0` behind it.
            whole if whole.fract() == 0.0 && whole.abs() < 1e15 => serializer.serialize_i64(whole as i64),
            value => serializer.serialize_f64(value),
        }
    }
}

impl Report {
    /// What there is to show, with the seconds after `seen`.
    pub(super) fn new(history: &History, seen: Option<u64>, around: Surroundings) -> Self {
        let now = history.now();
        let state = state(history, &now, &around);
        let mut not_ready_because = Vec::new();
        if around.drains_for.is_some() {
            not_ready_because.push("draining");
        }
        if around.backend_silent_for.is_some() {
            not_ready_because.push("DynamoDB does not answer");
        }
        let Delta { first, values } = history.since(seen);
        let figures = |values: Vec<f32>| values.into_iter().map(|value| Figure(value.into())).collect();
        let (lines, on_board) = around.sessions;
        let (sessions_open, listed) = (history.gauges.sessions.max(0), lines.len());
        let hot = |key: KeyHeat| HotKey {
            key_hash: format!("{:016x}", key.hash),
            dynamodb_table: key.dynamodb_table.to_string(),
            write_units_per_second: Figure(key.units_per_second),
        };
        Self {
            forebay_version: env!("CARGO_PKG_VERSION"),
            now_unix_ms: around.now_unix_ms,
            started_unix_ms: around.started_unix_ms,
            uptime_seconds: around.uptime.as_secs(),
            state,
            ready: not_ready_because.is_empty(),
            not_ready_because,
            drain_ends_in_seconds: around.drains_for.map(seconds),
            backend: Backend {
                name: around.backend,
                answers: around.backend_silent_for.is_none(),
                silent_for_seconds: around.backend_silent_for.map(seconds),
            },
            rates: rates(&now),
            memory: Memory {
                reserved_bytes: history.gauges.reserved_bytes.max(0),
                limit_bytes: around.memory_limit_bytes,
                resident_bytes: around.resident_bytes,
            },
            connections_open: history.gauges.connections.max(0),
            queued_rows: history.gauges.queued_rows.max(0),
            write_calls_in_flight: history.gauges.attempts_in_flight.max(0),
            write_sessions: Sessions {
                // The board is up to date, the gauge is of the last sample.
                open: sessions_open.max(i64::try_from(on_board).unwrap_or(i64::MAX)),
                limit: around.sessions_limit,
                list: List {
                    listed: lines.into_iter().map(session).collect(),
                    more: on_board.max(usize::try_from(sessions_open).unwrap_or(0)) - listed,
                },
            },
            tables: tables(history),
            throttling: throttling(history),
            hot_keys: around.hot_keys.into_iter().map(hot).collect(),
            principals: principals(history),
            rejects: list(&history.rejects, |lately| Reason {
                reason: lately.label,
                rows_per_second: Figure(lately.per_second),
                rows_15_minutes: Figure(lately.in_15_minutes),
            }),
            refusals: list(&history.refusals, |lately| Refusal {
                what: lately.label.0,
                reason: lately.label.1,
                per_second: Figure(lately.per_second),
                in_15_minutes: Figure(lately.in_15_minutes),
            }),
            reads: list(&history.reads, |lately| Read {
                outcome: lately.label,
                keys_per_second: Figure(lately.per_second),
                keys_15_minutes: Figure(lately.in_15_minutes),
            }),
            series: Series {
                interval_seconds: 1,
                kept: SECONDS,
                first_sequence: first,
                newest_sequence: history.newest(),
                values: SERIES.into_iter().zip(values.into_iter().map(figures)).collect(),
            },
        }
    }
}

/// The worst comes first: what is behind it is its consequence, or can wait.
fn state(history: &History, now: &Now, around: &Surroundings) -> State {
    let say = |name, level, sentence: String| State { name, level, sentence };
    if let Some(left) = around.drains_for {
        let (open, left) = (history.gauges.sessions.max(0), left.as_secs());
        let sentence = format!("New streams are refused; {open} open write sessions have {left} s left to finish.");
        return say("draining", "warning", sentence);
    }
    if let Some(silent) = around.backend_silent_for {
        let sentence =
            format!("DynamoDB has not answered for {} s. Rows wait, and nothing is acked.", silent.as_secs());
        return say("backend_down", "bad", sentence);
    }
    let share = now.throttled_calls_per_second / now.write_calls_per_second.max(f64::MIN_POSITIVE);
    if share >= THROTTLED_SHARE {
        let mut sentence =
            format!("DynamoDB throttled {:.0} % of the last {RATE_SECONDS} s' write calls", share * 100.0);
        if let Some(worst) = history.throttles.lately().max_by(|a, b| a.per_second.total_cmp(&b.per_second)) {
            let (table, _, reason) = worst.label;
            sentence.push_str(&format!(", most of them for {table} ({})", reason.replace('_', " ")));
        }
        sentence.push('.');
        return say("throttled", "warning", sentence);
    }
    if history.gauges.reserved_bytes as f64 >= MEMORY_FULL * around.memory_limit_bytes as f64 {
        let sentence =
            "Memory for rows is full: sessions are read only as fast as DynamoDB takes their rows.".to_owned();
        return say("memory_full", "warning", sentence);
    }
    let slowest = around.sessions.0.iter().filter_map(|line| Some((line.oldest_unacked?, &line.table))).max();
    if let Some((age, table)) = slowest.filter(|(age, _)| *age >= BEHIND) {
        let sentence = format!("Rows wait: the oldest batch without an ack, of {table}, came {} s ago.", age.as_secs());
        return say("behind", "warning", sentence);
    }
    let came = |tallies: &Tallies<String>| tallies.lately().any(|lately| lately.in_15_minutes > 0.0);
    let has_traffic = came(&history.principal_bytes) || came(&history.principal_reads) || history.gauges.sessions > 0;
    if !has_traffic {
        return say("idle", "quiet", "Ready. No row has come or been read in the last 15 minutes.".to_owned());
    }
    say("healthy", "good", "Ready, DynamoDB answers, and its tables take what is sent.".to_owned())
}

fn rates(now: &Now) -> Rates {
    let ms = |seconds: Option<f64>| seconds.map(|seconds| Figure(seconds * 1e3));
    Rates {
        mean_over_seconds: RATE_SECONDS,
        rows_per_second: Figure(now.rows_per_second),
        bytes_per_second: Figure(now.bytes_per_second),
        rejected_rows_per_second: Figure(now.rejected_rows_per_second),
        write_units_per_second: Figure(now.write_units_per_second),
        write_calls_per_second: Figure(now.write_calls_per_second),
        throttled_calls_per_second: Figure(now.throttled_calls_per_second),
        reads_per_second: Figure(now.reads_per_second),
        ack_p50_ms: ms(now.ack_p50_seconds),
        ack_p99_ms: ms(now.ack_p99_seconds),
        read_p50_ms: ms(now.read_p50_seconds),
        read_p99_ms: ms(now.read_p99_seconds),
    }
}

fn session(line: SessionLine) -> Session {
    Session {
        session: line.session,
        table: line.table,
        principal: line.principal.to_string(),
        open_for_seconds: seconds(line.open_for),
        rows: line.rows,
        bytes: line.bytes,
        rows_per_second: Figure(line.rows_per_second),
        bytes_per_second: Figure(line.bytes_per_second),
        unacked_batches: line.unacked_batches,
        unacked_bytes: line.unacked_bytes,
        oldest_unacked_seconds: line.oldest_unacked.map(seconds),
    }
}

fn tables(history: &History) -> List<Table> {
    let mut throttled = BTreeMap::<&str, (f64, f64)>::new();
    for lately in history.throttles.lately() {
        let (per_second, in_15_minutes) = throttled.entry(&lately.label.0).or_default();
        (*per_second, *in_15_minutes) = (*per_second + lately.per_second, *in_15_minutes + lately.in_15_minutes);
    }
    let mut tables: Vec<_> = history
        .tables
        .iter()
        .map(|(name, bounds)| {
            let units = history.table_units.of(name);
            let (per_second, in_15_minutes) = throttled.get(name.as_str()).copied().unwrap_or_default();
            let table = Table {
                dynamodb_table: name.clone(),
                write_units_per_second: Figure(units.as_ref().map_or(0.0, |units| units.per_second)),
                write_units_ceiling_per_second: bounds.ceiling.map(Figure),
                window_calls: bounds.window,
                throttled_calls_per_second: Figure(per_second),
                throttled_calls_15_minutes: Figure(in_15_minutes),
            };
            (units.map_or(0.0, |units| units.in_15_minutes), table)
        })
        .collect();
    tables.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    bounded(tables.into_iter().map(|(_, table)| table).collect())
}

fn throttling(history: &History) -> List<Throttle> {
    list(&history.throttles, |lately| {
        let (table, index, reason) = lately.label;
        Throttle {
            dynamodb_table: table.clone(),
            index: index.clone(),
            reason,
            calls_per_second: Figure(lately.per_second),
            calls_15_minutes: Figure(lately.in_15_minutes),
        }
    })
}

fn principals(history: &History) -> List<Principal> {
    let all: f64 = history.principal_bytes.lately().map(|lately| lately.in_15_minutes).sum();
    let mut seen: Vec<_> = history
        .principal_bytes
        .lately()
        .map(|bytes| {
            let of = |tallies: &Tallies<String>| {
                tallies.of(bytes.label).map_or((0.0, 0.0), |lately| (lately.per_second, lately.in_15_minutes))
            };
            let (rows, reads) = (of(&history.principal_rows), of(&history.principal_reads));
            let principal = Principal {
                principal: bytes.label.clone(),
                rows_per_second: Figure(rows.0),
                bytes_per_second: Figure(bytes.per_second),
                reads_per_second: Figure(reads.0),
                share_of_bytes: Figure(if all > 0.0 { bytes.in_15_minutes / all } else { 0.0 }),
                rows_15_minutes: Figure(rows.1),
                limited_seconds_15_minutes: Figure(of(&history.limited_seconds).1),
                limited_calls_15_minutes: Figure(of(&history.limited_calls).1),
            };
            (bytes.in_15_minutes + reads.1, principal)
        })
        .collect();
    seen.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    bounded(seen.into_iter().map(|(_, principal)| principal).collect())
}

/// The labels that have done something in the last 15 minutes, the busiest first.
fn list<L: Ord, T>(tallies: &Tallies<L>, entry: impl Fn(Lately<'_, L>) -> T) -> List<T> {
    let mut seen: Vec<_> = tallies.lately().filter(|lately| lately.in_15_minutes > 0.0).collect();
    seen.sort_by(|a, b| b.in_15_minutes.total_cmp(&a.in_15_minutes));
    bounded(seen.into_iter().map(entry).collect())
}

fn bounded<T>(mut listed: Vec<T>) -> List<T> {
    let more = listed.len().saturating_sub(LISTED);
    listed.truncate(LISTED);
    List { listed, more }
}

fn seconds(duration: Duration) -> Figure {
    Figure(duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
