//! Telemetry: logging set-up, every instrument in one file, and the boards of what no number can show.
//!
//! ```text
//! instruments    every instrument; Prometheus text
//! register       makes instruments, and shows them to an OpenTelemetry meter
//! metric         counters and gauges: a value in an atomic
//! histogram      distributions
//! family         metrics with labels, as many as there may be
//! labels         label sets
//! session_board  write sessions, one by one
//! hot_key_board  the heaviest partition keys, by hash
//! spans          makes spans, or none
//! otlp           what is exported, by the standard environment variables
//! logging        log lines on standard error
//! repeats        which of them are left out
//! ```

pub mod family;
pub mod histogram;
pub mod hot_key_board;
pub mod instruments;
pub mod labels;
pub mod logging;
pub mod metric;
pub mod otlp;
pub mod register;
mod repeats;
pub mod session_board;
pub mod spans;

pub use family::Family;
pub use histogram::{Histogram, Snapshot};
pub use instruments::Instruments;
pub use labels::Labels;
pub use metric::{Counter, FloatCounter, FloatGauge, Gauge};
pub use spans::{Span, Tracing};

#[cfg(test)]
mod docs_tests;
