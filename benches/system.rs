//! The whole system under load: a stub DynamoDB, the gateway and the load generator, each a process of its own.
//!
//! ```text
//! cargo bench --bench system                 every figure, in about a minute
//! cargo bench --bench system -- --quick      a look, and the promises that hold on any machine
//! ```
//!
//! What counts is the CPU time of the gateway's process, from `/proc`: on a shared machine it says how many rows a core
//! carries, whatever else runs. The stub parses every request to its last byte (`tests/common/stub_store.rs`); the load
//! generator sends batches that were encoded before. Figures and targets are in docs/performance.md. Linux only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

#[path = "support/harness.rs"]
mod harness;
#[path = "system/load.rs"]
mod load;
#[path = "system/point_reads.rs"]
mod point_reads;
#[path = "system/processes.rs"]
mod processes;
#[path = "system/report.rs"]
mod report;
#[path = "system/rows.rs"]
mod rows;
#[path = "../tests/common/stub_store.rs"]
mod stub_store;

use harness::be_the_stub;
pub(crate) use harness::{Failure, fail};
use load::{Meter, Pace};
use processes::{Forebay, Gateway, Stub};
use report::{Figures, Load, Write};
use rows::Form;

/// As the gateway's own, so that the load generator costs as little as it can.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Mean items of a BatchWriteItem at half load with messages of 500 rows: below, batches do not fill.
const MIN_ITEMS_PER_CALL: f64 = 20.0;
const IDLE_STREAMS: usize = 500;
const STREAMS_PER_CONNECTION: usize = 125;

/// Measures the gateway as a whole.
#[derive(Debug, Parser)]
struct Arguments {
    /// Short runs, and an error where batches do not fill; no speed is asserted, because machines differ
    #[arg(long)]
    quick: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Seconds of each measurement [default: 10, or 2 with --quick]
    #[arg(long)]
    seconds: Option<f64>,
    /// Write sessions, each on a connection of its own
    #[arg(long, default_value_t = 4)]
    streams: usize,
    /// Rows of a message
    #[arg(long, default_value_t = 500)]
    batch_rows: usize,
    /// Only these payloads
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Form::Rows, Form::Arrow])]
    payload: Vec<Form>,
    /// The table has `sequence_by`: each row is a conditional call of its own
    #[arg(long)]
    sequenced: bool,
    /// Only writes at full load
    #[arg(long)]
    only_full: bool,
    /// A Parquet file to send by `forebay load`, with a column `flight_id` for its key
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    /// The binary to measure [default: the one that cargo built beside this]
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_forebay"))]
    forebay: PathBuf,
    /// An argument of `forebay serve`, as `--serve=--worker-threads=1`; may be repeated
    #[arg(long = "serve", value_name = "ARG")]
    serve_arguments: Vec<String>,
    /// Sent by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true)]
    be_the_stub: bool,
    #[arg(long, hide = true)]
    keep_items: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if arguments.be_the_stub {
        return runtime.block_on(be_the_stub(arguments.keep_items));
    }
    let figures = runtime.block_on(measure(&arguments))?;
    report::show(&figures, arguments.json)?;
    match figures.writes.iter().find(|write| write.load == Load::Half && write.items_per_call < MIN_ITEMS_PER_CALL) {
        Some(write) if arguments.quick && !arguments.sequenced => {
            let (form, items) = (write.form.name(), write.items_per_call);
            Err(fail(format!("{form}: {items:.1} items a call at half load; expected at least {MIN_ITEMS_PER_CALL}")))
        }
        _ => Ok(()),
    }
}

