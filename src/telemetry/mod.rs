//! Telemetry: logging set-up, and every instrument in one file.
//!
//! ```text
//! instruments  every instrument; Prometheus text
//! register     makes instruments, and shows them to an OpenTelemetry meter
//! metric       counters and gauges: a value in an atomic
//! histogram    distributions
//! family       metrics with labels, as many as there may be
//! labels       label sets
//! spans        makes spans, or none
//! otlp         what is exported, by the standard environment variables
//! logging      log lines on standard error
//! repeats      which of them are left out
//! ```

pub mod family;
pub mod histogram;
pub mod instruments;
pub mod labels;
pub mod logging;
pub mod metric;
pub mod otlp;
pub mod register;
mod repeats;
pub mod spans;

pub use family::Family;
pub use histogram::{Histogram, Snapshot};
pub use instruments::Instruments;
pub use labels::Labels;
pub use metric::{Counter, FloatCounter, FloatGauge, Gauge};
pub use spans::{Span, Tracing};

#[cfg(test)]
mod docs_tests;
