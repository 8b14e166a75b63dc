//! A stub DynamoDB as a process, for load runs: prints its address, counts what it is sent, and prints the counts as JSON
//! when it is stopped. `GET /stats` shows them while it runs, `DELETE /stats` starts them anew.

use std::io::Write as _;
use std::time::Duration;

use clap::Parser;

#[path = "../tests/common/stub_store.rs"]
mod stub_store;

use stub_store::{StubOptions, StubStore};

/// A stub DynamoDB that reads every request, counts, and answers at once.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
    /// Milliseconds to wait before each answer.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Keep items, so that they can be read.
    #[arg(long)]
    keep_items: bool,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let threads = arguments.threads.max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    let latency = Duration::from_millis(arguments.latency_ms);
    let stub = StubStore::start(listener, StubOptions { latency, keep_items: arguments.keep_items })?;
    say(&stub.endpoint_url())?;
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    say(&serde_json::json!(stub.stats()).to_string())
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
