//! How a write session keeps to its rate limits.
//!
//! A batch's cost is known when it has come; until it is spent the batch is not in the session's books, and nothing more is
//! read: that is the back-pressure. A wait of up to [`QUOTA_WAIT_QUIET`] is nothing else. Longer ones also halve the window,
//! because what the client sends meanwhile only fills buffers; after a while without any the window grows back. All waits
//! count in the receipt.
//!
//! [`Shrunk`] is pure. The caller is `session`, whose loop goes on meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tonic::Status;

use super::Ingest;
use super::encoding::{Payload, claimed_rows};
use super::open::Opened;
use crate::access::Caller;
use crate::api::status;
use crate::limits::{QUOTA_WAIT_QUIET, QUOTA_WINDOW_GROWS_AFTER, QUOTA_WINDOW_HALVINGS};
use crate::proto::server::Batch;
use crate::proto::v1;
use crate::quota::{Bursts, Cost, TooDear, Usage};
use crate::telemetry::instruments::PrincipalLabel;

/// One session's quota.
pub(super) struct SessionQuota {
    ingest: Arc<Ingest>,
    caller: Caller,
    table: Arc<str>,
    waiting: Option<Waiting>,
    shrunk: Shrunk,
    waited: Duration,
}

/// A batch that waits.
struct Waiting {
    batch: Batch,
    since: Instant,
    passed: Pin<Box<dyn Future<Output = Result<(), TooDear>> + Send>>,
}

impl SessionQuota {
    /// Of a session that begins.
    pub(super) fn new(ingest: &Arc<Ingest>, caller: &Caller, table: &str) -> Self {
        let (ingest, caller) = (Arc::clone(ingest), caller.clone());
        Self { ingest, caller, table: table.into(), waiting: None, shrunk: Shrunk::default(), waited: Duration::ZERO }
    }

    /// What may come in one batch.
    pub(super) fn bursts(&self) -> Bursts {
        self.ingest.quotas.bursts(Usage::Write, &self.caller, &self.table)
    }

    /// A batch has come. Gives it back where it may go on at once; otherwise [`Self::passed`] does.
    pub(super) fn ask(&mut self, opened: &Opened, batch: Batch) -> Result<Option<Batch>, Status> {
        let quotas = &self.ingest.quotas;
        // A check writes nothing, but costs the gateway as much.
        if !quotas.limit(Usage::Write, &self.caller, &self.table) {
            return Ok(Some(batch));
        }
        // Its bytes are shared.
        let Some(payload) = Payload::of(batch.payload.clone()) else { return Ok(Some(batch)) };
        let cost = Cost { rows: claimed_rows(opened, &payload), bytes: payload.wire_bytes() as u64 };
        let (quotas, caller, table) = (quotas.clone(), self.caller.clone(), Arc::clone(&self.table));
        let mut passed = Box::pin(async move { quotas.acquire(Usage::Write, &caller, &table, cost).await });
        match passed.as_mut().now_or_never() {
            Some(Ok(())) => Ok(Some(batch)),
            Some(Err(error)) => Err(too_dear(&error)),
            None => {
                self.waiting = Some(Waiting { batch, since: Instant::now(), passed });
                Ok(None)
            }
        }
    }

    /// Whether a batch waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Resolves when the batch that waits may go on.
    pub(super) async fn passed(&mut self) -> Result<Batch, Status> {
        let Some(waiting) = &mut self.waiting else { return std::future::pending().await };
        let passed = waiting.passed.as_mut().await;
        let batch = self.end_wait();
        passed.map_err(|error| too_dear(&error))?;
        // There was one above.
        batch.ok_or_else(|| status::internal("the batch that waited for its quota is gone"))
    }

    fn end_wait(&mut self) -> Option<Batch> {
        let Waiting { batch, since, .. } = self.waiting.take()?;
        let waited = since.elapsed();
        self.waited += waited;
        let label = PrincipalLabel::of(&self.caller.name());
        self.ingest.instruments.rate_limited_seconds.get_or_create(&label).inc_by(waited.as_secs_f64());
        self.shrunk.end_wait(Instant::now());
        Some(batch)
    }

    /// How long the session was not read, so far; `None` where it always was.
    pub(super) fn waited(&self) -> Option<Duration> {
        let waited = self.waited + self.waiting.as_ref().map(|waiting| waiting.since.elapsed()).unwrap_or_default();
        (!waited.is_zero()).then_some(waited)
    }

    /// The window that the client should keep to.
    pub(super) fn window(&self) -> v1::Window {
        self.shrunk.of(self.ingest.window)
    }

    /// When to [`Self::tick`].
    pub(super) fn timer(&self) -> Option<Instant> {
        self.shrunk.timer(self.waiting.as_ref().map(|waiting| waiting.since))
    }

