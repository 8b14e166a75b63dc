//! Telemetry: logging set-up, and every instrument in one file.

pub mod instruments;
pub mod logging;

pub use instruments::Instruments;
