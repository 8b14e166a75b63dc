//! `forebay demo`: everything at once, in one process, with no account anywhere.
//!
//! Starts the embedded store and the gateway on loopback, streams payments through the real client, reads cards back over the
//! real wire and compares them with what was sent. With `--stay` it stays up, for the other commands to be tried on.

mod cards;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{CliError, Exit, print_line, thousands};
use crate::client::{self, Client, Event, Lookup, OpenOptions, Receipt};
use crate::config::{Config, EmbeddedChoice, Settings};
use crate::payload::values::reason_name;
use crate::proto::v1::value::Kind;
use crate::proto::v1::{Key, RowBatch, RowKey, Table, TableKeys, Value};
use crate::server::{Gateway, StartError};

/// The demo's table.
const TABLE: &str = "card_features";
/// Where `--stay` serves if it can: where the other commands look.
const USUAL_ADDRESS: &str = "127.0.0.1:50051";
/// Rows of a batch.
const BATCH_ROWS: u64 = 500;
/// Single reads, for their latency.
const READS: u64 = 2_000;
/// Of those at once.
const READERS: u64 = 4;
/// Rows sent one at a time, for their latency.
const SINGLE_ROWS: usize = 300;
/// Keys of one batch read.
const BATCH_READ_KEYS: u64 = 100;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Rows to stream
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rows: u64,
    /// Stay up until ctrl-c, for the other commands to be tried on
    #[arg(long)]
    stay: bool,
}

pub(super) async fn run(args: DemoArgs) -> Result<Exit, CliError> {
    let started = Instant::now();
    let gateway = start(args.stay).await?;
    let endpoint = gateway.endpoint();
    print_line(&format!(
        "Forebay on {endpoint}, over an embedded DynamoDB in memory (started in {} ms)",
        started.elapsed().as_millis()
    ))?;
    let shown = show(&endpoint, &args).await;
    if let (Ok(Exit::Ok), true) = (&shown, args.stay) {
        print_line("")?;
        print_line("It stays up until ctrl-c.")?;
        tokio::signal::ctrl_c().await.map_err(|error| CliError::usage(format!("cannot wait for ctrl-c: {error}")))?;
    }
    gateway.shutdown().await;
    shown
}

/// Starts the gateway: with `stay` where other commands look for it, if that port is free.
async fn start(stay: bool) -> Result<Gateway, CliError> {
    let settings = |listen: &str| {
        let config = Config {
            listen: Some(listen.to_owned()),
            admin: Some("off".to_owned()),
            embedded: Some(EmbeddedChoice::Switch(true)),
            ..Config::default()
        };
        Settings::try_new(config).map_err(|error| CliError::usage(error.to_string()))
    };
    let any_port = "127.0.0.1:0";
    let first = if stay { USUAL_ADDRESS } else { any_port };
    let gateway = match Gateway::start(settings(first)?).await {
        Err(StartError::Bind { .. }) if stay => Gateway::start(settings(any_port)?).await,
        other => other,
    };
    gateway.map_err(|error| CliError::usage(error.to_string()))
}

async fn show(endpoint: &str, args: &DemoArgs) -> Result<Exit, CliError> {
    let rows = args.rows;
    let client = client::connect(endpoint)?;
    let key = Key { partition: vec!["card_id".to_owned()], ..Key::default() };
    let table = Table {
        name: TABLE.to_owned(),
        ddl: cards::DDL.to_owned(),
        key: Some(key),
        comment: "What a card's payments say about it".to_owned(),
        ..Table::default()
    };
    client.tables().apply(table, false).await?;
    let cards = cards_of(rows);
    print_line(&format!(
        "Table {TABLE}: {} columns, nested ones among them, keyed by card_id",
        client.tables().get(TABLE).await?.table.and_then(|t| t.schema).map_or(0, |schema| schema.fields.len()),
    ))?;
    print_line("")?;
    print_line(&format!("Streaming {} payments of {} cards ...", thousands(rows), thousands(cards.len() as u64)))?;
    let written = write(&client, rows).await?;
    print_written(&written, rows)?;
    let single = write_singly(&client, &cards).await?;
    print_line(&format!(
        "                     p50 {:.1} ms, p99 {:.1} ms, one row at a time",
        millis(&single, 0.5),
        millis(&single, 0.99)
    ))?;
    print_line("")?;
    let read = read(&client, &cards).await?;
    print_line(&format!(
        "Read {} cards back by key: {} equal to what was sent last, {} different",
        thousands(read.equal + read.different),
        thousands(read.equal),
        thousands(read.different)
    ))?;
    print_line(&format!(
        "  point reads        p50 {:.2} ms, p99 {:.2} ms ({} reads, {READERS} at once)",
        millis(&read.latencies, 0.5),
        millis(&read.latencies, 0.99),
        thousands(read.latencies.len())
    ))?;
    let expected_bad = (0..rows).filter(|number| cards::is_bad(*number)).count() as u64;
    let good = read.different == 0 && written.receipt.rejected_rows == expected_bad;
    print_next(endpoint, args.stay)?;
    Ok(if good { Exit::Ok } else { Exit::Rejected })
}

