//! `forebay bench write|read`: load of a known shape, and how long its acks or answers take.
//!
//! With `--rate` a latency counts from the moment a batch or a read was due, not from when it could be sent: a stall is felt by
//! all that had to wait behind it (no coordinated omission). Without, the load is as much as is taken, and a latency counts
//! from when the batch was handed over.

mod rows;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{CliError, ClientArgs, Exit, PayloadArg};
use crate::api::convert::schema_to_proto;
use crate::client::{ClientError, Event, Lookup, OpenOptions, Receipt};
use crate::limits::BATCH_MAX_ROWS;
use crate::proto::v1::value::Kind;
use crate::proto::v1::{Key, Table, Value};

/// The longest latency that is told apart from longer ones, in microseconds: an hour.
const LONGEST_MICROS: u64 = 3_600_000_000;
/// Digits of a latency.
const DIGITS: u8 = 3;

/// Arguments of `bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    load: Load,
    /// The table; it needs the columns that --create gives it
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// Make the table if it is not there
    #[arg(long)]
    create: bool,
    /// Rows to write, or to read
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rows: u64,
    /// Keys to read from; by default as many as --rows, which is what `bench write` with the same --rows has written
    #[arg(long, value_name = "N")]
    keys: Option<u64>,
    /// Sessions, or reads at once; each session has a connection of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    streams: u64,
    /// How rows travel
    #[arg(long, value_enum, default_value_t = PayloadArg::Arrow)]
    payload: PayloadArg,
    /// Rows of a batch
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=BATCH_MAX_ROWS as u64))]
    batch_rows: u64,
    /// Rows a second over all streams; by default as many as are taken
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Strongly consistent reads
    #[arg(long)]
    strong: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Load {
    /// Time from a batch's sending to its ack
    Write,
    /// Time of single point reads
    Read,
}

/// What one stream did.
struct Done {
    latencies: Histogram<u64>,
    /// Rows acked, or found.
    good: u64,
    /// Rows rejected, or not found.
    bad: u64,
    receipt: Receipt,
}

pub(super) async fn run(args: BenchArgs) -> Result<Exit, CliError> {
    if args.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(CliError::usage("--rate must be a number of rows a second above 0"));
    }
    if args.create {
        args.client.connect()?.tables().apply(table(&args.table), false).await?;
    }
    let bar = super::progress_bar(Some(args.rows));
    let mut streams = JoinSet::new();
    let started = Instant::now();
    for stream in 0..args.streams {
        let (args, bar) = (args.clone(), bar.clone());
        // Numbers `stream * rows / streams ..` of all: every row once, however they divide.
        let part = |stream: u64| (u128::from(stream) * u128::from(args.rows) / u128::from(args.streams)) as u64;
        let numbers = part(stream)..part(stream + 1);
        streams.spawn(async move {
            match args.load {
                Load::Write => write(&args, numbers, bar).await,
                Load::Read => read(&args, numbers, bar).await,
            }
        });
    }
    let mut total = Done { latencies: histogram()?, good: 0, bad: 0, receipt: Receipt::default() };
    while let Some(done) = streams.join_next().await {
        let done = done.map_err(|error| CliError::usage(format!("a stream failed: {error}")))??;
        // Both have the same bounds.
        total.latencies.add(&done.latencies).map_err(|error| CliError::usage(error.to_string()))?;
        total.good += done.good;
        total.bad += done.bad;
        total.receipt.write_units += done.receipt.write_units;
        total.receipt.superseded_rows += done.receipt.superseded_rows;
        total.receipt.throttled_attempts += done.receipt.throttled_attempts;
        total.receipt.calls += done.receipt.calls;
    }
    let seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    show(&args, &total, seconds)?;
    Ok(if total.bad > 0 { Exit::Rejected } else { Exit::Ok })
}

async fn write(args: &BenchArgs, numbers: std::ops::Range<u64>, bar: indicatif::ProgressBar) -> Result<Done, CliError> {
    // A connection of its own, as a Spark task or a pod has.
    let client = args.client.connect()?;
    let seen = Arc::new(Mutex::new((histogram()?, 0)));
    let events = Arc::clone(&seen);
    // When batch 1 was due, and how far the others are apart.
    let pace = args
        .rate
        .map(|rate| (Instant::now(), Duration::from_secs_f64(args.batch_rows as f64 * args.streams as f64 / rate)));
    let mut open = OpenOptions::new(&args.table).on_event(move |event| {
        let (latencies, rejected) = &mut *events.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Acked(acked) => {
                let due = pace.map_or(acked.accepted_at, |(first, apart)| due(first, apart, acked.batch - 1));
                let micros = acked.acked_at.saturating_duration_since(due).as_micros();
                latencies.saturating_record_n(micros as u64, acked.rows as u64);
                bar.inc(acked.rows as u64);
            }
            Event::Outcome(_) => *rejected += 1,
            Event::Reconnecting { error, .. } => bar.suspend(|| super::note(&error.to_string())),
            Event::SendingAgain { .. } | Event::Draining => {}
        }
    });
    let schema = rows::arrow_schema();
    open = match args.payload {
        PayloadArg::Arrow => open.arrow(Arc::clone(&schema)),
        PayloadArg::Rows => open.columns(schema_to_proto(&rows::schema())),
    };
    let mut writer = client.writer(open).await?;
    let mut at = numbers.start;
    let mut batch = 0;
    while at < numbers.end {
        let next = numbers.end.min(at + args.batch_rows);
        if let Some((first, apart)) = pace {
            sleep_until(due(first, apart, batch)).await;
        }
        match args.payload {
            PayloadArg::Arrow => {
                let rows = rows::record_batch(&schema, at..next);
                let rows = rows.map_err(|error| ClientError::WrongPayload { message: error.to_string() })?;
                writer.send_arrow(&rows).await?
            }
            PayloadArg::Rows => writer.send_rows(rows::row_batch(at..next)).await?,
        };
        batch += 1;
        at = next;
    }
    let receipt = writer.finish().await?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let bad = seen.1;
    Ok(Done { latencies: seen.0.clone(), good: receipt.rows - bad, bad, receipt })
}