    /// The new window, where it changes now.
    pub(super) fn tick(&mut self, now: Instant) -> Option<v1::Window> {
        let since = self.waiting.as_ref().map(|waiting| waiting.since);
        self.shrunk.tick(since, now).then(|| self.window())
    }
}

impl Drop for SessionQuota {
    fn drop(&mut self) {
        // A wait that the session did not live to the end of counts, too.
        self.end_wait();
    }
}

/// How much smaller than usual the window is.
#[derive(Debug, Default)]
struct Shrunk {
    halvings: u32,
    /// Whether the wait that is on is a long one.
    is_long: bool,
    /// The end of the last long wait, or the last time that the window grew.
    calm_since: Option<Instant>,
}

impl Shrunk {
    fn of(&self, window: v1::Window) -> v1::Window {
        v1::Window {
            max_unacked_bytes: (window.max_unacked_bytes >> self.halvings).max(1),
            max_unacked_batches: (window.max_unacked_batches >> self.halvings).max(1),
        }
    }

    /// When something changes, if `waiting` is since when a batch waits.
    fn timer(&self, waiting: Option<Instant>) -> Option<Instant> {
        [self.long_at(waiting), self.grows_at()].into_iter().flatten().min()
    }

    fn long_at(&self, waiting: Option<Instant>) -> Option<Instant> {
        waiting.filter(|_| !self.is_long).map(|since| since + QUOTA_WAIT_QUIET)
    }

    fn grows_at(&self) -> Option<Instant> {
        self.calm_since.filter(|_| !self.is_long && self.halvings > 0).map(|since| since + QUOTA_WINDOW_GROWS_AFTER)
    }

    /// Whether the window changes.
    fn tick(&mut self, waiting: Option<Instant>, now: Instant) -> bool {
        if self.long_at(waiting).is_some_and(|at| at <= now) {
            self.is_long = true;
            let halves = self.halvings < QUOTA_WINDOW_HALVINGS;
            self.halvings += u32::from(halves);
            return halves;
        }
        let grows = self.grows_at().is_some_and(|at| at <= now);
        if grows {
            self.halvings -= 1;
            self.calm_since = Some(now);
        }
        grows
    }

    fn end_wait(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_long) {
            self.calm_since = Some(now);
        }
    }
}

fn too_dear(error: &TooDear) -> Status {
    status::too_dear("batch", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_window_halves_once_a_long_wait_and_grows_back_when_it_has_been_calm() {
        let mut shrunk = Shrunk::default();
        let full = v1::Window { max_unacked_bytes: 8 << 20, max_unacked_batches: 64 };
        let (start, millis) = (Instant::now(), Duration::from_millis);
        assert_eq!(shrunk.timer(None), None);
        // Short waits change nothing.
        assert_eq!(shrunk.timer(Some(start)), Some(start + QUOTA_WAIT_QUIET));
        assert!(!shrunk.tick(Some(start), start + millis(249)));
        shrunk.end_wait(start + millis(249));
        assert_eq!(shrunk.timer(None), None);

        let mut now = start;
        for halvings in 1..=QUOTA_WINDOW_HALVINGS + 2 {
            let since = now;
            now += QUOTA_WAIT_QUIET;
            assert_eq!(shrunk.tick(Some(since), now), halvings <= QUOTA_WINDOW_HALVINGS);
            now += millis(60_000);
            assert_eq!(shrunk.timer(Some(since)), None, "a wait halves once, and is no time to grow");
            assert!(!shrunk.tick(Some(since), now));
            shrunk.end_wait(now);
        }
        let least = shrunk.of(full);
        assert_eq!((least.max_unacked_bytes, least.max_unacked_batches), (512 << 10, 4));

        for halvings in (0..QUOTA_WINDOW_HALVINGS).rev() {
            let at = now + QUOTA_WINDOW_GROWS_AFTER;
            assert_eq!(shrunk.timer(None), Some(at));
            // A short wait does not put it off.
            assert!(!shrunk.tick(Some(at - millis(100)), at - millis(1)));
            assert!(shrunk.tick(None, at));
            assert_eq!(shrunk.halvings, halvings);
            now = at;
        }
        assert_eq!((shrunk.timer(None), shrunk.of(full)), (None, full));
    }

    #[test]
    fn a_window_is_never_nothing() {
        let shrunk = Shrunk { halvings: QUOTA_WINDOW_HALVINGS, ..Shrunk::default() };
        let least = shrunk.of(v1::Window { max_unacked_bytes: 5, max_unacked_batches: 1 });
        assert_eq!((least.max_unacked_bytes, least.max_unacked_batches), (1, 1));
    }
}
