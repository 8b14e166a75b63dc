//! Every instrument of the process.
//!
//! Updated per batch, attempt or session, never per row: a counter costs a tenth of a row. Read by `admin` as Prometheus
//! text.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use smallvec::SmallVec;

use super::hot_key_board::HotKeyBoard;
use super::session_board::SessionBoard;

/// The outcome of a row, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabel {
    /// `committed`, `superseded`, `rejected`, `retryable`, `unknown` or `dropped`.
    pub status: &'static str,
}

/// The outcome of an attempt or a read, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `ok`, `partial`, `throttled`, `refused`, `unreachable`, `unknown`, ...
    pub outcome: &'static str,
}

/// A throttled attempt, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ThrottleLabel {
    /// The DynamoDB table.
    pub dynamodb_table: String,
    /// The index that was short of capacity; empty for the table itself, or where DynamoDB did not say.
    pub index: String,
    /// `key_range`, `provisioned`, `account`, `max_on_demand`, `unknown`, or `unprocessed_items`, which come without a reason.
    pub reason: &'static str,
}

/// A DynamoDB table, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabel {
    /// The DynamoDB table.
    pub dynamodb_table: String,
}

/// A coercion, as labels. No value and no name that only a client chose is among them, so that there are as many as tables
/// have columns and Spark has pairs of types.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CoercionLabel {
    /// The table.
    pub table: String,
    /// The column's path: `vitals[].hr`; `*` where the table has no such column.
    pub column: String,
    /// `int->bigint`, `decimal->double`, `unknown field->dropped`, ...; types without their parameters.
    pub rule: String,
}

/// A principal, as a label. There are as many as the policy names, and `anyone`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PrincipalLabel {
    /// Its name.
    pub principal: String,
}

/// Why something was refused, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The reason.
    pub reason: &'static str,
}

/// The instruments.
pub struct Instruments {
    registry: Registry,
    /// Write sessions that are open.
    pub sessions: Gauge,
    /// Write sessions opened.
    pub sessions_opened: Counter,
    /// Memory reserved for rows, in bytes.
    pub reserved_bytes: Gauge,
    /// Rows waiting in lanes or in flight.
    pub queued_rows: Gauge,
    /// Attempts in flight.
    pub attempts_in_flight: Gauge,
    /// Batches received.
    pub batches: Counter,
    /// Bytes of batches received.
    pub received_bytes: Counter,
    /// Rows by outcome.
    pub rows: Family<StatusLabel, Counter>,
    /// Values that were coerced, in rows that were accepted.
    pub coercions: Family<CoercionLabel, Counter>,
    /// Attempts by outcome.
    pub attempts: Family<OutcomeLabel, Counter>,
    /// Items in an attempt.
    pub attempt_items: Histogram,
    /// Seconds of an attempt.
    pub attempt_seconds: Histogram,
    /// Seconds from a batch's arrival to its ack.
    pub ack_seconds: Histogram,
    /// Write units that DynamoDB reported.
    pub write_units: Counter<f64, AtomicU64>,
    /// Throttled attempts by table, index and reason.
    pub throttles: Family<ThrottleLabel, Counter>,
    /// Attempts that may be in flight.
    pub window: Family<TableLabel, Gauge>,
    /// Write units a second that may be used; 0 where there is no ceiling.
    pub ceiling: Family<TableLabel, Gauge<f64, AtomicU64>>,
    /// Hot partition keys that this process has given more write shards.
    pub key_splits: Counter,
    /// Keys read, by status.
    pub reads: Family<OutcomeLabel, Counter>,
    /// Seconds of a read call.
    pub read_seconds: Histogram,
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were not taken, or closed for what they did, by reason.
    pub connections_refused: Family<ReasonLabel, Counter>,
    /// Calls that were refused before a handler saw them, by reason.
    pub calls_refused: Family<ReasonLabel, Counter>,
    /// Rows received, by principal.
    pub principal_rows: Family<PrincipalLabel, Counter>,
    /// Bytes of batches received, by principal.
    pub principal_bytes: Family<PrincipalLabel, Counter>,
    /// Keys read, by principal.
    pub principal_reads: Family<PrincipalLabel, Counter>,
    /// Seconds that sessions were not read because of a rate limit, by principal.
    pub rate_limited_seconds: Family<PrincipalLabel, Counter<f64, AtomicU64>>,
    /// Calls that were refused because of a rate limit, by principal.
    pub rate_limited_calls: Family<PrincipalLabel, Counter>,
    /// Rejected rows by reason.
    pub rejects: Family<ReasonLabel, Counter>,
    /// Write sessions, one by one.
    pub session_board: SessionBoard,
    /// The heaviest partition keys.
    pub hot_keys: HotKeyBoard,
}

