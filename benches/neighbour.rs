//! Two principals on one gateway: a quiet one, and one that wants twenty times what it may have.
//!
//! ```text
//! cargo bench --bench neighbour              the figures of docs/performance.md, in about two minutes
//! cargo bench --bench neighbour -- --quick   one short pair, which shows that it runs and judges nothing
//! cargo bench --bench neighbour -- --help    what can be changed
//! ```
//!
//! The quiet one writes at a fixed rate; a latency counts from when its batch was due, so that a stall is felt by all that
//! wait behind it. It is measured alone and beside the other one, in turns, because machines are noisy: each pair gives a ratio
//! of the two 99th percentiles, and the median of them counts. Above 2 it is an error. Gateway, stub and load generator are
//! processes of their own, as in `system`. Linux only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

#[path = "../tests/common/access_file.rs"]
mod access_file;
#[path = "support/harness.rs"]
mod harness;
#[path = "system/load.rs"]
mod load;
#[path = "system/processes.rs"]
#[expect(dead_code, reason = "of `system`; this bench needs less of it")]
mod processes;
#[path = "system/rows.rs"]
#[expect(dead_code, reason = "of `system`; this bench needs less of it")]
mod rows;
#[path = "../tests/common/stub_store.rs"]
mod stub_store;

use access_file::AccessFile;
pub(crate) use harness::{Failure, fail};
use harness::{be_the_stub, line, median};
use load::{Meter, Pace, Target};
use processes::{Forebay, Gateway, Stub};
use rows::Form;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much slower the quiet one's slowest batches may be beside the other one.
const MOST: f64 = 2.0;
/// A session's batches: above the window's 64.
const BATCHES: usize = 80;

/// Measures how much one principal feels of another.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Times that both are measured: alone, and beside the other one
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rows a second of the quiet one
    #[arg(long, default_value_t = 4_000.0)]
    quiet_rows: f64,
    /// Rows a second that the other one may write
    #[arg(long, default_value_t = 4_000)]
    quota_rows: u32,
    /// How many times as much it tries to write
    #[arg(long, default_value_t = 20.0)]
    times: f64,
    /// Its streams
    #[arg(long, default_value_t = 20)]
    streams: usize,
    /// Rows of a message of the quiet one
    #[arg(long, default_value_t = 50)]
    quiet_batch_rows: usize,
    /// Rows of a message of the other one
    #[arg(long, default_value_t = 500)]
    batch_rows: usize,
    /// The binary to measure [default: the one that cargo built beside this]
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_forebay"))]
    forebay: PathBuf,
    /// One short pair, and no judgement: two seconds of a busy machine prove nothing
    #[arg(long)]
    quick: bool,
    /// Sent by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true)]
    be_the_stub: bool,
}

fn main() -> Result<(), Failure> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.pairs, arguments.seconds) = (1, 2.0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.be_the_stub {
        true => runtime.block_on(be_the_stub(false)),
        false => runtime.block_on(measure(&arguments)),
    }
}

/// What the quiet one had in one measurement.
#[derive(Debug, Clone, Copy)]
struct Quiet {
    rows_per_second: f64,
    /// Of its acks, in milliseconds.
    p50: f64,
    p99: f64,
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let quota = arguments.quota_rows;
    let access = AccessFile::new(
        &[("quiet", "{}"), ("greedy", &format!("{{write_rows: {{per_second: {quota}, burst: {quota}}}}}"))],
        &[],
    );
    let serve_arguments = vec!["--access".to_owned(), access.path().display().to_string()];
    let stub = Stub::start(false)?;
    let gateway = Forebay { binary: arguments.forebay.clone(), serve_arguments }.serve(&stub.url())?;
    access.client(&gateway.endpoint(), "quiet").tables().apply(rows::table(false)?, false).await?;

