//! What floods do to others: point reads of a bystander, quiet and during each flood, taking turns.
//!
//! ```text
//! cargo bench --bench floods               every flood, in about four minutes
//! cargo bench --bench floods -- --quick    two turns each, without judgement
//! ```
//!
//! Each turn is a quiet window and a flooded one; what counts is the ratio of their p99s, and of all turns the median. The stub,
//! the gateway and the attackers are processes of their own. The attackers share this machine's cores, and their own work must
//! not be what is measured: they send at a bounded rate, which costs them a small part of a core; what CPU time they and the
//! gateway used is shown beside. Each turn's attackers have addresses of their own, eight of them, and come again as soon as
//! they are closed. Figures are in docs/performance.md. Linux only.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use forebay::client::{Client, Lookup, OpenOptions};
use forebay::proto::v1::{self, Row, RowBatch, Value, value::Kind};
use hdrhistogram::Histogram;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

#[path = "support/harness.rs"]
mod harness;
#[allow(dead_code, reason = "shared with `system`, which uses the rest")]
#[path = "system/processes.rs"]
mod processes;
#[path = "../tests/common/raw_http2.rs"]
mod raw_http2;
#[path = "../tests/common/stub_store.rs"]
mod stub_store;

pub(crate) use harness::{Failure, fail};
use harness::{be_the_stub, line, median};
use processes::{Forebay, Gateway, Stub};
use raw_http2::{Flood, RawConnection, frame};

/// As the gateway's own, so that the bystander costs as little as it can.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TABLE: &str = "rows";
const ROWS: u64 = 1_000;
/// The bystander's pause between two reads: it has one under way, so that on a busy machine no backlog is what is measured.
const PACE: Duration = Duration::from_millis(1);
const WINDOW: Duration = Duration::from_millis(1_500);
/// Of a flood, before the bystander is listened to.
const WARM_UP: Duration = Duration::from_millis(200);
const ATTACKERS: u8 = 8;
/// Frames a second of one attacker.
const FRAMES_PER_SECOND: f64 = 5_000.0;
/// The promise: FAULT 27 of the table of faults.
const MOST_RATIO: f64 = 2.0;

/// A way of doing harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Frames(Flood),
    /// Messages that come byte by byte.
    SlowBodies,
    /// Answers that nobody reads.
    NeverReads,
}

fn harms() -> Vec<Harm> {
    Flood::ALL.into_iter().map(Harm::Frames).chain([Harm::SlowBodies, Harm::NeverReads]).collect()
}

/// Measures what floods do to others.
#[derive(Debug, Parser)]
struct Arguments {
    /// Two turns each, and no judgement: they show that it runs
    #[arg(long)]
    quick: bool,
    /// The binary to measure [default: the one that cargo built beside this]
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_forebay"))]
    forebay: PathBuf,
    /// Sent by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true)]
    be_the_stub: bool,
    #[arg(long, hide = true)]
    keep_items: bool,
    /// Which harm, which turn, against whom, for how many seconds
    #[arg(long, hide = true, num_args = 4)]
    be_the_attackers: Option<Vec<String>>,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if arguments.be_the_stub {
        return runtime.block_on(be_the_stub(arguments.keep_items));
    }
    if let Some(attack) = &arguments.be_the_attackers {
        return runtime.block_on(be_the_attackers(attack));
    }
    runtime.block_on(measure(&arguments))
}

/// What the attackers say at their end: connections that were closed, frames sent, milliseconds of CPU time.
#[derive(Debug, Default, Clone, Copy)]
struct Attack {
    closed: u64,
    frames: u64,
    cpu_millis: u64,
}

