//! The writer against a gateway made for misbehaving: it applies batches and then dies before or after it says so.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::Stream;
use tokio::net::TcpListener;
use tonic::{Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::client::{self, Event, OpenOptions, Outcome};
use crate::proto::v1::ingest_service_server::{IngestService, IngestServiceServer};
use crate::proto::v1::value::Kind;
use crate::proto::v1::{Row, RowBatch, Value, batch};

/// How a call of the fake gateway ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// In order.
    Lives,
    /// UNAVAILABLE after so many batches.
    Unavailable(usize),
    /// The stream ends with OK and without Finished.
    Ends(usize),
    /// What a broken connection looks like.
    Breaks(usize),
    /// Drain after so many batches.
    Drains(usize),
    /// After so many batches: Drain, their acks, and UNAUTHENTICATED.
    Expires(usize),
    /// The credential is not taken.
    Unauthenticated,
    /// Open is refused for good.
    Refuses,
    /// Drain at once, to every call.
    TakesNothing,
}

#[derive(Debug, Default)]
struct World {
    /// Applied rows in order: key and value.
    log: Vec<(i64, i64)>,
    /// Fates of the next calls; then all live.
    fates: Vec<Fate>,
    calls: usize,
    finished_calls: usize,
    /// Calls whose client went away without Finish.
    aborted_calls: usize,
}

#[derive(Debug, Clone, Default)]
struct Fake {
    world: Arc<Mutex<World>>,
    /// Acks only every so many batches, and at barriers.
    ack_every: usize,
}

/// Rows whose value is a multiple of 7 are rejected.
fn is_rejected(value: i64) -> bool {
    value % 7 == 0
}

fn int(value: &Value) -> i64 {
    if let Some(Kind::IntValue(value)) = value.kind { value } else { panic!("not an int") }
}

fn row(key: i64, value: i64) -> Row {
    let values = [key, value].map(|value| Value { kind: Some(Kind::IntValue(value)) });
    Row { values: values.to_vec() }
}

type Answers = Pin<Box<dyn Stream<Item = Result<WriteResponse, Status>> + Send>>;
type AnswerSender = mpsc::Sender<Result<WriteResponse, Status>>;

impl Fake {
    async fn call(self, mut requests: Streaming<WriteRequest>, out: AnswerSender) {
        let fate = {
            let mut world = self.world.lock().unwrap();
            world.calls += 1;
            if world.fates.is_empty() { Fate::Lives } else { world.fates.remove(0) }
        };
        let end = self.serve(&mut requests, &out, fate).await;
        if let Err(status) = end
            && out.send(Err(status)).await.is_err()
        {
            self.world.lock().unwrap().aborted_calls += 1;
        }
    }