/// When a batch or a read is due.
fn due(first: Instant, apart: Duration, number: u64) -> Instant {
    first + Duration::from_secs_f64(apart.as_secs_f64() * number as f64)
}

async fn read(args: &BenchArgs, numbers: std::ops::Range<u64>, bar: indicatif::ProgressBar) -> Result<Done, CliError> {
    let reader = args.client.connect()?.reader().strong(args.strong);
    let keys = args.keys.unwrap_or(args.rows).max(1);
    let mut chance = fastrand::Rng::with_seed(numbers.start);
    let mut done = Done { latencies: histogram()?, good: 0, bad: 0, receipt: Receipt::default() };
    let pace = args.rate.map(|rate| (Instant::now(), Duration::from_secs_f64(args.streams as f64 / rate)));
    for number in 0..numbers.end - numbers.start {
        let started = match pace {
            None => Instant::now(),
            Some((first, apart)) => {
                let due = due(first, apart, number);
                sleep_until(due).await;
                due
            }
        };
        let key = Value { kind: Some(Kind::StringValue(rows::key(chance.u64(0..keys)))) };
        let read = reader.get_row(&args.table, vec![key], &[]).await?;
        done.latencies.saturating_record(started.elapsed().as_micros() as u64);
        match read.lookup {
            Lookup::Found(_) => done.good += 1,
            _ => done.bad += 1,
        }
        bar.inc(1);
    }
    Ok(done)
}

fn table(name: &str) -> Table {
    let key = Key { partition: vec![rows::KEY.to_owned()], ..Key::default() };
    Table { name: name.to_owned(), schema: Some(schema_to_proto(&rows::schema())), key: Some(key), ..Table::default() }
}

/// Latencies in microseconds.
pub(super) fn histogram() -> Result<Histogram<u64>, CliError> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).map_err(|error| CliError::usage(error.to_string()))
}

fn show(args: &BenchArgs, total: &Done, seconds: f64) -> Result<(), CliError> {
    let millis = |quantile: f64| total.latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let rate = (total.good + total.bad) as f64 / seconds.max(1e-9);
    let (load, good, bad) = match args.load {
        Load::Write => ("write", "acked", "rejected"),
        Load::Read => ("read", "found", "not_found"),
    };
    if args.json {
        return super::print_json(&json!({
            "bench": load,
            "table": args.table,
            "payload": matches!(args.load, Load::Write).then_some(match args.payload {
                PayloadArg::Arrow => "arrow",
                PayloadArg::Rows => "rows",
            }),
            "rows": total.good + total.bad,
            good: total.good,
            bad: total.bad,
            "streams": args.streams,
            "batch_rows": matches!(args.load, Load::Write).then_some(args.batch_rows),
            "asked_rows_per_second": args.rate,
            "seconds": seconds,
            "rows_per_second": rate,
            "latency_ms": {
                "from": if args.rate.is_some() { "due" } else { "sent" },
                "mean": total.latencies.mean() / 1000.0,
                "p50": millis(0.5),
                "p90": millis(0.9),
                "p99": millis(0.99),
                "p99_9": millis(0.999),
                "max": total.latencies.max() as f64 / 1000.0,
            },
            "superseded": total.receipt.superseded_rows,
            "write_units": total.receipt.write_units,
            "throttled_attempts": total.receipt.throttled_attempts,
            "calls": total.receipt.calls,
        }));
    }
    super::print_line(&format!(
        "{load} {}: {} rows, {} {good}, {} {} in {seconds:.2} s: {} rows/s",
        args.table,
        super::thousands(total.good + total.bad),
        super::thousands(total.good),
        super::thousands(total.bad),
        bad.replace('_', " "),
        super::thousands(rate as u64),
    ))?;
    super::print_line(&format!(
        "{} ms, from when {}: p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}",
        if args.load == Load::Write { "ack latency" } else { "read latency" },
        if args.rate.is_some() { "due" } else { "sent" },
        millis(0.5),
        millis(0.9),
        millis(0.99),
        millis(0.999),
        total.latencies.max() as f64 / 1000.0,
    ))
}
