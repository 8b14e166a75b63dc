//! One write session: the task between a client's stream and the pool.
//!
//! It reads a message only when the last batch is within its quota and wholly handed over, the window has room and memory was
//! granted; not reading is the back-pressure that the client feels through HTTP/2. It writes Acks as outcomes come back. It ends in one
//! of three ways: Finished (the only commit), a status, or the client's disappearance; but for the first, its waiting rows
//! are dropped and their client sends them again.

use std::pin::Pin;
use std::sync::Arc;

use opentelemetry::KeyValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::encoding::{Encoding, Payload, Unencoded, decoded_bytes};
use super::ends::{
    End, deadline_passed, drained, encoding_status, failure_status, no_finish, row_deadline_status, shutting_down,
    unreadable, until,
};
use super::leave::{Leave, Leaving};
use super::ledger::Ledger;
use super::open::{self, Opened};
use super::quota::SessionQuota;
use super::reply;
use super::responses::{Responses, SaysEnd};
use super::{Ingest, SessionTimeouts};
use crate::access::Caller;
use crate::api::convert::{duration_to_proto, schema_to_proto};
use crate::api::status::{self, reason};
use crate::catalog::EpochClaim;
use crate::limits::ACK_MAX_OUTCOMES;
use crate::payload::{Chunk, RowReject};
use crate::pool::{BatchTicket, MemoryPermit, SessionEvent, SessionLink};
use crate::proto::server::write_request::Message as Request;
use crate::proto::server::{Batch, WriteRequest};
use crate::proto::v1;
use crate::proto::v1::write_response::Message as Response;
use crate::telemetry::Span;
use crate::telemetry::session_board::Seat;

/// Barriers that may wait for acks before the session reads no more: a batch's window has room for fewer.
const FLUSHES_WAITING: usize = 1024;

/// Runs a session to its end, and says how it ended.
pub(super) async fn run(
    ingest: Arc<Ingest>,
    requests: Streaming<WriteRequest>,
    responses: Responses,
    says_end: SaysEnd,
    call: Call,
) {
    let end = match open_in_time(&ingest, requests, responses, call).await {
        Ok(mut session) => {
            let end = session.serve().await;
            session.log_end(&end);
            end
        }
        Err(end) => end,
    };
    let end = match end {
        End::Finished => Ok(()),
        End::Status(status) => {
            tracing::debug!(code = ?status.code(), message = status.message(), "a write session ended with an error");
            Err(status)
        }
        End::Gone => Err(status::aborted(reason::NO_FINISH, "the client went away")),
    };
    if says_end.send(end).is_err() {
        tracing::trace!("there was nobody to hear how the session ended");
    }
}

async fn open_in_time(
    ingest: &Arc<Ingest>,
    requests: Streaming<WriteRequest>,
    responses: Responses,
    call: Call,
) -> Result<Session, End> {
    let (gone, deadline) = (responses.clone(), call.deadline);
    let open = Session::open(ingest, ingest.next_session_id(), requests, responses, call);
    tokio::select! {
        session = open => session,
        () = gone.closed() => Err(End::Gone),
        () = until(deadline) => Err(deadline_passed().into()),
        _ = ingest.shutdown.drained() => Err(shutting_down().into()),
    }
}

/// Who calls, and what the call itself limits.
#[derive(Debug)]
pub(super) struct Call {
    /// Who writes.
    pub(super) caller: Caller,
    /// Its span, where it is traced.
    pub(super) span: Option<Span>,
    /// `grpc-timeout`.
    pub(super) deadline: Option<Instant>,
    /// When the client should move to a new connection.
    pub(super) connection_age: Option<Instant>,
}

/// What waits for memory.
struct Waiting {
    what: Awaiting,
    memory: Pin<Box<dyn Future<Output = MemoryPermit> + Send>>,
}

enum Awaiting {
    /// A batch that must be decoded first.
    Decoding(Unencoded),
    /// Encoded rows, for the pool.
    Rows(Chunk),
}

struct Session {
    ingest: Arc<Ingest>,
    name: String,
    opened: Opened,
    link: Arc<SessionLink>,
    events: mpsc::UnboundedReceiver<SessionEvent>,
    requests: Streaming<WriteRequest>,
    responses: Responses,
    ledger: Ledger,
    /// Where operators see it.
    seat: Seat,
    encoding: Option<Encoding>,
    waiting: Option<Waiting>,
    /// Barriers that were asked for: the batch that each waits for.
    flushes: std::collections::VecDeque<u64>,
    finishing: bool,
    call: Call,
    leave: Leave,
    quota: SessionQuota,
    /// When a drained session ends at the latest, and why.
    drain: Option<(Instant, v1::DrainReason)>,
    /// Of a run that can be fenced.
    epoch: Option<EpochClaim>,
    schema_changes: tokio::sync::watch::Receiver<u64>,
    announced_version: u64,
}

