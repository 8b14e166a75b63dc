//! The writer: a handle that takes rows, beside a task ([`super::driver`]) that keeps the call alive.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use opentelemetry::trace::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::arrow_ipc::{ArrowCompression, ArrowEncoder, same_columns, schema_message};
use super::channel::Client;
use super::driver::{Command, Driver, Patience};
use super::error::ClientError;
use super::session::{Event, Outcome, Part, Receipt};
use super::wire::RowsBuffer;
use crate::limits::{BATCH_MAX_ROWS, BATCH_TARGET_BYTES, CLIENT_OPEN_FOR, CLIENT_RETRY_FOR, MESSAGE_MAX_BYTES};
use crate::proto::v1::{self, Priority, RowBatch, Schema, StoreAssignment, WriteMode};

/// What a writer tells events to.
pub(crate) type Observer = Box<dyn FnMut(Event) + Send>;

/// How a writer is opened.
///
/// ```
/// use forebay::client::OpenOptions;
/// use forebay::proto::v1::WriteMode;
///
/// let options = OpenOptions::new("card_features").mode(WriteMode::Delete);
/// ```
pub struct OpenOptions {
    pub(crate) open: v1::Open,
    pub(crate) arrow: Option<SchemaRef>,
    pub(crate) compression: ArrowCompression,
    pub(crate) observer: Option<Observer>,
    pub(crate) open_for: Duration,
    pub(crate) retry_for: Duration,
    pub(crate) resend: bool,
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions").field("open", &self.open).field("arrow", &self.arrow).finish_non_exhaustive()
    }
}

impl OpenOptions {
    /// Puts rows into a table, by [`Writer::send_rows`], with the table's columns in the table's order.
    pub fn new(table: impl Into<String>) -> Self {
        Self {
            open: v1::Open { table: table.into(), ..v1::Open::default() },
            arrow: None,
            compression: ArrowCompression::None,
            observer: None,
            open_for: CLIENT_OPEN_FOR,
            retry_for: CLIENT_RETRY_FOR,
            resend: true,
        }
    }

    /// The columns that rows carry, by position; they are matched to the table's by name.
    #[must_use]
    pub fn columns(mut self, columns: Schema) -> Self {
        self.open.columns = Some(columns);
        self
    }

    /// Rows come as Arrow record batches with this schema, by [`Writer::send_arrow`].
    #[must_use]
    pub fn arrow(mut self, schema: SchemaRef) -> Self {
        self.arrow = Some(schema);
        self
    }

    /// Compression of Arrow batches. Default: none.
    #[must_use]
    pub fn compression(mut self, compression: ArrowCompression) -> Self {
        self.compression = compression;
        self
    }

    /// What rows do. Default: put.
    #[must_use]
    pub fn mode(mut self, mode: WriteMode) -> Self {
        self.open.set_mode(mode);
        self
    }

    /// Each row says what it does, in this column of the rows: "put", "merge", "insert" or "delete".
    #[must_use]
    pub fn op_column(mut self, column: impl Into<String>) -> Self {
        self.open.op_column = column.into();
        self
    }

    /// How long a row may wait for DynamoDB. Default: the gateway's, 10 minutes.
    #[must_use]
    pub fn row_deadline(mut self, deadline: Duration) -> Self {
        // Longer than protobuf can say is longer than the gateway takes: it refuses either.
        let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        self.open.row_deadline = Some(deadline.try_into().unwrap_or(longest));
        self
    }

    /// Whether rows yield to others of the same table. Default: they do not.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.open.set_priority(priority);
        self
    }

    /// Check every row, write none.
    #[must_use]
    pub fn validate_only(mut self, validate_only: bool) -> Self {
        self.open.validate_only = validate_only;
        self
    }

    /// How values are coerced into the table's types. Default: as the table says.
    #[must_use]
    pub fn store_assignment(mut self, policy: StoreAssignment) -> Self {
        self.open.set_store_assignment(policy);
        self
    }

    /// Changes the Open message directly, for options that have no method here.
    #[must_use]
    pub fn open(mut self, change: impl FnOnce(&mut v1::Open)) -> Self {
        change(&mut self.open);
        self
    }

    /// Called for every [`Event`], on the writer's task: it should be quick. Without it, outcomes are kept for
    /// [`Writer::take_outcomes`].
    #[must_use]
    pub fn on_event(mut self, observer: impl FnMut(Event) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// How long opening may go on trying while the gateway cannot be reached. Default: 10 s.
    #[must_use]
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// How long an open writer may go on trying without any ack. Default: 5 minutes.
    #[must_use]
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Whether the writer sends rows again that the gateway reports as `RETRYABLE` or `UNKNOWN`, for as long as
    /// [`Self::retry_for`] says, before they become outcomes. Default: it does.
    #[must_use]
    pub fn resend(mut self, resend: bool) -> Self {
        self.resend = resend;
        self
    }
}

