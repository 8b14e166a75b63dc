//! What the instruments stand at, read in one go: the only place where the status page touches them. Caller: the sampler.

use crate::telemetry::Instruments;
use crate::telemetry::histogram::Snapshot;

/// Counters since the process started.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    /// Rows that DynamoDB confirmed, and those that newer confirmed ones superseded.
    pub(super) written_rows: u64,
    /// Rows that were rejected.
    pub(super) rejected_rows: u64,
    /// Bytes of batches received.
    pub(super) received_bytes: u64,
    /// Write units.
    pub(super) write_units: f64,
    /// Throttled write calls.
    pub(super) throttled_calls: u64,
    /// Write calls.
    pub(super) write_calls: u64,
    /// Keys read.
    pub(super) read_keys: u64,
    /// From a batch's arrival to its ack.
    pub(super) ack: Option<Snapshot>,
    /// Of read calls.
    pub(super) read: Option<Snapshot>,
}

/// What there is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gauges {
    /// Memory reserved for rows.
    pub(super) reserved_bytes: i64,
    /// Rows that wait or are in flight.
    pub(super) queued_rows: i64,
    /// Write sessions.
    pub(super) sessions: i64,
    /// Write calls in flight.
    pub(super) attempts_in_flight: i64,
    /// Connections.
    pub(super) connections: i64,
}

/// What the pool lets itself do with a DynamoDB table.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct TableBounds {
    /// Write calls that may be in flight.
    pub(super) window: i64,
    /// Write units a second; `None` where there is no ceiling.
    pub(super) ceiling: Option<f64>,
}