async fn measure(arguments: &Arguments) -> Result<Figures, Failure> {
    let forebay = Forebay { binary: arguments.forebay.clone(), serve_arguments: arguments.serve_arguments.clone() };
    let mut figures = Figures::default();
    let stub = Stub::start(false)?;
    let gateway = forebay.serve(&stub.url())?;
    forebay::client::connect(&gateway.endpoint())?.tables().apply(rows::table(arguments.sequenced)?, false).await?;
    for &form in &arguments.payload {
        let full = write(arguments, &stub, &gateway, form, None).await?;
        let half = full.rows_per_second / 2.0;
        figures.writes.push(full);
        if !arguments.only_full {
            figures.writes.push(write(arguments, &stub, &gateway, form, Some(half)).await?);
        }
    }
    drop((gateway, stub));
    if !arguments.only_full {
        figures.reads = Some(point_reads::measure(&forebay, if arguments.quick { 500 } else { 5_000 }).await?);
        figures.idle_stream_bytes = Some(idle_stream_bytes(&forebay).await?);
    }
    if let Some(file) = &arguments.load {
        let stub = Stub::start(false)?;
        let gateway = forebay.serve(&stub.url())?;
        figures.load = Some(forebay.load(&gateway, file, "flight_id")?);
    }
    Ok(figures)
}

/// Writes for a while, and says what a row cost. `rate` is in rows a second over all sessions.
async fn write(
    arguments: &Arguments,
    stub: &Stub,
    gateway: &Gateway,
    form: Form,
    rate: Option<f64>,
) -> Result<Write, Failure> {
    let load = if rate.is_some() { Load::Half } else { Load::Full };
    report::progress(&format!("{} at {} load", form.name(), load.name()));
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 2.0 } else { 10.0 });
    let meter = Meter::new()?;
    let mut sessions = JoinSet::new();
    // Above the window's 64.
    const BATCHES: usize = 80;
    let prepared = (0..arguments.streams).map(|stream| {
        let first = (stream * BATCHES * arguments.batch_rows) as u64;
        rows::prepare(form, first, BATCHES, arguments.batch_rows)
    });
    let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
    let began = Instant::now();
    let apart = rate.map(|rate| Duration::from_secs_f64(arguments.batch_rows as f64 * arguments.streams as f64 / rate));
    for (stream, prepared) in prepared.into_iter().enumerate() {
        // Sessions take turns, as independent ones would on average.
        let pace =
            apart.map(|apart| Pace { first: began + apart.mul_f64(stream as f64 / arguments.streams as f64), apart });
        let target = load::Target { endpoint: gateway.endpoint(), key: None };
        sessions.spawn(load::write(target, prepared, pace, Arc::clone(&meter)));
    }

    // Acks flow, and have flowed for a while.
    while meter.acked_rows() == 0 {
        watch(&mut sessions, Duration::from_millis(50)).await?;
    }
    watch(&mut sessions, Duration::from_secs_f64(seconds / 4.0)).await?;
    stub.take_stats().await?;
    let cpu = || Ok::<_, Failure>((gateway.cpu()?, stub.cpu()?, processes::own_cpu()?));
    let (started, before, rows_before) = (Instant::now(), cpu()?, meter.acked_rows());
    meter.begin();
    watch(&mut sessions, Duration::from_secs_f64(seconds)).await?;
    let (elapsed, after, rows) = (started.elapsed().as_secs_f64(), cpu()?, meter.acked_rows() - rows_before);
    meter.end();
    let stats = stub.take_stats().await?;
    while let Some(receipt) = sessions.join_next().await {
        let receipt = receipt??;
        if receipt.committed_rows != receipt.rows {
            return Err(fail(format!("not every row was committed: {receipt:?}")));
        }
    }
    if rows == 0 {
        return Err(fail(format!("no row was acked within {seconds} s")));
    }
    if stats.refused > 0 {
        return Err(fail(format!("the stub refused {} calls", stats.refused)));
    }
    let cores = |before: Duration, after: Duration| (after - before).as_secs_f64() / elapsed;
    Ok(Write {
        form,
        load,
        rows,
        rows_per_second: rows as f64 / elapsed,
        cpu_micros_per_row: (after.0 - before.0).as_secs_f64() * 1e6 / rows as f64,
        items_per_call: stats.mean_items,
        body_bytes_per_row: stats.write_bytes as f64 / stats.puts.max(1) as f64,
        ack_millis: [0.5, 0.9, 0.99].map(|quantile| meter.millis(quantile)),
        gateway_cores: cores(before.0, after.0),
        stub_cores: cores(before.1, after.1),
        generator_cores: cores(before.2, after.2),
    })
}

