//! What became of rows, on the way back from lanes to sessions.
//!
//! A [`BatchTicket`] counts down the rows of one client batch. Lanes report whole slices, so that a row costs no atomic
//! operation; the last report sends the ticket to its session. A [`SessionLink`] is what lanes know of a session.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::payload::{Reject, RejectReason, RowReject};

/// What lanes tell a session.
#[derive(Debug)]
pub enum SessionEvent {
    /// Every row of this batch has an outcome.
    BatchDone(Arc<BatchTicket>),
    /// The session cannot go on.
    Failed(SessionFailure),
}

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionFailure {
    /// The DynamoDB table is gone.
    #[error("the DynamoDB table `{table}` does not exist")]
    TableMissing {
        /// The table.
        table: String,
    },
    /// DynamoDB refuses access, also after retries.
    #[error("DynamoDB refuses access: {message}")]
    Access {
        /// Why.
        message: String,
    },
    /// The gateway stops.
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

/// What kept a row waiting, for the message when its deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Trouble {
    /// Nothing yet.
    None = 0,
    /// A partition was throttled.
    PartitionThrottled = 1,
    /// The table or the account was throttled.
    TableThrottled = 2,
    /// DynamoDB could not be reached, or did not answer.
    Unavailable = 3,
}

/// What lanes know of a session.
#[derive(Debug)]
pub struct SessionLink {
    id: u64,
    bulk: bool,
    cancelled: AtomicBool,
    trouble: AtomicU8,
    events: mpsc::UnboundedSender<SessionEvent>,
    /// The span of its call, where that is traced; boxed, because most are not.
    span: Option<Box<SpanContext>>,
}

impl SessionLink {
    /// A link and the session's end of it. The rows of a `bulk` session let others of their table go first.
    pub fn new(id: u64, bulk: bool) -> (Arc<Self>, mpsc::UnboundedReceiver<SessionEvent>) {
        Self::traced(id, bulk, None)
    }

    /// The same, of a call with this span: attempts on its rows are linked to it.
    pub fn traced(
        id: u64,
        bulk: bool,
        span: Option<SpanContext>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<SessionEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let trouble = AtomicU8::new(Trouble::None as u8);
        let (cancelled, span) = (AtomicBool::new(false), span.map(Box::new));
        (Arc::new(Self { id, bulk, cancelled, trouble, events, span }), receiver)
    }

    /// Names the session within the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The span of its call, where that is traced.
    pub fn span(&self) -> Option<&SpanContext> {
        self.span.as_deref()
    }

    /// Whether its rows let others go first.
    pub fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// Whether nobody waits for outcomes any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) fn mark_cancelled(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Ends the session.
    pub fn fail(&self, failure: SessionFailure) {
        self.send(SessionEvent::Failed(failure));
    }

    /// Remembers what keeps rows waiting.
    pub fn note(&self, trouble: Trouble) {
        self.trouble.store(trouble as u8, Ordering::Relaxed);
    }

    /// What kept rows waiting last.
    pub fn trouble(&self) -> Trouble {
        match self.trouble.load(Ordering::Relaxed) {
            1 => Trouble::PartitionThrottled,
            2 => Trouble::TableThrottled,
            3 => Trouble::Unavailable,
            _ => Trouble::None,
        }
    }

    fn send(&self, event: SessionEvent) {
        // A session that has ended does not listen, and need not.
        if self.events.send(event).is_err() {
            tracing::trace!("an outcome came after its session had ended");
        }
    }
}

/// What became of one row that is not plainly written or superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFate {
    /// Never will be written.
    Rejected(Reject),
    /// A merge that came after a row with a greater sequence: dropped whole, which is success, but its columns are nowhere.
    StaleMerge,
    /// Not written until its deadline. Only in tables with `sequence_by`, where sending it again is safe.
    Retryable(Trouble),
    /// Not known to be written until its deadline. Only in tables with `sequence_by`.
    Unknown(Trouble),
}

/// Totals of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BatchTotals {
    /// Rows that DynamoDB confirmed.
    pub committed: u32,
    /// Rows that a newer confirmed row superseded.
    pub superseded: u32,
    /// Write units of the confirmed rows.
    pub write_units: f64,
    /// Attempts on the batch's rows that were throttled, wholly or in part.
    pub throttled_attempts: u32,
}

/// One client batch on its way.
#[derive(Debug)]
pub struct BatchTicket {
    seq: u64,
    session: Arc<SessionLink>,
    /// When rows without outcome get one all the same: [`RowFate::Retryable`] or [`RowFate::Unknown`].
    deadline: Option<Instant>,
    /// Rows without outcome, and one more while rows are still being added.
    open: AtomicU32,
    body: Mutex<TicketBody>,
}

#[derive(Debug, Default)]
struct TicketBody {
    totals: BatchTotals,
    fates: Vec<(u32, RowFate)>,
}

impl BatchTicket {
    /// A ticket that still expects rows; [`BatchTicket::seal`] ends that.
    pub fn new(seq: u64, session: Arc<SessionLink>) -> Arc<Self> {
        Self::with_deadline(seq, session, None)
    }

