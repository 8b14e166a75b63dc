//! Telemetry: logging set-up, every instrument in one file, and the boards of what no number can show.

pub mod hot_key_board;
pub mod instruments;
pub mod logging;
pub mod session_board;

pub use instruments::Instruments;
