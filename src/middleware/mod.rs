//! The tower stack before the handlers, on one screen.
//!
//! ```text
//! connection   HTTP/2 keep-alive, streams per connection   (server.rs, on the transport)
//! trace        one log line a call: method, seconds         (here)
//! handler      sessions are capped by memory in api::ingest
//! ```
//!
//! Authentication and rate limits are not there yet; serve only networks that you trust.

pub mod trace;

pub use trace::TraceLayer;
