//! A report in words: what this job does to this table. Callers: `forebay simulate`.

use std::time::Duration;

use super::report::Report;
use super::run::WriterKind;
use super::scenario::{BillingKey, Scenario};

/// Columns of the chart.
const CHART_COLUMNS: usize = 60;
/// Heights of a mark in the chart.
const MARKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The chart is so much higher than what there is, or is used if that is less: bursts are seen, and cut.
const CHART_HEADROOM: f64 = 1.25;
/// More than this share of capacity used is "all of it".
const ALL: f64 = 0.9;

/// The report of one run, line by line.
pub fn report(report: &Report, scenario: &Scenario) -> Vec<String> {
    let mut lines = Vec::new();
    let title = format!("{} · {} · seed {}", report.name, report.writer.name(), report.seed);
    lines.push(title.clone());
    lines.push("─".repeat(title.chars().count()));
    lines.push(String::new());
    lines.extend(verdict(report, scenario).into_iter().map(|sentence| format!("  {sentence}")));
    lines.push(String::new());
    let mut fact = |name: &str, text: String| lines.push(format!("  {name:<10} {text}"));
    fact("table", table(report, scenario));
    for workload in &report.workloads {
        let asked = match workload.rows_per_second {
            Some(rate) => format!("{} rows/s offered", number(rate)),
            None => "as fast as it goes".to_owned(),
        };
        let behind = match workload.behind_rows {
            0 => String::new(),
            rows => format!(", up to {} rows behind", number(rows as f64)),
        };
        let written = format!("{} rows/s written", number(workload.confirmed_per_second));
        fact("job", format!("{}: {asked}, {written}{behind}", workload.name));
    }
    fact(
        "rows",
        format!(
            "{} acked, {} without outcome, {} refused, {} lost",
            number(report.acked as f64),
            number(report.unfinished as f64),
            number(report.refused as f64),
            number(report.lost as f64)
        ),
    );
    fact(
        "capacity",
        format!(
            "{} units/s used of {}{}: {}",
            number(report.consumed_units_per_second),
            number(report.available_units_per_second),
            report.offered_units_per_second.map_or(String::new(), |units| format!(" ({} asked for)", number(units))),
            percent(report.capacity_used),
        ),
    );
    fact(
        "attempts",
        format!(
            "{} of {:.1} items each, {} throttled in whole or in part ({} of items)",
            number(report.attempts.calls as f64),
            report.attempts.items as f64 / report.attempts.calls.max(1) as f64,
            percent(report.throttled_attempts()),
            percent(report.throttled_items()),
        ),
    );
    let waits = |waits: &super::ledger::Waits| {
        let at = |percent| wait(waits.percentile(percent));
        format!("p50 {}, p99 {}, at most {}", at(50.0), at(99.0), at(100.0))
    };
    fact("waiting", format!("{} from submit to confirmed", waits(&report.waits)));
    if report.cold_waits.rows() < report.waits.rows() {
        fact("cold keys", format!("{}, where the partition has room", waits(&report.cold_waits)));
    }
    for workload in report.workloads.iter().filter(|_| report.workloads.len() > 1) {
        fact("", format!("{}: {}", workload.name, waits(&workload.waits)));
    }
    if report.writer == WriterKind::Forebay {
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let bound = mebibytes(report.memory_bound_bytes);
        fact("memory", format!("{} for rows at most, of {bound}", mebibytes(report.memory_peak_bytes)));
    }
    let cost = format!("{} write units, USD {:.2} on demand", number(report.write_units), report.usd);
    fact("cost", cost);
    for change in report.changes.iter().filter(|change| change.at > Duration::ZERO) {
        let after = match change.converged_after {
            Some(after) => format!("followed within {}", wait(after)),
            None => "not followed".to_owned(),
        };
        let at = wait(change.at);
        fact("change", format!("at {at} to {} units/s: {after}", number(change.units_per_second)));
    }
    for (end, after) in &report.recoveries {
        let after =
            after.map_or("no rows flow again".to_owned(), |after| format!("rows flow again after {}", wait(after)));
        fact("outage", format!("over at {}: {after}", wait(*end)));
    }
    let struck: Vec<_> = report.faults.iter().filter(|(_, count)| *count > 0).collect();
    if !struck.is_empty() {
        let struck: Vec<_> = struck.iter().map(|(name, count)| format!("{name} {}", number(*count as f64))).collect();
        fact("faults", struck.join(", "));
    }
    for failure in &report.failures {
        fact("failed", failure.clone());
    }
    lines.push(String::new());
    lines.extend(chart(report, scenario.duration));
    lines.push(String::new());
    for checked in report.checked() {
        let mark = if checked.met { "✓" } else { "✗" };
        lines.push(format!("  {mark} {}: {} (expected: {})", checked.what, checked.measured, checked.bound));
    }
    lines
}

