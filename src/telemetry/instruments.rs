//! Every instrument of the process.
//!
//! Updated per batch, attempt, call or session, never per row: a counter costs a tenth of a row. Each `Instruments` has a meter
//! provider of its own (nothing is global, so that many gateways can live in one process), which `admin` reads as Prometheus
//! text, and which may have further readers. docs/telemetry.md lists every metric; a test compares.

use std::fmt;
use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};
use smallvec::SmallVec;

use super::family::Family;
use super::histogram::Histogram;
use super::hot_key_board::HotKeyBoard;
use super::labels::labels;
use super::metric::{Counter, FloatCounter, FloatGauge, Gauge};
use super::register::{Description, Register};
use super::session_board::SessionBoard;
use super::spans::Tracing;

/// Under which name the gateway's spans and metrics are made, and which version of OpenTelemetry's conventions names them.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("forebay")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url("https://opentelemetry.io/schemas/1.45.0")
        .build()
}

/// Bounds of the gateway's own durations: 0.5 ms, doubled 15 times.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// Bounds of a call's duration, as the conventions for RPC advise.
const RPC_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Bounds of a DynamoDB call's duration, as the conventions for databases advise.
const DB_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Bounds of an attempt's items: DynamoDB takes 25.
const ITEMS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 24.0, 25.0];

labels! {
    /// The outcome of a row, as a label.
    pub struct StatusLabel {
        /// `committed`, `superseded`, `rejected`, `retryable`, `unknown` or `dropped`.
        pub status: &'static str,
    }

    /// The outcome of an attempt or a read, as a label.
    pub struct OutcomeLabel {
        /// `ok`, `partial`, `throttled`, `refused`, `unreachable`, `unknown`, ...
        pub outcome: &'static str,
    }

    /// A throttled attempt, as labels.
    pub struct ThrottleLabel {
        /// The DynamoDB table.
        pub dynamodb_table: String,
        /// The index that was short of capacity; empty for the table itself, or where DynamoDB did not say.
        pub index: String,
        /// `key_range`, `provisioned`, `account`, `max_on_demand`, `unknown`, or `unprocessed_items`, which come without a reason.
        pub reason: &'static str,
    }

    /// A DynamoDB table, as a label.
    pub struct TableLabel {
        /// The DynamoDB table.
        pub dynamodb_table: String,
    }

    /// A coercion, as labels. No value and no name that only a client chose is among them, so that there are as many as tables
    /// have columns and Spark has pairs of types.
    pub struct CoercionLabel {
        /// The table.
        pub table: String,
        /// The column's path: `vitals[].hr`; `*` where the table has no such column.
        pub column: String,
        /// `int->bigint`, `decimal->double`, `unknown field->dropped`, ...; types without their parameters.
        pub rule: String,
    }

    /// A principal, as a label. There are as many as the policy names, and `anyone`.
    pub struct PrincipalLabel {
        /// Its name.
        pub principal: String,
    }

    /// Why something was refused, as a label.
    pub struct ReasonLabel {
        /// The reason.
        pub reason: &'static str,
    }

    /// A call, as the conventions for RPC name its labels.
    pub struct RpcLabel {
        /// The status, where it is the server's failure.
        pub error: Option<&'static str> = "error.type",
        /// `forebay.v1.IngestService/Write`; `_OTHER` where there is no such method.
        pub method: &'static str = "rpc.method",
        /// `OK`, `NOT_FOUND`, ...
        pub status: &'static str = "rpc.response.status_code",
        /// `grpc`.
        pub system: &'static str = "rpc.system.name",
    }

    /// A DynamoDB call, as the conventions for databases name its labels.
    pub struct DbLabel {
        /// The DynamoDB table, where it is one.
        pub table: Option<Arc<str>> = "db.collection.name",
        /// `BatchWriteItem`, ...
        pub operation: &'static str = "db.operation.name",
        /// `aws.dynamodb`.
        pub system: &'static str = "db.system.name",
        /// `throttled`, `unreachable`, ...
        pub error: Option<&'static str> = "error.type",
        /// DynamoDB's host.
        pub server: Option<Arc<str>> = "server.address",
    }
}

