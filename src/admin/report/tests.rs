//! What `/status.json` says, and how large it gets.

use serde_json::Value;

use super::*;
use crate::admin::readings::{Gauges, PrincipalTotals, Readings, TableBounds, Totals};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn json(history: &History, seen: Option<u64>, around: Surroundings) -> Value {
    serde_json::to_value(Report::new(history, seen, around)).unwrap()
}

fn around() -> Surroundings {
    Surroundings { memory_limit_bytes: 1_000_000, sessions_limit: 16, ..Surroundings::default() }
}

fn line(oldest_unacked: Option<Duration>) -> SessionLine {
    SessionLine {
        session: "0123abcd-123456".to_owned(),
        table: "cards".to_owned(),
        principal: "spark".into(),
        open_for: at(123_456),
        rows: 123_456_789_012,
        bytes: 12_345_678_901_234,
        rows_per_second: 123_456.0,
        bytes_per_second: 123_456_789.0,
        unacked_batches: 64,
        unacked_bytes: 8_388_608,
        oldest_unacked,
    }
}

/// Half a minute of 1,000 rows a second, of which a part is throttled.
fn busy(throttled_share: f64) -> History {
    let mut history = History::new();
    for second in 0..30 {
        let calls = second * 40;
        let throttled_calls = (calls as f64 * throttled_share) as u64;
        let totals = Totals { written_rows: second * 1_000, write_calls: calls, throttled_calls, ..Totals::default() };
        let principal = |rows| PrincipalTotals { rows, bytes: rows * 100, ..PrincipalTotals::default() };
        let readings = Readings {
            totals,
            gauges: Gauges { sessions: 2, ..Gauges::default() },
            tables: vec![("cards".to_owned(), TableBounds { window: 16, ceiling: Some(990.0) })],
            table_units: vec![("cards".to_owned(), (second * 1_000) as f64)],
            throttles: vec![(("cards".to_owned(), String::new(), "key_range"), throttled_calls)],
            principals: vec![
                ("ads".to_owned(), principal(second * 250)),
                ("spark".to_owned(), principal(second * 750)),
            ],
            rejects: vec![("too_long", second), ("never", 0)],
            ..Readings::default()
        };
        history.record(at(second), readings);
    }
    history
}

#[test]
fn what_is_now_is_said_with_units_in_its_names() {
    let report = json(&busy(0.0), Some(26), around());
    assert_eq!(report["rates"]["rows_per_second"], 1_000);
    assert_eq!(report["rates"]["ack_p99_ms"], Value::Null, "no batch was acked");
    let table = &report["tables"]["listed"][0];
    assert_eq!((&table["dynamodb_table"], &table["window_calls"]), (&"cards".into(), &16.into()));
    assert_eq!(table["write_units_ceiling_per_second"], 990);
    assert_eq!(table["write_units_per_second"], 1_000);
    let shares: Vec<_> =
        report["principals"]["listed"].as_array().unwrap().iter().map(|p| &p["share_of_bytes"]).collect();
    assert_eq!(shares, [&Value::from(0.75), &Value::from(0.25)], "the largest comes first");
    let rejects = report["rejects"]["listed"].as_array().unwrap();
    assert_eq!((rejects.len(), &rejects[0]["reason"]), (1, &"too_long".into()), "what never happened is not listed");
    let series = &report["series"];
    assert_eq!((&series["first_sequence"], &series["newest_sequence"]), (&27.into(), &29.into()));
    assert_eq!(series["values"]["rows_per_second"], serde_json::json!([1000, 1000, 1000]));
    assert_eq!(series["values"]["ack_p99_ms"], serde_json::json!([null, null, null]));
    assert_eq!(series["values"].as_object().unwrap().len(), SERIES.len());
}