/// Why the writer's task ended, for every call after that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<ClientError>>>);

impl Failure {
    pub(crate) fn set(&self, error: ClientError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn get(&self) -> ClientError {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or(ClientError::Stopped)
    }
}

/// A session that writes rows to one table, over as many calls as it takes.
///
/// - Rows of one key take effect in the order they were sent.
/// - `send_*` returns when the writer has taken the rows, not when they are written; it waits while the gateway's window
///   is full. An [`Event::Acked`] or a [`Writer::flush`] says that they are written.
/// - When a call breaks, everything unacked is sent again, in order, in a new one. Memory is bounded by the window.
/// - In tables with `sequence_by`, rows that were not written by their deadline are sent again, too.
/// - Rejected rows are outcomes, not errors: they never stop the others.
/// - Dropping a writer without [`Writer::finish`] is an abort: unacked rows may or may not be written.
#[derive(Debug)]
pub struct Writer {
    commands: mpsc::Sender<Command>,
    /// Dropped with the writer, which stops the task wherever it is.
    _alive: oneshot::Sender<()>,
    failure: Failure,
    opened: v1::Opened,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    payload: PayloadKind,
    target_bytes: usize,
    max_rows: usize,
    max_message_bytes: usize,
    last_batch: u64,
}

#[derive(Debug)]
enum PayloadKind {
    Rows,
    Arrow(Box<ArrowEncoder>),
}

impl Writer {
    /// Opens a session and waits until the gateway has accepted it.
    ///
    /// # Errors
    ///
    /// What the gateway answers to `Open`, at once; that it cannot be reached, after `open_for`.
    pub async fn open(client: &Client, options: OpenOptions) -> Result<Self, ClientError> {
        let OpenOptions { mut open, arrow, compression, observer, open_for, retry_for, resend } = options;
        let arrow_error = |error: arrow_schema::ArrowError| ClientError::WrongPayload { message: error.to_string() };
        if let Some(schema) = &arrow {
            open.arrow_schema = schema_message(schema).map_err(arrow_error)?;
        }
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let observer = observer.unwrap_or_else(|| {
            let outcomes = Arc::clone(&outcomes);
            Box::new(move |event| {
                if let Event::Outcome(outcome) = event {
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            })
        });
        // One part in the channel is enough: the task takes the next when all before it are sent.
        let (commands, receiver) = mpsc::channel(1);
        let (alive, dropped) = oneshot::channel();
        let (opened_to, opened) = oneshot::channel();
        let failure = Failure::default();
        let resend_for = if resend { retry_for } else { Duration::ZERO };
        let patience = Patience { open_for, retry_for, resend_for };
        let driver = Driver::new(client.clone(), open, receiver, observer, failure.clone(), patience);
        let running = async move {
            tokio::select! {
                () = driver.run(opened_to) => {}
                _ = dropped => {}
            }
        };
        // Its calls belong to the trace of whoever opens the writer.
        tokio::spawn(running.with_current_context());
        let opened: v1::Opened = opened.await.map_err(|_| failure.get())?;
        let limits = opened.limits.unwrap_or(v1::Limits {
            max_message_bytes: MESSAGE_MAX_BYTES as u64,
            target_batch_bytes: BATCH_TARGET_BYTES as u64,
            max_batch_rows: BATCH_MAX_ROWS as u32,
        });
        let target_bytes = usize::try_from(limits.target_batch_bytes).unwrap_or(BATCH_TARGET_BYTES).max(1);
        let max_rows = (limits.max_batch_rows as usize).max(1);
        let payload = match arrow {
            None => PayloadKind::Rows,
            Some(schema) => {
                let encoder = ArrowEncoder::try_new(schema, compression, target_bytes, max_rows);
                PayloadKind::Arrow(Box::new(encoder.map_err(arrow_error)?))
            }
        };
        let max_message_bytes = usize::try_from(limits.max_message_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            commands,
            _alive: alive,
            failure,
            opened,
            outcomes,
            payload,
            target_bytes,
            max_rows,
            max_message_bytes,
            last_batch: 0,
        })
    }

    /// What the gateway said when the session was opened: the table's schema, limits.
    pub fn opened(&self) -> &v1::Opened {
        &self.opened
    }

