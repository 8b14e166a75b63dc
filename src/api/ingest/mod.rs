//! Writing: `IngestService`.
//!
//! `session` is the task of a streaming call, `unary` its small twin; `open` checks what both start with,
//! `encoding` walks their batches, `group` holds those together that are atomic, `ledger` keeps the books, `reply` speaks the protocol, `responses` is the
//! stream that the client reads, `leave` watches whether its caller may still write, `quota` how fast it does, `ends` says how calls end. The handler returns at once, so that a session's refusal and its acks travel the same way:
//! on that stream.

mod columns;
pub(super) mod encoding;
pub(super) mod ends;
mod group;
mod leave;
mod ledger;
pub(super) mod open;
mod quota;
pub(super) mod reply;
mod responses;
mod session;
mod unary;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::deadline::Deadline;
use super::quota::Charges;
use super::status::{self, reason};
use crate::access::Caller;
use crate::catalog::Catalog;
use crate::limits::{ACK_WRITE_TIMEOUT, OPEN_TIMEOUT};
use crate::middleware::unary_writes::SLOT_RETRY;
use crate::pool::{MemoryBudget, Pool};
use crate::proto::server::ingest_service_server::IngestService;
use crate::proto::server::{WriteRequest, WriteRowsRequest};
use crate::proto::v1;
use crate::quota::Quotas;
use crate::shutdown::Shutdown;
use crate::telemetry::{Instruments, Span};

pub use responses::ResponseStream;

/// How long a session waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTimeouts {
    /// For Open.
    pub open: Duration,
    /// For its responses to be read.
    pub acks_unread: Duration,
}

impl Default for SessionTimeouts {
    fn default() -> Self {
        Self { open: OPEN_TIMEOUT, acks_unread: ACK_WRITE_TIMEOUT }
    }
}

/// What the ingest service works with.
#[derive(Debug)]
pub struct Ingest {
    /// Table definitions.
    pub catalog: Catalog,
    /// The lanes.
    pub pool: Pool,
    /// Memory for encoded rows, until they have an outcome.
    pub memory: MemoryBudget,
    /// Memory for decoded Arrow batches, while they are encoded. A budget of its own: whoever holds some of it may wait for
    /// `memory`, which the lanes free, and never the other way round.
    pub decode_memory: MemoryBudget,
    /// Rate limits.
    pub quotas: Quotas,
    /// What unary calls are charged.
    pub charges: Charges,
    /// What is counted.
    pub instruments: Arc<Instruments>,
    /// The end of the process.
    pub shutdown: Shutdown,
    /// The window of every session.
    pub window: v1::Window,
    /// How long a drained session is served.
    pub drain_for: Duration,
    /// After this time a session's client is asked to move to a new connection.
    pub max_connection_age: Option<Duration>,
    /// How long sessions wait for their clients.
    pub timeouts: SessionTimeouts,
    /// Sessions at once: each may make the transport buffer a whole message before we see it.
    pub session_slots: Arc<Semaphore>,
    /// The number of the next session.
    pub next_session: AtomicU64,
}

impl Ingest {
    fn next_session_id(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }
}

/// The answer where every slot of the write sessions is taken.
pub fn no_slot() -> Status {
    let message = "the gateway serves as many writes at once as its memory allows; try another";
    status::unavailable(reason::MEMORY_BUDGET, message, SLOT_RETRY)
}

/// When the client gives up; `None` where it does not say.
fn call_deadline(metadata: &tonic::metadata::MetadataMap) -> Result<Option<Instant>, Status> {
    Deadline::of_write(metadata).map_err(|error| status::invalid_argument("grpc-timeout", error.to_string()))
}

/// The service; clones share everything.
#[derive(Debug, Clone)]
pub struct IngestApi(pub Arc<Ingest>);

#[tonic::async_trait]
impl IngestService for IngestApi {
    type WriteStream = ResponseStream;

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<Self::WriteStream>, Status> {
        let Ok(slot) = Arc::clone(&self.0.session_slots).try_acquire_owned() else {
            return Err(no_slot());
        };
        let now = Instant::now();
        // Clients that came together should not leave together.
        let spread = |age: Duration| age.mul_f64(0.9 + 0.2 * fastrand::f64());
        let call = session::Call {
            caller: Caller::of(request.extensions()),
            span: request.extensions().get::<Span>().cloned(),
            deadline: call_deadline(request.metadata())?,
            connection_age: self.0.max_connection_age.map(|age| now + spread(age)),
        };
        let (responses, says_end, stream) = responses::response_stream();
        let ingest = Arc::clone(&self.0);
        tokio::spawn(async move {
            session::run(ingest, request.into_inner(), responses, says_end, call).await;
            drop(slot);
        });
        Ok(Response::new(stream))
    }

    async fn write_rows(&self, request: Request<WriteRowsRequest>) -> Result<Response<v1::WriteRowsResponse>, Status> {
        let deadline = call_deadline(request.metadata())?;
        let caller = Caller::of(request.extensions());
        let span = request.extensions().get::<Span>().cloned();
        unary::write_rows(&self.0, request.into_inner(), deadline, (&caller, span)).await.map(Response::new)
    }
}
