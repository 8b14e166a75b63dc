//! One client batch on its way through the encoder, a chunk at a time. A session's batch has a ticket that hears of its rows;
//! a sample that is only checked is walked without.

use std::sync::Arc;

use bytes::Bytes;

use super::group::{Group, TooManyRows};
use super::open::{Form, Opened};
use crate::api::now_epoch_seconds;
use crate::limits::CHUNK_TARGET_BYTES;
use crate::payload::arrow::ArrowCursor;
use crate::payload::rows::{self, RowsCursor, RowsPosition};
use crate::payload::{Chunk, PayloadError};
use crate::pool::{BatchTicket, MemoryPermit};
use crate::proto::server::batch::Payload as WirePayload;

/// The payload of a batch, in the session's form.
#[derive(Debug)]
pub(in crate::api) enum Payload {
    /// A `RowBatch`'s bytes.
    Rows(Bytes),
    /// Arrow IPC messages.
    Arrow(Bytes),
}

impl Payload {
    /// A batch's; `None` where it has none.
    pub(super) fn of(batch: Option<WirePayload>) -> Option<Self> {
        Some(match batch? {
            WirePayload::Rows(rows) => Self::Rows(rows),
            WirePayload::Arrow(arrow) => Self::Arrow(arrow.ipc_messages),
        })
    }

    /// How much came over the wire.
    pub(in crate::api) fn wire_bytes(&self) -> usize {
        match self {
            Self::Rows(bytes) | Self::Arrow(bytes) => bytes.len(),
        }
    }
}

/// A batch that is to be encoded.
#[derive(Debug)]
pub(super) struct Unencoded {
    pub(super) payload: Payload,
    pub(super) ticket: Arc<BatchTicket>,
    pub(super) is_atomic: bool,
}

/// A batch that is being encoded.
#[derive(Debug)]
pub(super) struct Encoding {
    ticket: Arc<BatchTicket>,
    walk: Walk,
    is_atomic: bool,
}

/// A payload that is being encoded.
#[derive(Debug)]
pub(in crate::api) struct Walk {
    cursor: Cursor,
    /// What the decoded batch holds; positional rows are walked where they lie.
    _decoded: Option<MemoryPermit>,
}

#[derive(Debug)]
enum Cursor {
    Rows { batch: Bytes, position: RowsPosition },
    Arrow(Box<ArrowCursor>),
}

/// Why a batch cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::api) enum EncodingError {
    /// The payload is not in the form that Open declared.
    #[error("the batch carries {found}, but Open declared {declared}")]
    OtherForm {
        /// What came.
        found: &'static str,
        /// What Open declared.
        declared: &'static str,
    },
    /// The payload cannot be read.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// An atomic batch that can be none.
    #[error(transparent)]
    Atomic(#[from] TooManyRows),
}

/// Memory that decoding the payload takes, from lengths that were checked; 0 for positional rows.
pub(in crate::api) fn decoded_bytes(opened: &Opened, payload: &Payload) -> Result<u64, EncodingError> {
    match (payload, &opened.form) {
        (Payload::Arrow(messages), Form::Arrow(plan)) => Ok(plan.check(messages.clone())?.decoded_bytes()),
        _ => Ok(0),
    }
}

/// Rows that the payload has, without decoding them. One that cannot be read has none: whoever encodes it says why.
pub(super) fn claimed_rows(opened: &Opened, payload: &Payload) -> u32 {
    match (payload, &opened.form) {
        (Payload::Rows(batch), Form::Rows(_)) => rows::count(batch).unwrap_or(0),
        (Payload::Arrow(messages), Form::Arrow(plan)) => plan.check(messages.clone()).map_or(0, |batch| batch.rows()),
        (Payload::Rows(_), Form::Arrow(_)) | (Payload::Arrow(_), Form::Rows(_)) => 0,
    }
}

impl Encoding {
    /// Starts with a batch. `decoded` is the memory that [`decoded_bytes`] asked for.
    pub(super) fn begin(
        opened: &Opened,
        batch: Unencoded,
        decoded: Option<MemoryPermit>,
    ) -> Result<Self, EncodingError> {
        let Unencoded { payload, ticket, is_atomic } = batch;
        Ok(Self { ticket, walk: Walk::begin(opened, payload, decoded)?, is_atomic })
    }

    /// Whether the batch is atomic: all of its rows come in one chunk.
    pub(super) fn is_atomic(&self) -> bool {
        self.is_atomic
    }

    /// The batch's ticket.
    pub(super) fn ticket(&self) -> &Arc<BatchTicket> {
        &self.ticket
    }

    /// The next rows; `None` at the end of the batch.
    pub(super) fn next_chunk(&mut self, opened: &Opened) -> Result<Option<Chunk>, EncodingError> {
        if !self.is_atomic {
            return Ok(self.walk.next_chunk(opened)?);
        }
        let Some(first) = self.walk.next_chunk(opened)? else { return Ok(None) };
        let mut group = Group::default();
        group.add(first)?;
        while let Some(chunk) = self.walk.next_chunk(opened)? {
            group.add(chunk)?;
        }
        Ok(Some(group.finish()))
    }
}

impl Walk {
    /// Starts with a payload. `decoded` is the memory that [`decoded_bytes`] asked for.
    pub(in crate::api) fn begin(
        opened: &Opened,
        payload: Payload,
        decoded: Option<MemoryPermit>,
    ) -> Result<Self, EncodingError> {
        let cursor = match (payload, &opened.form) {
            (Payload::Rows(batch), Form::Rows(_)) => Cursor::Rows { batch, position: RowsPosition::default() },
            (Payload::Arrow(messages), Form::Arrow(plan)) => Cursor::Arrow(Box::new(plan.decode(messages)?)),
            (Payload::Rows(_), Form::Arrow(_)) => {
                return Err(EncodingError::OtherForm { found: "rows", declared: "an Arrow schema" });
            }
            (Payload::Arrow(_), Form::Rows(_)) => {
                return Err(EncodingError::OtherForm { found: "an Arrow batch", declared: "no Arrow schema" });
            }
        };
        Ok(Self { cursor, _decoded: decoded })
    }

    /// The next rows; `None` at the end of the payload.
    pub(in crate::api) fn next_chunk(&mut self, opened: &Opened) -> Result<Option<Chunk>, PayloadError> {
        match (&mut self.cursor, &opened.form) {
            (Cursor::Rows { batch, position }, Form::Rows(rows_plan)) => {
                let mut cursor = RowsCursor::resume(batch, *position);
                let chunk = cursor.next_chunk(&opened.plan, rows_plan, CHUNK_TARGET_BYTES, now_epoch_seconds())?;
                *position = cursor.position(batch.len());
                Ok(chunk)
            }
            (Cursor::Arrow(cursor), _) => cursor.next_chunk(&opened.plan, CHUNK_TARGET_BYTES, now_epoch_seconds()),
            // `begin` has matched the cursor to the session's form.
            (Cursor::Rows { .. }, Form::Arrow(_)) => Ok(None),
        }
    }
}