    async fn serve(
        &self,
        requests: &mut Streaming<WriteRequest>,
        out: &AnswerSender,
        fate: Fate,
    ) -> Result<(), Status> {
        let say = async |message| {
            out.send(Ok(WriteResponse { message: Some(message) })).await.map_err(|_| Status::cancelled("gone"))
        };
        let first = requests.message().await?.and_then(|request| request.message);
        assert!(matches!(first, Some(Ask::Open(_))));
        let unauthenticated = || {
            let details = ErrorDetails::with_error_info("UNAUTHENTICATED", "forebay", []);
            Status::with_error_details(tonic::Code::Unauthenticated, "the credential has expired", details)
        };
        if fate == Fate::Unauthenticated {
            return Err(unauthenticated());
        }
        if fate == Fate::Refuses {
            let details = ErrorDetails::with_error_info("UNKNOWN_COLUMN", "forebay", []);
            return Err(Status::with_error_details(tonic::Code::InvalidArgument, "no such column", details));
        }
        let window = v1::Window { max_unacked_bytes: 1 << 20, max_unacked_batches: 5 };
        let limits = v1::Limits { max_message_bytes: 1 << 20, target_batch_bytes: 4096, max_batch_rows: 20 };
        let opened = v1::Opened { window: Some(window), limits: Some(limits), ..v1::Opened::default() };
        say(Answer::Opened(opened)).await?;
        let drain = || v1::Drain { deadline: Some(prost_types::Duration { seconds: 5, nanos: 0 }), reason: 1 };
        if fate == Fate::TakesNothing {
            say(Answer::Drain(drain())).await?;
        }
        let (mut batches, mut rows, mut acked, mut outcomes) = (0, 0, 0, Vec::new());
        while let Some(request) = requests.message().await? {
            match request.message.unwrap() {
                Ask::Batch(batch) => {
                    batches += 1;
                    assert_eq!(batch.batch_seq, batches, "numbers grow by one");
                    let Some(batch::Payload::Rows(batch)) = batch.payload else { panic!("rows are expected") };
                    assert!(batches - acked <= 5, "the window is kept");
                    for (index, row) in batch.rows.iter().enumerate() {
                        rows += 1;
                        let (key, value) = (int(&row.values[0]), int(&row.values[1]));
                        if is_rejected(value) {
                            outcomes.push(v1::RowOutcome {
                                batch_seq: batches,
                                row_index: index as u32,
                                status: v1::RowStatus::Rejected.into(),
                                reason: v1::RowReason::OutOfRange.into(),
                                message: format!("{value} is a multiple of 7"),
                                ..v1::RowOutcome::default()
                            });
                        } else {
                            self.world.lock().unwrap().log.push((key, value));
                        }
                    }
                    let count = batches as usize;
                    match fate {
                        Fate::Unavailable(after) if count == after => return Err(Status::unavailable("restarting")),
                        Fate::Breaks(after) if count == after => return Err(Status::unknown("h2 protocol error")),
                        Fate::Ends(after) if count == after => return Ok(()),
                        Fate::Drains(after) if count == after => say(Answer::Drain(drain())).await?,
                        Fate::Expires(after) if count == after => {
                            say(Answer::Drain(drain())).await?;
                            let outcomes = std::mem::take(&mut outcomes);
                            let ack = v1::Ack { committed_through: batches, outcomes, ..v1::Ack::default() };
                            say(Answer::Ack(ack)).await?;
                            return Err(unauthenticated());
                        }
                        _ => {}
                    }
                    if batches - acked >= self.ack_every as u64 {
                        acked = batches;
                        let outcomes = std::mem::take(&mut outcomes);
                        say(Answer::Ack(v1::Ack { committed_through: acked, outcomes, ..v1::Ack::default() })).await?;
                    }
                }
                Ask::Flush(_) => {
                    acked = batches;
                    let ack = v1::Ack {
                        committed_through: acked,
                        outcomes: std::mem::take(&mut outcomes),
                        ..v1::Ack::default()
                    };
                    say(Answer::Ack(ack)).await?;
                    let receipt = Some(v1::Receipt { rows, ..v1::Receipt::default() });
                    say(Answer::Flushed(v1::Flushed { committed_through: acked, receipt })).await?;
                }
                Ask::Finish(finish) => {
                    assert_eq!((finish.batches, finish.rows), (batches, rows));
                    let ack = v1::Ack {
                        committed_through: batches,
                        outcomes: std::mem::take(&mut outcomes),
                        ..v1::Ack::default()
                    };
                    say(Answer::Ack(ack)).await?;
                    self.world.lock().unwrap().finished_calls += 1;
                    let receipt = Some(v1::Receipt { rows, write_units: 1.5, ..v1::Receipt::default() });
                    return say(Answer::Finished(v1::Finished { receipt })).await;
                }
                Ask::Open(_) => panic!("Open came twice"),
            }
            // A slow drain: what is unacked is acked when the client has stopped sending.
            if matches!(fate, Fate::Drains(after) if batches as usize >= after) && acked < batches {
                acked = batches;
                let outcomes = std::mem::take(&mut outcomes);
                say(Answer::Ack(v1::Ack { committed_through: acked, outcomes, ..v1::Ack::default() })).await?;
            }
        }
        self.world.lock().unwrap().aborted_calls += 1;
        Ok(())
    }

    /// Serves on loopback; dropping the sender's half breaks every connection.
    async fn start(self, address: &str) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind(address).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(IngestServiceServer::new(self));
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        (endpoint, task)
    }
}

