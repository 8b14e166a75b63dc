//! The load generator: sessions that send prepared batches as fast as the window lets them, or at a given rate.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay::proto::server::write_request::Message as Request;
use forebay::proto::server::{Batch, WriteRequest};
use forebay::proto::v1::write_response::Message as Response;
use forebay::proto::v1::{self, WriteResponse};
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::rows::Prepared;
use crate::{Failure, fail};

/// What all sessions count together.
#[derive(Debug)]
pub(crate) struct Meter {
    acked_rows: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
    latencies: Mutex<Histogram<u64>>,
}

impl Meter {
    pub(crate) fn new() -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self {
            acked_rows: AtomicU64::new(0),
            measuring: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            // Microseconds, up to an hour.
            latencies: Mutex::new(Histogram::new_with_bounds(1, 3_600_000_000, 3)?),
        }))
    }

    pub(crate) fn acked_rows(&self) -> u64 {
        self.acked_rows.load(Relaxed)
    }

    /// Counts rows that another meter counted.
    #[allow(dead_code, reason = "`system` has one meter")]
    pub(crate) fn add_acked_rows(&self, rows: u64) {
        self.acked_rows.fetch_add(rows, Relaxed);
    }

    /// From here on latencies count.
    pub(crate) fn begin(&self) {
        self.measuring.store(true, Relaxed);
    }

    /// Latencies no longer count, and the sessions finish.
    pub(crate) fn end(&self) {
        self.measuring.store(false, Relaxed);
        self.stop.store(true, Relaxed);
    }

    /// Milliseconds at a quantile of the ack latencies.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        self.latencies().value_at_quantile(quantile) as f64 / 1000.0
    }

    fn latencies(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When batches are due: the first one, and how far apart they are. A latency counts from then, so that a stall is felt by
/// all who wait behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) first: Instant,
    pub(crate) apart: Duration,
}

impl Pace {
    fn due(self, batch: u64) -> Instant {
        self.first + self.apart.mul_f64(batch as f64)
    }
}

/// Where to write, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) endpoint: String,
    /// An API key, where the gateway wants one.
    pub(crate) key: Option<String>,
}

/// Opens a write session on a connection of its own.
async fn open(
    target: &Target,
    open: v1::Open,
) -> Result<(mpsc::Sender<WriteRequest>, Streaming<WriteResponse>, v1::Window), Failure> {
    let channel = Endpoint::from_shared(target.endpoint.clone())?.tcp_nodelay(true).connect().await?;
    open_on(channel, open, target.key.as_deref()).await
}

/// Opens a write session on a connection.
pub(crate) async fn open_on(
    channel: tonic::transport::Channel,
    open: v1::Open,
    key: Option<&str>,
) -> Result<(mpsc::Sender<WriteRequest>, Streaming<WriteResponse>, v1::Window), Failure> {
    let (requests, receiver) = mpsc::channel(4);
    requests.send(WriteRequest { message: Some(Request::Open(open)) }).await?;
    let mut grpc = tonic::client::Grpc::new(channel).max_encoding_message_size(usize::MAX);
    grpc.ready().await?;
    // The server's own types, whose rows are bytes: nothing is encoded here but the frame.
    let codec = ProstCodec::<WriteRequest, WriteResponse>::default();
    let path = PathAndQuery::from_static("/forebay.v1.IngestService/Write");
    let mut stream = tonic::Request::new(ReceiverStream::new(receiver));
    if let Some(key) = key {
        stream.metadata_mut().insert("authorization", format!("Bearer {key}").parse()?);
    }
    let mut responses = grpc.streaming(stream, path, codec).await?.into_inner();
    match next(&mut responses).await? {
        Response::Opened(opened) => Ok((requests, responses, opened.window.ok_or("Opened has no window")?)),
        other => Err(fail(format!("expected Opened, got {other:?}"))),
    }
}

async fn next(responses: &mut Streaming<WriteResponse>) -> Result<Response, Failure> {
    let response = responses.message().await?.ok_or("the session ended early")?;
    Ok(response.message.ok_or("an empty response")?)
}

/// Writes until the meter says stop, then finishes; gives the receipt.
pub(crate) async fn write(
    target: Target,
    prepared: Prepared,
    pace: Option<Pace>,
    meter: Arc<Meter>,
) -> Result<v1::Receipt, Failure> {
    let (requests, mut responses, mut window) = open(&target, prepared.open).await?;
    let rows = prepared.batch_rows as u64;
    // Bytes of each unacked batch, and when it was due.
    let mut unacked = VecDeque::<(u64, Instant)>::new();
    let (mut sent, mut acked, mut unacked_bytes) = (0u64, 0u64, 0u64);
    let mut finishing = false;
    loop {
        if meter.stop.load(Relaxed) && !finishing {
            finishing = true;
            let finish = v1::Finish { batches: sent, rows: sent * rows };
            requests.send(WriteRequest { message: Some(Request::Finish(finish)) }).await?;
        }
        let payload = &prepared.batches[(sent % prepared.batches.len() as u64) as usize];
        let bytes = bytes_of(payload);
        let fits = unacked.is_empty()
            || unacked_bytes + bytes <= window.max_unacked_bytes
                && unacked.len() < window.max_unacked_batches.min(prepared.batches.len() as u32 - 1) as usize;
        let due = pace.map(|pace| pace.due(sent));
        let send = async {
            if let Some(due) = due {
                sleep_until(due).await;
            }
            requests.reserve().await
        };
        tokio::select! {
            biased;
            response = next(&mut responses) => match response? {
                Response::Ack(ack) => {
                    if let Some(outcome) = ack.outcomes.first() {
                        return Err(fail(format!("a row was not written: {}", outcome.message)));
                    }
                    let now = Instant::now();
                    let measuring = meter.measuring.load(Relaxed);
                    while acked < ack.committed_through {
                        let (bytes, due) = unacked.pop_front().ok_or("an ack for what was not sent")?;
                        unacked_bytes -= bytes;
                        acked += 1;
                        meter.acked_rows.fetch_add(rows, Relaxed);
                        if measuring {
                            meter.latencies().saturating_record((now - due).as_micros() as u64);
                        }
                    }
                }
                Response::Window(smaller_or_larger) => window = smaller_or_larger,
                Response::Finished(finished) => return Ok(finished.receipt.unwrap_or_default()),
                other => return Err(fail(format!("unexpected {other:?}"))),
            },
            permit = send, if fits && !finishing => {
                sent += 1;
                unacked.push_back((bytes, due.unwrap_or_else(Instant::now)));
                unacked_bytes += bytes;
                let batch = Batch { batch_seq: sent, payload: Some(payload.clone()), atomic: false };
                permit?.send(WriteRequest { message: Some(Request::Batch(batch)) });
            }
        }
    }
}

fn bytes_of(payload: &forebay::proto::server::batch::Payload) -> u64 {
    use forebay::proto::server::batch::Payload;
    match payload {
        Payload::Rows(rows) => rows.len() as u64,
        Payload::Arrow(arrow) => arrow.ipc_messages.len() as u64,
    }
}
