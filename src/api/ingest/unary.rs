//! `WriteRows`: a session of one batch in one call.
//!
//! It uses the same plan, pool and ledger as a stream. A caller that goes away cancels what waits, as with a stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::Ingest;
use super::encoding::{Encoding, Payload, decoded_bytes};
use super::ledger::Ledger;
use super::open::{self, Opened};
use super::reply;
use super::session::{encoding_status, failure_status, row_deadline_status};
use crate::api::status::{self, reason};
use crate::limits::WRITE_ROWS_MAX_ROWS;
use crate::pool::{BatchTicket, SessionEvent, SessionLink};
use crate::proto::server::WriteRowsRequest;
use crate::proto::server::write_rows_request::Payload as WirePayload;
use crate::proto::v1;

/// Cancels what waits when the call ends early: the future may be dropped at any point.
struct Guard<'a> {
    ingest: &'a Ingest,
    link: Arc<SessionLink>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.ingest.pool.cancel(&self.link);
    }
}

/// Writes the rows and answers when all have an outcome.
pub(super) async fn write_rows(
    ingest: &Ingest,
    request: WriteRowsRequest,
    deadline: Option<Instant>,
) -> Result<v1::WriteRowsResponse, Status> {
    if ingest.shutdown.is_draining() {
        let message = "the gateway is shutting down; send again to another";
        return Err(status::unavailable(reason::SHUTTING_DOWN, message, Duration::from_secs(1)));
    }
    if request.atomic {
        return Err(open::unsupported("ATOMIC batches", "leave atomic unset"));
    }
    let first = request.open.ok_or_else(|| status::invalid_argument("open", "is missing"))?;
    let payload = match request.payload {
        Some(WirePayload::Rows(rows)) => Payload::Rows(rows),
        Some(WirePayload::Arrow(arrow)) => Payload::Arrow(arrow.ipc_messages),
        None => return Err(status::invalid_argument("payload", "is missing: send rows or arrow")),
    };
    let opened = open::open(&ingest.catalog, first, ingest.pool.hash_seed()).await?;
    let row_deadline = Instant::now() + opened.row_deadline;
    let write = write(ingest, &opened, payload);
    tokio::pin!(write);
    let limit = deadline.map_or(row_deadline, |deadline| deadline.min(row_deadline));
    match tokio::time::timeout_at(limit, &mut write).await {
        Ok(result) => result,
        Err(_elapsed) if limit == row_deadline => {
            Err(row_deadline_status(crate::pool::Trouble::None, opened.row_deadline))
        }
        Err(_elapsed) => {
            let message = "the call's deadline has passed; some rows may be written";
            Err(status::deadline_exceeded(reason::DEADLINE, message))
        }
    }
}

async fn write(ingest: &Ingest, opened: &Opened, payload: Payload) -> Result<v1::WriteRowsResponse, Status> {
    let (link, mut events) = SessionLink::new(ingest.next_session_id(), opened.bulk);
    let guard = Guard { ingest, link };
    let ticket = BatchTicket::new(1, Arc::clone(&guard.link));
    let mut ledger = Ledger::new();
    ledger
        .admit(1, 0, Instant::now())
        .map_err(|error| status::internal(format!("an empty ledger refused its first batch: {error}")))?;

    let decoded = match decoded_bytes(opened, &payload).map_err(encoding_status)? {
        0 => None,
        bytes => Some(ingest.decode_memory.reserve(usize::try_from(bytes).unwrap_or(usize::MAX)).await),
    };
    let mut encoding = Encoding::begin(opened, payload, ticket, decoded).map_err(encoding_status)?;
    // All rows are encoded before the first is written: too many rows must write none.
    let mut chunks = Vec::new();
    let mut rows = 0;
    while let Some(chunk) = encoding.next_chunk(opened).map_err(|error| encoding_status(error.into()))? {
        rows += chunk.rows.len() + chunk.rejects.len();
        if rows > WRITE_ROWS_MAX_ROWS {
            let message = format!("more than {WRITE_ROWS_MAX_ROWS} rows; use the Write stream");
            return Err(status::invalid_argument("payload", message));
        }
        chunks.push(chunk);
    }
    ledger.count_rows(rows as u64);
    ingest.instruments.batches.inc();
    let ticket = encoding.ticket();
    for mut chunk in chunks {
        ingest.instruments.count_rows("rejected", chunk.rejects.len() as u64);
        ticket.reject(std::mem::take(&mut chunk.rejects));
        if opened.validate_only {
            ticket.accept(chunk.rows.len() as u32);
        } else if !chunk.rows.is_empty() {
            ticket.expect(chunk.rows.len() as u32);
            let memory = ingest.memory.reserve(chunk.memory_bytes).await;
            ingest.pool.submit(&opened.pool_table, ticket, chunk.rows, memory);
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
    let outcomes = advance.outcomes.into_iter().map(|(seq, row, fate)| reply::row_outcome(seq, row, fate)).collect();
    Ok(v1::WriteRowsResponse { outcomes, receipt: Some(reply::receipt(&ledger.totals())) })
}
