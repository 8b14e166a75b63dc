//! Structured logs on standard error, as text or JSON.
//!
//! Filtered by `RUST_LOG`-like directives (`info`, `forebay=debug,info`). Row contents and secrets are never logged, which
//! is the callers' care: spans and events carry names, counts and durations.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The shape of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log filter `{filter}` is not usable ({reason}); expected `info`, or directives such as `forebay=debug,info`"
)]
pub struct LogFilterError {
    /// The text.
    pub filter: String,
    /// What is wrong.
    pub reason: String,
}

/// Levels that hold whatever the filter says in general.
///
/// The SDK's and the transport's debug output shows requests, and with them rows; the embedded store warns of every table that is
/// asked for and not there. Who names one of them in the filter still gets no more than these.
fn guarded(filter: &str) -> Vec<(&'static str, LevelFilter)> {
    const SHOWS_REQUESTS: [&str; 6] = ["aws_", "h2", "hyper", "hyper_util", "tonic", "tower"];
    let quiet = filter.trim().eq_ignore_ascii_case("off") || filter.trim().eq_ignore_ascii_case("error");
    let level = if quiet { LevelFilter::ERROR } else { LevelFilter::WARN };
    let mut guarded: Vec<_> = SHOWS_REQUESTS.iter().map(|target| (*target, level)).collect();
    guarded.push(("dynoxide", LevelFilter::ERROR));
    // The telemetry library tells of its own life at `info`; what goes wrong is more than that.
    guarded.push(("opentelemetry", level));
    guarded
}

/// Sets the process's logger. A second call changes nothing.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogFilterError> {
    let targets: Targets =
        filter.parse().map_err(|error| LogFilterError { filter: filter.to_owned(), reason: format!("{error}") })?;
    let targets = targets.with_targets(guarded(filter));
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let registry = tracing_subscriber::registry().with(targets);
    let result = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if result.is_err() {
        tracing::debug!("a logger was set before");
    }
    Ok(())
}