/// Lets sessions run; one that ends has failed.
async fn watch(
    sessions: &mut JoinSet<Result<forebay::proto::v1::Receipt, Failure>>,
    time: Duration,
) -> Result<(), Failure> {
    tokio::select! {
        ended = sessions.join_next() => match ended {
            Some(ended) => Err(ended?.err().unwrap_or_else(|| fail("a session ended early".to_owned()))),
            None => Err(fail("there are no sessions".to_owned())),
        },
        () = sleep(time) => Ok(()),
    }
}

/// What a stream that was opened and says nothing holds: growth of the resident memory, per stream.
async fn idle_stream_bytes(forebay: &Forebay) -> Result<u64, Failure> {
    report::progress("idle streams");
    let stub = Stub::start(false)?;
    let mut forebay = forebay.clone();
    // The gateway grants sessions by the memory that each could need; these need none, however small the machine.
    forebay.serve_arguments.push("--memory-mib=65536".to_owned());
    let gateway = forebay.serve(&stub.url())?;
    let client = forebay::client::connect(&gateway.endpoint())?;
    client.tables().apply(rows::table(false)?, false).await?;
    let open = rows::prepare(Form::Rows, 0, 0, 0)?.open;
    let endpoint = tonic::transport::Endpoint::from_shared(gateway.endpoint())?;
    // What the first stream allocates once is not the streams'.
    let warm = endpoint.connect().await?;
    let _warm = load::open_on(warm, open.clone(), None).await?;
    sleep(Duration::from_millis(200)).await;
    let before = gateway.resident_bytes()?;
    let mut streams = Vec::with_capacity(IDLE_STREAMS);
    let mut channel = endpoint.connect().await?;
    for number in 0..IDLE_STREAMS {
        if number > 0 && number.is_multiple_of(STREAMS_PER_CONNECTION) {
            channel = endpoint.connect().await?;
        }
        streams.push(load::open_on(channel.clone(), open.clone(), None).await?);
    }
    sleep(Duration::from_millis(200)).await;
    Ok(gateway.resident_bytes()?.saturating_sub(before) / IDLE_STREAMS as u64)
}

/// The figures as JSON.
fn as_json(figures: &Figures) -> serde_json::Value {
    let writes = figures.writes.iter().map(|write| {
        let [p50, p90, p99] = write.ack_millis;
        json!({
            "payload": write.form.name(),
            "load": write.load.name(),
            "rows": write.rows,
            "rows_per_second": write.rows_per_second,
            "cpu_micros_per_row": write.cpu_micros_per_row,
            "rows_per_second_per_core": write.rows_per_second_per_core(),
            "items_per_call": write.items_per_call,
            "body_bytes_per_row": write.body_bytes_per_row,
            "ack_millis": {"p50": p50, "p90": p90, "p99": p99},
            "cores": {
                "gateway": write.gateway_cores,
                "stub": write.stub_cores,
                "generator": write.generator_cores,
            },
        })
    });
    json!({
        "writes": writes.collect::<Vec<_>>(),
        "point_reads": figures.reads.as_ref().map(|reads| json!({
            "direct_micros": {"p50": reads.direct_micros[0], "p99": reads.direct_micros[1]},
            "gateway_micros": {"p50": reads.gateway_micros[0], "p99": reads.gateway_micros[1]},
            "added_p50_micros": reads.added_micros(),
        })),
        "idle_stream_bytes": figures.idle_stream_bytes,
        "load": figures.load.map(|(seconds, rows)| json!({"seconds": seconds, "rows": rows})),
    })
}