#[test]
fn the_worst_is_said_first() {
    let name = |history: &History, around: Surroundings| Report::new(history, None, around).state.name;
    assert_eq!(name(&History::new(), around()), "idle");
    assert_eq!(name(&busy(0.0), around()), "healthy");
    assert_eq!(name(&busy(0.005), around()), "healthy", "the pool learns a table's limit by touching it");
    assert_eq!(name(&busy(0.3), around()), "throttled");
    let silent = Surroundings { backend_silent_for: Some(at(12)), ..around() };
    assert_eq!(name(&busy(0.3), silent.clone()), "backend_down");
    let draining = Surroundings { drains_for: Some(at(20)), ..silent };
    assert_eq!(name(&busy(0.3), draining.clone()), "draining");

    let report = json(&busy(0.0), None, draining);
    assert_eq!(report["ready"], false);
    assert_eq!(report["not_ready_because"], serde_json::json!(["draining", "DynamoDB does not answer"]));
    assert!(report["state"]["sentence"].as_str().unwrap().contains("20 s left"), "{}", report["state"]);

    let report = Report::new(&busy(0.3), None, around());
    let sentence = &report.state.sentence;
    assert!(sentence.contains("30 %") && sentence.contains("cards") && sentence.contains("key range"), "{sentence}");

    let mut full = busy(0.0);
    let gauges = Gauges { reserved_bytes: 990_000, ..Gauges::default() };
    full.record(at(30), Readings { gauges, ..Readings::default() });
    assert_eq!(name(&full, around()), "memory_full");

    let waits = |seconds| Surroundings { sessions: (vec![line(None), line(Some(at(seconds)))], 2), ..around() };
    assert_eq!(name(&busy(0.0), waits(29)), "healthy");
    assert_eq!(name(&busy(0.0), waits(30)), "behind");
    assert_eq!(name(&busy(0.3), waits(30)), "throttled", "that is why");
}

#[test]
fn figures_have_no_more_digits_than_mean_something() {
    let text = |value| serde_json::to_string(&Figure(value)).unwrap();
    let cases = [
        (0.0, "0"),
        (0.123_456, "0.123"),
        (12.345, "12.3"),
        (1_234.5, "1235"),
        (250.0, "250"),
        (f64::NAN, "null"),
        (f64::INFINITY, "null"),
        (1e18, "1e+18"),
    ];
    for (value, expected) in cases {
        assert_eq!(text(value), expected);
    }
}

#[test]
fn the_fullest_answer_stays_below_100_kilobytes_and_a_delta_is_small() {
    let mut history = History::new();
    // As long as DynamoDB allows.
    let name = |kind: &str, i: usize| format!("{kind}-{i:04}-{}", "n".repeat(60));
    for second in 0..SECONDS as u64 {
        let n = (second + 1) * 987_654;
        let labels = 0..300;
        let ack = crate::telemetry::histogram::Snapshot { bounds: &[0.123], counts: vec![n, 0], sum: 0.0 };
        let readings = Readings {
            totals: Totals {
                written_rows: n,
                rejected_rows: n,
                received_bytes: n * 100,
                write_units: n as f64,
                throttled_calls: n,
                write_calls: n,
                read_keys: n,
                ack: Some(ack.clone()),
                read: Some(ack),
            },
            gauges: Gauges {
                reserved_bytes: 123_456_789,
                sessions: 4_000,
                attempts_in_flight: 250,
                ..Gauges::default()
            },
            tables: labels
                .clone()
                .map(|i| (name("table", i), TableBounds { window: 250, ceiling: Some(123_456.0) }))
                .collect(),
            table_units: labels.clone().map(|i| (name("table", i), n as f64)).collect(),
            throttles: labels.clone().map(|i| ((name("table", i), name("index", i), "max_on_demand"), n)).collect(),
            principals: labels
                .map(|i| {
                    let totals = PrincipalTotals { rows: n, bytes: n * 100, reads: n, ..PrincipalTotals::default() };
                    (name("principal", i), totals)
                })
                .collect(),
            ..Readings::default()
        };
        history.record(at(second), readings);
    }
    let line = SessionLine { table: name("table", 1), principal: name("principal", 1).into(), ..line(Some(at(123))) };
    let around = Surroundings { sessions: (vec![line; LISTED], 4_000), ..around() };
    let all = serde_json::to_string(&Report::new(&history, None, around.clone())).unwrap();
    assert!(all.len() < 100_000, "{}", all.len());
    let delta = serde_json::to_string(&Report::new(&history, Some(SECONDS as u64 - 2), around)).unwrap();
    assert!(delta.len() < 30_000, "{}", delta.len());
    let report: Value = serde_json::from_str(&delta).unwrap();
    assert_eq!(report["tables"]["more"], 300 - LISTED);
    assert_eq!(report["write_sessions"]["more"], 4_000 - LISTED);
}
