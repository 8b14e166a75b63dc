//! What a run should show, beside what it showed.

use std::time::Duration;

use super::Report;
use crate::sim::run::WriterKind;

/// One expectation and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// In words.
    pub what: &'static str,
    /// The figure expected.
    pub bound: String,
    /// The figure measured.
    pub measured: String,
    /// Whether it is as expected.
    pub met: bool,
}

impl Report {
    /// The expectations, and what every run must show.
    pub fn checked(&self) -> Vec<Checked> {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let seconds =
            |after: Option<Duration>| after.map_or("never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
        let mut checked = vec![
            Checked {
                what: "rows promised and not written",
                bound: "0".to_owned(),
                measured: self.lost.to_string(),
                met: self.lost == 0,
            },
            Checked {
                what: "sessions that failed",
                bound: "0".to_owned(),
                measured: self.failures.len().to_string(),
                met: self.failures.is_empty(),
            },
        ];
        if self.writer == WriterKind::Forebay {
            let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
            checked.push(Checked {
                what: "memory for rows",
                bound: format!("at most {}", mebibytes(self.memory_bound_bytes)),
                measured: mebibytes(self.memory_peak_bytes),
                met: self.memory_peak_bytes <= self.memory_bound_bytes,
            });
        }
        let mut check = |what, bound: Option<String>, measured: String, met: bool| {
            if let Some(bound) = bound {
                checked.push(Checked { what, bound, measured, met });
            }
        };
        let expect = &self.expect;
        let at_least = |bound: Option<f64>| bound.map(|bound| format!("at least {}", percent(bound)));
        let within = |bound: Option<f64>| bound.map(|bound| format!("at most {bound} s"));
        let short = |after: Option<Duration>, bound: Option<f64>| {
            after.zip(bound).is_some_and(|(after, bound)| after.as_secs_f64() <= bound)
        };
        let below = |measured: f64, bound: Option<f64>| bound.is_some_and(|bound| measured <= bound);
        check(
            "capacity used",
            at_least(expect.capacity_used_at_least),
            percent(self.capacity_used),
            expect.capacity_used_at_least.is_some_and(|bound| self.capacity_used >= bound),
        );
        check(
            "attempts throttled",
            expect.throttled_attempts_below.map(|bound| format!("below {}", percent(bound))),
            percent(self.throttled_attempts()),
            expect.throttled_attempts_below.is_some_and(|bound| self.throttled_attempts() < bound),
        );
        check(
            "a change of capacity followed after",
            within(expect.converge_s_at_most),
            seconds(self.converged_after()),
            short(self.converged_after(), expect.converge_s_at_most),
        );
        check(
            "p99 of cold keys over an unthrottled run's",
            expect.cold_p99_ratio_at_most.map(|bound| format!("at most {bound}")),
            self.cold_p99_ratio().map_or("no cold rows".to_owned(), |ratio| format!("{ratio:.2}")),
            self.cold_p99_ratio().is_some_and(|ratio| below(ratio, expect.cold_p99_ratio_at_most)),
        );
        check(
            "rows flow after an outage's end within",
            within(expect.recovery_s_at_most),
            seconds(self.recovered_after()),
            short(self.recovered_after(), expect.recovery_s_at_most),
        );
        check(
            "writes of hot keys",
            expect.hot_item_writes_per_second_at_most.map(|bound| format!("at most {bound}/s")),
            format!("{:.0}/s", self.hot_writes_per_second),
            below(self.hot_writes_per_second, expect.hot_item_writes_per_second_at_most),
        );
        let interactive = self.workloads.iter().filter(|workload| workload.interactive);
        let p99 = interactive.map(|workload| workload.waits.percentile(99.0).as_secs_f64() * 1e3).fold(0.0, f64::max);
        check(
            "p99 of INTERACTIVE rows",
            expect.interactive_p99_ms_at_most.map(|bound| format!("at most {bound} ms")),
            format!("{p99:.1} ms"),
            below(p99, expect.interactive_p99_ms_at_most),
        );
        checked
    }
}
