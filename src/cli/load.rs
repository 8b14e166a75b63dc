//! `forebay load FILE --table T`: a file's rows into a table.
//!
//! Nothing is sent, and no table is made, before the file's structure, its columns and its key are known to be right (of a
//! stream: of its first 4 MiB). Then a thread reads blocks, the writer sends them, and rows that are not accepted are counted
//! and written to the rejects file. Row numbers count the file's rows from 1, without the header.

mod columnar;
mod infer;
mod input;
mod report;
mod source;
mod table;
mod text;

use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{CliError, ClientArgs, Exit};
use crate::api::convert::schema_to_proto;
use crate::client::convert::schema_to_arrow;
use crate::client::{Client, ClientError, OpenOptions, Receipt};
use crate::limits::BATCH_MAX_ROWS;
use crate::proto::v1::{RowBatch, WriteMode};
use crate::schema::{Schema, UnknownFields};

use columnar::Columnar;
use input::{Format, Input};
use report::{Report, Reporter};
use source::{Content, Source};
use text::TextSource;

/// Rows of a batch unless told otherwise: full BatchWriteItems many times over, and progress that moves.
const BATCH_ROWS: u32 = 1_000;

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    /// The file; `-` for standard input
    file: String,
    /// The table
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// The file's format; by default told from its first bytes or its name
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Make the table if it is not there, with the file's columns
    #[arg(long, requires = "key")]
    create: bool,
    /// With --create: the partition key column, and the sort key column if there is one
    #[arg(long, value_name = "COLUMN[,COLUMN]", value_delimiter = ',', num_args = 1..=2, requires = "create")]
    key: Vec<String>,
    /// Write the rows that were not accepted, with their reasons, to this NDJSON file
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// How rows travel; by default as the file has them: Parquet and Arrow as arrow, CSV and NDJSON as rows
    #[arg(long, value_enum)]
    payload: Option<super::PayloadArg>,
    /// What rows do
    #[arg(long, value_enum, default_value_t = Mode::Put)]
    mode: Mode,
    /// Rows of a batch
    #[arg(long, value_name = "N", default_value_t = BATCH_ROWS, value_parser = clap::value_parser!(u32).range(1..=BATCH_MAX_ROWS as i64))]
    batch_rows: u32,
    /// Print one JSON object with the totals
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Replace the item with the row's key
    Put,
    /// Delete the item with the row's key
    Delete,
}

/// What is known of a file before anything is sent.
struct Survey {
    /// Its columns; for NDJSON those seen.
    columns: Vec<String>,
    /// Their types: the file's own, or the narrowest that take what was seen.
    schema: Schema,
    /// The schema of a columnar file.
    arrow: Option<SchemaRef>,
    /// Its rows, where that is known.
    rows: Option<u64>,
}

/// How sources make blocks.
struct Settings {
    batch_rows: usize,
    /// Set where rows go as Arrow: the session's schema.
    arrow: Option<SchemaRef>,
    /// Whether the rows' text is needed for the rejects file.
    keep: bool,
    /// Whether fields that the table does not have are left out.
    drop_unknown: bool,
}

/// A file that was looked at.
enum Looked {
    Csv(Input),
    Ndjson(Input),
    Columnar(Box<Columnar>),
}

pub(super) async fn run(args: LoadArgs) -> Result<Exit, CliError> {
    let client = args.client.connect()?;
    let (looked, survey) = blocking({
        let (path, format, create) = (args.file.clone(), args.format, args.create);
        let batch_rows = args.batch_rows as usize;
        move || look(&path, format, create, batch_rows)
    })
    .await?;
    let name = display_name(&args.file);
    let table = match args.create {
        true => table::existing_or_new(&client, &args, &name, &survey).await?,
        false => table::existing(&client, &args.table).await?,
    };
    table::check_columns(&name, &survey, &table, args.mode)?;

    let fields = table::session_fields(&looked, &survey, &table);
    let as_arrow = match args.payload {
        Some(payload) => payload == super::PayloadArg::Arrow,
        None => survey.arrow.is_some(),
    };
    let mut open = OpenOptions::new(&args.table).mode(match args.mode {
        Mode::Put => WriteMode::Put,
        Mode::Delete => WriteMode::Delete,
    });
    let columns = schema_to_proto(&Schema { fields: fields.clone() });
    let arrow = match (&survey.arrow, as_arrow) {
        (_, false) => None,
        (Some(schema), true) => Some(Arc::clone(schema)),
        (None, true) => Some(Arc::new(schema_to_arrow(&columns).map_err(ClientError::from)?)),
    };
    open = match &arrow {
        Some(schema) => open.arrow(Arc::clone(schema)),
        None => open.columns(columns),
    };
    let settings = Settings {
        batch_rows: args.batch_rows as usize,
        arrow,
        keep: args.rejects.is_some(),
        drop_unknown: table.unknown_fields == UnknownFields::Drop,
    };
    let source: Box<dyn Source> = match looked {
        Looked::Csv(input) => Box::new(TextSource::csv(input, fields, &settings)?),
        Looked::Ndjson(input) => Box::new(TextSource::ndjson(input, fields, &settings)?),
        Looked::Columnar(file) => Box::new(file.into_source(&settings)),
    };
    let reporter = Reporter::try_new(args.rejects.as_deref(), survey.rows)?;
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
            Err(CliError { exit, message: format!("{message}; {acked} rows of {name} were acked before") })
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
    if args.json {
        return super::print_json(&json!({
            "file": name,
            "table": args.table,
            "rows": report.rows,
            "acked": report.acked_rows,
            "superseded": receipt.superseded_rows,
            "rejected": report.rejected_rows,
            "rejected_by_reason": report.by_reason,
            "rejects_file": args.rejects,
            "seconds": seconds,
            "rows_per_second": rate,
            "write_units": receipt.write_units,
            "calls": receipt.calls,
        }));
    }
    super::print_line(&format!(
        "{name} -> {}: {} rows, {} acked, {} rejected in {seconds:.1} s ({} rows/s)",
        args.table,
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

fn look(path: &str, format: Option<Format>, create: bool, batch_rows: usize) -> Result<(Looked, Survey), CliError> {
    let input = Input::open(path)?;
    let format = format.map_or_else(|| input.format(), Ok)?;
    Ok(match format {
        Format::Csv => {
            let survey = text::survey_csv(&input, create)?;
            (Looked::Csv(input), survey)
        }
        Format::Ndjson => {
            let survey = text::survey_ndjson(&input)?;
            (Looked::Ndjson(input), survey)
        }
        Format::Parquet | Format::Arrow => {
            let file = Columnar::open(input, format, batch_rows)?;
            let survey = file.survey()?;
            (Looked::Columnar(Box::new(file)), survey)
        }
    })
}

fn display_name(file: &str) -> String {
    match file {
        "-" => "standard input".to_owned(),
        path => std::path::Path::new(path).file_name().unwrap_or(path.as_ref()).to_string_lossy().into_owned(),
    }
}

/// Runs what reads files beside the run-time's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CliError::usage(format!("reading the file failed: {error}"))))
}
