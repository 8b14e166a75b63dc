//! docs/telemetry.md has every metric, as it is.

use super::Instruments;
use super::register::{Description, Kind};

const PAGE: &str = include_str!("../../docs/telemetry.md");

/// The metric's row, but for its meaning, as the page should have it.
fn row(metric: &Description) -> String {
    let suffix = match metric.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let (kind, total) = match metric.kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
        Kind::Histogram => ("histogram", ""),
    };
    let name = metric.name.replace('.', "_");
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{}`", label.replace('.', "_"))).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" {}", labels.join(", ")) };
    format!("| `{name}{suffix}{total}` | {kind} | `{}` |{labels} | ", metric.unit)
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let instruments = Instruments::new();
    let expected: Vec<_> = instruments.descriptions().iter().map(row).collect();
    let table: Vec<_> =
        PAGE.lines().skip_while(|line| *line != "| Metric | Type | Unit | Labels | Meaning |").collect();
    let rows: Vec<_> = table.iter().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(!rows.is_empty(), "the page has no table");
    for metric in &expected {
        let there = rows.iter().filter(|line| line.starts_with(metric)).count();
        assert_eq!(there, 1, "the page's table should have one row that begins with\n{metric}");
    }
    for line in &rows {
        assert!(expected.iter().any(|metric| line.starts_with(metric)), "the page has what there is not:\n{line}");
    }
}
