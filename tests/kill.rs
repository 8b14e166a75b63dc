//! kill -9 of the gateway under load, again and again, with a client that verifies.
//!
//! The client logs every row that it sends and every ack that it hears. After each kill the store is scanned past the
//! gateway and compared with that log; then the gateway starts again, and the client sends again what was not acked. The
//! check itself is proven in `tests/pool_soak.rs`, on histories with every kind of damage.
//!
//! The short version has two kills; ten are an ignored test: `cargo test --release --test kill -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::print_stderr, reason = "a long test tells how far it is")]

#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/history.rs"]
mod history;
#[path = "common/process.rs"]
mod process;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::client::{self, OpenOptions};
use forebay::proto::v1::{self, write_request::Message as Ask, write_response::Message as Answer};
use gateway::{int, open, rows, table, text};
use history::{Effect, History, Place};
use process::{Served, versions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// The acceptance's bound: so many rows are unacked at each kill, over all streams.
const UNACKED_AT_KILL: usize = 1000;

/// What the streams share.
#[derive(Default)]
struct Log {
    history: Mutex<History>,
    unacked_rows: AtomicUsize,
    acked_rows: AtomicUsize,
    superseded_rows: AtomicUsize,
    calls: AtomicUsize,
    stop: AtomicBool,
    /// Keys that are stored and acked, for the stream of deletes.
    stored: Mutex<VecDeque<String>>,
    /// Keys whose delete was acked, to be put again.
    deleted: Mutex<VecDeque<String>>,
}

/// The rows of a stream's next batch; none: nothing to send now.
type Source = Box<dyn FnMut(&Log) -> Vec<(String, Effect)> + Send>;
/// Called with the keys of acked rows.
type OnAck = fn(&Log, &str);

/// One stream of rows: a writer as the protocol wants it.
struct Stream {
    endpoint: String,
    log: Arc<Log>,
    writer: u32,
    mode: v1::WriteMode,
    source: Source,
    on_ack: OnAck,
    max_unacked: usize,
    unacked: VecDeque<Vec<Place>>,
    effects: BTreeMap<Place, Effect>,
}

impl Stream {
    /// Goes on over as many calls as it takes, until it is told to stop and everything is acked.
    async fn run(mut self) {
        while let Err(error) = self.call().await {
            assert!(
                !matches!(error.code(), tonic::Code::InvalidArgument | tonic::Code::OutOfRange | tonic::Code::DataLoss),
                "{error}"
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn call(&mut self) -> Result<(), tonic::Status> {
        let client = client::connect(&self.endpoint).map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let (requests, receiver) = mpsc::channel(2);
        let mut ingest = v1::ingest_service_client::IngestServiceClient::new(client.channel());
        let hello = Ask::Open(v1::Open { mode: self.mode.into(), ..open("rows") });
        requests.send(v1::WriteRequest { message: Some(hello) }).await.unwrap();
        let mut answers = ingest.write(ReceiverStream::new(receiver)).await?.into_inner();
        self.log.calls.fetch_add(1, Ordering::Relaxed);

        // Batches of this call: acked, sent, and rows sent.
        let (mut acked, mut sent, mut sent_rows, mut finished) = (0u64, 0u64, 0u64, false);
        loop {
            let unsent = self.unacked.len() as u64 + acked - sent;
            let stop = self.log.stop.load(Ordering::Relaxed);
            if unsent == 0 && !stop && self.unacked.len() < self.max_unacked {
                self.next_batch();
            }
            let ask = match self.unacked.get((sent - acked) as usize) {
                Some(places) => {
                    let row = |place: &Place| match self.effects[place] {
                        Effect::Put(version) => vec![text(place.key.clone()), int(version as i64)],
                        Effect::Delete => vec![text(place.key.clone())],
                    };
                    let payload = Some(v1::batch::Payload::Rows(rows(places.iter().map(row))));
                    Some(Ask::Batch(v1::Batch { batch_seq: sent + 1, payload, atomic: false }))
                }
                None if stop && self.unacked.is_empty() && !finished => {
                    Some(Ask::Finish(v1::Finish { batches: sent, rows: sent_rows }))
                }
                None => None,
            };
            tokio::select! {
                answer = answers.message() => match answer?.and_then(|answer| answer.message) {
                    Some(Answer::Ack(ack)) => {
                        assert_eq!(ack.outcomes, [], "every row is a good one");
                        self.log.superseded_rows.fetch_add(ack.superseded_count as usize, Ordering::Relaxed);
                        for _ in acked..ack.committed_through {
                            self.acked();
                        }
                        acked = ack.committed_through;
                    }
                    Some(Answer::Finished(_)) => return Ok(()),
                    Some(_) => {}
                    None => return Err(tonic::Status::unavailable("the call ended")),
                },
                permit = requests.reserve(), if ask.is_some() => {
                    let Ok(permit) = permit else { return Err(tonic::Status::unavailable("the call is gone")) };
                    match &ask {
                        Some(Ask::Batch(_)) => {
                            sent_rows += self.unacked[(sent - acked) as usize].len() as u64;
                            sent += 1;
                        }
                        _ => finished = true,
                    }
                    permit.send(v1::WriteRequest { message: ask });
                }
                () = tokio::time::sleep(Duration::from_millis(10)), if ask.is_none() => {}
            }
        }
    }

    fn next_batch(&mut self) {
        let rows = (self.source)(&self.log);
        if rows.is_empty() {
            return;
        }
        let mut history = self.log.history.lock().unwrap();
        let places: Vec<Place> = rows
            .into_iter()
            .map(|(key, effect)| {
                let place = history.sent(self.writer, &key, effect);
                self.effects.insert(place.clone(), effect);
                place
            })
            .collect();
        self.log.unacked_rows.fetch_add(places.len(), Ordering::Relaxed);
        self.unacked.push_back(places);
    }

    fn acked(&mut self) {
        let places = self.unacked.pop_front().unwrap();
        let mut history = self.log.history.lock().unwrap();
        for place in &places {
            history.acked(place);
            self.effects.remove(place);
        }
        drop(history);
        self.log.unacked_rows.fetch_sub(places.len(), Ordering::Relaxed);
        self.log.acked_rows.fetch_add(places.len(), Ordering::Relaxed);
        for place in &places {
            (self.on_ack)(&self.log, &place.key);
        }
    }
}

/// The streams: puts of many keys, puts of few hot ones, and a pair that puts and deletes the same keys in turn.
fn streams(endpoint: &str, log: &Arc<Log>) -> Vec<Stream> {
    let stream = |writer, mode, max_unacked, source: Source, on_ack: OnAck| Stream {
        endpoint: endpoint.to_owned(),
        log: Arc::clone(log),
        writer,
        mode,
        source,
        on_ack,
        max_unacked,
        unacked: VecDeque::new(),
        effects: BTreeMap::new(),
    };
    let versions = |writer: u64| (1..).map(move |number: u64| number * 10 + writer);
    let (mut wide, mut hot, mut turn) = (versions(1), versions(2), versions(3));
    let mut fresh = 0u64;
    let wide: Source = Box::new(move |_| {
        let row = |version| (format!("wide{}", (version * 7919) % 3001), Effect::Put(version));
        wide.by_ref().take(100).map(row).collect()
    });
    let hot: Source = Box::new(move |_| {
        let row = |version| (format!("hot{}", version % 13), Effect::Put(version));
        hot.by_ref().take(200).map(row).collect()
    });
    let put_turn: Source = Box::new(move |log| {
        let mut deleted = log.deleted.lock().unwrap();
        let mut key = || {
            deleted.pop_front().unwrap_or_else(|| {
                fresh += 1;
                format!("turn{fresh}")
            })
        };
        if log.stored.lock().unwrap().len() > 2000 {
            return Vec::new();
        }
        (0..40).map(|_| (key(), Effect::Put(turn.next().unwrap()))).collect()
    });
    let delete_turn: Source = Box::new(|log| {
        let mut stored = log.stored.lock().unwrap();
        let some = stored.len().min(40);
        stored.drain(..some).map(|key| (key, Effect::Delete)).collect()
    });
    let nothing: OnAck = |_, _| {};
    let (put, delete) = (v1::WriteMode::Put, v1::WriteMode::Delete);
    vec![
        stream(1, put, 8, wide, nothing),
        stream(2, put, 8, hot, nothing),
        // One writer to the check: a key is deleted only after its put was acked, and put again only after that.
        stream(3, put, 8, put_turn, |log, key| log.stored.lock().unwrap().push_back(key.to_owned())),
        stream(3, delete, 8, delete_turn, |log, key| log.deleted.lock().unwrap().push_back(key.to_owned())),
    ]
}

async fn survives_kills(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path(), &[("FOREBAY_LOG", "warn")]).await;
    let client = client::connect(&served.endpoint()).unwrap();
    table(&client, "rows", "id STRING NOT NULL, v BIGINT", &["id"], &[]).await;
    drop(client);
    let log = Arc::new(Log::default());
    let mut running = tokio::task::JoinSet::new();
    for stream in streams(&served.endpoint(), &log) {
        running.spawn(stream.run());
    }
    let check = |when: &str| {
        let stored = versions(folder.path(), "rows");
        let history = log.history.lock().unwrap();
        let (sent, acked) = history.counts();
        eprintln!("{when}: {sent} rows sent, {acked} acked, {} stored", stored.len());
        assert_eq!(history.check(&stored), [], "{when}");
    };
    for kill in 1..=kills {
        // Each life gets some way before its end, and the end comes at another moment each time.
        let enough = log.acked_rows.load(Ordering::Relaxed) + 1500 + 211 * kill;
        let busy = || {
            log.acked_rows.load(Ordering::Relaxed) >= enough
                && log.unacked_rows.load(Ordering::Relaxed) >= UNACKED_AT_KILL
        };
        let waited = async {
            while !busy() {
                assert!(running.try_join_next().is_none(), "no stream ends before it is told to");
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waited).await.expect("rows flow");
        let unacked = log.unacked_rows.load(Ordering::Relaxed);
        served.kill();
        assert!(unacked >= UNACKED_AT_KILL, "{unacked} rows unacked");
        check(&format!("kill {kill}, {unacked} rows unacked"));
        served.restart().await;
    }
    log.stop.store(true, Ordering::Relaxed);
    let ended = async { while running.join_next().await.transpose().expect("a stream").is_some() {} };
    tokio::time::timeout(Duration::from_secs(120), ended).await.expect("everything is acked in the end");
    assert!(log.calls.load(Ordering::Relaxed) >= 4 * (kills + 1), "every stream came back after every kill");
    assert!(log.superseded_rows.load(Ordering::Relaxed) > 0, "hot keys coalesced");
    served.kill();
    let (sent, acked) = log.history.lock().unwrap().counts();
    assert_eq!(sent, acked);
    check("the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_acked_rows_survive_two_kills_under_load() {
    survives_kills(2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; two kills are in the fast suite"]
async fn fault_30_acked_rows_survive_ten_kills_under_load() {
    survives_kills(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_writer_comes_back_to_a_killed_gateway_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path(), &[("FOREBAY_LOG", "warn")]).await;
    let client = client::connect(&served.endpoint()).unwrap();
    table(&client, "rows", "id STRING NOT NULL, v BIGINT", &["id"], &[]).await;
    let acked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&acked);
    let options = OpenOptions::new("rows").on_event(move |event| {
        if let client::Event::Acked(batch) = event {
            counted.fetch_add(batch.rows, Ordering::Relaxed);
        }
    });
    let mut writer = client.writer(options).await.unwrap();
    let feeder = tokio::spawn(async move {
        for batch in 0..60 {
            let row =
                |number: i64| vec![text(format!("k{}", (batch * 100 + number) % 1500)), int(batch * 100 + number)];
            writer.send_rows(rows((0..100).map(row))).await.unwrap();
        }
        writer.finish().await.unwrap()
    });
    for enough in [500, 2500] {
        gateway::eventually("rows flow", || acked.load(Ordering::Relaxed) >= enough).await;
        served.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        served.restart().await;
    }
    let receipt = tokio::time::timeout(Duration::from_secs(60), feeder).await.expect("it comes back").unwrap();
    assert_eq!(receipt.rows, 6000);
    assert!(receipt.calls >= 2, "{} calls", receipt.calls);
    served.kill();
    let stored = versions(folder.path(), "rows");
    assert_eq!(stored.len(), 1500);
    for (key, version) in stored {
        let number: u64 = key.strip_prefix('k').unwrap().parse().unwrap();
        assert_eq!(version, 4500 + number, "the newest row of {key}");
    }
}