async fn be_the_attackers(arguments: &[String]) -> Result<(), Failure> {
    let [harm, turn, to, seconds] = arguments else { return Err(fail("four values".to_owned())) };
    let (harm, turn): (usize, u8) = (harm.parse()?, turn.parse()?);
    let (to, seconds): (SocketAddr, f64) = (to.parse()?, seconds.parse()?);
    let kind = *harms().get(harm).ok_or("no such harm")?;
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut attackers = tokio::task::JoinSet::new();
    for number in 1..=ATTACKERS {
        let from = [127, harm as u8 + 1, turn + 1, number];
        attackers.spawn(async move {
            let mut attack = Attack::default();
            while Instant::now() < until {
                // A connection that is not to be had is tried again, as a flood would.
                if let Ok(connection) = RawConnection::open(from, to).await {
                    let left = until.saturating_duration_since(Instant::now());
                    let ended = tokio::time::timeout(left, harm_by(connection, kind, &mut attack.frames)).await;
                    attack.closed += u64::from(ended.is_ok());
                }
                tokio::task::yield_now().await;
            }
            attack
        });
    }
    let attacks = attackers.join_all().await;
    let closed: u64 = attacks.iter().map(|attack| attack.closed).sum();
    let frames: u64 = attacks.iter().map(|attack| attack.frames).sum();
    line(&format!("{closed} {frames} {}", processes::own_cpu()?.as_millis()))
}

