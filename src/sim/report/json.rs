//! A report as JSON, for programs. The keys are a promise; `docs/simulate.md` says what they mean.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Change, Checked, Report, Second, WorkloadReport};
use crate::sim::ledger::Waits;

impl Report {
    /// As one JSON object.
    pub fn json(&self) -> Value {
        let millis = |wait: Duration| wait.as_secs_f64() * 1e3;
        let waits = |waits: &Waits| {
            json!({
                "rows": waits.rows(),
                "p50_ms": millis(waits.percentile(50.0)),
                "p99_ms": millis(waits.percentile(99.0)),
                "max_ms": millis(waits.percentile(100.0)),
            })
        };
        let workload = |workload: &WorkloadReport| {
            json!({
                "name": workload.name,
                "rows_per_second_offered": workload.rows_per_second,
                "rows_submitted": workload.submitted,
                "rows_confirmed": workload.confirmed,
                "rows_per_second": workload.confirmed_per_second,
                "rows_behind_at_most": workload.behind_rows,
                "waits": waits(&workload.waits),
            })
        };
        let change = |change: &Change| {
            json!({
                "at_s": change.at.as_secs_f64(),
                "units_per_second": change.units_per_second,
                "converged_after_s": change.converged_after.map(|after| after.as_secs_f64()),
            })
        };
        let second = |second: &Second| {
            json!({
                "available_units": second.available_units,
                "consumed_units": second.consumed_units,
                "confirmed_rows": second.confirmed_rows,
                "attempts": second.attempts,
                "throttled_attempts": second.throttled_attempts,
            })
        };
        let recovery = |(end, after): &(Duration, Option<Duration>)| json!({"outage_ended_s": end.as_secs_f64(), "recovered_after_s": after.map(|after| after.as_secs_f64())});
        let expected = |checked: &Checked| {
            json!({
                "what": checked.what,
                "expected": checked.bound,
                "measured": checked.measured,
                "met": checked.met,
            })
        };
        json!({
            "scenario": self.name,
            "writer": self.writer.name(),
            "seed": self.seed,
            "as_expected": self.as_expected(),
            "measured_s": self.measured_seconds,
            "ended_after_s": self.ended_after.as_secs_f64(),
            "rows": {
                "submitted": self.submitted,
                "acked": self.acked,
                "refused": self.refused,
                "unfinished": self.unfinished,
                "lost": self.lost,
                "per_second": self.confirmed_per_second,
            },
            "capacity": {
                "used": self.capacity_used,
                "available_units_per_second": self.available_units_per_second,
                "consumed_units_per_second": self.consumed_units_per_second,
                "offered_units_per_second": self.offered_units_per_second,
                "partitions": self.partitions,
                "splits": self.splits,
            },
            "cost": {"write_units": self.write_units, "usd": self.usd},
            "attempts": {
                "count": self.attempts.calls,
                "throttled": self.throttled_attempts(),
                "items_throttled": self.throttled_items(),
                "unknown": self.attempts.unknown_calls,
                "items_per_attempt": self.attempts.items as f64 / self.attempts.calls.max(1) as f64,
            },
            "waits": waits(&self.waits),
            "cold_waits": waits(&self.cold_waits),
            "cold_p99_ratio": self.cold_p99_ratio(),
            "hot_writes_per_second": self.hot_writes_per_second,
            "memory": {"peak_bytes": self.memory_peak_bytes, "bound_bytes": self.memory_bound_bytes},
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "recoveries": self.recoveries.iter().map(recovery).collect::<Vec<_>>(),
            "faults": self.faults.iter().collect::<std::collections::BTreeMap<_, _>>(),
            "workloads": self.workloads.iter().map(workload).collect::<Vec<_>>(),
            "failures": self.failures,
            "expectations": self.checked().iter().map(expected).collect::<Vec<_>>(),
            "trace_hash": format!("{:016x}", self.trace_hash),
            "seconds": self.seconds.iter().map(second).collect::<Vec<_>>(),
        })
    }
}
