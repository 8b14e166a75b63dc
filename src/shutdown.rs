//! The end of the process, in two steps: drain, then stop.
//!
//! Draining: not ready any more, new streams are refused, every open stream hears `Drain` with the time it still has.
//! Stopped: what is left is cut. Callers: `server` pulls the lever, sessions and the admin port listen.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Listens for, or causes, the end. Clones share the state.
#[derive(Debug, Clone)]
pub struct Shutdown {
    draining: CancellationToken,
    drain_for: Duration,
    deadline: std::sync::Arc<std::sync::OnceLock<Instant>>,
}

impl Shutdown {
    /// Open streams get this long to finish.
    pub fn new(drain_for: Duration) -> Self {
        Self { draining: CancellationToken::new(), drain_for, deadline: std::sync::Arc::default() }
    }

    /// Starts the drain. A second call changes nothing.
    pub fn drain(&self) {
        self.deadline.get_or_init(|| Instant::now() + self.drain_for);
        self.draining.cancel();
    }

    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Until when streams are served, where the drain has started.
    pub fn drains_until(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// Waits until the drain starts, and says until when streams are served.
    pub async fn drained(&self) -> Instant {
        self.draining.cancelled().await;
        *self.deadline.get_or_init(|| Instant::now() + self.drain_for)
    }

    /// A token for tasks that end when the drain starts.
    pub fn token(&self) -> CancellationToken {
        self.draining.clone()
    }
}
