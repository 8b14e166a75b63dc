//! `forebay load FILE --table T`: a file's rows into a table.
//!
//! Nothing is sent, and no table is made, before the file's structure, its columns and its key are known to be right (of a
//! stream: of its first 4 MiB). Then a thread reads blocks, the writer sends them, and rows that are not accepted are counted
//! and written to the rejects file. Row numbers count the file's rows from 1, without the header.

mod columnar;
mod infer;
mod input;
mod prepare;
mod report;
mod source;
mod spark_file;
mod table;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{CliError, ClientArgs, Exit};
use crate::client::{Client, ClientError, OpenOptions, Receipt};
use crate::limits::BATCH_MAX_ROWS;
use crate::proto::v1::RowBatch;

use report::{Report, Reporter};

pub(super) use prepare::{InputArgs, LookedAt, Prepared, blocking};
pub(super) use source::{Content, Rejected, Source};
pub(super) use table::existing;

/// Rows of a batch unless told otherwise: full BatchWriteItems many times over, and progress that moves.
const BATCH_ROWS: u32 = 1_000;

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Make the table if it is not there, with the file's columns
    #[arg(long, requires = "key")]
    create: bool,
    /// With --create: the partition key column, and the sort key column if there is one
    #[arg(long, value_name = "COLUMN[,COLUMN]", value_delimiter = ',', num_args = 1..=2, requires = "create")]
    key: Vec<String>,
    /// Write the rows that were not accepted, with their reasons, to this NDJSON file
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Rows of a batch
    #[arg(long, value_name = "N", default_value_t = BATCH_ROWS, value_parser = clap::value_parser!(u32).range(1..=BATCH_MAX_ROWS as i64))]
    batch_rows: u32,
    /// Print one JSON object with the totals
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: LoadArgs) -> Result<Exit, CliError> {
    let client = args.client.connect()?;
    let looked_at = LookedAt::open(&args.input, args.create, args.batch_rows as usize).await?;
    let table = match args.create {
        true => table::existing_or_new(&client, &args, &looked_at).await?,
        false => table::existing(&client, &args.input.table).await?,
    };
    let rows = looked_at.survey.rows;
    let Prepared { name, open, source } =
        looked_at.prepare(&args.input, &table, args.batch_rows as usize, args.rejects.is_some())?;
    let reporter = Reporter::try_new(args.rejects.as_deref(), rows)?;
    load(&client, open, source, reporter, &args, &name).await
}

/// Sends everything, and says what became of it.
async fn load(
    client: &Client,
    open: OpenOptions,
    mut source: Box<dyn Source>,
    reporter: Reporter,
    args: &LoadArgs,
    name: &str,
) -> Result<Exit, CliError> {
    let started = Instant::now();
    let events = reporter.clone();
    let mut writer = client.writer(open.on_event(move |event| events.event(event))).await?;
    // One block waits while another is sent and a third is read.
    let (blocks, mut read) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        loop {
            let block = source.next().transpose();
            let last = !matches!(block, Some(Ok(_)));
            if let Some(block) = block
                && blocks.blocking_send(block).is_err()
            {
                return;
            }
            if last {
                return;
            }
        }
    });
    let mut broken = None;
    let mut batch = 0;
    let sent: Result<(), ClientError> = async {
        while let Some(block) = read.recv().await {
            let block = match block {
                Ok(block) => block,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            };
            reporter.read(block.content.rows() + block.rejects.len());
            block.rejects.into_iter().for_each(|rejected| reporter.rejected(rejected));
            if block.content.rows() == 0 {
                continue;
            }
            // Before it is sent: its outcomes may come while it is.
            batch += 1;
            reporter.sending(batch, block.origin);
            match block.content {
                Content::Rows(rows) => writer.send_rows(RowBatch { rows }).await?,
                Content::Arrow(rows) => writer.send_arrow(&rows).await?,
            };
        }
        Ok(())
    }
    .await;
    let finished = match sent {
        Ok(()) => {
            let read = reading.await;
            read.map_err(|error| CliError::usage(format!("{name} cannot be read: {error}")))?;
            writer.finish().await
        }
        // The reading thread may wait for a terminal; nobody waits for it.
        Err(error) => Err(error),
    };
    let seconds = started.elapsed().as_secs_f64();
    let report = reporter.finish()?;
    let acked = report.acked_rows;
    match (finished, broken) {
        (Err(error), _) => {
            let CliError { exit, message } = error.into();
            Err(CliError { exit, message: format!("{message}; at least {acked} rows of {name} were acked before") })
        }
        (Ok(_), Some(CliError { exit, message })) => {
            Err(CliError { exit, message: format!("{message}; {acked} rows before it were acked") })
        }
        (Ok(receipt), None) => {
            show(&report, &receipt, seconds, args, name)?;
            Ok(if report.rejected_rows > 0 { Exit::Rejected } else { Exit::Ok })
        }
    }
}

