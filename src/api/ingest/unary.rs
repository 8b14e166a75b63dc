//! `WriteRows`: a session of one batch in one call.
//!
//! It uses the same plan, pool and ledger as a stream. A caller that goes away cancels what waits, as with a stream.

use std::sync::Arc;

use opentelemetry::KeyValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::Ingest;
use super::encoding::{Encoding, Payload, Unencoded, claimed_rows, decoded_bytes};
use super::ends::{deadline_passed, encoding_status, failure_status, row_deadline_status, shutting_down, until};
use super::ledger::Ledger;
use super::open::{self, Opened};
use super::reply;
use crate::access::Caller;
use crate::api::status;
use crate::limits::WRITE_ROWS_MAX_ROWS;
use crate::pool::{BatchTicket, SessionEvent, SessionLink};
use crate::proto::server::WriteRowsRequest;
use crate::proto::server::write_rows_request::Payload as WirePayload;
use crate::proto::v1;
use crate::quota::Cost;
use crate::telemetry::Span;
use crate::telemetry::spans::note_current;

/// Cancels what waits when the call ends early: the future may be dropped at any point.
struct Guard<'a> {
    ingest: &'a Ingest,
    link: Arc<SessionLink>,
    finished: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.ingest.pool.cancel(&self.link);
        }
    }
}

/// Writes the rows and answers when all have an outcome.
pub(super) async fn write_rows(
    ingest: &Ingest,
    request: WriteRowsRequest,
    deadline: Option<Instant>,
    (caller, span): (&Caller, Option<Span>),
) -> Result<v1::WriteRowsResponse, Status> {
    if ingest.shutdown.is_draining() {
        return Err(shutting_down());
    }
    let is_atomic = request.atomic;
    let first = request.open.ok_or_else(|| status::invalid_argument("open", "is missing"))?;
    let payload = match request.payload {
        Some(WirePayload::Rows(rows)) => Payload::Rows(rows),
        Some(WirePayload::Arrow(arrow)) => Payload::Arrow(arrow.ipc_messages),
        None => return Err(status::invalid_argument("payload", "is missing: send rows or arrow")),
    };
    let called_at = Instant::now();
    let opening = async {
        let opened = open::open(&ingest.catalog, first, ingest.pool.hash_seed(), caller).await?;
        // Before the epoch, which would fence another run: a call that is refused has done nothing but add its columns.
        let cost = || Cost { rows: claimed_rows(&opened, &payload), bytes: payload.wire_bytes() as u64 };
        ingest.charges.write(caller, &opened.table.def.name, "payload", cost)?;
        let epoch = opened.claim_epoch(&ingest.catalog).await?;
        Ok::<_, Status>((opened, epoch))
    };
    // A call is too short to be fenced after it has begun.
    let (mut opened, _epoch) = tokio::select! {
        opened = opening => opened?,
        () = until(deadline) => return Err(deadline_passed()),
    };
    if is_atomic {
        // How much a transaction may carry is a matter of true sizes.
        opened.plan.measure();
    }
    if let Some(span) = &span {
        span.note([KeyValue::new("forebay.table", opened.table.def.name.clone())]);
    }
    let (link, events) = SessionLink::traced(ingest.next_session_id(), opened.bulk, span.as_ref().map(Span::context));
    tokio::select! {
        written = write(ingest, &opened, (payload, is_atomic), (Arc::clone(&link), events), caller) => written,
        () = until(deadline) => Err(deadline_passed()),
        () = async { until(Some(ingest.shutdown.drained().await)).await } => Err(shutting_down()),
        () = tokio::time::sleep_until(called_at + opened.patience()) => {
            Err(row_deadline_status(link.trouble(), opened.row_deadline))
        }
    }
}

