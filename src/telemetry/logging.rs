//! Structured logs on standard error, as text or JSON.
//!
//! Filtered by `RUST_LOG`-like directives (`info`, `forebay=debug,info`). Row contents and secrets are never logged, which
//! is the callers' care: spans and events carry names, counts and durations.
//!
//! Lines that repeat are sampled ([`LogRepeats`]), once the process says that it has started. Lines have no trace id: a write
//! session's lines and its span both have the session's name.

use std::hash::{Hash, Hasher};
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::time::Instant;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry};

use super::repeats::Repeats;
use crate::limits::{LOG_REPEATS_SHOWN, LOG_REPEATS_WINDOW};

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

/// Leaves out log lines that repeat, and tells how many. Clones are one.
#[derive(Clone, Default)]
pub struct LogRepeats(Arc<Sampling>);

#[derive(Default)]
struct Sampling {
    /// Since when lines are sampled; before, as the process starts, each is shown.
    since: OnceLock<Instant>,
    repeats: Mutex<Option<Repeats<Place>>>,
}

/// A place in the code that logs.
#[derive(Clone)]
struct Place(&'static Metadata<'static>);

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.0.callsite() == other.0.callsite()
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.callsite().hash(state);
    }
}

impl std::fmt::Debug for LogRepeats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogRepeats").field("since", &self.0.since.get()).finish_non_exhaustive()
    }
}

impl LogRepeats {
    /// Samples from now on.
    pub fn begin(&self) {
        *self.0.repeats.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Repeats::new(LOG_REPEATS_SHOWN, LOG_REPEATS_WINDOW));
        self.0.since.get_or_init(Instant::now);
    }

    /// Tells what was left out, window by window, for as long as it is polled.
    pub async fn tell(self) {
        loop {
            tokio::time::sleep(LOG_REPEATS_WINDOW).await;
            self.tell_once();
        }
    }

    /// Tells what was left out in the windows that are over.
    fn tell_once(&self) {
        let Some(since) = self.0.since.get() else { return };
        let left_out = {
            let mut repeats = self.0.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            repeats.as_mut().map(|repeats| repeats.take_left_out(since.elapsed())).unwrap_or_default()
        };
        for (Place(place), lines) in left_out {
            let (file, line) = (place.file().unwrap_or_default(), place.line().unwrap_or_default());
            let (level, target) = (place.level().as_str(), place.target());
            tracing::warn!(lines, level, target, place = %format_args!("{file}:{line}"), "log lines were left out because they repeat");
        }
    }

    fn shows(&self, place: &'static Metadata<'static>) -> bool {
        let Some(since) = self.0.since.get() else { return true };
        let mut repeats = self.0.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        repeats.as_mut().is_none_or(|repeats| repeats.shows(Place(place), since.elapsed()))
    }
}

impl<S: Subscriber> Filter<S> for LogRepeats {
    fn enabled(&self, _place: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        self.shows(event.metadata())
    }
}

/// Sets the process's logger. A second call changes nothing. Repeats are shown until the answer is told to
/// [`begin`](LogRepeats::begin).
pub fn init(filter: &str, format: LogFormat) -> Result<LogRepeats, LogFilterError> {
    let targets: Targets =
        filter.parse().map_err(|error| LogFilterError { filter: filter.to_owned(), reason: format!("{error}") })?;
    let targets = targets.with_targets(guarded(filter));
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let repeats = LogRepeats::default();
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // The lines' own filter is nearest to them: what another layer refuses is not counted.
    let result = Registry::default().with(lines.with_filter(repeats.clone())).with(targets).try_init();
    if result.is_err() {
        tracing::debug!("a logger was set before");
    }
    Ok(repeats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_repeats_is_counted_once_the_process_has_started() {
        let (written, repeats) = (Lines::default(), LogRepeats::default());
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let logger = Registry::default().with(lines.with_filter(repeats.clone()));
        let _logs_here = tracing::subscriber::set_default(logger);
        let log = |times: u32| (0..times).for_each(|_| tracing::warn!("DynamoDB does not answer"));
        let count = |text: &str| {
            let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            written.lines().filter(|line| line.contains(text)).count()
        };
        log(100);
        assert_eq!(count("does not answer"), 100, "nothing is dropped as the process starts");
        repeats.begin();
        log(100);
        assert_eq!(count("does not answer"), 100 + LOG_REPEATS_SHOWN as usize);
        tokio::time::advance(LOG_REPEATS_WINDOW).await;
        repeats.tell_once();
        assert_eq!(count(&format!("lines={} level=\"WARN\"", 100 - LOG_REPEATS_SHOWN)), 1, "{written:?}");
        log(1);
        assert_eq!(count("does not answer"), 101 + LOG_REPEATS_SHOWN as usize, "a new window");
    }

    impl std::fmt::Debug for Lines {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&String::from_utf8_lossy(&self.0.lock().unwrap()))
        }
    }
}