impl PrincipalLabel {
    /// A principal's.
    pub fn of(principal: &str) -> Self {
        Self { principal: principal.to_owned() }
    }
}

/// The instruments.
pub struct Instruments {
    registry: Registry,
    provider: SdkMeterProvider,
    described: Vec<Description>,
    /// Whether there are readers or spans that leave the process.
    exports: bool,
    /// Makes spans, or none.
    pub tracing: Tracing,
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
    /// Write units that DynamoDB reported, by table.
    pub write_units: Family<TableLabel, FloatCounter>,
    /// Throttled attempts by table, index and reason.
    pub throttles: Family<ThrottleLabel, Counter>,
    /// Attempts that may be in flight.
    pub window: Family<TableLabel, Gauge>,
    /// Write units a second that may be used; 0 where there is no ceiling.
    pub ceiling: Family<TableLabel, FloatGauge>,
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
    /// When the certificate ends, in seconds since 1970; 0 without TLS.
    pub certificate_expiry: Gauge,
    /// Certificates that were replaced on disk: `ok` where the new one is in force, `failed` where the old one still is.
    pub certificate_reloads: Family<OutcomeLabel, Counter>,
    /// Calls that were refused before a handler saw them, by reason.
    pub calls_refused: Family<ReasonLabel, Counter>,
    /// New access files, by what became of them.
    pub access_reloads: Family<OutcomeLabel, Counter>,
    /// 1 while the access file cannot be used, and an older one is in force.
    pub access_file_refused: Gauge,
    /// Fetches of the keys of issuers of tokens, by outcome.
    pub token_key_fetches: Family<OutcomeLabel, Counter>,
    /// Rows received, by principal.
    pub principal_rows: Family<PrincipalLabel, Counter>,
    /// Bytes of batches received, by principal.
    pub principal_bytes: Family<PrincipalLabel, Counter>,
    /// Keys read, by principal.
    pub principal_reads: Family<PrincipalLabel, Counter>,
    /// Seconds that sessions were not read because of a rate limit, by principal.
    pub rate_limited_seconds: Family<PrincipalLabel, FloatCounter>,
    /// Calls that were refused because of a rate limit, by principal.
    pub rate_limited_calls: Family<PrincipalLabel, Counter>,
    /// Seconds of calls, from the first byte to the last.
    pub rpc_calls: Family<RpcLabel, Histogram>,
    /// Seconds of reads and writes of DynamoDB.
    pub db_operations: Family<DbLabel, Histogram>,
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
    /// All instruments at zero, read as Prometheus text only.
    pub fn new() -> Self {
        let builder = SdkMeterProvider::builder().with_resource(Resource::builder_empty().build());
        Self { exports: false, ..Self::exporting(builder, Tracing::off()) }
    }