#[tonic::async_trait]
impl IngestService for Fake {
    type WriteStream = Answers;

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<Answers>, Status> {
        let (out, answers) = mpsc::channel(4);
        tokio::spawn(self.clone().call(request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn write_rows(&self, _: Request<v1::WriteRowsRequest>) -> Result<Response<v1::WriteRowsResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

async fn gateway(fates: Vec<Fate>, ack_every: usize) -> (client::Client, Arc<Mutex<World>>) {
    let fake = Fake { ack_every, ..Fake::default() };
    let world = Arc::clone(&fake.world);
    world.lock().unwrap().fates = fates;
    let (endpoint, _) = fake.start("127.0.0.1:0").await;
    (client::connect(&endpoint).unwrap(), world)
}

/// Sends `batches` batches of `rows` rows each over 13 keys, with growing values.
struct Load {
    next: i64,
    newest: HashMap<i64, i64>,
    rejected: Vec<(u64, usize)>,
}

impl Load {
    fn new() -> Self {
        Self { next: 0, newest: HashMap::new(), rejected: Vec::new() }
    }

    fn batch(&mut self, number: u64, rows: usize) -> RowBatch {
        let mut batch = RowBatch::default();
        for index in 0..rows {
            self.next += 1;
            let key = self.next * 31 % 13;
            if is_rejected(self.next) {
                self.rejected.push((number, index));
            } else {
                self.newest.insert(key, self.next);
            }
            batch.rows.push(row(key, self.next));
        }
        batch
    }

    /// The applied log, folded, has the newest value of every key; every rejected row was told once.
    fn check(&self, world: &Arc<Mutex<World>>, outcomes: &[Outcome]) {
        let stored: HashMap<i64, i64> = world.lock().unwrap().log.iter().copied().collect();
        assert_eq!(stored, self.newest);
        let told: Vec<_> = outcomes.iter().map(|outcome| (outcome.batch, outcome.row)).collect();
        assert_eq!(told, self.rejected);
    }
}

#[tokio::test]
async fn rows_are_acked_and_rejected_ones_told_in_the_callers_numbers() {
    let (client, world) = gateway(vec![], 2).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let options = OpenOptions::new("t").on_event(move |event| seen.lock().unwrap().push(event));
    let mut writer = client.writer(options).await.unwrap();
    let mut load = Load::new();
    for number in 1..=10 {
        // 50 rows are three messages: the gateway takes 20 rows each.
        assert_eq!(writer.send_rows(load.batch(number, 50)).await.unwrap(), number);
    }
    let flushed = writer.flush().await.unwrap();
    assert_eq!((flushed.batches, flushed.rows), (10, 500));
    writer.send_rows(load.batch(11, 3)).await.unwrap();
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.batches, receipt.rows, receipt.calls), (11, 503, 1));
    assert_eq!(receipt.rejected_rows, load.rejected.len() as u64);
    assert_eq!(receipt.committed_rows, 503 - receipt.rejected_rows);
    assert_eq!(receipt.write_units, 1.5);
    let events = events.lock().unwrap();
    let acked: Vec<_> =
        events.iter().filter_map(|e| if let Event::Acked(a) = e { Some(a.batch) } else { None }).collect();
    assert_eq!(acked, (1..=11).collect::<Vec<_>>());
    let outcomes: Vec<_> =
        events.iter().filter_map(|e| if let Event::Outcome(o) = e { Some(o.clone()) } else { None }).collect();
    load.check(&world, &outcomes);
}

#[tokio::test]
async fn however_calls_break_the_newest_row_of_every_key_is_stored_and_outcomes_are_told_once() {
    let seeds = (0..20_u64).map(|seed| async move {
        let mut chance = fastrand::Rng::with_seed(seed);
        let fates = std::iter::repeat_with(|| {
            let after = chance.usize(1..12);
            chance.choice([Fate::Unavailable(after), Fate::Ends(after), Fate::Breaks(after), Fate::Drains(after)])
        });
        let fates: Vec<_> = fates.take(4).map(Option::unwrap).collect();
        let (client, world) = gateway(fates.clone(), chance.usize(1..5)).await;
        let mut writer = client.writer(OpenOptions::new("t")).await.unwrap();
        let outcomes = writer.outcomes();
        let mut load = Load::new();
        for number in 1..=40 {
            writer.send_rows(load.batch(number, 10)).await.unwrap();
            if number % 15 == 0 {
                writer.flush().await.unwrap();
            }
        }
        let receipt = writer.finish().await.unwrap();
        assert_eq!((receipt.batches, receipt.rows), (40, 400), "seed {seed}: {fates:?}");
        assert!(receipt.calls > 1);
        load.check(&world, &outcomes.take());
    });
    futures_util::future::join_all(seeds).await;
}

#[tokio::test]
async fn a_drain_ends_the_old_call_in_order_before_the_next_is_opened() {
    let (client, world) = gateway(vec![Fate::Drains(3), Fate::Drains(4)], 3).await;
    let mut writer = client.writer(OpenOptions::new("t")).await.unwrap();
    let mut load = Load::new();
    for number in 1..=20 {
        writer.send_rows(load.batch(number, 5)).await.unwrap();
    }
    let outcomes = writer.outcomes();
    writer.finish().await.unwrap();
    load.check(&world, &outcomes.take());
    let world = world.lock().unwrap();
    assert_eq!((world.calls, world.finished_calls, world.aborted_calls), (3, 3, 0));
    // Nothing was sent twice: every row was applied once.
    assert_eq!(world.log.len(), 100 - load.rejected.len());
}

#[tokio::test]
async fn a_gateway_that_drains_every_call_is_not_called_in_a_loop() {
    let (client, world) = gateway(vec![Fate::TakesNothing; 1000], 1).await;
    let options = OpenOptions::new("t").retry_for(Duration::from_millis(400));
    let mut writer = client.writer(options).await.unwrap();
    let error = async {
        loop {
            if let Err(error) = writer.send_rows(RowBatch { rows: vec![row(1, 1)] }).await {
                return error;
            }
        }
    };
    assert!(matches!(error.await, ClientError::GaveUp { .. } | ClientError::Interrupted { .. }));
    assert!(world.lock().unwrap().calls < 20);
}

#[tokio::test]
async fn a_refused_open_is_told_at_once_with_the_gateways_reason() {
    let (client, world) = gateway(vec![Fate::Refuses], 1).await;
    let error = client.writer(OpenOptions::new("t")).await.unwrap_err();
    assert_eq!(error.to_string(), "no such column (INVALID_ARGUMENT, UNKNOWN_COLUMN)");
    assert_eq!(world.lock().unwrap().calls, 1);
}

#[tokio::test]
async fn a_credential_that_ends_makes_the_writer_open_another_call() {
    let (client, world) = gateway(vec![Fate::Expires(3), Fate::Expires(2)], 2).await;
    let mut writer = client.writer(OpenOptions::new("t")).await.unwrap();
    let outcomes = writer.outcomes();
    let mut load = Load::new();
    for number in 1..=9 {
        writer.send_rows(load.batch(number, 10)).await.unwrap();
    }
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.batches, receipt.calls), (9, 3));
    load.check(&world, &outcomes.take());
}