impl Session {
    async fn open(
        ingest: &Arc<Ingest>,
        id: u64,
        mut requests: Streaming<WriteRequest>,
        responses: Responses,
        call: Call,
    ) -> Result<Self, End> {
        let SessionTimeouts { open: open_timeout, .. } = ingest.timeouts;
        let first = match tokio::time::timeout(open_timeout, requests.message()).await {
            Ok(Ok(Some(WriteRequest { message: Some(Request::Open(open)) }))) => open,
            Ok(Ok(Some(_))) => {
                return Err(status::invalid_argument("message", "the first message of a session must be open").into());
            }
            Ok(Ok(None)) => return Err(no_finish().into()),
            Ok(Err(error)) => return Err(unreadable(error)),
            Err(_elapsed) => {
                let message = format!("no Open came within {} s", open_timeout.as_secs_f64());
                return Err(status::deadline_exceeded(reason::OPEN_TIMEOUT, message).into());
            }
        };
        let schema_changes = ingest.catalog.changes();
        let opened = open::open(&ingest.catalog, first, ingest.pool.hash_seed(), &call.caller).await?;
        let epoch = opened.claim_epoch(&ingest.catalog).await?;
        let (link, events) = SessionLink::traced(id, opened.bulk, call.span.as_ref().map(Span::context));
        let announced_version = opened.table.version;
        let name = format!("{:08x}-{id}", ingest.pool.hash_seed() as u32);
        tracing::info!(
            session = name,
            table = opened.table.def.name,
            version = announced_version,
            producer = opened.producer_id,
            "write session opened"
        );
        if let Some(span) = &call.span {
            span.note([
                KeyValue::new("forebay.session_id", name.clone()),
                KeyValue::new("forebay.table", opened.table.def.name.clone()),
            ]);
        }
        ingest.instruments.sessions.inc();
        ingest.instruments.sessions_opened.inc();
        let board = &ingest.instruments.session_board;
        let seat = board.enter(&name, &opened.table.def.name, call.caller.name(), Instant::now());
        let ledger = Ledger::new(opened.is_sequenced());
        let leave = Leave::new(&call.caller, &opened.table.def.name);
        let quota = SessionQuota::new(ingest, &call.caller, &opened.table.def.name);
        let mut session = Self {
            ingest: Arc::clone(ingest),
            name,
            opened,
            link,
            events,
            requests,
            responses,
            ledger,
            seat,
            encoding: None,
            waiting: None,
            flushes: std::collections::VecDeque::new(),
            finishing: false,
            call,
            leave,
            quota,
            drain: None,
            epoch,
            schema_changes,
            announced_version,
        };
        let hello = v1::Opened {
            session_id: session.name.clone(),
            schema: Some(schema_to_proto(&session.opened.table.def.schema)),
            schema_version: announced_version,
            limits: Some(reply::limits(session.quota.bursts())),
            window: Some(session.ingest.window),
        };
        session.send(Response::Opened(hello)).await?;
        Ok(session)
    }