/// The newest payment of each card that was not a bad row.
fn cards_of(rows: u64) -> HashMap<u64, u64> {
    (0..rows).filter(|number| !cards::is_bad(*number)).map(|number| cards::payment(number, rows)).collect()
}

struct Written {
    receipt: Receipt,
    seconds: f64,
    acks: Histogram<u64>,
    /// How often each reason, and one sentence of the gateway for it.
    rejects: BTreeMap<&'static str, (u64, String)>,
}

async fn write(client: &Client, rows: u64) -> Result<Written, CliError> {
    let bar = super::progress_bar(Some(rows));
    let seen = Arc::new(Mutex::new((histogram()?, BTreeMap::new())));
    let events = Arc::clone(&seen);
    let progress = bar.clone();
    let options = OpenOptions::new(TABLE).on_event(move |event| {
        let (acks, rejects) = &mut *events.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Acked(acked) => {
                acks.saturating_record_n(acked.latency().as_micros() as u64, acked.rows as u64);
                progress.inc(acked.rows as u64);
            }
            Event::Outcome(outcome) => {
                let place = if outcome.field_path.is_empty() { String::new() } else { outcome.field_path + ": " };
                let reason = rejects.entry(reason_name(outcome.reason)).or_insert((0, place + &outcome.message));
                reason.0 += 1;
            }
            Event::Reconnecting { .. } | Event::SendingAgain { .. } | Event::Draining => {}
        }
    });
    let mut writer = client.writer(options).await?;
    let started = Instant::now();
    let mut at = 0;
    while at < rows {
        let next = rows.min(at + BATCH_ROWS);
        let batch = (at..next).map(|number| cards::row(number, rows)).collect();
        writer.send_rows(RowBatch { rows: batch }).await?;
        at = next;
    }
    let receipt = writer.finish().await?;
    let seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Written { receipt, seconds, acks: seen.0.clone(), rejects: seen.1.clone() })
}

fn print_written(written: &Written, rows: u64) -> Result<(), CliError> {
    let receipt = &written.receipt;
    print_line(&format!(
        "Every row has its answer after {:.1} s: {} rows/s",
        written.seconds,
        thousands((rows as f64 / written.seconds) as u64)
    ))?;
    print_line(&format!("  written            {:>9}  each confirmed by the store", thousands(receipt.committed_rows)))?;
    print_line(&format!(
        "  superseded         {:>9}  a newer row of the same card was confirmed instead",
        thousands(receipt.superseded_rows)
    ))?;
    print_line(&format!(
        "  rejected           {:>9}  sent broken on purpose; their neighbours were written",
        thousands(receipt.rejected_rows)
    ))?;
    for (reason, (count, sentence)) in &written.rejects {
        print_line(&format!("    {reason:<16} {count:>9}  {sentence}"))?;
    }
    print_line(&format!(
        "  ack latency        p50 {:.0} ms, p99 {:.0} ms, at full load: the window kept full",
        millis(&written.acks, 0.5),
        millis(&written.acks, 0.99)
    ))
}

/// What a service sees that writes a row and waits: sends some of the newest rows again, each alone.
async fn write_singly(client: &Client, cards: &HashMap<u64, u64>) -> Result<Histogram<u64>, CliError> {
    let mut latencies = histogram()?;
    let mut writer = client.writer(OpenOptions::new(TABLE)).await?;
    for (card, payment) in cards.iter().take(SINGLE_ROWS) {
        let started = Instant::now();
        writer.send_rows(RowBatch { rows: vec![cards::features(*card, *payment)] }).await?;
        writer.flush().await?;
        latencies.saturating_record(started.elapsed().as_micros() as u64);
    }
    writer.finish().await?;
    Ok(latencies)
}

