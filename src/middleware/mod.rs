//! The tower stack before the handlers, on one screen.
//!
//! ```text
//! connection   TLS, caps, floods (edge); HTTP/2 keep-alive, streams per connection (server.rs, on the transport)
//! trace        a call's span, duration and log line; first, so that it sees what the layers below refuse
//! auth         who calls; before all that costs something, so that strangers take no slot and cannot wait in one
//! stream_open  streams of a principal, a second and at once; below auth, which says whose they are
//! load_shed    unary calls at once; below what is about one caller, whose calls should not shed others'
//! unary_writes a slot before the message is read, because the transport buffers the whole of it
//! stall        ends a call that stops in the middle of a message or, where it is no stream of them, does not send its message
//! large_calls  on the table service: only calls that took a slot may have messages above tonic's own limit
//! handler      streaming sessions take their slots in api::ingest; rates of rows are limited there, inside the streams, and in
//!              the handlers of unary calls: a layer does not see what a message costs
//! ```

pub mod auth;
pub mod large_calls;
pub mod load_shed;
pub mod places;
pub mod stall;
pub mod stream_open;
pub mod trace;
pub mod unary_writes;

pub use auth::AuthLayer;
pub use large_calls::LargeCalls;
pub use load_shed::load_shed;
pub use stall::{MessageStalled, StallLayer};
pub use stream_open::StreamOpenLayer;
pub use trace::TraceLayer;
pub use unary_writes::unary_writes;