#[tokio::test]
async fn a_credential_that_is_refused_for_the_next_call_is_said_and_not_tried_for_ever() {
    let (client, world) = gateway(vec![Fate::Expires(1), Fate::Unauthenticated], 2).await;
    let mut writer = client.writer(OpenOptions::new("t")).await.unwrap();
    // What is acked by the first call needs no second one.
    writer.send_rows(RowBatch { rows: vec![row(1, 1)] }).await.unwrap();
    writer.send_rows(RowBatch { rows: vec![row(1, 2)] }).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert_eq!(error.to_string(), "the credential has expired (UNAUTHENTICATED)");
    assert_eq!(world.lock().unwrap().calls, 2);
}

#[tokio::test]
async fn a_writer_gives_up_after_the_time_it_was_given_and_says_so_to_every_call() {
    let (client, _world) = gateway(vec![Fate::Unavailable(1); 1000], 1).await;
    let options = OpenOptions::new("t").retry_for(Duration::from_millis(500));
    let mut writer = client.writer(options).await.unwrap();
    writer.send_rows(RowBatch { rows: vec![row(1, 1)] }).await.unwrap();
    let error = writer.flush().await.unwrap_err();
    assert!(error.to_string().contains("restarting"), "{error}");
    assert_eq!(writer.send_rows(RowBatch { rows: vec![row(1, 1)] }).await.unwrap_err(), error);
    assert_eq!(writer.finish().await.unwrap_err(), error);
}

#[tokio::test]
async fn dropping_a_writer_without_finish_aborts_its_call() {
    let (client, world) = gateway(vec![], 100).await;
    let mut writer = client.writer(OpenOptions::new("t")).await.unwrap();
    writer.send_rows(RowBatch { rows: vec![row(1, 1)] }).await.unwrap();
    drop(writer);
    let until = Instant::now() + Duration::from_secs(5);
    while world.lock().unwrap().aborted_calls == 0 {
        assert!(Instant::now() < until, "the gateway never saw the call end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.lock().unwrap().finished_calls, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_and_comes_back_loses_no_row() {
    let fake = Fake { ack_every: 3, ..Fake::default() };
    let world = Arc::clone(&fake.world);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = runtime();
    let (endpoint, _) = first.spawn(fake.clone().start("127.0.0.1:0")).await.unwrap();
    let client = client::connect(&endpoint).unwrap();
    let mut writer = client.writer(OpenOptions::new("t")).await.unwrap();
    let outcomes = writer.outcomes();
    let mut load = Load::new();
    let mut alive = Some(first);
    let address = endpoint.trim_start_matches("http://").to_owned();
    for number in 1..=60 {
        writer.send_rows(load.batch(number, 10)).await.unwrap();
        if number % 20 == 0 {
            // As kill -9: every connection and task of the gateway is gone, whatever it was doing.
            let dead = alive.take().unwrap();
            dead.shutdown_background();
            let next = runtime();
            let (address, fake) = (address.clone(), fake.clone());
            let started = async move {
                // The port is free again when the old listener is gone.
                while TcpListener::bind(&address).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                fake.start(&address).await
            };
            next.spawn(started);
            alive = Some(next);
        }
    }
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.batches, receipt.rows), (60, 600));
    assert!(receipt.calls > 1);
    load.check(&world, &outcomes.take());
    alive.unwrap().shutdown_background();
}