/// What it comes to, in sentences.
fn verdict(report: &Report, scenario: &Scenario) -> Vec<String> {
    let mut sentences = Vec::new();
    let rows = report.confirmed_per_second;
    let million = if rows > 0.0 { wait(Duration::from_secs_f64(1e6 / rows)) } else { "for ever".to_owned() };
    let units = report.available_units_per_second;
    match report.offered_units_per_second {
        None if report.capacity_used >= ALL => sentences.push(format!(
            "The job takes what the table has: {} rows a second, a million rows in {million}.",
            number(rows)
        )),
        None => sentences.push(format!(
            "The job takes {} of what the table has: {} rows a second, a million rows in {million}.",
            percent(report.capacity_used),
            number(rows)
        )),
        Some(asked) if asked > units => sentences.push(format!(
            "The table is too small: {} units a second are asked for, and {} are there.",
            number(asked),
            number(units)
        )),
        Some(_) => {
            let offered: f64 = report.workloads.iter().filter_map(|workload| workload.rows_per_second).sum();
            let keeps_up = rows >= offered * 0.98;
            sentences.push(match keeps_up {
                true => format!("The table is large enough: all {} rows a second are written.", number(offered)),
                false => format!(
                    "The table has the units, but {} of {} rows a second are written: {}.",
                    number(rows),
                    number(offered),
                    obstacle(report)
                ),
            });
        }
    }
    let hot = scenario.workloads.iter().any(|workload| workload.keys.value.hot.is_some());
    if report.hot_writes_per_second > 0.0 && (hot || report.throttled_attempts() > 0.01) {
        let hot_writes = number(report.hot_writes_per_second);
        sentences.push(format!(
            "Some keys ask for more than a partition's 1,000 units a second; they were written {hot_writes} times a second."
        ));
    }
    if report.splits > 0 {
        sentences.push(format!("DynamoDB split hot partitions {} times meanwhile.", report.splits));
    }
    if let Some(ratio) = report.cold_p99_ratio() {
        sentences.push(format!("Rows of other partitions wait {ratio:.1} times as long as with capacity without end."));
    }
    sentences
}

/// What keeps rows from being written though there is capacity.
fn obstacle(report: &Report) -> &'static str {
    if !report.recoveries.is_empty() {
        "DynamoDB was away meanwhile"
    } else if report.hot_writes_per_second > 0.0 {
        "hot keys hold their sessions up"
    } else {
        "something else is in the way"
    }
}

fn table(report: &Report, scenario: &Scenario) -> String {
    let table = &scenario.table;
    let billing = match (table.billing, table.write_units) {
        (BillingKey::Provisioned, Some(units)) => format!("{} write units/s provisioned", number(units)),
        (BillingKey::OnDemand, Some(units)) => format!("on demand, {} write units/s at once", number(units)),
        _ => "on demand, new".to_owned(),
    };
    let partitions = match report.partitions {
        1 => "1 partition".to_owned(),
        count => format!("{count} partitions"),
    };
    format!("{billing}, {partitions}")
}