    /// All instruments at zero, with readers beside the one for Prometheus text, and spans.
    pub fn exporting(builder: MeterProviderBuilder, tracing: Tracing) -> Self {
        let registry = Registry::new();
        let text = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // Prometheus names the target itself, and there is one scope.
            .without_target_info()
            .scope_info_enabled(false)
            .build();
        let builder = match text {
            Ok(reader) => builder.with_reader(reader),
            Err(error) => unreachable!("a new registry has no metric that one more could be mistaken for: {error}"),
        };
        let provider = builder.build();
        let mut r = Register::new(provider.meter_with_scope(scope()));
        let mut instruments = Self {
            registry,
            provider,
            described: Vec::new(),
            exports: true,
            tracing,
            sessions: r.one("forebay.write_sessions", "{session}", "Write sessions that are open"),
            sessions_opened: r.one("forebay.write_sessions_opened", "{session}", "Write sessions opened"),
            reserved_bytes: r.one(
                "forebay.memory_reserved",
                "By",
                "Memory reserved for rows between arrival and outcome",
            ),
            queued_rows: r.one("forebay.queued_rows", "{row}", "Rows waiting in lanes or in flight"),
            attempts_in_flight: r.one("forebay.attempts_in_flight", "{call}", "DynamoDB write calls in flight"),
            batches: r.one("forebay.batches_received", "{batch}", "Batches received"),
            received_bytes: r.one("forebay.received", "By", "Bytes of batches received"),
            rows: r.family("forebay.rows", "{row}", "Rows by outcome"),
            coercions: r.family("forebay.coerced_values", "{value}", "Values that were coerced, in accepted rows"),
            attempts: r.family("forebay.write_attempts", "{call}", "DynamoDB write calls by outcome"),
            attempt_items: r.histogram(
                "forebay.write_attempt_items",
                "{item}",
                "Items in a DynamoDB write call",
                ITEMS,
            ),
            attempt_seconds: r.histogram(
                "forebay.write_attempt_duration",
                "s",
                "Duration of a DynamoDB write call",
                SECONDS,
            ),
            ack_seconds: r.histogram("forebay.ack_duration", "s", "Time from a batch's arrival to its ack", SECONDS),
            write_units: r.family("forebay.write_units", "{unit}", "Write units that DynamoDB reported"),
            throttles: r.family(
                "forebay.write_throttles",
                "{call}",
                "Throttled DynamoDB write calls by table, index and reason",
            ),
            window: r.family("forebay.write_window", "{call}", "DynamoDB write calls that may be in flight"),
            ceiling: r.family(
                "forebay.write_units_ceiling",
                "{unit}",
                "Write units a second that the gateway lets itself use; 0 where there is no ceiling",
            ),
            key_splits: r.one(
                "forebay.key_splits",
                "{key}",
                "Hot partition keys that this process has given more write shards",
            ),
            reads: r.family("forebay.reads", "{key}", "Keys read by status"),
            read_seconds: r.histogram("forebay.read_duration", "s", "Duration of a read call", SECONDS),
            connections: r.one("forebay.connections", "{connection}", "Connections that are open"),
            connections_refused: r.family(
                "forebay.connections_refused",
                "{connection}",
                "Connections that were not taken, or closed for what they did, by reason",
            ),
            certificate_expiry: r.one(
                "forebay.tls_certificate_expiry",
                "s",
                "When the certificate ends, since 1970; 0 without TLS",
            ),
            certificate_reloads: r.family(
                "forebay.tls_certificate_reloads",
                "{certificate}",
                "Certificates replaced on disk, by whether the new one is in force: ok or failed",
            ),
            calls_refused: r.family(
                "forebay.calls_refused",
                "{call}",
                "Calls that were refused before a handler saw them, by reason",
            ),
            access_reloads: r.family(
                "forebay.access_reloads",
                "{file}",
                "New access files, by what became of them: applied or refused",
            ),
            token_key_fetches: r.family(
                "forebay.token_key_fetches",
                "{fetch}",
                "Fetches of the keys of issuers of tokens, by outcome: ok or failed",
            ),
            access_file_refused: r.one(
                "forebay.access_file_refused",
                "{file}",
                "1 while the access file cannot be used, and an older one is in force",
            ),
            principal_rows: r.family("forebay.principal_rows", "{row}", "Rows received by principal"),
            principal_bytes: r.family("forebay.principal_received", "By", "Bytes of batches received by principal"),
            principal_reads: r.family("forebay.principal_reads", "{key}", "Keys read by principal"),
            rate_limited_seconds: r.family(
                "forebay.rate_limited",
                "s",
                "Time that sessions were not read because of a rate limit, by principal",
            ),
            rate_limited_calls: r.family(
                "forebay.rate_limited_calls",
                "{call}",
                "Calls refused because of a rate limit, by principal",
            ),
            rpc_calls: r.histograms(
                "rpc.server.call.duration",
                "s",
                "Duration of an incoming call, to the end of its stream",
                RPC_SECONDS,
            ),
            db_operations: r.histograms(
                "db.client.operation.duration",
                "s",
                "Duration of a DynamoDB read or write, with its retries",
                DB_SECONDS,
            ),
            rejects: r.family("forebay.rejected_rows", "{row}", "Rejected rows by reason"),
            session_board: SessionBoard::default(),
            hot_keys: HotKeyBoard::default(),
        };
        instruments.described = r.into_described();
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
        let counts = counted(reasons);
        self.count_rows("rejected", counts.iter().map(|(_, count)| count).sum());
        for (reason, count) in counts {
            self.rejects.get_or_create(&ReasonLabel { reason }).inc_by(count);
        }
    }