    /// Sends rows; returns the batch's number, counted from 1, by which events and outcomes name it.
    ///
    /// # Errors
    ///
    /// Why the session ended, if it has; that a row is too large for a message.
    pub async fn send_rows(&mut self, rows: RowBatch) -> Result<u64, ClientError> {
        if matches!(self.payload, PayloadKind::Arrow(_)) {
            return Err(ClientError::WrongPayload { message: "the writer was opened for Arrow batches".to_owned() });
        }
        let accepted_at = Instant::now();
        let total = rows.rows.len();
        // Room for the frame around the row: tags, lengths and the batch number.
        let max_row_bytes = self.max_message_bytes.saturating_sub(64);
        for (row, value) in rows.rows.iter().enumerate() {
            let bytes = RowsBuffer::row_bytes(value);
            if bytes > max_row_bytes {
                return Err(ClientError::RowTooLarge { row, bytes, max_bytes: self.max_message_bytes });
            }
        }
        self.last_batch += 1;
        let batch = self.last_batch;
        let mut buffer = RowsBuffer::default();
        for (row, value) in rows.rows.iter().enumerate() {
            let bytes = RowsBuffer::row_bytes(value);
            let full = buffer.rows() >= self.max_rows || buffer.len() + bytes > self.target_bytes;
            if full && buffer.rows() > 0 {
                let (rows, first_row) = (buffer.rows(), row - buffer.rows());
                let payload = buffer.take();
                self.send(Part { batch, first_row, rows, ends_batch_of: None, payload, accepted_at }).await?;
            }
            buffer.push(value);
        }
        let (rows, first_row) = (buffer.rows(), total - buffer.rows());
        let payload = buffer.take();
        self.send(Part { batch, first_row, rows, ends_batch_of: Some(total), payload, accepted_at }).await?;
        Ok(batch)
    }

    /// Sends an Arrow record batch; returns the batch's number, counted from 1, by which events and outcomes name it.
    ///
    /// # Errors
    ///
    /// Why the session ended, if it has; that the batch has another schema than the session.
    pub async fn send_arrow(&mut self, rows: &RecordBatch) -> Result<u64, ClientError> {
        let PayloadKind::Arrow(encoder) = &mut self.payload else {
            return Err(ClientError::WrongPayload { message: "the writer was opened for rows, not Arrow".to_owned() });
        };
        if !same_columns(encoder.schema(), &rows.schema()) {
            return Err(ClientError::WrongPayload {
                message: format!(
                    "its columns are {}; the session's {}",
                    names(&rows.schema()),
                    names(encoder.schema())
                ),
            });
        }
        let accepted_at = Instant::now();
        let slices = encoder.encode(rows).map_err(|error| ClientError::WrongPayload { message: error.to_string() })?;
        let mut first_row = 0;
        for (payload, rows) in &slices {
            let bytes = payload.message_bytes(u64::MAX) + 16;
            if bytes > self.max_message_bytes && *rows == 1 {
                return Err(ClientError::RowTooLarge { row: first_row, bytes, max_bytes: self.max_message_bytes });
            }
            first_row += rows;
        }
        self.last_batch += 1;
        let batch = self.last_batch;
        let (mut first_row, total) = (0, rows.num_rows());
        for (payload, rows) in slices {
            let ends_batch_of = (first_row + rows == total).then_some(total);
            self.send(Part { batch, first_row, rows, ends_batch_of, payload, accepted_at }).await?;
            first_row += rows;
        }
        Ok(batch)
    }

    /// Waits until every row sent so far has a final outcome; gives the totals up to here.
    ///
    /// # Errors
    ///
    /// Why the session ended, if it has.
    pub async fn flush(&mut self) -> Result<Receipt, ClientError> {
        self.ask(Command::Flush).await
    }

    /// Ends the session when every row sent has a final outcome; gives the totals of all its calls.
    ///
    /// # Errors
    ///
    /// Why the session ended without; rows that were not acked may or may not be written.
    pub async fn finish(self) -> Result<Receipt, ClientError> {
        self.ask(Command::Finish).await
    }

    /// The outcomes since the last call; empty where `on_event` was given. They are kept until taken.
    pub fn take_outcomes(&self) -> Vec<Outcome> {
        std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What became of the outcomes that are still to be taken when the writer is gone: clone before `finish`.
    pub fn outcomes(&self) -> Outcomes {
        Outcomes(Arc::clone(&self.outcomes))
    }

    async fn send(&self, part: Part) -> Result<(), ClientError> {
        self.commands.send(Command::Part(part)).await.map_err(|_| self.failure.get())
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Receipt>) -> Command) -> Result<Receipt, ClientError> {
        let (reply, receipt) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| self.failure.get())?;
        receipt.await.map_err(|_| self.failure.get())
    }
}

/// The outcomes of a writer; outlives it.
#[derive(Debug, Clone)]
pub struct Outcomes(Arc<Mutex<Vec<Outcome>>>);

impl Outcomes {
    /// The outcomes since the last call.
    pub fn take(&self) -> Vec<Outcome> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn names(schema: &arrow_schema::Schema) -> String {
    schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
}