async fn write(
    ingest: &Ingest,
    opened: &Opened,
    (payload, is_atomic): (Payload, bool),
    (link, mut events): (Arc<SessionLink>, mpsc::UnboundedReceiver<SessionEvent>),
    caller: &Caller,
) -> Result<v1::WriteRowsResponse, Status> {
    let bytes = payload.wire_bytes() as u64;
    let mut guard = Guard { ingest, link, finished: false };
    let now = Instant::now();
    let ticket = BatchTicket::with_deadline(1, Arc::clone(&guard.link), opened.rows_settle_by(now));
    // One batch needs no ranges.
    let mut ledger = Ledger::new(false);
    ledger
        .admit(1, 0, now)
        .map_err(|error| status::internal(format!("an empty ledger refused its first batch: {error}")))?;

    let decoded = match decoded_bytes(opened, &payload).map_err(encoding_status)? {
        0 => None,
        bytes => Some(ingest.decode_memory.reserve(usize::try_from(bytes).unwrap_or(usize::MAX)).await),
    };
    let mut encoding =
        Encoding::begin(opened, Unencoded { payload, ticket, is_atomic }, decoded).map_err(encoding_status)?;
    // All rows are encoded before the first is written: too many rows must write none.
    let (mut rows, mut rejects, mut memory_bytes) = (Vec::new(), Vec::new(), 0);
    loop {
        opened.may_encode(&ingest.catalog).await;
        let Some(chunk) = encoding.next_chunk(opened).map_err(encoding_status)? else { break };
        rows.extend(chunk.rows);
        rejects.extend(chunk.rejects);
        ledger.count_coercions(&chunk.coercions);
        memory_bytes += chunk.memory_bytes;
        if rows.len() + rejects.len() > WRITE_ROWS_MAX_ROWS {
            let message = format!("more than {WRITE_ROWS_MAX_ROWS} rows; use the Write stream");
            return Err(status::invalid_argument("payload", message));
        }
    }
    let received = (rows.len() + rejects.len()) as u64;
    ledger.count_rows(received);
    ingest.instruments.count_received(&caller.name(), received, bytes);
    opened.count_coercions(&ingest.instruments, ledger.coercions());
    ingest.instruments.batches.inc();
    ingest.instruments.count_rejects(rejects.iter().map(|row| row.reject.reason.label()));
    // The call's span is the current one: this runs within the call.
    note_current(|| {
        // At most a thousand.
        let count = |key, count| KeyValue::new(key, count as i64);
        vec![count("forebay.rows", rows.len() + rejects.len()), count("forebay.rejected", rejects.len())]
    });
    let ticket = Arc::clone(encoding.ticket());
    drop(encoding);
    ticket.reject(rejects);
    if opened.validate_only {
        ticket.accept(rows.len() as u32);
    } else if !rows.is_empty() {
        ticket.expect(rows.len() as u32);
        // In one piece: calls that hold some and wait for more would wait for each other.
        let memory = ingest.memory.reserve(memory_bytes).await;
        match is_atomic {
            true => {
                let token = opened.token((ingest.pool.hash_seed(), guard.link.id()), ticket.seq(), &rows);
                ingest.pool.submit_atomic(&opened.pool_table, &ticket, rows, memory, token);
            }
            false => ingest.pool.submit(&opened.pool_table, &ticket, rows, memory),
        }
    }
    ticket.seal();

    let advance = loop {
        match events.recv().await {
            Some(SessionEvent::BatchDone(ticket)) => {
                ledger.settle(ticket);
                if let Some(advance) = ledger.advance() {
                    break advance;
                }
            }
            Some(SessionEvent::Failed(failure)) => return Err(failure_status(&failure)),
            None => return Err(status::internal("the lanes are gone")),
        }
    };
    guard.finished = true;
    let outcomes = advance.outcomes.into_iter().map(|(seq, row, fate)| reply::row_outcome(seq, row, fate)).collect();
    Ok(v1::WriteRowsResponse { outcomes, receipt: Some(reply::receipt(&ledger, opened.plan.rules())) })
}