struct Read {
    equal: u64,
    different: u64,
    latencies: Histogram<u64>,
}

/// Reads every tenth card in batches and compares it, then reads single cards for their latency.
async fn read(client: &Client, cards: &HashMap<u64, u64>) -> Result<Read, CliError> {
    let reader = client.reader().strong(true);
    let mut sample: Vec<(u64, u64)> = cards.iter().map(|(card, payment)| (*card, *payment)).collect();
    sample.sort_unstable();
    let step = (sample.len() / 2_500).max(1);
    let sample: Vec<_> = sample.into_iter().step_by(step).collect();
    let mut read = Read { equal: 0, different: 0, latencies: histogram()? };
    for chunk in sample.chunks(BATCH_READ_KEYS as usize) {
        let keys = chunk.iter().map(|(card, _)| RowKey { values: vec![key(*card)] }).collect();
        let request = TableKeys { table: TABLE.to_owned(), keys, columns: Vec::new() };
        let answer = reader.batch_get_rows(vec![request]).await?;
        let lookups = answer.into_iter().flat_map(|table| table.lookups);
        for (lookup, (card, payment)) in lookups.zip(chunk) {
            let expected = cards::features(*card, *payment).values;
            match lookup {
                Lookup::Found(values) if same(&values, &expected) => read.equal += 1,
                _ => read.different += 1,
            }
        }
    }
    let sample = Arc::new(sample);
    let reads = (0..READERS).map(|at| {
        let (reader, sample) = (client.reader(), Arc::clone(&sample));
        async move {
            let mut latencies = histogram()?;
            for number in 0..READS / READERS {
                let (card, _) = sample[((number * READERS + at) * 7919 % sample.len() as u64) as usize];
                let started = Instant::now();
                reader.get_row(TABLE, vec![key(card)], &[]).await?;
                latencies.saturating_record(started.elapsed().as_micros() as u64);
            }
            Ok::<_, CliError>(latencies)
        }
    });
    for latencies in futures_util::future::join_all(reads).await {
        // Both have the same bounds.
        read.latencies.add(latencies?).map_err(|error| CliError::usage(error.to_string()))?;
    }
    Ok(read)
}

fn key(card: u64) -> Value {
    Value { kind: Some(Kind::StringValue(cards::card_id(card))) }
}

/// Whether a row is the one that was sent. A map's entries have no order.
fn same(read: &[Value], sent: &[Value]) -> bool {
    fn sorted(value: &Value) -> Value {
        let mut value = value.clone();
        if let Some(Kind::MapValue(map)) = &mut value.kind {
            map.entries.sort_by_key(|entry| match entry.key.as_ref().and_then(|key| key.kind.as_ref()) {
                Some(Kind::StringValue(text)) => text.clone(),
                _ => String::new(),
            });
        }
        value
    }
    read.iter().map(sorted).eq(sent.iter().map(sorted))
}

fn print_next(endpoint: &str, stay: bool) -> Result<(), CliError> {
    // Once it has ended there is nothing at this run's port; the next run will most likely get the usual one.
    let usual = !stay || endpoint.ends_with(USUAL_ADDRESS);
    let option = if usual { String::new() } else { format!(" --endpoint {endpoint}") };
    let card = cards::card_id(7);
    print_line("")?;
    let when = if stay { "in another terminal" } else { "with `forebay demo --stay` running" };
    print_line(&format!("Where to look next, {when}:"))?;
    print_line(&format!("  forebay get {TABLE} {card}{option}"))?;
    print_line(&format!("  forebay get {TABLE} {card} --columns merchant,by_category --json{option}"))?;
    print_line(&format!("  forebay tables get {TABLE}{option}"))?;
    print_line(&format!("  forebay load FILE.parquet --table mine --create --key COLUMN{option}"))?;
    print_line(&format!("  forebay bench write --create --table bench{option}"))
}

fn histogram() -> Result<Histogram<u64>, CliError> {
    super::bench::histogram()
}

fn millis(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1000.0
}