impl fmt::Debug for Instruments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instruments").finish_non_exhaustive()
    }
}

impl Default for Instruments {
    fn default() -> Self {
        Self::new()
    }
}

impl Instruments {
    /// All instruments at zero.
    pub fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let mut instruments = Self {
            registry: Registry::with_prefix("forebay"),
            sessions: Gauge::default(),
            sessions_opened: Counter::default(),
            reserved_bytes: Gauge::default(),
            queued_rows: Gauge::default(),
            attempts_in_flight: Gauge::default(),
            batches: Counter::default(),
            received_bytes: Counter::default(),
            rows: Family::default(),
            coercions: Family::default(),
            attempts: Family::default(),
            attempt_items: Histogram::new([1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 24.0, 25.0]),
            attempt_seconds: seconds(),
            ack_seconds: seconds(),
            write_units: Counter::default(),
            throttles: Family::default(),
            window: Family::default(),
            ceiling: Family::default(),
            key_splits: Counter::default(),
            reads: Family::default(),
            read_seconds: seconds(),
            connections: Gauge::default(),
            connections_refused: Family::default(),
            calls_refused: Family::default(),
            principal_rows: Family::default(),
            principal_bytes: Family::default(),
            principal_reads: Family::default(),
            rate_limited_seconds: Family::default(),
            rate_limited_calls: Family::default(),
            rejects: Family::default(),
            session_board: SessionBoard::default(),
            hot_keys: HotKeyBoard::default(),
        };
        let mut registry = std::mem::take(&mut instruments.registry);
        let i = &instruments;
        registry.register("write_sessions", "Write sessions that are open", i.sessions.clone());
        registry.register("write_sessions_opened", "Write sessions opened", i.sessions_opened.clone());
        registry.register_with_unit(
            "memory_reserved",
            "Memory reserved for rows between arrival and outcome",
            Unit::Bytes,
            i.reserved_bytes.clone(),
        );
        registry.register("queued_rows", "Rows waiting in lanes or in flight", i.queued_rows.clone());
        registry.register("attempts_in_flight", "DynamoDB write calls in flight", i.attempts_in_flight.clone());
        registry.register("batches_received", "Batches received", i.batches.clone());
        registry.register_with_unit("received", "Bytes of batches received", Unit::Bytes, i.received_bytes.clone());
        registry.register("rows", "Rows by outcome", i.rows.clone());
        registry.register("coerced_values", "Values that were coerced, in accepted rows", i.coercions.clone());
        registry.register("write_attempts", "DynamoDB write calls by outcome", i.attempts.clone());
        registry.register("write_attempt_items", "Items in a DynamoDB write call", i.attempt_items.clone());
        registry.register_with_unit(
            "write_attempt_duration",
            "Duration of a DynamoDB write call",
            Unit::Seconds,
            i.attempt_seconds.clone(),
        );
        registry.register_with_unit(
            "ack_duration",
            "Time from a batch's arrival to its ack",
            Unit::Seconds,
            i.ack_seconds.clone(),
        );
        registry.register("write_units", "Write units that DynamoDB reported", i.write_units.clone());
        registry.register(
            "write_throttles",
            "Throttled DynamoDB write calls by table, index and reason",
            i.throttles.clone(),
        );
        registry.register("write_window", "DynamoDB write calls that may be in flight", i.window.clone());
        registry.register(
            "write_units_ceiling",
            "Write units a second that the gateway lets itself use; 0 where there is no ceiling",
            i.ceiling.clone(),
        );
        let splits = "Hot partition keys that this process has given more write shards";
        registry.register("key_splits", splits, i.key_splits.clone());
        registry.register("reads", "Keys read by status", i.reads.clone());
        registry.register_with_unit("read_duration", "Duration of a read call", Unit::Seconds, i.read_seconds.clone());
        registry.register("connections", "Connections that are open", i.connections.clone());
        let refused = "Connections that were not taken, or closed for what they did, by reason";
        registry.register("connections_refused", refused, i.connections_refused.clone());
        let refused = "Calls that were refused before a handler saw them, by reason";
        registry.register("calls_refused", refused, i.calls_refused.clone());
        registry.register("principal_rows", "Rows received by principal", i.principal_rows.clone());
        let received = "Bytes of batches received by principal";
        registry.register_with_unit("principal_received", received, Unit::Bytes, i.principal_bytes.clone());
        registry.register("principal_reads", "Keys read by principal", i.principal_reads.clone());
        let limited = "Time that sessions were not read because of a rate limit, by principal";
        registry.register_with_unit("rate_limited", limited, Unit::Seconds, i.rate_limited_seconds.clone());
        let limited = "Calls refused because of a rate limit, by principal";
        registry.register("rate_limited_calls", limited, i.rate_limited_calls.clone());
        registry.register("rejected_rows", "Rejected rows by reason", i.rejects.clone());
        instruments.registry = registry;
        instruments
    }

    /// Counts rows of one outcome.
    pub fn count_rows(&self, status: &'static str, rows: u64) {
        if rows > 0 {
            self.rows.get_or_create(&StatusLabel { status }).inc_by(rows);
        }
    }

    /// Counts rejected rows, each with its reason.
    pub fn count_rejects(&self, reasons: impl Iterator<Item = &'static str>) {
        // Many rows of a batch are rejected for few reasons.
        let mut counts: SmallVec<[(&'static str, u64); 4]> = SmallVec::new();
        for reason in reasons {
            match counts.iter_mut().find(|(counted, _)| *counted == reason) {
                Some((_, count)) => *count += 1,
                None => counts.push((reason, 1)),
            }
        }
        self.count_rows("rejected", counts.iter().map(|(_, count)| count).sum());
        for (reason, count) in counts {
            self.rejects.get_or_create(&ReasonLabel { reason }).inc_by(count);
        }
    }

    /// Counts what a principal sent.
    pub fn count_received(&self, principal: &str, rows: u64, bytes: u64) {
        let label = PrincipalLabel { principal: principal.to_owned() };
        if rows > 0 {
            self.principal_rows.get_or_create(&label).inc_by(rows);
        }
        if bytes > 0 {
            self.received_bytes.inc_by(bytes);
            self.principal_bytes.get_or_create(&label).inc_by(bytes);
        }
    }

    /// Counts coercions of one rule.
    pub fn count_coercions(&self, table: &str, column: &str, rule: &str, count: u64) {
        let column = if rule.starts_with("unknown field") { "*" } else { column };
        let rule = without_parameters(rule);
        let label = CoercionLabel { table: table.to_owned(), column: column.to_owned(), rule };
        self.coercions.get_or_create(&label).inc_by(count);
    }

    /// Everything as OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// `decimal(10,2)->double` without what is in brackets.
fn without_parameters(rule: &str) -> String {
    let mut depth = 0;
    let outside = |character: &char| {
        depth += i32::from(*character == '(');
        let is_outside = depth == 0;
        depth -= i32::from(*character == ')');
        is_outside
    };
    rule.chars().filter(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coercions_are_counted_without_what_only_a_client_chose() {
        let instruments = Instruments::new();
        instruments.count_coercions("t", "a.b", "decimal(10,2)->double", 2);
        instruments.count_coercions("t", "made_up", "unknown field->dropped", 3);
        let text = instruments.encode().unwrap();
        assert!(text.contains(r#"coerced_values_total{table="t",column="a.b",rule="decimal->double"} 2"#), "{text}");
        assert!(
            text.contains(r#"coerced_values_total{table="t",column="*",rule="unknown field->dropped"} 3"#),
            "{text}"
        );
    }
}