/// What a principal has done.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct PrincipalTotals {
    /// Rows received.
    pub(super) rows: u64,
    /// Bytes received.
    pub(super) bytes: u64,
    /// Keys read.
    pub(super) reads: u64,
    /// Seconds that its sessions were not read because of a rate limit.
    pub(super) limited_seconds: f64,
    /// Its calls that were refused because of a rate limit.
    pub(super) limited_calls: u64,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Readings {
    /// Counters without labels.
    pub(super) totals: Totals,
    /// What there is now.
    pub(super) gauges: Gauges,
    /// By DynamoDB table.
    pub(super) tables: Vec<(String, TableBounds)>,
    /// Write units by DynamoDB table.
    pub(super) table_units: Vec<(String, f64)>,
    /// Throttled write calls by DynamoDB table, index and reason.
    pub(super) throttles: Vec<((String, String, &'static str), u64)>,
    /// Rejected rows by reason.
    pub(super) rejects: Vec<(&'static str, u64)>,
    /// By principal.
    pub(super) principals: Vec<(String, PrincipalTotals)>,
    /// What was refused (`connection` or `call`), and why.
    pub(super) refusals: Vec<((&'static str, &'static str), u64)>,
    /// Keys read by outcome.
    pub(super) reads: Vec<(&'static str, u64)>,
}

impl Readings {
    /// What the instruments stand at now.
    pub(super) fn of(instruments: &Instruments) -> Self {
        let mut readings = Self {
            gauges: Gauges {
                reserved_bytes: instruments.reserved_bytes.get(),
                queued_rows: instruments.queued_rows.get(),
                sessions: instruments.sessions.get(),
                attempts_in_flight: instruments.attempts_in_flight.get(),
                connections: instruments.connections.get(),
            },
            ..Self::default()
        };
        let totals = &mut readings.totals;
        totals.received_bytes = instruments.received_bytes.get();
        totals.ack = Some(instruments.ack_seconds.snapshot());
        totals.read = Some(instruments.read_seconds.snapshot());
        instruments.rows.each(|label, rows| match label.status {
            "committed" | "superseded" => totals.written_rows += rows.get(),
            "rejected" => totals.rejected_rows += rows.get(),
            _ => {}
        });
        instruments.attempts.each(|_, calls| totals.write_calls += calls.get());
        instruments.write_units.each(|label, units| {
            totals.write_units += units.get();
            readings.table_units.push((label.dynamodb_table.clone(), units.get()));
        });
        instruments.throttles.each(|label, calls| {
            totals.throttled_calls += calls.get();
            let label = (label.dynamodb_table.clone(), label.index.clone(), label.reason);
            readings.throttles.push((label, calls.get()));
        });
        instruments.reads.each(|label, keys| {
            totals.read_keys += keys.get();
            readings.reads.push((label.outcome, keys.get()));
        });
        readings.read_tables(instruments);
        readings.read_principals(instruments);
        instruments.rejects.each(|label, rows| readings.rejects.push((label.reason, rows.get())));
        let refusals = &mut readings.refusals;
        instruments.connections_refused.each(|label, times| refusals.push((("connection", label.reason), times.get())));
        instruments.calls_refused.each(|label, times| refusals.push((("call", label.reason), times.get())));
        readings
    }

    fn read_tables(&mut self, instruments: &Instruments) {
        let tables = &mut self.tables;
        instruments.window.each(|label, window| {
            tables.push((label.dynamodb_table.clone(), TableBounds { window: window.get(), ceiling: None }));
        });
        tables.sort_by(|(a, _), (b, _)| a.cmp(b));
        instruments.ceiling.each(|label, ceiling| {
            if let Ok(at) = tables.binary_search_by(|(name, _)| name.as_str().cmp(&label.dynamodb_table)) {
                tables[at].1.ceiling = Some(ceiling.get()).filter(|ceiling| *ceiling > 0.0);
            }
        });
    }

    fn read_principals(&mut self, instruments: &Instruments) {
        let mut principals = std::collections::BTreeMap::<String, PrincipalTotals>::new();
        let mut of = |name: &str, add: &dyn Fn(&mut PrincipalTotals)| match principals.get_mut(name) {
            Some(totals) => add(totals),
            None => add(principals.entry(name.to_owned()).or_default()),
        };
        instruments.principal_rows.each(|label, rows| of(&label.principal, &|totals| totals.rows = rows.get()));
        instruments.principal_bytes.each(|label, bytes| of(&label.principal, &|totals| totals.bytes = bytes.get()));
        instruments.principal_reads.each(|label, reads| of(&label.principal, &|totals| totals.reads = reads.get()));
        let limited = &instruments.rate_limited_seconds;
        limited.each(|label, seconds| of(&label.principal, &|totals| totals.limited_seconds = seconds.get()));
        let limited = &instruments.rate_limited_calls;
        limited.each(|label, calls| of(&label.principal, &|totals| totals.limited_calls = calls.get()));
        self.principals = principals.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::instruments::{PrincipalLabel, ReasonLabel, TableLabel, ThrottleLabel};

    #[test]
    fn the_readings_are_what_the_instruments_stand_at() {
        let instruments = Instruments::new();
        instruments.count_rows("committed", 90);
        instruments.count_rows("superseded", 10);
        instruments.count_rejects(["too_long", "too_long", "out_of_range"].into_iter());
        instruments.count_received("spark", 103, 5_000);
        instruments.rate_limited_seconds.get_or_create(&PrincipalLabel { principal: "spark".into() }).inc_by(1.5);
        instruments.calls_refused.get_or_create(&ReasonLabel { reason: "no_credential" }).inc();
        let table = TableLabel { dynamodb_table: "cards".into() };
        instruments.window.get_or_create(&table).set(16);
        instruments.ceiling.get_or_create(&table).set(0.0);
        instruments.write_units.get_or_create(&table).inc_by(91.0);
        let label = ThrottleLabel { dynamodb_table: "cards".into(), index: String::new(), reason: "provisioned" };
        instruments.throttles.get_or_create(&label).inc_by(2);
        instruments.ack_seconds.observe(0.25);

        let readings = Readings::of(&instruments);
        let Totals { written_rows, rejected_rows, received_bytes, throttled_calls, write_units, .. } = readings.totals;
        assert_eq!((written_rows, rejected_rows, received_bytes, throttled_calls), (100, 3, 5_000, 2));
        assert_eq!((write_units, readings.totals.ack.unwrap().count()), (91.0, 1));
        assert_eq!(readings.tables, [("cards".to_owned(), TableBounds { window: 16, ceiling: None })]);
        let spark = PrincipalTotals { rows: 103, bytes: 5_000, limited_seconds: 1.5, ..PrincipalTotals::default() };
        assert_eq!(readings.principals, [("spark".to_owned(), spark)]);
        let mut rejects = readings.rejects;
        rejects.sort_unstable();
        assert_eq!(rejects, [("out_of_range", 1), ("too_long", 2)]);
        assert_eq!(readings.refusals, [(("call", "no_credential"), 1)]);
        assert_eq!(readings.throttles, [(("cards".to_owned(), String::new(), "provisioned"), 2)]);
    }
}
