//! What became of the rows of a load: totals, progress on the terminal, and the file of rejected rows.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::source::{Origin, Rejected, RowText};
use crate::cli::{CliError, progress_bar};
use crate::client::{Event, Outcome};
use crate::payload::values::dropped::DroppedFields;
use crate::payload::values::{Misfit, reason_name};
use crate::proto::v1::RowStatus;
use indicatif::ProgressBar;

/// Rejected rows that the summary shows.
const EXAMPLES: usize = 5;

/// Totals of a load.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    /// Rows read.
    pub(super) rows: u64,
    /// Rows that are in the table, or superseded by a newer one that is.
    pub(super) acked_rows: u64,
    /// Rows that were not accepted.
    pub(super) rejected_rows: u64,
    /// The same by reason.
    pub(super) by_reason: BTreeMap<&'static str, u64>,
    /// Fields that were left out of acked rows.
    pub(super) dropped: DroppedFields,
    /// The first rejected rows, a sentence each.
    pub(super) examples: Vec<String>,
}

/// Collects what happens. Clones share one state: the loader and the writer's task both tell it things.
#[derive(Clone)]
pub(super) struct Reporter(Arc<Mutex<State>>);

struct State {
    report: Report,
    /// Of batches that are not acked.
    origins: HashMap<u64, Origin>,
    /// Rejected rows of batches that are not acked: to be taken from the acked ones.
    rejected_in: HashMap<u64, u64>,
    rejects: Option<RejectsFile>,
    bar: ProgressBar,
}

/// A line of the rejects file.
#[derive(serde::Serialize)]
struct RejectLine {
    #[serde(flatten)]
    misfit: serde_json::Value,
    values: Option<RowText>,
}

struct RejectsFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// The first failure; the load goes on, and says so at its end.
    failed: Option<std::io::Error>,
}

impl Reporter {
    pub(super) fn try_new(rejects: Option<&Path>, rows: Option<u64>) -> Result<Self, CliError> {
        let rejects = match rejects {
            None => None,
            Some(path) => {
                let file = File::create(path)
                    .map_err(|error| CliError::usage(format!("{} cannot be written: {error}", path.display())))?;
                Some(RejectsFile { path: path.to_owned(), file: BufWriter::new(file), failed: None })
            }
        };
        let state = State {
            report: Report::default(),
            origins: HashMap::new(),
            rejected_in: HashMap::new(),
            rejects,
            bar: progress_bar(rows),
        };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Rows were read.
    pub(super) fn read(&self, rows: usize) {
        self.state().report.rows += rows as u64;
    }

    /// A row is not sent.
    pub(super) fn rejected(&self, rejected: Rejected) {
        let mut state = self.state();
        state.reject(rejected);
        state.bar.inc(1);
    }

    /// A batch is about to be sent.
    pub(super) fn sending(&self, batch: u64, origin: Origin) {
        self.state().origins.insert(batch, origin);
    }

    /// The writer says something.
    pub(super) fn event(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Outcome(outcome) => state.outcome(outcome),
            Event::Acked(acked) => {
                if let Some(origin) = state.origins.remove(&acked.batch) {
                    origin.dropped.values().for_each(|paths| state.report.dropped.count(paths));
                }
                let rejected = state.rejected_in.remove(&acked.batch).unwrap_or(0);
                state.report.acked_rows += (acked.rows as u64).saturating_sub(rejected);
                state.bar.inc(acked.rows as u64);
                let message = format!("{} rejected", state.report.rejected_rows);
                state.bar.set_message(message);
            }
            Event::Reconnecting { error, pause } => {
                let pause = pause.as_secs_f64();
                state.bar.suspend(|| crate::cli::note(&format!("{error}; trying again in {pause:.1} s")));
            }
            Event::SendingAgain { rows, pause, .. } => {
                let pause = pause.as_secs_f64();
                let text = format!("{rows} rows were not written in time; sending them again in {pause:.1} s");
                state.bar.suspend(|| crate::cli::note(&text));
            }
            Event::Draining => {}
        }
    }

    /// The totals, when nothing happens any more.
    pub(super) fn finish(&self) -> Result<Report, CliError> {
        let mut state = self.state();
        state.bar.finish_and_clear();
        if let Some(mut rejects) = state.rejects.take() {
            let failed = rejects.failed.take().or_else(|| rejects.file.flush().err());
            if let Some(error) = failed {
                let acked = state.report.acked_rows;
                return Err(CliError::usage(format!(
                    "{} cannot be written: {error}; {acked} rows were acked",
                    rejects.path.display()
                )));
            }
        }
        Ok(state.report.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outcome(&mut self, outcome: Outcome) {
        // A merge that came after a newer row: success, as when any older row is superseded.
        if outcome.status == RowStatus::Superseded {
            return;
        }
        *self.rejected_in.entry(outcome.batch).or_default() += 1;
        // The origin is there from before the batch was sent until it is acked, and outcomes come before that.
        let Some(origin) = self.origins.get_mut(&outcome.batch) else { return };
        origin.dropped.remove(&origin.numbers[outcome.row]);
        let misfit = Misfit {
            path: outcome.field_path,
            reason: outcome.reason,
            message: outcome.message,
            declared: outcome.declared_type.into(),
            found: outcome.found_type.into(),
            hint: outcome.hint.into(),
            value: outcome.value.map(Into::into),
        };
        let rejected = Rejected { number: origin.numbers[outcome.row], misfit, values: origin.values(outcome.row) };
        self.reject(rejected);
    }

    fn reject(&mut self, rejected: Rejected) {
        let Rejected { number, misfit, values } = rejected;
        let reason = reason_name(misfit.reason);
        self.report.rejected_rows += 1;
        *self.report.by_reason.entry(reason).or_default() += 1;
        if self.report.examples.len() < EXAMPLES {
            self.report.examples.push(format!("row {number}{}", misfit.placed_sentence()));
        }
        let Some(rejects) = self.rejects.as_mut().filter(|rejects| rejects.failed.is_none()) else { return };
        let line = RejectLine { misfit: misfit.json(number), values };
        let written = serde_json::to_writer(&mut rejects.file, &line).map_err(std::io::Error::from);
        rejects.failed = written.and_then(|()| rejects.file.write_all(b"\n")).err();
    }
}