    /// The loop. Outcomes come before new work, so that acks flow while a client sends.
    async fn serve(&mut self) -> End {
        loop {
            let encodes = self.encoding.is_some() && self.waiting.is_none();
            let window = self.quota.window();
            let may_read = self.encoding.is_none()
                && !self.quota.is_waiting()
                && self.waiting.is_none()
                && !self.finishing
                && !self.leave.is_over()
                && self.flushes.len() < FLUSHES_WAITING
                && self.ledger.has_room(window.max_unacked_bytes, window.max_unacked_batches);
            let timer = self.next_timer();
            let step = tokio::select! {
                biased;
                () = self.responses.closed() => return End::Gone,
                Some(event) = self.events.recv() => self.take_event(event).await,
                memory = granted(&mut self.waiting), if self.waiting.is_some() => {
                    self.proceed(memory)
                }
                // Before what waits for its quota: a policy without the principal has no limit for it either.
                leaving = self.leave.next() => self.take_leave(leaving).await,
                batch = self.quota.passed(), if self.quota.is_waiting() && !self.leave.is_over() => match batch {
                    Ok(batch) => self.take_batch(batch),
                    Err(status) => Err(status.into()),
                },
                () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    self.take_timer().await
                }
                until = self.ingest.shutdown.drained(), if self.heeds_shutdown() => {
                    self.start_drain(v1::DrainReason::Shutdown, until).await
                }
                fenced = fenced(&mut self.epoch), if self.epoch.is_some() => Err(fenced.into()),
                Ok(()) = self.schema_changes.changed() => self.announce_schema().await,
                // A chunk at a time, and others first: a large batch must not keep a thread for itself.
                () = self.opened.may_encode(&self.ingest.catalog), if encodes => self.encode().await,
                message = self.requests.message(), if may_read => match message {
                    Ok(Some(message)) => self.take_message(message).await,
                    Ok(None) => Err(no_finish().into()),
                    Err(error) => Err(unreadable(error)),
                },
            };
            match step {
                Ok(()) if self.ledger.committed_through() < self.ledger.last_seq() => {}
                Ok(()) if self.finishing => {
                    let finished = v1::Finished { receipt: Some(self.receipt()) };
                    return match self.send(Response::Finished(finished)).await {
                        Ok(()) => End::Finished,
                        Err(end) => end,
                    };
                }
                Ok(()) => {
                    // A batch that waits for its principal's rate is not taken: whoever comes next sends it again.
                    if let Some(status) = self.leave.status() {
                        return End::Status(status);
                    }
                }
                Err(end) => return end,
            }
        }
    }

    async fn take_message(&mut self, message: WriteRequest) -> Result<(), End> {
        match message.message {
            Some(Request::Batch(batch)) => match self.quota.ask(&self.opened, batch)? {
                Some(batch) => self.take_batch(batch),
                None => Ok(()),
            },
            Some(Request::Flush(v1::Flush {})) => {
                self.flushes.push_back(self.ledger.last_seq());
                self.answer_flushes().await
            }
            Some(Request::Finish(finish)) => {
                let totals = self.ledger.totals();
                if (finish.batches, finish.rows) != (totals.batches, totals.rows) {
                    let message = format!(
                        "Finish says {} batches and {} rows, but {} batches and {} rows arrived",
                        finish.batches, finish.rows, totals.batches, totals.rows
                    );
                    return Err(status::data_loss(reason::COUNT_MISMATCH, message).into());
                }
                self.finishing = true;
                Ok(())
            }
            Some(Request::Open(_)) => {
                Err(status::invalid_argument("message", "open must be the first message, and the only one").into())
            }
            None => Err(status::invalid_argument("message", "is empty: send a batch, flush or finish").into()),
        }
    }

    fn take_batch(&mut self, batch: Batch) -> Result<(), End> {
        if batch.atomic {
            // How much a transaction may carry is a matter of true sizes.
            self.opened.plan.measure();
        }
        let Some(payload) = Payload::of(batch.payload) else {
            return Err(status::invalid_argument("batch.payload", "is missing: send rows or arrow").into());
        };
        let bytes = payload.wire_bytes();
        let now = Instant::now();
        self.ledger
            .admit(batch.batch_seq, bytes as u64, now)
            .map_err(|error| status::out_of_range(reason::BATCH_SEQ, error.to_string()))?;
        self.seat.show(self.ledger.progress());
        self.ingest.instruments.batches.inc();
        self.ingest.instruments.count_received(&self.call.caller.name(), 0, bytes as u64);
        let settle_by = self.opened.rows_settle_by(now);
        let ticket = BatchTicket::with_deadline(batch.batch_seq, Arc::clone(&self.link), settle_by);
        let decoded = decoded_bytes(&self.opened, &payload).map_err(encoding_status)?;
        let batch = Unencoded { payload, ticket, is_atomic: batch.atomic };
        match decoded {
            0 => self.encoding = Some(Encoding::begin(&self.opened, batch, None).map_err(encoding_status)?),
            bytes => {
                let budget = self.ingest.decode_memory.clone();
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                let memory = Box::pin(async move { budget.reserve(bytes).await });
                self.waiting = Some(Waiting { what: Awaiting::Decoding(batch), memory });
            }
        }
        Ok(())
    }

    /// Encodes the next chunk.
    async fn encode(&mut self) -> Result<(), End> {
        let Some(encoding) = &mut self.encoding else { return Ok(()) };
        let chunk = encoding.next_chunk(&self.opened).map_err(encoding_status)?;
        let ticket = Arc::clone(encoding.ticket());
        let Some(mut chunk) = chunk else {
            ticket.seal();
            self.encoding = None;
            self.seat.show(self.ledger.progress());
            return Ok(());
        };
        let received = (chunk.rows.len() + chunk.rejects.len()) as u64;
        self.ledger.count_rows(received);
        self.ingest.instruments.count_received(&self.call.caller.name(), received, 0);
        self.ledger.count_coercions(&chunk.coercions);
        self.opened.count_coercions(&self.ingest.instruments, &chunk.coercions);
        // At most 100,000 rows.
        let rows = chunk.rows.len() as u32;
        let rejects = std::mem::take(&mut chunk.rejects);
        if self.opened.validate_only {
            ticket.accept(rows);
        } else if rows > 0 {
            ticket.expect(rows);
            let (memory, bytes) = (self.ingest.memory.clone(), chunk.memory_bytes);
            let memory = Box::pin(async move { memory.reserve(bytes).await });
            self.waiting = Some(Waiting { what: Awaiting::Rows(chunk), memory });
        }
        self.report_rejects(&ticket, rejects).await
    }

    /// Few rejects wait for their batch's ack; many are reported at once, because nothing bounds the memory of those that
    /// wait.
    async fn report_rejects(&mut self, ticket: &BatchTicket, rejects: Vec<RowReject>) -> Result<(), End> {
        self.ingest.instruments.count_rejects(rejects.iter().map(|row| row.reject.reason.label()));
        if self.ledger.hold_rejects(rejects.len(), ACK_MAX_OUTCOMES) {
            ticket.reject(rejects);
            return Ok(());
        }
        self.ledger.count_rejected(rejects.len() as u64);
        for ack in reply::rejects(self.ledger.committed_through(), ticket.seq(), rejects) {
            self.send(Response::Ack(ack)).await?;
        }
        Ok(())
    }

    /// Memory was granted to what waited for it.
    fn proceed(&mut self, memory: MemoryPermit) -> Result<(), End> {
        match self.waiting.take().map(|waiting| waiting.what) {
            Some(Awaiting::Decoding(batch)) => {
                let encoding = Encoding::begin(&self.opened, batch, Some(memory));
                self.encoding = Some(encoding.map_err(encoding_status)?);
            }
            Some(Awaiting::Rows(chunk)) => {
                if let Some(encoding) = &self.encoding {
                    let (pool, table, ticket) = (&self.ingest.pool, &self.opened.pool_table, encoding.ticket());
                    match encoding.is_atomic() {
                        true => {
                            let session = (pool.hash_seed(), self.link.id());
                            let token = self.opened.token(session, ticket.seq(), &chunk.rows);
                            pool.submit_atomic(table, ticket, chunk.rows, memory, token);
                        }
                        false => pool.submit(table, ticket, chunk.rows, memory),
                    }
                }
            }
            None => {}
        }
        Ok(())
    }

    async fn take_event(&mut self, event: SessionEvent) -> Result<(), End> {
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                SessionEvent::BatchDone(ticket) => self.ledger.settle(ticket),
                SessionEvent::Failed(failure) => return Err(failure_status(&failure).into()),
            }
            next = self.events.try_recv().ok();
        }
        let Some(advance) = self.ledger.advance() else { return Ok(()) };
        self.seat.show(self.ledger.progress());
        let now = Instant::now();
        for received_at in &advance.received_at {
            self.ingest.instruments.ack_seconds.observe((now - *received_at).as_secs_f64());
        }
        for ack in reply::acks(advance) {
            self.send(Response::Ack(ack)).await?;
        }
        self.answer_flushes().await
    }

    async fn answer_flushes(&mut self) -> Result<(), End> {
        while let Some(&through) = self.flushes.front()
            && through <= self.ledger.committed_through()
        {
            self.flushes.pop_front();
            let flushed =
                v1::Flushed { committed_through: self.ledger.committed_through(), receipt: Some(self.receipt()) };
            self.send(Response::Flushed(flushed)).await?;
        }
        Ok(())
    }

    fn receipt(&self) -> v1::Receipt {
        let rate_limited_for = self.quota.waited().map(duration_to_proto);
        v1::Receipt { rate_limited_for, ..reply::receipt(&self.ledger, self.opened.plan.rules()) }
    }

    fn next_timer(&self) -> Option<Instant> {
        let row = self.ledger.oldest().map(|received| received + self.opened.patience());
        let age = self.call.connection_age.filter(|_| self.drain.is_none());
        let quota = self.quota.timer();
        [row, self.drain.map(|(until, _)| until), self.call.deadline, age, quota].into_iter().flatten().min()
    }

    async fn take_timer(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.call.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(deadline_passed().into());
        }
        if let Some((until, why)) = self.drain
            && until <= now
        {
            return Err(self.leave.status().unwrap_or_else(|| drained(why)).into());
        }
        if self.ledger.oldest().is_some_and(|received| received + self.opened.patience() <= now) {
            return Err(row_deadline_status(self.link.trouble(), self.opened.row_deadline).into());
        }
        if self.drain.is_none() && self.call.connection_age.is_some_and(|age| age <= now) {
            return self.start_drain(v1::DrainReason::ConnectionAge, now + self.ingest.drain_for).await;
        }
        match self.quota.tick(now) {
            Some(window) => self.send(Response::Window(window)).await,
            None => Ok(()),
        }
    }

    /// The end of the process comes before what else there was to leave for, but for an old connection, which ends sooner.
    fn heeds_shutdown(&self) -> bool {
        use v1::DrainReason::{ConnectionAge, Shutdown};
        self.drain.is_none_or(|(_, why)| !matches!(why, Shutdown | ConnectionAge))
    }

    /// The caller may soon not write any more, or may not now.
    async fn take_leave(&mut self, leaving: Leaving) -> Result<(), End> {
        let why = leaving.reason();
        let acks_for = self.ingest.drain_for;
        match leaving {
            Leaving::Soon(ends_at) => {
                self.start_drain(why, ends_at).await?;
                // What was taken by then is acked.
                self.drain = Some((ends_at + acks_for, why));
                Ok(())
            }
            Leaving::Now(_) if self.drain.is_some_and(|(_, told)| told == why) => Ok(()),
            Leaving::Now(_) => self.start_drain(why, Instant::now() + acks_for).await,
        }
    }

    async fn start_drain(&mut self, why: v1::DrainReason, until: Instant) -> Result<(), End> {
        self.drain = Some((until, why));
        let left = until.saturating_duration_since(Instant::now());
        let drain = v1::Drain { reason: why.into(), deadline: Some(duration_to_proto(left)) };
        self.send(Response::Drain(drain)).await
    }

    async fn announce_schema(&mut self) -> Result<(), End> {
        let Some(newest) = self.ingest.catalog.peek(&self.opened.table.def.name) else { return Ok(()) };
        if newest.version <= self.announced_version {
            return Ok(());
        }
        self.announced_version = newest.version;
        let changed =
            v1::SchemaChanged { schema: Some(schema_to_proto(&newest.def.schema)), schema_version: newest.version };
        self.send(Response::SchemaChanged(changed)).await
    }

    /// Sends one response. A client that does not take it in time is cut off.
    async fn send(&mut self, message: Response) -> Result<(), End> {
        let response = v1::WriteResponse { message: Some(message) };
        let limit = self.ingest.timeouts.acks_unread;
        match tokio::time::timeout(limit, self.responses.send(response)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(End::Gone),
            Err(_elapsed) => {
                let message = format!("the client read no response for {} s", limit.as_secs_f64());
                Err(status::resource_exhausted(reason::ACKS_UNREAD, &self.name, message, None).into())
            }
        }
    }

    fn log_end(&self, end: &End) {
        let totals = self.ledger.totals();
        let how = match end {
            End::Finished => "finished",
            End::Status(_) => "failed",
            End::Gone => "abandoned by its client",
        };
        tracing::info!(
            session = self.name,
            table = self.opened.table.def.name,
            batches = totals.batches,
            rows = totals.rows,
            committed = totals.committed,
            superseded = totals.superseded,
            rejected = totals.rejected,
            "write session {how}"
        );
        if let Some(span) = &self.call.span {
            let count = |key, count| KeyValue::new(key, i64::try_from(count).unwrap_or(i64::MAX));
            span.note([
                count("forebay.batches", totals.batches),
                count("forebay.rows", totals.rows),
                count("forebay.rejected", totals.rejected),
            ]);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whatever the end: nobody listens any more. Where every batch has its outcomes nothing waits.
        if self.encoding.is_some() || self.ledger.committed_through() < self.ledger.last_seq() {
            self.ingest.pool.cancel(&self.link);
        }
        self.ingest.instruments.sessions.dec();
    }
}

/// Resolves when a newer run of the producer has begun.
async fn fenced(epoch: &mut Option<EpochClaim>) -> Status {
    match epoch {
        Some(claim) => claim.fenced().await.into(),
        None => std::future::pending().await,
    }
}

/// Resolves when the waiting chunk's memory is granted.
async fn granted(waiting: &mut Option<Waiting>) -> MemoryPermit {
    match waiting {
        Some(waiting) => waiting.memory.as_mut().await,
        None => std::future::pending().await,
    }
}