    /// Counts keys that were read, each with what became of it.
    pub fn count_reads(&self, outcomes: impl Iterator<Item = &'static str>) {
        for (outcome, keys) in counted(outcomes) {
            self.reads.get_or_create(&OutcomeLabel { outcome }).inc_by(keys);
        }
    }

    /// Counts what a principal sent.
    pub fn count_received(&self, principal: &str, rows: u64, bytes: u64) {
        let label = PrincipalLabel::of(principal);
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

    /// Every metric there is.
    pub fn descriptions(&self) -> &[Description] {
        &self.described
    }

    /// Everything as Prometheus text. A metric with labels, and a distribution, is there from its first value on.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Whether anything is exported beside Prometheus text.
    pub fn exports(&self) -> bool {
        self.exports
    }

    /// Exports what there is, and ends. Blocks, for as long as an exporter takes.
    pub(super) fn shutdown(&self) -> Result<(), OTelSdkError> {
        // The one must not keep the other from its end.
        let (spans, metrics) = (self.tracing.shutdown(), self.provider.shutdown());
        spans.and(metrics)
    }
}

/// How often each word comes: many rows of a batch have few reasons.
fn counted(words: impl Iterator<Item = &'static str>) -> SmallVec<[(&'static str, u64); 4]> {
    let mut counts: SmallVec<[(&'static str, u64); 4]> = SmallVec::new();
    for word in words {
        match counts.iter_mut().find(|(counted, _)| *counted == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts
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
    fn what_is_counted_is_in_the_text() {
        let instruments = Instruments::new();
        instruments.sessions.inc();
        instruments.write_units.get_or_create(&TableLabel { dynamodb_table: "t".to_owned() }).inc_by(1.5);
        instruments.count_rejects(["too_long", "inexact", "too_long"].into_iter());
        instruments.count_rows("committed", 3);
        instruments.ceiling.get_or_create(&TableLabel { dynamodb_table: "t\"\\".to_owned() }).set(0.5);
        for seconds in [0.0005, 0.003, 100.0] {
            instruments.ack_seconds.observe(seconds);
        }
        let text = instruments.encode().unwrap();
        for line in [
            "# HELP forebay_write_sessions Write sessions that are open",
            "# TYPE forebay_write_sessions gauge",
            "forebay_write_sessions 1",
            "# TYPE forebay_received_bytes_total counter",
            "forebay_received_bytes_total 0",
            r#"forebay_write_units_total{dynamodb_table="t"} 1.5"#,
            r#"forebay_rows_total{status="rejected"} 3"#,
            r#"forebay_rejected_rows_total{reason="too_long"} 2"#,
            r#"forebay_rows_total{status="committed"} 3"#,
            r#"forebay_write_units_ceiling{dynamodb_table="t\"\\"} 0.5"#,
            "# TYPE forebay_ack_duration_seconds histogram",
            r#"forebay_ack_duration_seconds_bucket{le="0.0005"} 1"#,
            r#"forebay_ack_duration_seconds_bucket{le="0.004"} 2"#,
            r#"forebay_ack_duration_seconds_bucket{le="16.384"} 2"#,
            r#"forebay_ack_duration_seconds_bucket{le="+Inf"} 3"#,
            "forebay_ack_duration_seconds_count 3",
        ] {
            assert!(text.lines().any(|there| there == line), "no `{line}` in\n{text}");
        }
        let mut named: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let lines = named.len();
        named.dedup();
        assert_eq!(named.len(), lines, "each metric once:\n{text}");
    }

    #[test]
    fn coercions_are_counted_without_what_only_a_client_chose() {
        let instruments = Instruments::new();
        instruments.count_coercions("t", "a.b", "decimal(10,2)->double", 2);
        instruments.count_coercions("t", "made_up", "unknown field->dropped", 3);
        let text = instruments.encode().unwrap();
        assert!(
            text.contains(r#"forebay_coerced_values_total{column="a.b",rule="decimal->double",table="t"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"forebay_coerced_values_total{column="*",rule="unknown field->dropped",table="t"} 3"#),
            "{text}"
        );
    }
}