/// Units consumed, as a line of marks over the run's time.
fn chart(report: &Report, until: Duration) -> Vec<String> {
    let seconds = &report.seconds[..report.seconds.len().min(until.as_secs() as usize)];
    let each = seconds.len().div_ceil(CHART_COLUMNS).max(1);
    let most = CHART_HEADROOM * seconds.iter().map(|second| second.available_units).fold(1.0, f64::max);
    let used_most = seconds.iter().map(|second| second.consumed_units).fold(1.0, f64::max);
    let most = most.min(CHART_HEADROOM * used_most);
    let line = |of: &dyn Fn(usize) -> f64| -> String {
        let column = |from: usize| {
            let to = (from + each).min(seconds.len());
            let mean = (from..to).map(of).sum::<f64>() / (to - from).max(1) as f64;
            MARKS[((mean / most * 8.0).round() as usize).min(8)]
        };
        (0..seconds.len()).step_by(each).map(column).collect()
    };
    let throttled = |at: usize| {
        let second = &seconds[at];
        second.throttled_attempts as f64 / second.attempts.max(1) as f64 * most
    };
    vec![
        format!("  available  {}", line(&|at| seconds[at].available_units)),
        format!(
            "  used       {}  a mark is {}; its full height {} units/s",
            line(&|at| seconds[at].consumed_units),
            wait(Duration::from_secs(each as u64)),
            number(most)
        ),
        format!("  throttled  {}  share of attempts, at full height all", line(&throttled)),
    ]
}

/// Several runs of one scenario, side by side.
pub fn comparison(name: &str, reports: &[Report]) -> Vec<String> {
    let mut lines = vec![name.to_owned(), "─".repeat(name.chars().count())];
    let header = ["", "rows/s", "capacity used", "throttled", "cold p99", "p99", "lost", "unfinished"];
    let row = |cells: &[String]| {
        let cells = cells.iter().enumerate();
        let cells = cells.map(|(at, cell)| if at == 0 { format!("  {cell:<13}") } else { format!("{cell:>15}") });
        cells.collect::<String>()
    };
    lines.push(row(&header.map(str::to_owned)));
    lines.extend(reports.iter().map(|report| row(&cells(report))));
    lines
}

fn cells(report: &Report) -> Vec<String> {
    vec![
        report.writer.name().to_owned(),
        number(report.confirmed_per_second),
        percent(report.capacity_used),
        percent(report.throttled_attempts()),
        wait(report.cold_waits.percentile(99.0)),
        wait(report.waits.percentile(99.0)),
        number(report.lost as f64),
        number(report.unfinished as f64),
    ]
}

/// The head of the table that [`markdown_rows`] fills.
pub fn markdown_head() -> [String; 2] {
    let head =
        "| scenario | writer | rows/s | capacity used | attempts throttled | cold keys' p99 | p99 | as expected |";
    [head.to_owned(), "|---|---|---:|---:|---:|---:|---:|---|".to_owned()]
}

/// Several runs of one scenario, as rows of a Markdown table.
pub fn markdown_rows(reports: &[Report]) -> Vec<String> {
    let row = |(index, report): (usize, &Report)| {
        let cells = cells(report);
        let name = if index == 0 { report.name.as_str() } else { "" };
        let unmet = report.checked().into_iter().filter(|checked| !checked.met);
        let unmet: Vec<_> = unmet.map(|checked| format!("{} {}", checked.what, checked.measured)).collect();
        let verdict = if unmet.is_empty() { "yes".to_owned() } else { format!("no: {}", unmet.join("; ")) };
        format!("| {name} | {} | {verdict} |", cells[..6].join(" | "))
    };
    reports.iter().enumerate().map(row).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `1,234`, and small ones with a digit or two after the point.
fn number(number: f64) -> String {
    if number > 0.0 && number < 10.0 && number.fract() > 0.005 {
        return format!("{number:.1}");
    }
    let digits = format!("{:.0}", number.abs());
    let mut text = if number < 0.0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `4.3 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`.
fn wait(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_secs() {
        0 if seconds < 0.0995 => format!("{:.1} ms", seconds * 1e3),
        0 => format!("{:.0} ms", seconds * 1e3),
        whole @ 1..10 if time.subsec_millis() == 0 => format!("{whole} s"),
        1..10 => format!("{seconds:.1} s"),
        10..120 => format!("{seconds:.0} s"),
        whole @ 120..7_200 if whole % 60 == 0 => format!("{} min", whole / 60),
        whole @ 120..7_200 => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        for (figure, text) in [(0.0, "0"), (3.25, "3.2"), (7.0, "7"), (999.6, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(number(figure), text);
        }
        for (millis, text) in [
            (4, "4.0 ms"),
            (250, "250 ms"),
            (1_500, "1.5 s"),
            (60_000, "60 s"),
            (200_000, "3 min 20 s"),
            (600_000, "10 min"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(wait(Duration::from_millis(millis)), text);
        }
    }
}