fn show(report: &Report, receipt: &Receipt, seconds: f64, args: &LoadArgs, name: &str) -> Result<(), CliError> {
    let rate = report.rows as f64 / seconds.max(1e-9);
    let mut coercions = receipt.coercions.clone();
    report.dropped.add_to(&mut coercions);
    if args.json {
        return super::print_json(&json!({
            "file": name,
            "table": args.input.table,
            "rows": report.rows,
            "acked": report.acked_rows,
            "superseded": receipt.superseded_rows,
            "rejected": report.rejected_rows,
            "rejected_by_reason": report.by_reason,
            "rejects_file": args.rejects,
            "coercions": coercions,
            "seconds": seconds,
            "rows_per_second": rate,
            "write_units": receipt.write_units,
            "calls": receipt.calls,
        }));
    }
    super::print_line(&format!(
        "{name} -> {}: {} rows, {} acked, {} rejected in {seconds:.1} s ({} rows/s)",
        args.input.table,
        super::thousands(report.rows),
        super::thousands(report.acked_rows),
        super::thousands(report.rejected_rows),
        super::thousands(rate as u64),
    ))?;
    for (reason, count) in &report.by_reason {
        super::print_line(&format!("  rejected {:>9}  {reason}", super::thousands(*count)))?;
    }
    for example in &report.examples {
        super::print_line(&format!("  {example}"))?;
    }
    coercion_lines(&coercions).iter().try_for_each(|line| super::print_line(line))?;
    match &args.rejects {
        Some(path) if report.rejected_rows > 0 => {
            super::print_line(&format!("  the rejected rows and their reasons are in {}", path.display()))
        }
        None if report.rejected_rows > report.examples.len() as u64 => {
            super::print_line("  say --rejects FILE to get all rejected rows with their reasons")
        }
        _ => Ok(()),
    }
}

/// Coercions that a summary shows.
const COERCIONS_SHOWN: usize = 10;

/// Coercions for people, the most frequent first.
pub(super) fn coercion_lines(coercions: &BTreeMap<String, u64>) -> Vec<String> {
    let mut sorted: Vec<_> = coercions.iter().collect();
    // Stable: equally frequent ones stay by name.
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let (shown, others) = sorted.split_at(sorted.len().min(COERCIONS_SHOWN));
    let mut lines: Vec<_> =
        shown.iter().map(|(rule, count)| format!("  coerced  {:>9}  {rule}", super::thousands(**count))).collect();
    if !others.is_empty() {
        lines.push(format!("  and {} more", others.len()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_coercions_are_shown_and_the_others_counted() {
        let coercions = (0..12).map(|number| (format!("c{number:02}: int->bigint"), 1000 + number / 6)).collect();
        let lines = coercion_lines(&coercions);
        assert_eq!(lines.len(), 11);
        assert_eq!((&*lines[0], &*lines[10]), ("  coerced      1,001  c06: int->bigint", "  and 2 more"));
        assert!(coercion_lines(&BTreeMap::new()).is_empty());
    }
}