/// Does harm until the connection is closed.
async fn harm_by(mut connection: RawConnection, kind: Harm, frames: &mut u64) {
    match kind {
        Harm::Frames(kind) => {
            let mut sent = 0;
            loop {
                let next = raw_http2::flood_step(&mut connection, kind, &mut sent).await;
                *frames += next.unwrap_or_default() as u64;
                let Some(next) = next else { return };
                sleep(Duration::from_secs_f64(next as f64 / FRAMES_PER_SECOND)).await;
            }
        }
        Harm::SlowBodies => {
            if !open_calls(&mut connection, "/forebay.v1.IngestService/WriteRows", &[0, 0, 1, 0, 0], false).await {
                return;
            }
            loop {
                for call in 0..CALLS {
                    let byte = frame(raw_http2::DATA, 0, call * 2 + 1, &[7]);
                    if connection.is_closed() || connection.write.write_all(&byte).await.is_err() {
                        return;
                    }
                    *frames += 1;
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
        Harm::NeverReads => {
            connection.reading.abort();
            let values = (0..100).map(|number| v1::RowKey { values: vec![text(&key(number))] }).collect();
            let tables = v1::TableKeys { table: TABLE.to_owned(), keys: values, ..v1::TableKeys::default() };
            let request = v1::BatchGetRowsRequest { requests: vec![tables], ..v1::BatchGetRowsRequest::default() };
            let mut message = vec![0];
            message.extend((request.encoded_len() as u32).to_be_bytes());
            message.extend(request.encode_to_vec());
            if open_calls(&mut connection, "/forebay.v1.ReadService/BatchGetRows", &message, true).await {
                *frames += u64::from(CALLS) * 2;
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Calls of one connection that are open at once.
const CALLS: u32 = 64;

/// Begins calls; false where the connection was closed.
async fn open_calls(connection: &mut RawConnection, path: &str, body: &[u8], ends: bool) -> bool {
    for call in 0..CALLS {
        let head = frame(raw_http2::HEADERS, raw_http2::END_HEADERS, call * 2 + 1, &raw_http2::call_headers(path));
        let body = frame(raw_http2::DATA, if ends { raw_http2::END_STREAM } else { 0 }, call * 2 + 1, body);
        if connection.write.write_all(&[head, body].concat()).await.is_err() {
            return false;
        }
    }
    true
}

fn key(number: u64) -> String {
    format!("row-{number}")
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

/// A window of reads.
#[derive(Debug, Clone, Copy)]
struct Window {
    p50_micros: f64,
    p99_micros: f64,
    gateway_cores: f64,
}

async fn read(client: &Client, gateway: &Gateway) -> Result<Window, Failure> {
    let reader = client.reader();
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let (cpu, begun) = (gateway.cpu()?, Instant::now());
    for number in 0.. {
        if begun.elapsed() >= WINDOW {
            break;
        }
        sleep(PACE).await;
        let asked = Instant::now();
        let answer = reader.get_row(TABLE, vec![text(&key(number % ROWS))], &[]).await?;
        if !matches!(answer.lookup, Lookup::Found(_)) {
            return Err(fail(format!("the bystander's row was not found: {:?}", answer.lookup)));
        }
        histogram.saturating_record(asked.elapsed().as_nanos() as u64);
    }
    let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    let gateway_cores = (gateway.cpu()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    Ok(Window { p50_micros: micros(0.5), p99_micros: micros(0.99), gateway_cores })
}

/// A child that is gone with its handle.
struct Attackers(Child);

impl Drop for Attackers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

impl Attackers {
    fn start(harm: usize, turn: u8, to: SocketAddr) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--be-the-attackers");
        let seconds = (WINDOW + WARM_UP + WARM_UP).as_secs_f64();
        command.args([harm.to_string(), turn.to_string(), to.to_string(), seconds.to_string()]);
        Ok(Self(command.stdout(Stdio::piped()).spawn()?))
    }

    fn end(mut self) -> Result<Attack, Failure> {
        let mut said = String::new();
        self.0.stdout.take().ok_or("the attackers have no output")?.read_to_string(&mut said)?;
        let numbers: Vec<u64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [closed, frames, cpu_millis] = numbers[..] else { return Err(fail(format!("attackers said `{said}`"))) };
        Ok(Attack { closed, frames, cpu_millis })
    }
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let turns: u8 = if arguments.quick { 2 } else { 5 };
    let forebay =
        Forebay { binary: arguments.forebay.clone(), serve_arguments: vec!["--log=error,forebay=info".to_owned()] };
    let stub = Stub::start(true)?;
    let gateway = forebay.serve(&stub.url())?;
    let to: SocketAddr = gateway.endpoint().trim_start_matches("http://").parse()?;
    let client = forebay::client::connect(&gateway.endpoint())?;
    let key_columns = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let ddl = "id STRING NOT NULL, note STRING".to_owned();
    let table = v1::Table { name: TABLE.to_owned(), ddl, key: Some(key_columns), ..v1::Table::default() };
    client.tables().apply(table, false).await?;
    let mut writer = client.writer(OpenOptions::new(TABLE)).await?;
    let note = "x".repeat(500);
    let rows = (0..ROWS).map(|number| Row { values: vec![text(&key(number)), text(&note)] }).collect();
    writer.send_rows(RowBatch { rows }).await?;
    writer.finish().await?;
    // Code and caches are warm.
    read(&client, &gateway).await?;

    line(
        "flood           p50 µs quiet  flooded   p99 µs quiet  flooded   ratio   cores quiet  flooded  attackers   closed   frames   RSS MiB",
    )?;
    let mut broken = Vec::new();
    for (number, harm) in harms().into_iter().enumerate() {
        let (mut quiet, mut flooded, mut attacks) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..turns {
            quiet.push(read(&client, &gateway).await?);
            let attackers = Attackers::start(number, turn, to)?;
            sleep(WARM_UP).await;
            flooded.push(read(&client, &gateway).await?);
            attacks.push(attackers.end()?);
            // What they left behind.
            sleep(WARM_UP).await;
        }
        let of = |windows: &[Window], value: fn(&Window) -> f64| median(windows.iter().map(value).collect());
        let ratio =
            median(quiet.iter().zip(&flooded).map(|(quiet, flooded)| flooded.p99_micros / quiet.p99_micros).collect());
        let name = match harm {
            Harm::Frames(kind) => format!("{kind:?}"),
            other => format!("{other:?}"),
        };
        let seconds = (WINDOW + WARM_UP + WARM_UP).as_secs_f64() * f64::from(turns);
        let total = |value: fn(&Attack) -> u64| attacks.iter().map(value).sum::<u64>();
        line(&format!(
            "{name:14}  {:12.0}  {:7.0}   {:12.0}  {:7.0}   {ratio:5.2}   {:11.2}  {:7.2}  {:9.2}  {:7}  {:7}   {:7}",
            of(&quiet, |window| window.p50_micros),
            of(&flooded, |window| window.p50_micros),
            of(&quiet, |window| window.p99_micros),
            of(&flooded, |window| window.p99_micros),
            of(&quiet, |window| window.gateway_cores),
            of(&flooded, |window| window.gateway_cores),
            total(|attack| attack.cpu_millis) as f64 / 1e3 / seconds,
            total(|attack| attack.closed),
            total(|attack| attack.frames),
            gateway.resident_bytes()? >> 20,
        ))?;
        if ratio > MOST_RATIO {
            broken.push(format!("{name} {ratio:.2}"));
        }
    }
    match broken.is_empty() || arguments.quick {
        true => Ok(()),
        false => Err(fail(format!("p99 more than {MOST_RATIO} times the quiet one: {}", broken.join(", ")))),
    }
}
