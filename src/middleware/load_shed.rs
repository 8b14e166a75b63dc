//! Bounds the unary calls that are in handlers at once, for the process as a whole.
//!
//! A call that waits for its turn costs memory and helps nobody: its caller gives up and calls again. So there is no queue:
//! beyond the bound calls are answered at once, with the time to come back, and the client or its load balancer goes to another
//! gateway. Streams are bounded elsewhere (slots of write sessions, `stream_open`), for they last. Health is never shed: a
//! gateway that is busy must not look dead. Nor is reflection, which people ask.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::Status;

use super::places::PlacesLayer;
use super::stream_open::STREAMS;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::ReasonLabel;

/// Paths of the services that are bounded.
const OURS: &str = "/forebay.v1.";

/// Lets so many unary calls in at once, with the answer where there is no room.
pub fn load_shed(max_calls: usize, refusal: fn() -> Status, instruments: Arc<Instruments>) -> PlacesLayer {
    let places = Arc::new(Semaphore::new(max_calls.min(Semaphore::MAX_PERMITS)));
    PlacesLayer::new(
        |path| path.starts_with(OURS) && !STREAMS.contains(&path),
        places,
        move || {
            instruments.calls_refused.get_or_create(&ReasonLabel { reason: "overloaded" }).inc();
            refusal()
        },
    )
}