    /// A ticket whose rows wait no longer than until `deadline`: for tables with `sequence_by`.
    pub fn with_deadline(seq: u64, session: Arc<SessionLink>, deadline: Option<Instant>) -> Arc<Self> {
        Arc::new(Self { seq, session, deadline, open: AtomicU32::new(1), body: Mutex::default() })
    }

    /// When rows without outcome get one all the same.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The client's number of the batch.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whose batch it is.
    pub fn session(&self) -> &Arc<SessionLink> {
        &self.session
    }

    /// Announces rows before they are submitted.
    pub fn expect(&self, rows: u32) {
        self.open.fetch_add(rows, Ordering::Relaxed);
    }

    /// Notes rows that were rejected before they reached a lane.
    pub fn reject(&self, rejects: Vec<RowReject>) {
        let fates = rejects.into_iter().map(|row| (row.row_index, RowFate::Rejected(row.reject)));
        self.body().fates.extend(fates);
    }

    /// Notes rows that are accepted without being written: a dry run.
    pub fn accept(&self, rows: u32) {
        self.body().totals.committed += rows;
    }

    /// No more rows will be announced.
    pub fn seal(self: &Arc<Self>) {
        self.close(1);
    }

    /// Reports rows.
    fn report(self: &Arc<Self>, rows: u32, totals: BatchTotals, fates: Vec<(u32, RowFate)>) {
        {
            let mut body = self.body();
            body.totals.committed += totals.committed;
            body.totals.superseded += totals.superseded;
            body.totals.write_units += totals.write_units;
            body.totals.throttled_attempts += totals.throttled_attempts;
            body.fates.extend(fates);
        }
        self.close(rows);
    }

    /// Takes the totals and the rows to list, by row index.
    pub fn take(&self) -> (BatchTotals, Vec<(u32, RowFate)>) {
        let mut body = self.body();
        let mut fates = std::mem::take(&mut body.fates);
        fates.sort_unstable_by_key(|(row_index, _)| *row_index);
        (body.totals, fates)
    }

    fn close(self: &Arc<Self>, rows: u32) {
        let before = self.open.fetch_sub(rows, Ordering::AcqRel);
        debug_assert!(before >= rows, "more outcomes than rows");
        if before == rows {
            self.session.send(SessionEvent::BatchDone(Arc::clone(self)));
        }
    }

    fn body(&self) -> std::sync::MutexGuard<'_, TicketBody> {
        // A panic elsewhere leaves plain numbers behind, which stay true.
        self.body.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Rows of a ticket on their way through a lane.
///
/// It is either reported or dropped, and dropping it ends the session: a lane that goes down with rows must not leave
/// their client waiting for an ack that cannot come.
#[derive(Debug)]
pub struct Owed {
    /// `None` once it is reported.
    ticket: Option<Arc<BatchTicket>>,
    session: Arc<SessionLink>,
    rows: u32,
}

impl Owed {
    /// Rows that the ticket was told to expect.
    pub(super) fn new(ticket: &Arc<BatchTicket>, rows: u32) -> Self {
        Self { ticket: Some(Arc::clone(ticket)), session: Arc::clone(ticket.session()), rows }
    }

    /// Whose rows they are.
    pub fn session(&self) -> &Arc<SessionLink> {
        &self.session
    }

    /// When rows without outcome get one all the same.
    pub fn deadline(&self) -> Option<Instant> {
        self.ticket.as_ref().and_then(|ticket| ticket.deadline())
    }

    /// How many they are.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// All of them have outcomes.
    pub(super) fn report(mut self, totals: BatchTotals, fates: Vec<(u32, RowFate)>) {
        if let Some(ticket) = self.ticket.take() {
            ticket.report(self.rows, totals, fates);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if self.ticket.is_some() && !self.session.is_cancelled() {
            self.session.fail(SessionFailure::ShuttingDown);
        }
    }
}

/// The reject of a row that DynamoDB refused on its own.
pub(super) fn refused_by_dynamodb(message: &str) -> RowFate {
    RowFate::Rejected(*Reject::new(RejectReason::BackendValidation, format!("DynamoDB refused the item: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_done_only_when_sealed_and_every_row_has_an_outcome() {
        let (session, mut events) = SessionLink::new(1, false);
        let ticket = BatchTicket::new(7, session);
        ticket.expect(3);
        ticket.report(3, BatchTotals { committed: 3, ..BatchTotals::default() }, Vec::new());
        assert!(events.try_recv().is_err(), "rows may still be added");
        ticket.expect(1);
        ticket.seal();
        assert!(events.try_recv().is_err(), "one row has no outcome");
        ticket.report(1, BatchTotals { superseded: 1, ..BatchTotals::default() }, Vec::new());
        assert!(matches!(events.try_recv(), Ok(SessionEvent::BatchDone(done)) if done.seq() == 7));
        assert_eq!((ticket.take().0.committed, ticket.take().0.superseded), (3, 1));
    }
}