    // Whatever happens the first time only.
    quiet(arguments, &access, &gateway, None).await?;
    line("pair   alone: rows/s   p50 ms   p99 ms    beside: rows/s   p50 ms   p99 ms   p99 ratio   the other: rows/s")?;
    let (mut ratios, mut alone_all, mut beside_all) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=arguments.pairs {
        let alone = quiet(arguments, &access, &gateway, None).await?;
        let meter = Meter::new()?;
        let beside = quiet(arguments, &access, &gateway, Some(&meter)).await?;
        let ratio = beside.p99 / alone.p99;
        line(&format!(
            "{pair:>4} {:>15.0} {:>8.2} {:>8.2} {:>17.0} {:>8.2} {:>8.2} {ratio:>11.2} {:>19.0}",
            alone.rows_per_second,
            alone.p50,
            alone.p99,
            beside.rows_per_second,
            beside.p50,
            beside.p99,
            meter.acked_rows() as f64 / arguments.seconds,
        ))?;
        ratios.push(ratio);
        alone_all.push(alone);
        beside_all.push(beside);
    }
    let of = |all: &[Quiet], figure: fn(&Quiet) -> f64| median(all.iter().map(figure).collect());
    for (name, all) in [("alone", &alone_all), ("beside", &beside_all)] {
        line(&format!(
            "median {name:<6}: {:.0} rows/s, p50 {:.2} ms, p99 {:.2} ms",
            of(all, |quiet| quiet.rows_per_second),
            of(all, |quiet| quiet.p50),
            of(all, |quiet| quiet.p99),
        ))?;
    }
    let ratio = median(ratios);
    line(&format!("median of the ratios of p99: {ratio:.2} (at most {MOST})"))?;
    match ratio <= MOST || arguments.quick {
        true => Ok(()),
        false => Err(fail(format!("the quiet one's p99 is {ratio:.2} times what it is alone; at most {MOST}"))),
    }
}

/// Lets the quiet one write for a while, and the other one beside it where that one's meter is given, which then has what was
/// acked within that while.
async fn quiet(
    arguments: &Arguments,
    access: &AccessFile,
    gateway: &Gateway,
    beside: Option<&Arc<Meter>>,
) -> Result<Quiet, Failure> {
    let warm = Duration::from_secs(2);
    let target = |principal| Target { endpoint: gateway.endpoint(), key: Some(access.key(principal).to_owned()) };
    let mut greedy = JoinSet::new();
    let during = Meter::new()?;
    if beside.is_some() {
        let each = f64::from(arguments.quota_rows) * arguments.times / arguments.streams as f64;
        let apart = Duration::from_secs_f64(arguments.batch_rows as f64 / each);
        for stream in 0..arguments.streams {
            let first = ((1 + stream) * BATCHES * arguments.batch_rows) as u64;
            let prepared = rows::prepare(Form::Rows, first, BATCHES, arguments.batch_rows)?;
            let pace = Pace { first: Instant::now() + apart.mul_f64(stream as f64 / arguments.streams as f64), apart };
            greedy.spawn(load::write(target("greedy"), prepared, Some(pace), Arc::clone(&during)));
        }
    }
    let meter = Meter::new()?;
    let prepared = rows::prepare(Form::Rows, 0, BATCHES, arguments.quiet_batch_rows)?;
    let apart = Duration::from_secs_f64(arguments.quiet_batch_rows as f64 / arguments.quiet_rows);
    let pace = Pace { first: Instant::now() + Duration::from_millis(100), apart };
    let mut quiet = JoinSet::new();
    quiet.spawn(load::write(target("quiet"), prepared, Some(pace), Arc::clone(&meter)));

    let mut run = async |time: Duration| {
        tokio::select! {
            Some(ended) = quiet.join_next() => Err(early(ended?)),
            Some(ended) = greedy.join_next() => Err(early(ended?)),
            () = sleep(time) => Ok(()),
        }
    };
    // The burst is used up, and the windows have shrunk.
    run(warm).await?;
    let (started, rows, greedy_rows) = (Instant::now(), meter.acked_rows(), during.acked_rows());
    meter.begin();
    run(Duration::from_secs_f64(arguments.seconds)).await?;
    let (elapsed, rows) = (started.elapsed().as_secs_f64(), meter.acked_rows() - rows);
    if let Some(beside) = beside {
        beside.add_acked_rows(during.acked_rows() - greedy_rows);
    }
    meter.end();
    // What the other one has waiting is not worth waiting for.
    greedy.shutdown().await;
    while let Some(receipt) = quiet.join_next().await {
        let receipt = receipt??;
        if receipt.committed_rows != receipt.rows {
            return Err(fail(format!("not every row was committed: {receipt:?}")));
        }
    }
    Ok(Quiet { rows_per_second: rows as f64 / elapsed, p50: meter.millis(0.5), p99: meter.millis(0.99) })
}

fn early(ended: Result<forebay::proto::v1::Receipt, Failure>) -> Failure {
    ended.err().unwrap_or_else(|| fail("a session ended early".to_owned()))
}
