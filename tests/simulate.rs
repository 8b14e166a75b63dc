//! Promises of `forebay simulate`: what it says of wrong files, its JSON, that the same seed gives the same run.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SMALL: &str = "\
name: small
duration: 20s
warm_up: 5s
table: {billing: provisioned, write_units: 200}
workloads:
  - name: job
    sessions: 4
    item_bytes: 900
    keys: {count: 100000}
events:
  - {at: 10s, table_write_units: 100}
gateway: {window_bytes: 300000}
";

fn simulate(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay")).arg("simulate").args(arguments).current_dir(folder).output().unwrap()
}

fn run(scenario: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.yaml"), scenario).unwrap();
    let mut all = arguments.to_vec();
    all.push("s.yaml");
    let output = simulate(&all, folder.path());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(scenario: &str, arguments: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend(arguments);
    let (code, out, err) = run(scenario, &all);
    assert!(matches!(code, Some(0 | 1)), "{code:?} {err}");
    assert_eq!(out.lines().count(), 1, "one object");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn a_wrong_file_is_a_sentence_with_file_line_and_key_and_exit_code_2() {
    let cases = [
        (SMALL.replace("warm_up", "warmup"), "s.yaml:3: unknown key `warmup`; expected one of `name`"),
        (SMALL.replace("20s", "soon"), "s.yaml:2: wrong value for `duration`: `soon` is not a duration such as"),
        (SMALL.replace("provisioned", "prepaid"), "s.yaml:4: unknown value `prepaid` for `billing`; expected one of"),
        (SMALL.replace(", write_units: 200", ""), "s.yaml: the key `write_units` is missing in `table`"),
        (SMALL.replace("900", "20"), "s.yaml:8: wrong value for `item_bytes`; expected 100 to 409600 bytes"),
        (SMALL.replace("100000", "0"), "s.yaml:9: wrong value for `count` in `keys`; expected 1 to 10,000,000 keys"),
        (SMALL.replace("table_write_units: 100", "x: 1"), "s.yaml:11: unknown key `x`; expected one of `at`"),
        (SMALL.replace(", table_write_units: 100", ""), "s.yaml:11: an event with none or several happenings"),
        (
            SMALL.replace("table_write_units: 100", "index: {name: i, write_units: 1}"),
            "s.yaml:11: the table has no index `i`",
        ),
        (
            SMALL.replace("warm_up: 5s", "warm_up: 20s"),
            "s.yaml: wrong value for `duration`; expected at least a second",
        ),
    ];
    for (scenario, message) in cases {
        let (code, out, err) = run(&scenario, &[]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{scenario}");
        assert!(err.starts_with(&format!("forebay: error: {message}")), "{err}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = simulate(&["absent.yaml"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read absent.yaml"));
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_does_not() {
    for writer in ["forebay", "fixed", "sdk-adaptive"] {
        let hash = |seed: &str| {
            let report = json(SMALL, &["--writer", writer, "--seed", seed]);
            assert_eq!((&report["rows"]["lost"], &report["rows"]["unfinished"]), (&0.into(), &0.into()), "{writer}");
            report["trace_hash"].clone()
        };
        let first = hash("7");
        assert_eq!(first, hash("7"), "{writer}");
        assert_ne!(first, hash("8"), "{writer}");
    }
}

#[test]
fn the_json_has_figures_that_fit_together_and_a_second_for_every_second() {
    let report = json(SMALL, &[]);
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}"));
    assert_eq!(number("/rows/lost"), 0.0);
    assert_eq!(number("/rows/submitted"), number("/rows/acked") + number("/rows/refused") + number("/rows/unfinished"));
    assert_eq!(number("/rows/unfinished"), 0.0);
    assert!((130.0..160.0).contains(&number("/capacity/available_units_per_second")));
    let used = number("/capacity/used");
    assert!((0.5..1.5).contains(&used), "{used}");
    let seconds = report["seconds"].as_array().unwrap();
    assert!(seconds.len() >= 20);
    let consumed: f64 = seconds.iter().map(|second| second["consumed_units"].as_f64().unwrap()).sum();
    assert!((consumed - number("/cost/write_units")).abs() < 1e-6);
    let rows: f64 = seconds.iter().map(|second| second["confirmed_rows"].as_f64().unwrap()).sum();
    assert_eq!(rows, number("/rows/acked"));
    let changes = report["changes"].as_array().unwrap();
    assert_eq!((changes.len(), &changes[1]["units_per_second"]), (2, &Value::from(100.0)));
    assert!(number("/memory/peak_bytes") <= number("/memory/bound_bytes"));
}

#[test]
fn an_expectation_that_is_not_met_is_marked_and_exit_code_1() {
    let scenario = format!("{SMALL}expect:\n  capacity_used_at_least: 9.9\n");
    let (code, out, _) = run(&scenario, &[]);
    assert_eq!(code, Some(1));
    assert!(out.contains("✗ capacity used"), "{out}");
    assert!(out.contains("✓ rows promised and not written: 0"), "{out}");
}

#[test]
fn a_comparison_has_a_line_for_each_writer() {
    let (code, out, _) = run(SMALL, &["--compare"]);
    assert_eq!(code, Some(0));
    let lines: Vec<_> = out.lines().filter(|line| line.starts_with("  ") && !line.contains("rows/s")).collect();
    let names: Vec<_> = lines.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["forebay", "fixed", "sdk-adaptive"], "{out}");
    let (_, out, _) = run(SMALL, &["--compare", "--markdown"]);
    assert!(out.starts_with("| scenario | writer |") && out.lines().count() == 5, "{out}");
}

#[test]
fn a_trace_has_a_line_for_every_call() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.yaml"), SMALL).unwrap();
    let output = simulate(&["--trace", "calls.txt", "s.yaml"], folder.path());
    assert_eq!(output.status.code(), Some(0));
    let trace = std::fs::read_to_string(folder.path().join("calls.txt")).unwrap();
    assert!(trace.lines().count() > 100);
    assert!(trace.lines().all(|line| line.contains(" -> ")), "{}", trace.lines().next().unwrap());
}

#[test]
fn every_scenario_in_the_repository_is_one() {
    let mut count = 0;
    for folder in ["examples/scenarios", "tests/sim/scenarios"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            forebay::sim::Scenario::parse(&path.display().to_string(), &text).unwrap();
            count += 1;
        }
    }
    assert!(count >= 18, "{count}");
}
