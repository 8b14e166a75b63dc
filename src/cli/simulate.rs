//! `forebay simulate SCENARIO.yaml`: what a job will do to a table, on virtual time; nothing is written anywhere.
//!
//! The pool is the real one, DynamoDB is [`sim`](crate::sim)'s model. With `--compare` the same rows are also written by what
//! others do. The exit code is 1 where a run did not show what its scenario expects.

use std::path::{Path, PathBuf};

use super::{CliError, Exit, note, print_json, print_line};
use crate::sim::{Report, RunOptions, Scenario, WriterKind, run, text};
use crate::yaml::YamlError;

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Scenario files
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Seed of all dice; by default the scenario's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Who writes the rows
    #[arg(long, value_enum, default_value_t = WriterKind::Forebay, conflicts_with = "compare")]
    writer: WriterKind,
    /// Run it with every writer, and set the results side by side
    #[arg(long)]
    compare: bool,
    /// With --compare: print a Markdown table
    #[arg(long, requires = "compare", conflicts_with = "json")]
    markdown: bool,
    /// Print one JSON object, with a series by the second
    #[arg(long)]
    json: bool,
    /// Write a line for every call to DynamoDB into this file
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    trace: Option<PathBuf>,
}

impl SimulateArgs {
    /// Runs them one after another. Without a runtime around it: each run has its own, on a paused clock.
    pub(super) fn run(&self) -> Result<Exit, CliError> {
        // All files are read before anything runs: an error in the last should not cost a minute.
        let scenarios = self.scenarios.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        if self.trace.is_some() && scenarios.len() > 1 {
            return Err(CliError::usage("--trace takes one scenario"));
        }
        let mut as_expected = true;
        let mut objects = Vec::new();
        if self.markdown {
            text::markdown_head().iter().try_for_each(|line| print_line(line))?;
        }
        for (index, scenario) in scenarios.iter().enumerate() {
            let reports = self.reports(scenario)?;
            // Of the others nothing is expected.
            let mut ours = reports.iter().filter(|report| report.writer == WriterKind::Forebay || !self.compare);
            as_expected &= ours.all(Report::as_expected);
            if self.json {
                objects.extend(reports.iter().map(Report::json));
                continue;
            }
            if index > 0 && !self.markdown {
                print_line("")?;
            }
            let lines = match reports.as_slice() {
                reports if self.markdown => text::markdown_rows(reports),
                reports if self.compare => text::comparison(&scenario.name, reports),
                reports => reports.iter().flat_map(|report| text::report(report, scenario)).collect(),
            };
            lines.iter().try_for_each(|line| print_line(line))?;
        }
        if self.json {
            let single = objects.len() == 1;
            let object = match objects.pop() {
                Some(object) if single => object,
                last => serde_json::json!({"runs": objects.into_iter().chain(last).collect::<Vec<_>>()}),
            };
            print_json(&object)?;
        }
        Ok(if as_expected { Exit::Ok } else { Exit::Rejected })
    }

    fn reports(&self, scenario: &Scenario) -> Result<Vec<Report>, CliError> {
        let writers = if self.compare { &WriterKind::ALL[..] } else { std::slice::from_ref(&self.writer) };
        let mut reports = Vec::new();
        for &writer in writers {
            let seed = self.seed.unwrap_or(scenario.seed);
            let options = RunOptions { writer, seed, keep_trace: self.trace.is_some() };
            let report = run(scenario, options)
                .map_err(|error| CliError::usage(format!("cannot start the run-time: {error}")))?;
            if let Some(path) = &self.trace {
                write_trace(path, &report)?;
            }
            reports.push(report);
        }
        Ok(reports)
    }
}

fn read(path: &Path) -> Result<Scenario, CliError> {
    let file = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| CliError::usage(format!("cannot read {file}: {error}")))?;
    Scenario::parse(&file, &text).map_err(|error: YamlError| CliError::usage(error.to_string()))
}

fn write_trace(path: &Path, report: &Report) -> Result<(), CliError> {
    let mut lines = report.trace.join("\n");
    lines.push('\n');
    let written = std::fs::write(path, lines);
    written.map_err(|error| CliError::usage(format!("cannot write {}: {error}", path.display())))?;
    note(&format!("{} calls are in {}", report.trace.len(), path.display()));
    Ok(())
}
